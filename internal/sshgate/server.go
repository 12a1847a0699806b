package sshgate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/crypto/ssh"

	"postern/internal/admission"
	"postern/internal/audit"
	"postern/internal/upstream"
)

// serverVersion is the identification line; it tells no version of ours. OpenSSH's
// client says eow@openssh.com, without which "ssh target yes | head" never ends,
// only to servers whose name begins like this.
const serverVersion = "SSH-2.0-OpenSSH_compatible_Postern"

// Server serves SSH connections. Its methods are safe for concurrent use.
type Server struct {
	opt        Options
	algorithms algorithms
	config     ssh.ServerConfig // template of each connection's; never changed after New
	rules      atomic.Pointer[Rules]
	own        ownAddresses
	hostCerts  hostCerts
	draining   atomic.Bool

	mu       sync.Mutex // guards sessions
	sessions map[string]*session

	connections  sync.WaitGroup // every goroutine that serves a connection
	housekeeping sync.Once
	stop         chan struct{} // closed by Shutdown: ends housekeeping
	stopped      sync.WaitGroup
}

// New returns a Server that serves nobody until Serve. Its error names the
// option that is missing.
func New(o Options, r Rules) (*Server, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o.setDefaults()
	a, err := o.Algorithms.algorithms()
	if err != nil {
		return nil, err
	}
	s := &Server{
		opt:        o,
		algorithms: a,
		own:        ownAddresses{listeners: o.Listeners},
		hostCerts:  hostCerts{ca: o.HostCA, keys: o.HostKeys},
		sessions:   map[string]*session{},
		stop:       make(chan struct{}),
	}
	s.config = ssh.ServerConfig{
		Config: ssh.Config{
			KeyExchanges:   a.keyExchanges,
			MACs:           a.macs,
			RekeyThreshold: 1 << 30,
		},
		PublicKeyAuthAlgorithms: userKeyAlgorithms(),
		MaxAuthTries:            o.MaxAuthTries,
		ServerVersion:           serverVersion,
	}
	for _, k := range o.HostKeys {
		s.config.AddHostKey(k)
	}
	s.rules.Store(&r)
	return s, nil
}

func (o *Options) validate() error {
	switch {
	case len(o.HostKeys) == 0:
		return errors.New("sshgate: HostKeys is empty")
	case o.Admission == nil, o.Audit == nil, o.Metrics == nil, o.Upstream == nil, o.Log == nil:
		return errors.New("sshgate: Admission, Audit, Metrics, Upstream and Log must be set")
	}
	return nil
}

func (o *Options) setDefaults() {
	setDefault(&o.LoginGraceTime, 30*time.Second)
	setDefault(&o.ClientAliveInterval, time.Minute)
	setDefault(&o.ClientAliveCountMax, 3)
	setDefault(&o.MaxAuthTries, 6)
	setDefault(&o.MaxChannels, 128)
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Serve accepts connections from ln until ln is closed or ctx ends, and closes
// ln. Sessions go on; Shutdown ends them.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	s.housekeeping.Do(func() {
		s.stopped.Go(s.housekeep)
		s.stopped.Go(s.noteBrokenOff)
	})
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	defer ln.Close()
	sessions := context.WithoutCancel(ctx)
	for {
		nc, err := accept(ctx, ln)
		if err != nil {
			return err
		}
		if nc == nil {
			return nil
		}
		s.connections.Go(func() { s.serveConn(sessions, nc) })
	}
}

// accept returns the next connection, or nil once the listener is closed. It
// outlasts what passes by itself, such as running out of file descriptors,
// with growing pauses.
func accept(ctx context.Context, ln net.Listener) (net.Conn, error) {
	pause := 5 * time.Millisecond
	for {
		nc, err := ln.Accept()
		if err == nil {
			return nc, nil
		}
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return nil, nil
		}
		if pause > 5*time.Second {
			return nil, fmt.Errorf("accept connections: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(pause):
			pause *= 2
		}
	}
}

// SetRules replaces the rules and re-decides every live session and channel;
// what is no longer allowed is being closed when it returns.
func (s *Server) SetRules(r Rules) {
	s.rules.Store(&r)
	s.Recheck()
}

// Recheck re-decides every live session and channel, as after a change of the
// admission rules.
func (s *Server) Recheck() {
	now := time.Now()
	for _, c := range s.live() {
		c.recheck(now)
	}
}

// live returns the sessions that are authenticated, oldest first.
func (s *Server) live() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*session, 0, len(s.sessions))
	for _, c := range s.sessions {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *session) int { return a.opened.Compare(b.opened) })
	return all
}

// Sessions describes the live sessions, oldest first.
func (s *Server) Sessions() []Session {
	var out []Session
	for _, c := range s.live() {
		out = append(out, c.describe())
	}
	return out
}

// Kill cuts a session with a text; it reports whether there was one. detail,
// who and why, goes to the audit log only.
func (s *Server) Kill(id, detail string) bool {
	s.mu.Lock()
	c := s.sessions[id]
	s.mu.Unlock()
	if c == nil {
		return false
	}
	c.cut(reasonKilled, detail)
	return true
}

// CutAll cuts every live session, as when the audit log has failed.
func (s *Server) CutAll(detail string) {
	for _, c := range s.live() {
		c.cut(reasonAuditUnavailable, detail)
	}
}

// Drain refuses new sessions from now on; live ones go on.
func (s *Server) Drain() { s.draining.Store(true) }

// Shutdown waits until every session has ended by itself or ctx ends, then cuts
// the rest with a text. Every goroutine of the Server has ended when it
// returns. Serve must have returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.Drain()
	done := make(chan struct{})
	go func() {
		s.connections.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
		for _, c := range s.live() {
			c.cut(reasonDraining, "drain timeout")
		}
		<-done
	}
	close(s.stop)
	s.stopped.Wait()
	return err
}

// housekeep does what sessions need now and then, so that an idle session
// needs no goroutine of its own for it.
func (s *Server) housekeep() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case now := <-tick.C:
			for _, c := range s.live() {
				c.tick(now)
			}
		}
	}
}

// refused counts and writes down a connection that was not admitted.
func (s *Server) refused(nc net.Conn, err error) {
	if errors.Is(err, admission.ErrProbe) {
		s.opt.Metrics.Admitted("probe")
		return
	}
	var denied *admission.Denied
	if !errors.As(err, &denied) {
		denied = &admission.Denied{Reason: reasonInternal, Err: err}
	}
	s.opt.Metrics.Admitted(string(denied.Reason))
	s.countLimit(string(denied.Reason))
	gate, _ := addrPort(nc.LocalAddr())
	s.opt.Log.Info("connection refused",
		zap.String("reason", string(denied.Reason)), zap.Stringer("peer", denied.Origin.Peer),
		zap.Stringer("client", denied.Origin.Client), zap.String("endpoint", denied.Origin.Endpoint), zap.Error(err))
	s.opt.Audit.Refuse(audit.Event{
		Code:     audit.ConnRefused,
		Message:  "connection refused: " + string(denied.Reason),
		Failed:   true,
		Reason:   string(denied.Reason),
		Detail:   denied.Error(),
		Alert:    alarming(denied.Reason),
		Peer:     denied.Origin.Peer,
		Client:   denied.Origin.Client,
		Endpoint: denied.Origin.Endpoint,
		Gate:     gate,
		Policy:   s.policyVersion(),
	})
}

// alarming are the refusals that no well-configured client causes.
func alarming(r admission.Reason) bool {
	switch r {
	case admission.ReasonPeer, admission.ReasonHeaderDuplicate, admission.ReasonHeaderCRC, admission.ReasonEndpoint:
		return true
	}
	return false
}

func (s *Server) countLimit(reason string) {
	switch admission.Reason(reason) {
	case admission.ReasonMaxStartups, admission.ReasonMaxStartupsSource, admission.ReasonRate, admission.ReasonPenalty,
		admission.ReasonMaxSessions, admission.ReasonMaxSessionsIdentity, admission.ReasonPreheaderEvicted:
		s.opt.Metrics.LimitRejected(reason)
	case reasonMaxChannels, reasonChannelRate, reasonMaxForwards:
		s.opt.Metrics.LimitRejected(reason)
	}
}

func (s *Server) policyVersion() string {
	return s.rules.Load().Policy.Version()
}

// dialFailure is the reason code of a failed dial.
func dialFailure(err error) string { return string(upstream.Classify(err)) }
