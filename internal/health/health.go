// Package health answers the load balancer's health checks: /livez and /readyz.
package health

import (
	"crypto/tls"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"
)

// errDraining is what Ready returns once Drain was called.
var errDraining = errors.New("draining: no new sessions are taken")

// Check is one condition of readiness; nil means it holds.
type Check struct {
	Name string
	// Test is called at most every 500 ms and never twice at once. The check
	// fails while it takes longer than 2 s.
	Test func() error
	// Failing is the sentence that whoever asks /readyz is told, in place of
	// the error of Test: the port is open to the network. "" = "not ready".
	Failing string
}

// Options configure a Server.
type Options struct {
	Checks []Check     // all must hold; none = never ready
	TLS    *tls.Config // nil = plain HTTP; at least TLS 1.2 is offered, as NLB health checks need it
	// Changed, if set, is called when readiness is first known, and when it
	// changes: one call at a time, in order. It must not call the Server.
	Changed  func(ready bool)
	Answered func(ready bool) // called, if set, with each answer of /readyz
	Log      *zap.Logger      // nil = nothing is logged
}

// Server knows whether the gate is ready. Its methods are safe for concurrent use.
type Server struct {
	options Options
	checks  []*check

	mu       sync.Mutex // guards what follows; held while the checks are made
	draining bool
	at       time.Time // of the last state; zero before the first
	last     state
}

// New returns a Server. Nothing is checked before Ready or Serve is called.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	s := &Server{options: o}
	for _, c := range o.Checks {
		s.checks = append(s.checks, &check{Check: c})
	}
	return s
}

// Drain makes /readyz fail from now on; the checks are no longer made.
// When it returns, no later answer says ready.
func (s *Server) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	s.become(state{{name: "draining", says: "takes no new sessions", err: errDraining}})
}

// Ready returns nil when new sessions should come here, else an error with
// what each failing check says, for the operator. It takes at most 2 s; an
// answer may be 500 ms old.
func (s *Server) Ready() error { return s.now().err() }
