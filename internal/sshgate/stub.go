package sshgate

import (
	"context"
	"net"

	"golang.org/x/crypto/ssh"
)

type Profile string
type Server struct{}

// LoadHostKeys reads the host keys at paths and makes those that are missing.
func LoadHostKeys(paths []string) ([]ssh.Signer, error) { panic("stub") }

// New returns a Server that serves nobody until Serve.
func New(o Options, r Rules) (*Server, error) { panic("stub") }

// Serve accepts from ln until it is closed or ctx ends; sessions go on.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error { panic("stub") }

// SetRules replaces the rules and re-decides every live session and channel.
func (s *Server) SetRules(r Rules) {}

// Recheck re-decides every live session and channel, after admission changed.
func (s *Server) Recheck()            {}
func (s *Server) Sessions() []Session { return nil }

// Kill cuts a session with a text; it reports whether there was one.
func (s *Server) Kill(id, reason string) bool { return false }

// Drain refuses new sessions from now on.
func (s *Server) Drain() {}

// Shutdown waits until every session has ended by itself or ctx ends, then
// cuts the rest with a text and waits for them.
func (s *Server) Shutdown(ctx context.Context) error { return nil }
