package privatelink

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern/test/awsfake"
)

// said is a source in memory: what it answers now. It is used in bubbles, where
// the network isn't.
type said struct {
	sync.Mutex
	addresses []netip.Addr
	endpoints []Endpoint
	down      error
	refuses   map[string]error // of Accept

	asked    []time.Time // for endpoints
	accepted []string
}

func (s *said) Addresses(context.Context, string) ([]netip.Addr, error) {
	s.Lock()
	defer s.Unlock()
	return s.addresses, s.down
}

func (s *said) Endpoints(context.Context, string) ([]Endpoint, error) {
	s.Lock()
	defer s.Unlock()
	s.asked = append(s.asked, time.Now())
	if s.down != nil {
		return nil, s.down
	}
	return slices.Clone(s.endpoints), nil
}

func (s *said) Accept(_ context.Context, _ string, ids []string) (map[string]error, error) {
	s.Lock()
	defer s.Unlock()
	if s.down != nil {
		return nil, s.down
	}
	for _, id := range ids {
		if s.refuses[id] != nil {
			continue
		}
		s.accepted = append(s.accepted, id)
		for i := range s.endpoints {
			if s.endpoints[i].ID == id {
				s.endpoints[i].State = "pending"
			}
		}
	}
	return s.refuses, nil
}

func newSaid() *said {
	return &said{
		addresses: []netip.Addr{netip.MustParseAddr("10.0.1.25")},
		endpoints: []Endpoint{{awsfake.GateEndpoint, awsfake.VendorAccount, "available"}},
	}
}

func everything() Watch {
	return Watch{LoadBalancer: awsfake.GateBalancer, EndpointService: awsfake.GateService, EndpointOwners: []string{awsfake.VendorAccount}}
}

// follow runs a follower in a bubble until the test's own part returns.
func follow(t *testing.T, s *said, o FollowOptions, test func(*Follower)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		f := follower(s, o)
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		synctest.Wait()
		test(f)
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// set changes what is said.
func (s *said) set(f func()) {
	s.Lock()
	defer s.Unlock()
	f()
}

// times and took are what was done by now.
func (s *said) times() []time.Time {
	s.Lock()
	defer s.Unlock()
	return slices.Clone(s.asked)
}

func (s *said) took() []string {
	s.Lock()
	defer s.Unlock()
	return slices.Clone(s.accepted)
}

// pass lets time go by.
func pass(d time.Duration) {
	time.Sleep(d) // in a bubble
	synctest.Wait()
}

func TestTheWayInIsLookedAtAtOnceAndThenEachMinuteMoreOrLess(t *testing.T) {
	s := newSaid()
	follow(t, s, FollowOptions{Watch: everything()}, func(f *Follower) {
		if v := f.View(); len(v.Addresses.Value) != 1 || len(v.Endpoints.Value) != 1 || !v.Endpoints.At.Equal(time.Now()) {
			t.Errorf("at once: %+v", v)
		}
		pass(100 * time.Minute)
		gaps := map[time.Duration]bool{}
		asked := s.times()
		for i := 1; i < len(asked); i++ {
			gap := asked[i].Sub(asked[i-1])
			gaps[gap] = true
			if gap < 54*time.Second || gap > 66*time.Second {
				t.Errorf("a pause of %v", gap)
			}
		}
		if len(gaps) < 50 {
			t.Errorf("%d different pauses of %d: gates that were started at once go on asking at once", len(gaps), len(asked)-1)
		}
	})
}

func TestAWSThatIsDownForAnHourChangesNothing(t *testing.T) {
	s := newSaid()
	var views atomic.Int64
	o := FollowOptions{Watch: everything(), Changed: func(context.Context, View) { views.Add(1) }}
	follow(t, s, o, func(f *Follower) {
		good := f.View()
		s.set(func() { s.down = errors.New("connection refused") })
		pass(time.Hour)
		now := f.View()
		if !slices.Equal(now.Addresses.Value, good.Addresses.Value) || !slices.Equal(now.Endpoints.Value, good.Endpoints.Value) {
			t.Errorf("%+v has become %+v", good, now)
		}
		if now.Addresses.Err == nil || now.Endpoints.Err == nil || !now.Endpoints.At.Equal(good.Endpoints.At) || views.Load() < 50 {
			t.Errorf("the failure is not told: %+v, in %d views", now, views.Load())
		}
		s.set(func() { s.down, s.endpoints[0].State = nil, "rejected" })
		pass(66 * time.Second)
		if now = f.View(); now.Endpoints.Err != nil || now.Endpoints.Value[0].State != "rejected" || time.Since(now.Endpoints.At) > 66*time.Second {
			t.Errorf("when AWS is back: %+v", now)
		}
	})
}

func TestOneAnswerDoesNotWaitForTheOther(t *testing.T) {
	s := newSaid()
	w := everything()
	w.LoadBalancer = ""
	follow(t, s, FollowOptions{Watch: w}, func(f *Follower) {
		if v := f.View(); v.Addresses.Value != nil || !v.Addresses.At.IsZero() || len(v.Endpoints.Value) != 1 {
			t.Errorf("%+v", v)
		}
	})
}

func TestAGateThatStartsBeforeItsNetworkSoonAsksAgain(t *testing.T) {
	s := newSaid()
	s.down = errors.New("no route to host")
	follow(t, s, FollowOptions{Watch: everything()}, func(f *Follower) {
		pass(4 * time.Second)
		s.set(func() { s.down = nil })
		pass(5 * time.Second)
		if v := f.View(); v.Endpoints.Err != nil || len(v.Endpoints.Value) != 1 {
			t.Errorf("9 s after the start: %+v", v)
		}
		if len(s.times()) > 5 {
			t.Errorf("asked %d times in 9 s", len(s.times()))
		}
	})
}

func TestAGateThatNeverReachesAWSDoesNotAskMoreOftenThanOthers(t *testing.T) {
	s := newSaid()
	s.down = errors.New("no route to host")
	follow(t, s, FollowOptions{Watch: everything()}, func(f *Follower) {
		pass(2 * time.Minute)
		before := len(s.times())
		pass(time.Hour)
		if n := len(s.times()) - before; n < 50 || n > 70 {
			t.Errorf("asked %d times in an hour", n)
		}
	})
}

func TestWhatWasSaidOfAnotherBalancerIsForgotten(t *testing.T) {
	s := newSaid()
	follow(t, s, FollowOptions{Watch: everything()}, func(f *Follower) {
		s.set(func() { s.down = errors.New("connection refused") })
		w := everything()
		w.LoadBalancer = awsfake.GateBalancer + "0"
		f.Set(w)
		if v := f.View(); v.Addresses.Value != nil || len(v.Endpoints.Value) != 1 {
			t.Errorf("another balancer: %+v", v)
		}
		w.EndpointService += "0"
		f.Set(w)
		if v := f.View(); v.Endpoints.Value != nil {
			t.Errorf("another service: %+v", v)
		}
		s.set(func() { s.down = nil })
		f.Set(w)
		synctest.Wait()
		if v := f.View(); len(v.Addresses.Value) != 1 || len(v.Endpoints.Value) != 1 {
			t.Errorf("not looked at at once: %+v", v)
		}
	})
}

func TestPendingEndpointsAreLeftAloneByDefault(t *testing.T) {
	s := newSaid()
	s.endpoints[0].State = "pendingAcceptance"
	o := FollowOptions{Watch: everything(), Accepting: func(context.Context, []Endpoint) error { return nil }}
	follow(t, s, o, func(*Follower) {
		pass(time.Hour)
		if len(s.took()) > 0 {
			t.Errorf("accepted %v", s.took())
		}
	})
}

// accepting is a source with pending endpoints of the vendor and of others.
func accepting() (*said, FollowOptions) {
	s := newSaid()
	s.endpoints = []Endpoint{
		{"vpce-01", awsfake.VendorAccount, "pendingAcceptance"}, {"vpce-02", "444455556666", "pendingAcceptance"},
		{"vpce-03", awsfake.VendorAccount, "rejected"}, {"vpce-04", awsfake.VendorAccount, "PendingAcceptance"},
	}
	w := everything()
	w.Accept = true
	return s, FollowOptions{Watch: w, Accepting: func(context.Context, []Endpoint) error { return nil }}
}

func TestPendingEndpointsOfOwnersAreAcceptedWhereThatIsSet(t *testing.T) {
	s, o := accepting()
	var told []string
	o.Accepting = func(_ context.Context, all []Endpoint) error {
		if len(s.took()) > 0 {
			t.Error("told after the deed")
		}
		for _, e := range all {
			told = append(told, e.ID)
		}
		return nil
	}
	follow(t, s, o, func(f *Follower) {
		if want := []string{"vpce-01", "vpce-04"}; !slices.Equal(s.took(), want) || !slices.Equal(told, want) {
			t.Errorf("accepted %v, told %v", s.took(), told)
		}
		s.set(func() { s.endpoints[0].State = "available" })
		pass(6 * time.Second)
		if v := f.View(); v.Endpoints.Value[0].State != "available" {
			t.Errorf("an accepted endpoint is not looked at soon: %+v", v)
		}
		pass(time.Hour)
		if len(s.took()) != 2 {
			t.Errorf("accepted again: %v", s.took())
		}
	})
}

func TestAnEndpointThatCannotBeWrittenDownIsNotAccepted(t *testing.T) {
	s, o := accepting()
	o.Accepting = func(context.Context, []Endpoint) error { return errors.New("the audit log is full") }
	follow(t, s, o, func(f *Follower) {
		if v := f.View(); len(s.took()) > 0 || len(v.Unaccepted) != 2 {
			t.Errorf("accepted %v; %+v", s.took(), v)
		}
	})
}

func TestWhatAWSDoesNotAcceptIsTold(t *testing.T) {
	s, o := accepting()
	s.refuses = map[string]error{"vpce-01": errors.New("InvalidState")}
	follow(t, s, o, func(f *Follower) {
		if v := f.View(); len(v.Unaccepted) != 1 || v.Unaccepted["vpce-01"] == nil || !slices.Equal(s.took(), []string{"vpce-04"}) {
			t.Errorf("accepted %v; %+v", s.took(), v)
		}
		s.set(func() { s.refuses = nil })
		pass(66 * time.Second)
		if v := f.View(); len(v.Unaccepted) != 0 || len(s.took()) != 2 {
			t.Errorf("later on: accepted %v; %+v", s.took(), v)
		}
	})
}

func TestAcceptReadsWhatWasUnsuccessful(t *testing.T) {
	a := awsfake.Correct()
	a.Services[0].Connections[0].State = "pendingAcceptance"
	_, _, client := fake(t, a)
	failed, err := client.Accept(t.Context(), awsfake.GateService, []string{awsfake.GateEndpoint, "vpce-01"})
	if err != nil || len(failed) != 1 || failed["vpce-01"] == nil {
		t.Errorf("%v, %v", failed, err)
	}
	a.Change(func() { a.Denied = []string{"ec2:AcceptVpcEndpointConnections"} })
	if _, err = client.Accept(t.Context(), awsfake.GateService, []string{awsfake.GateEndpoint}); Reason(err) != ReasonDenied {
		t.Errorf("not allowed: %v", err)
	}
}

func TestAFollowerEndsWhileAWSHangs(t *testing.T) {
	server, _, client := fake(t, awsfake.Correct())
	server.Fail(awsfake.Fault{Hang: true})
	ctx, stop := context.WithCancel(t.Context())
	told := false
	f := client.Follower(FollowOptions{Watch: everything(), Changed: func(context.Context, View) { told = true }})
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	for len(server.Calls()) == 0 {
		select {
		case <-t.Context().Done():
		default:
		}
	}
	stop()
	if err := <-done; err != nil || told {
		t.Errorf("Run: %v, a failure was told of: %t", err, told)
	}
}
