// Package health answers the load balancer's health checks: /livez and /readyz.
package health

import (
	"context"
	"crypto/tls"
	"net"

	"go.uber.org/zap"
)

// Check is one condition of readiness; nil means it holds.
type Check struct {
	Name string
	Test func() error
}

// Options configure a Server.
type Options struct {
	Checks  []Check
	TLS     *tls.Config      // nil = plain HTTP; at least TLS 1.2 is offered, as NLB health checks need it
	Changed func(ready bool) // called when readiness changes
	Log     *zap.Logger
}

type Server struct{}

func New(o Options) *Server { panic("stub") }

// Drain makes /readyz fail from now on.
func (s *Server) Drain()       {}
func (s *Server) Ready() error { return nil }

// Serve answers on ln, which the caller wraps with admission.Optional, until ctx ends.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error { panic("stub") }
