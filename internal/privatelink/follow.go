package privatelink

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	defaultRefresh = time.Minute
	// firstPause is the wait after a first question that failed; it doubles with
	// each further one up to the refresh, so that a network which comes up after
	// the gate does is noticed soon.
	firstPause = time.Second
	// settlePause is the wait after an acceptance: the endpoint becomes available
	// within seconds.
	settlePause = 5 * time.Second
)

// Watch says what of the way in is followed.
type Watch struct {
	LoadBalancer    string        // ARN; "" = its addresses are not asked for
	EndpointService string        // ID; "" = its endpoints are not asked for
	EndpointOwners  []string      // accounts whose endpoints may connect; empty = nobody's
	Accept          bool          // pending endpoints of those accounts are accepted
	Refresh         time.Duration // from look to look, a tenth more or less; 0 = 1 min
}

// Answer is what AWS said of one thing. A look that fails keeps the value.
type Answer[T any] struct {
	Value T
	At    time.Time // of the last look that brought an answer; zero = none did yet
	Err   error     // why the last look brought none; nil = it did
}

// View is what AWS said of the way in.
type View struct {
	Addresses Answer[[]netip.Addr] // of the load balancer's nodes
	Endpoints Answer[[]Endpoint]   // at the service, whatever their state and owner
	// Unaccepted says why pending endpoints could not be accepted in the last
	// look, by their IDs.
	Unaccepted map[string]error
}

// FollowOptions are of a Follower. Fields are set once, before it is made.
type FollowOptions struct {
	Watch Watch
	// Changed is called after each look, whether it brought anything new or not,
	// on the goroutine of Run.
	Changed func(context.Context, View)
	// Accepting is called before endpoints are accepted; an error keeps them as
	// they are until the next look. nil = nothing is accepted.
	Accepting func(context.Context, []Endpoint) error
}

// source is where answers come from.
type source interface {
	Addresses(ctx context.Context, loadBalancer string) ([]netip.Addr, error)
	Endpoints(ctx context.Context, service string) ([]Endpoint, error)
	Accept(ctx context.Context, service string, ids []string) (map[string]error, error)
}

// Follower looks at the way in again and again. Its methods may be called from
// any goroutine, Run once.
type Follower struct {
	source source
	o      FollowOptions
	again  chan struct{} // has room for one

	mu    sync.Mutex // guards what follows
	watch Watch
	view  View
}

// Follower makes a follower. Nothing is asked before Run.
func (c *Client) Follower(o FollowOptions) *Follower { return follower(c, o) }

func follower(s source, o FollowOptions) *Follower {
	return &Follower{source: s, o: o, watch: o.Watch, again: make(chan struct{}, 1)}
}

// View is what AWS said by now.
func (f *Follower) View() View {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.view
}

// Watch is what is followed.
func (f *Follower) Watch() Watch {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.watch
}

// Set changes what is followed and makes Run look at once. What was said of
// another load balancer or service is forgotten when it returns.
func (f *Follower) Set(w Watch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w.LoadBalancer != f.watch.LoadBalancer {
		f.view.Addresses = Answer[[]netip.Addr]{}
	}
	if w.EndpointService != f.watch.EndpointService {
		f.view.Endpoints, f.view.Unaccepted = Answer[[]Endpoint]{}, nil
	}
	f.watch = w
	select {
	case f.again <- struct{}{}:
	default:
	}
}

// Run looks until ctx ends, and then returns nil.
func (f *Follower) Run(ctx context.Context) error {
	for failures := 0; ; {
		pause := f.look(ctx, &failures)
		if ctx.Err() != nil {
			return nil
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-f.again:
		case <-t.C:
		}
		t.Stop()
	}
}

// look asks once and returns how long to wait; failures counts the looks in a
// row since which there is something that was never answered.
func (f *Follower) look(ctx context.Context, failures *int) time.Duration {
	w := f.Watch()
	accepted := f.endpoints(ctx, w)
	f.addresses(ctx, w)
	if ctx.Err() != nil {
		return 0 // what failed, failed because the gate ends
	}
	if f.o.Changed != nil {
		f.o.Changed(ctx, f.View())
	}
	return f.pause(w, accepted, failures)
}

func (f *Follower) pause(w Watch, accepted bool, failures *int) time.Duration {
	pause := w.Refresh
	if pause <= 0 {
		pause = defaultRefresh
	}
	view := f.View()
	unanswered := w.LoadBalancer != "" && view.Addresses.At.IsZero() || w.EndpointService != "" && view.Endpoints.At.IsZero()
	switch {
	case unanswered:
		pause = min(pause, firstPause<<min(*failures, 20))
		*failures++
	case accepted:
		pause, *failures = min(pause, settlePause), 0
	default:
		*failures = 0
	}
	// Many gates that were started at once must not ask at once for ever.
	return pause - pause/10 + time.Duration(rand.Int64N(int64(pause/5)+1))
}

func (f *Follower) addresses(ctx context.Context, w Watch) {
	if w.LoadBalancer == "" {
		return
	}
	all, err := f.source.Addresses(ctx, w.LoadBalancer)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watch.LoadBalancer == w.LoadBalancer {
		f.view.Addresses = f.view.Addresses.next(all, err)
	}
}

// endpoints reports whether one was accepted.
func (f *Follower) endpoints(ctx context.Context, w Watch) (accepted bool) {
	if w.EndpointService == "" {
		return false
	}
	all, err := f.source.Endpoints(ctx, w.EndpointService)
	var failed map[string]error
	if waiting := acceptable(all, w.EndpointOwners); err == nil && w.Accept && f.o.Accepting != nil && len(waiting) > 0 {
		failed = f.accept(ctx, w.EndpointService, waiting)
		accepted = len(failed) < len(waiting)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watch.EndpointService == w.EndpointService {
		f.view.Endpoints, f.view.Unaccepted = f.view.Endpoints.next(all, err), failed
	}
	return accepted
}

// accept returns what kept each endpoint from being accepted.
func (f *Follower) accept(ctx context.Context, service string, waiting []Endpoint) map[string]error {
	var ids []string
	for _, e := range waiting {
		ids = append(ids, e.ID)
	}
	err := f.o.Accepting(ctx, slices.Clone(waiting))
	var failed map[string]error
	if err == nil {
		failed, err = f.source.Accept(ctx, service, ids)
	}
	if err != nil {
		failed = map[string]error{}
		for _, id := range ids {
			failed[id] = fmt.Errorf("accept the endpoint: %w", err)
		}
	}
	return failed
}

// next is the answer after a look.
func (a Answer[T]) next(value T, err error) Answer[T] {
	if err != nil {
		a.Err = err
		return a
	}
	return Answer[T]{Value: value, At: time.Now()}
}
