package admission

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

const culprit = "10.20.0.7:50000"

// punish lets one connection of the culprit earn p, n times, and leave.
func punish(t *testing.T, g *Gate, nc *memConn, p Penalty, n int) {
	t.Helper()
	c := admit(t, g, nc)
	for range n {
		c.Penalize(p)
	}
	_ = c.Close()
}

func TestAPenaltyTouchesNoOtherSourceAndNoOtherEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, options())
		punish(t, g, arrive(culprit, endpoint), PenaltyCrash, 1)
		d := refused(t, g, arrive(culprit, endpoint), ReasonPenalty)
		if d.Origin.Client != ap(culprit) || d.Origin.Endpoint != endpoint {
			t.Errorf("origin %+v", d.Origin)
		}
		refused(t, g, arrive("10.20.0.7:50001", endpoint), ReasonPenalty) // another port is no other client
		admit(t, g, arrive("10.20.0.8:50000", endpoint))
		admit(t, g, arrive(culprit, other))
		time.Sleep(90*time.Second - time.Nanosecond)
		refused(t, g, arrive(culprit, endpoint), ReasonPenalty)
		time.Sleep(time.Nanosecond)
		admit(t, g, arrive(culprit, endpoint))
	})
}

func TestAPenaltyLeavesRunningConnectionsAlone(t *testing.T) {
	g := newGate(t, options())
	c := admit(t, g, arrive(culprit, endpoint))
	punish(t, g, arrive(culprit, endpoint), PenaltyCrash, 1)
	if err := c.Authenticated("vendor"); err != nil {
		t.Error(err)
	}
}

func TestNothingIsRefusedUntilMoreThanFifteenSecondsHaveAccrued(t *testing.T) {
	for p, n := range map[Penalty]int{PenaltyAuthFail: 3, PenaltyInvalidUser: 3, PenaltyNoAuth: 15, PenaltyGraceExceeded: 1} {
		t.Run(string(p), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate(t, options())
				punish(t, g, arrive(culprit, endpoint), p, n)
				punish(t, g, arrive(culprit, endpoint), p, 1)
				refused(t, g, arrive(culprit, endpoint), ReasonPenalty)
			})
		})
	}
}

func TestRarePenaltiesDoNotAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, options())
		for range 100 {
			punish(t, g, arrive(culprit, endpoint), PenaltyAuthFail, 1)
			time.Sleep(5 * time.Second)
		}
	})
}

func TestAPenaltyThatHoldsKeepsHoldingBelowTheMinimum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, options())
		punish(t, g, arrive(culprit, endpoint), PenaltyAuthFail, 4)
		time.Sleep(19 * time.Second)
		refused(t, g, arrive(culprit, endpoint), ReasonPenalty)
		time.Sleep(time.Second)
		admit(t, g, arrive(culprit, endpoint))
	})
}

func TestAPenaltyNeverLastsLongerThanTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, options())
		punish(t, g, arrive(culprit, endpoint), PenaltyCrash, 100)
		time.Sleep(10*time.Minute - time.Second)
		refused(t, g, arrive(culprit, endpoint), ReasonPenalty)
		time.Sleep(time.Second)
		admit(t, g, arrive(culprit, endpoint))
	})
}

func TestPenaltiesCanBeOff(t *testing.T) {
	o := options()
	o.Limits.Penalties = false
	g := newGate(t, o)
	punish(t, g, arrive(culprit, endpoint), PenaltyCrash, 1)
	admit(t, g, arrive(culprit, endpoint))
	if len(g.penalties.byKey) != 0 {
		t.Error("they were counted")
	}
}

func TestSwitchingPenaltiesOffForgetsThem(t *testing.T) {
	g := newGate(t, options())
	punish(t, g, arrive(culprit, endpoint), PenaltyCrash, 1)
	o := options()
	for _, on := range []bool{false, true} {
		o.Limits.Penalties = on
		if err := g.Update(o); err != nil {
			t.Fatal(err)
		}
		admit(t, g, arrive(culprit, endpoint))
	}
}

func TestAnUpdateKeepsPenalties(t *testing.T) {
	g := newGate(t, options())
	punish(t, g, arrive(culprit, endpoint), PenaltyCrash, 1)
	if err := g.Update(options()); err != nil {
		t.Fatal(err)
	}
	refused(t, g, arrive(culprit, endpoint), ReasonPenalty)
}

func TestAnUnknownPenaltyCostsNothing(t *testing.T) {
	g := newGate(t, options())
	punish(t, g, arrive(culprit, endpoint), "unheard-of", 1000)
	admit(t, g, arrive(culprit, endpoint))
}

func TestWithoutTheProtocolThePenaltyIsThePeers(t *testing.T) {
	g := newGate(t, off("10.20.0.0/16"))
	punish(t, g, newMemConn(culprit), PenaltyCrash, 1)
	refused(t, g, newMemConn(culprit), ReasonPenalty)
	admit(t, g, newMemConn("10.20.0.8:50000"))
}

func TestAFullPenaltyTableDropsWhatEndsSoonest(t *testing.T) {
	p := newPenalties(3)
	now := time.Now()
	key := func(i int) source { return source{endpoint, netip.AddrFrom4([4]byte{10, 20, 0, byte(i)})} }
	for i, d := range []time.Duration{50, 20, 40} {
		p.add(key(i), d*time.Second, now)
	}
	p.add(key(1), 100*time.Second, now) // no longer the soonest
	p.add(key(3), 30*time.Second, now)
	for i, want := range []time.Duration{50, 120, 0, 30} {
		if got := p.left(key(i), now); got != want*time.Second {
			t.Errorf("source %d: %v left, want %ds", i, got, want)
		}
	}
	if len(p.byKey) != 3 || len(p.soon) != 3 {
		t.Errorf("%d and %d entries", len(p.byKey), len(p.soon))
	}
	if p.left(key(0), now.Add(200*time.Second)); len(p.byKey)+len(p.soon) != 0 {
		t.Error("penalties that ended are kept")
	}
}

func TestThePenaltyTableOfAGateHasRoomForItsMaximum(t *testing.T) {
	p := newPenalties(maxTableSize)
	now := time.Now()
	for i := range maxTableSize + 1000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		p.add(source{endpoint, a}, time.Duration(16+i%500)*time.Second, now)
	}
	if len(p.byKey) != maxTableSize {
		t.Errorf("%d entries", len(p.byKey))
	}
}
