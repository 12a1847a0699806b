package health

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	checkTimeout = 2 * time.Second
	cacheTime    = 500 * time.Millisecond
)

var (
	errTimeout  = errors.New("no answer within 2s")
	errNoChecks = errors.New("nothing is known to be ready")
)

// failure is one condition that does not hold.
type failure struct {
	name string
	says string // to whoever asks
	err  error  // for the operator
}

// state is what fails; empty means ready.
type state []failure

func (st state) err() error {
	var errs []error
	for _, f := range st {
		errs = append(errs, f.err)
	}
	return errors.Join(errs...)
}

// sameAs compares what fails, not how: free bytes change all the time.
func (st state) sameAs(other state) bool {
	if len(st) != len(other) {
		return false
	}
	for i := range st {
		if st[i].name != other[i].name {
			return false
		}
	}
	return true
}

// now returns the state, made new if it is older than cacheTime.
func (s *Server) now() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.draining && (s.at.IsZero() || time.Since(s.at) >= cacheTime) {
		s.become(s.evaluate())
	}
	return s.last
}

// become takes a new state and tells of a change. Callers hold s.mu.
func (s *Server) become(st state) {
	first := s.at.IsZero()
	before := s.last
	s.at, s.last = time.Now(), st
	if first || !st.sameAs(before) {
		s.log(st)
	}
	if s.options.Changed != nil && (first || (len(st) == 0) != (len(before) == 0)) {
		s.options.Changed(len(st) == 0)
	}
}

func (s *Server) log(st state) {
	if len(st) == 0 {
		s.options.Log.Info("ready")
		return
	}
	s.options.Log.Warn("not ready", zap.Error(st.err()))
}

// evaluate makes all checks at once and returns those that fail, in order.
func (s *Server) evaluate() state {
	if len(s.checks) == 0 {
		return state{{name: "checks", says: "not ready", err: errNoChecks}}
	}
	deadline := time.Now().Add(checkTimeout)
	errs := make([]error, len(s.checks))
	var wg sync.WaitGroup
	for i, c := range s.checks {
		wg.Go(func() { errs[i] = c.do(deadline) })
	}
	wg.Wait()
	var st state
	for i, c := range s.checks {
		if errs[i] != nil {
			st = append(st, c.failure(errs[i]))
		}
	}
	return st
}

// check is a Check that may hang, on a disk for one.
type check struct {
	Check
	running chan error // nil when Test is not running; used by one evaluate at a time
}

// do returns what Test says by deadline. A Test that hangs cannot be stopped:
// its goroutine is kept, and later calls wait for the same one, so there is
// never more than one of each check.
func (c *check) do(deadline time.Time) error {
	if c.running == nil {
		done := make(chan error, 1)
		c.running = done
		go func() { done <- c.Test() }()
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case err := <-c.running:
		c.running = nil
		return err
	case <-timer.C:
		return errTimeout
	}
}

func (c *check) failure(err error) failure {
	says := c.Failing
	if says == "" {
		says = "not ready"
	}
	return failure{name: c.Name, says: says, err: fmt.Errorf("%s: %w", c.Name, err)}
}
