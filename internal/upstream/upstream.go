// Package upstream resolves and dials targets. It dials only addresses that
// its caller has checked.
package upstream

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// Options configure a Dialer.
type Options struct {
	DialTimeout time.Duration // resolving, and connecting, each; 0 = 10 s
	Resolver    *net.Resolver // nil = the system's
}

// Outcome classifies a dial: a metric label and an audit code.
type Outcome string

const (
	OutcomeOK          Outcome = "ok"
	OutcomeRefused     Outcome = "refused"
	OutcomeTimeout     Outcome = "timeout"
	OutcomeUnreachable Outcome = "unreachable"
	OutcomeNoName      Outcome = "no_such_name"
	OutcomeCanceled    Outcome = "canceled"
	OutcomeError       Outcome = "error"
)

// Dialer resolves and dials. It is safe for concurrent use.
type Dialer struct{}

func New(o Options) *Dialer { panic("stub") }

// Resolve returns the addresses of a host name, IPv4-mapped ones unmapped.
func (d *Dialer) Resolve(ctx context.Context, host string) ([]netip.Addr, error) { panic("stub") }

// DialTCP connects to the first of addrs that answers (RFC 8305).
func (d *Dialer) DialTCP(ctx context.Context, addrs []netip.Addr, port uint16) (*net.TCPConn, error) {
	panic("stub")
}

// DialUnix connects to a stream socket.
func (d *Dialer) DialUnix(ctx context.Context, path string) (*net.UnixConn, error) { panic("stub") }

// Classify says what kind of failure err, of this package, is; nil is OutcomeOK.
func Classify(err error) Outcome { panic("stub") }
