// Package upstream resolves and dials targets. It dials only addresses that
// its caller has checked.
package upstream

import (
	"net"
	"time"
)

// defaultDialTimeout stands in for an Options.DialTimeout of zero.
const defaultDialTimeout = 10 * time.Second

// Options configure a Dialer.
type Options struct {
	DialTimeout time.Duration // resolving, and connecting, each; 0 = 10 s
	Resolver    *net.Resolver // nil = the system's

	// UserTimeout is TCP_USER_TIMEOUT of connections made by DialTCP, on
	// Linux; 0 = off. Besides a target that died with data in flight it also
	// cuts one that is alive but has not read for this long (tcp(7)): a psql
	// COPY behind a lock, a suspended process. Off, a target that died with
	// data in flight is noticed after net.ipv4.tcp_retries2, some 15 minutes.
	UserTimeout time.Duration
}

// Dialer resolves and dials. It is safe for concurrent use.
type Dialer struct {
	timeout  time.Duration
	resolver *net.Resolver
	dialer   net.Dialer
}

// New returns a Dialer; nothing is resolved or dialled by it yet.
func New(o Options) *Dialer {
	if o.DialTimeout <= 0 {
		o.DialTimeout = defaultDialTimeout
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	return &Dialer{timeout: o.DialTimeout, resolver: o.Resolver, dialer: newNetDialer(o.UserTimeout)}
}

// newNetDialer returns the net.Dialer of one address. TCP_NODELAY needs no
// word: package net sets it on every TCP connection.
func newNetDialer(userTimeout time.Duration) net.Dialer {
	return net.Dialer{
		// A silent target, or a stateful box on the way to it that has
		// forgotten the flow, is noticed after 30 + 4·15 = 90 s.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 15 * time.Second, Count: 4},
		Control:         userTimeoutControl(userTimeout),
	}
}
