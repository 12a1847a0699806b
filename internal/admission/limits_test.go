package admission

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// client makes the address of the i-th client, so that its own limits stay out
// of the way.
func client(i int) string { return fmt.Sprintf("10.20.%d.%d:50000", i/250, 1+i%250) }

// startups admits n clients, from the first-th on.
func startups(t *testing.T, g *Gate, first, n int) []*Conn {
	t.Helper()
	var out []*Conn
	for i := range n {
		out = append(out, admit(t, g, arrive(client(first+i), endpoint)))
	}
	return out
}

func TestFiveHundredHalfOpenConnectionsLockNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, options())
		outcome := make(chan error, 500)
		flood := func(n int) {
			for range n {
				go func() {
					_, err := g.Admit(t.Context(), newMemConn(lb))
					outcome <- err
				}()
				synctest.Wait()
			}
		}
		flood(250)
		// The client connects in the middle and needs a round trip for its header.
		nc := newMemConn(lb)
		served := make(chan error, 1)
		go func() {
			c, err := g.Admit(t.Context(), nc)
			if err == nil {
				defer c.Close()
				_, err = io.ReadFull(c, make([]byte, len(banner)))
			}
			served <- err
		}()
		synctest.Wait()
		flood(250)
		wantCounts(t, g, maxPreheader, 0, 0)
		nc.send(string(headerOf("10.20.0.7:50000", endpoint))).send(banner)
		if err := <-served; err != nil {
			t.Errorf("the client was not served: %v", err)
		}

		evicted, probes := 0, 0
		for range 500 {
			err := <-outcome
			switch d, ok := errors.AsType[*Denied](err); {
			case ok && d.Reason == ReasonPreheaderEvicted && d.Origin.Peer == ap(lb):
				evicted++
			case err == ErrProbe:
				probes++
			default:
				t.Errorf("got %v", err)
			}
		}
		if evicted != 501-maxPreheader || probes != maxPreheader-1 {
			t.Errorf("%d evicted, %d probes", evicted, probes)
		}
		wantCounts(t, g, 0, 0, 0)
	})
}

func TestTheOldestConnectionWithoutAHeaderMakesRoom(t *testing.T) {
	p := newPreheader(2)
	var conns []*memConn
	var waiters []*waiter
	for range 3 {
		nc := newMemConn(lb)
		conns, waiters = append(conns, nc), append(waiters, p.add(nc))
	}
	for i, want := range []bool{true, false, false} {
		if got := conns[i].seen().closed; got != want {
			t.Errorf("connection %d closed: %v", i, got)
		}
		if got := p.remove(waiters[i]); got != want {
			t.Errorf("connection %d evicted: %v", i, got)
		}
	}
	if p.len() != 0 {
		t.Errorf("%d are left", p.len())
	}
}

func TestNewConnectionsOfOneSourceAreSlowedDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, options())
		try := func(client, id string) bool {
			c, err := g.Admit(t.Context(), arrive(client, id))
			if err != nil {
				return false
			}
			_ = c.Close()
			return true
		}
		// ssh-audit's throttling test: as many as possible for 1.5 s.
		opened := 0
		for range 1500 {
			if try("10.20.0.7:50000", endpoint) {
				opened++
			}
			time.Sleep(time.Millisecond)
		}
		if opened >= 30 || opened < rateBurst {
			t.Errorf("%d connections in 1.5 s", opened)
		}
		d := refused(t, g, arrive("10.20.0.7:50000", endpoint), ReasonRate)
		if d.Origin.Client != ap("10.20.0.7:50000") {
			t.Errorf("origin %+v", d.Origin)
		}
		if !try("10.20.0.8:50000", endpoint) || !try("10.20.0.7:50000", other) {
			t.Error("another source or the same address at another endpoint was slowed down")
		}
		time.Sleep(time.Second)
		for i := range 5 {
			if !try("10.20.0.7:50000", endpoint) {
				t.Errorf("connection %d of the next second was refused", i)
			}
		}
		refused(t, g, arrive("10.20.0.7:50000", endpoint), ReasonRate)
	})
}

func TestRatesForgetSourcesThatAreQuiet(t *testing.T) {
	r := newRates()
	now := time.Now()
	for i := range 1000 {
		r.take(source{endpoint, ap(client(i)).Addr()}, now)
	}
	r.take(source{endpoint, ap(client(1)).Addr()}, now.Add(5*time.Second))
	if n := len(r.buckets.entries); n != 1 {
		t.Errorf("%d buckets", n)
	}
}

func TestTablesOfSourcesAreBounded(t *testing.T) {
	r := newRecent[int](3)
	key := func(i int) source { return source{client: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})} }
	for i := range 3 {
		r.put(key(i), i)
	}
	r.put(key(0), 10) // touched again: 1 is the oldest now
	r.put(key(3), 3)
	if _, ok := r.get(key(1)); ok || len(r.entries) != 3 || r.order.Len() != 3 {
		t.Errorf("%v", r.entries)
	}
	if v, ok := r.get(key(0)); !ok || v != 10 {
		t.Errorf("got %d, %v", v, ok)
	}
}

func TestStartupsAreDroppedAtRandomFromHalf(t *testing.T) {
	for _, c := range []struct {
		n, max int
		want   float64
	}{
		{0, 1, 0}, {1, 1, 1}, {0, 2, 0}, {1, 2, 0.3}, {2, 2, 1},
		{127, 256, 0}, {128, 256, 0.3}, {166, 256, 0.3 + 0.7*38/77}, {204, 256, 0.3 + 0.7*76/77}, {205, 256, 1}, {256, 256, 1}, {300, 256, 1},
		{49, 100, 0}, {50, 100, 0.3}, {65, 100, 0.65}, {79, 100, 0.3 + 0.7*29/30}, {80, 100, 1},
	} {
		if got := dropChance(c.n, c.max); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%d of %d: %v, want %v", c.n, c.max, got, c.want)
		}
	}
}

func TestMaxStartupsKeepsAFifthForSourcesThatLoggedIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.Limits.MaxStartups = 10
		g := newGate(t, o)
		g.random = func() float64 { return 0.999999 } // dropped only where it is certain
		const good = "10.20.100.7:50000"
		c := admit(t, g, arrive(good, endpoint))
		if err := c.Authenticated("vendor"); err != nil {
			t.Fatal(err)
		}
		startups(t, g, 0, 8)
		refused(t, g, arrive(client(8), endpoint), ReasonMaxStartups)
		refused(t, g, arrive(good, other), ReasonMaxStartups) // the same address of another tenant is a stranger
		admit(t, g, arrive(good, endpoint))
		admit(t, g, arrive(good, endpoint))
		wantCounts(t, g, 0, 10, 1)
		refused(t, g, arrive(good, endpoint), ReasonMaxStartups) // full is full
	})
}

func TestASourceThatLoggedInIsExemptFromEarlyDropForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.Limits.MaxStartups = 10
		g := newGate(t, o)
		g.random = func() float64 { return 0 } // dropped wherever it is possible
		const good = "10.20.100.7:50000"
		if err := admit(t, g, arrive(good, endpoint)).Authenticated("vendor"); err != nil {
			t.Fatal(err)
		}
		startups(t, g, 0, 5)
		refused(t, g, arrive(client(5), endpoint), ReasonMaxStartups)
		time.Sleep(time.Hour - time.Second)
		_ = admit(t, g, arrive(good, endpoint)).Close()
		time.Sleep(time.Second)
		refused(t, g, arrive(good, endpoint), ReasonMaxStartups)
	})
}

func TestMaxStartupsOfOneSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, options())
		const one = "10.20.0.7:50000"
		var conns []*Conn
		for range 10 {
			conns = append(conns, admit(t, g, arrive(one, endpoint)))
		}
		refused(t, g, arrive(one, endpoint), ReasonMaxStartupsSource)
		admit(t, g, arrive(one, other))
		admit(t, g, arrive("10.20.0.8:50000", endpoint))
		if err := conns[0].Authenticated("vendor"); err != nil {
			t.Fatal(err)
		}
		admit(t, g, arrive(one, endpoint))
		refused(t, g, arrive(one, endpoint), ReasonMaxStartupsSource)
		_ = conns[1].Close()
		admit(t, g, arrive(one, endpoint))
	})
}

func TestMaxSessionsHoldsAtTheDoorAndAtTheLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.Limits.MaxSessions = 2
		g := newGate(t, o)
		conns := startups(t, g, 0, 3)
		for i, c := range conns[:2] {
			if err := c.Authenticated(fmt.Sprint("identity", i)); err != nil {
				t.Fatal(err)
			}
		}
		d, ok := errors.AsType[*Denied](conns[2].Authenticated("late"))
		if !ok || d.Reason != ReasonMaxSessions || d.Origin != conns[2].Origin() {
			t.Errorf("got %v", d)
		}
		wantCounts(t, g, 0, 1, 2)
		refused(t, g, arrive(client(9), endpoint), ReasonMaxSessions)
		_ = conns[0].Close()
		admit(t, g, arrive(client(9), endpoint))
		if err := conns[2].Authenticated("late"); err != nil {
			t.Errorf("with room again: %v", err)
		}
	})
}

func TestMaxSessionsOfOneIdentity(t *testing.T) {
	o := options()
	o.Limits.MaxSessionsPerIdentity = 1
	g := newGate(t, o)
	conns := startups(t, g, 0, 3)
	if err := conns[0].Authenticated("vendor"); err != nil {
		t.Fatal(err)
	}
	d, ok := errors.AsType[*Denied](conns[1].Authenticated("vendor"))
	if !ok || d.Reason != ReasonMaxSessionsIdentity {
		t.Errorf("got %v", d)
	}
	if err := conns[2].Authenticated("alice"); err != nil {
		t.Error(err)
	}
	wantCounts(t, g, 0, 1, 2)
	_ = conns[0].Close()
	if err := conns[1].Authenticated("vendor"); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

func TestALowerLimitHoldsFromTheNextConnectionOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, options())
		startups(t, g, 0, 5)
		o := options()
		o.Limits.MaxStartups = 5
		if err := g.Update(o); err != nil {
			t.Fatal(err)
		}
		wantCounts(t, g, 0, 5, 0)
		refused(t, g, arrive(client(9), endpoint), ReasonMaxStartups)
	})
}
