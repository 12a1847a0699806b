// Package sshgate serves SSH: one session from its handshake to its last
// channel. Every act of a client is decided by policy, written down by audit,
// and only then done.
package sshgate

import (
	"context"
	"net/netip"
	"time"

	"go.uber.org/zap"
	"golang.org/x/crypto/ssh"

	"postern/internal/admission"
	"postern/internal/audit"
	"postern/internal/krl"
	"postern/internal/metrics"
	"postern/internal/policy"
	"postern/internal/record"
	"postern/internal/upstream"
)

// Options configure a Server. Fields are set once, before New.
type Options struct {
	HostKeys            []ssh.Signer     // at least one
	Algorithms          Profile          // "" = modern
	LoginGraceTime      time.Duration    // from accept to the end of authentication; 0 = 30 s
	ClientAliveInterval time.Duration    // between keepalives; 0 = 60 s
	ClientAliveCountMax int              // unanswered keepalives until the session is cut; 0 = 3
	MaxAuthTries        int              // 0 = 6
	MaxChannels         int              // open channels a session; 0 = 128
	IdleTimeout         time.Duration    // a tunnel without a byte either way; 0 = never
	Listeners           []netip.AddrPort // the gate's own: never a target unless a /32 or /128 rule names one

	// Of inspected sessions; without Minter and Rules.KnownHosts there are none.
	HostCA     ssh.Signer       // certifies the key shown in the name of a target; nil = a plain host key
	Minter     *upstream.Minter // the credential used at targets
	Recordings *record.Store    // nil: only rules that switch recording off serve sessions
	Continue   bool             // a session goes on when its recording fails, whatever its rule says

	// Archived, if set, is nil while the archive of the audit log is no further
	// behind than it may be; otherwise nobody new is let in.
	Archived func() error

	Admission *admission.Gate
	Audit     Auditor
	Metrics   *metrics.Metrics
	Upstream  *upstream.Dialer
	Log       *zap.Logger
}

// Rules are what can change while sessions live.
type Rules struct {
	Policy  *policy.Policy // nil denies everything
	Revoked []*krl.List    // asked about every key and certificate

	KnownHosts *upstream.KnownHosts // the keys that targets may show; nil knows nobody: every target is refused
}

// Auditor writes events down. It is an interface because the log may be held
// by another process; *audit.Log is one.
type Auditor interface {
	// Append returns once the events are durable; until then the caller must
	// not let the client proceed.
	Append(ctx context.Context, events ...audit.Event) error
	// Note queues events that report what has already happened; they are
	// durable within a second.
	Note(events ...audit.Event)
	// Refuse is Note for refusals: floods of the same kind are counted and
	// written as one event.
	Refuse(e audit.Event)
	// Ready is nil while events can be written.
	Ready() error
}

// Session describes one live session to the operator.
type Session struct {
	ID, Identity, User, Endpoint string
	Client                       netip.AddrPort
	Since                        time.Time
	BytesIn, BytesOut            int64
	RTT                          time.Duration
	Channels                     []Channel
}

// Channel describes one open channel, or one listening remote forward.
type Channel struct{ Type, Target, Rule string }
