package sshgate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"golang.org/x/crypto/ssh"
	"golang.org/x/time/rate"

	"postern/internal/admission"
	"postern/internal/audit"
	"postern/internal/kexinit"
	"postern/internal/metrics"
)

// session is one SSH connection through the gate, from accept to close.
type session struct {
	server   *Server
	id       string
	log      *zap.Logger
	tcp      *admission.Conn
	origin   admission.Origin
	accepted time.Time
	wire     *kexinit.Conn // nil until the client has said hello
	said     *audit.Hello  // nil until the session is open

	// Set by the handshake, read-only afterwards.
	opened time.Time
	who    *principal // nil until the key is verified
	ssh    *ssh.ServerConn
	live   *metrics.Session
	opens  *rate.Limiter // channel opens

	channels sync.WaitGroup // every goroutine that serves a channel, a forward or a request
	end      context.CancelCauseFunc

	mu             sync.Mutex // guards the rest
	open           map[int]*channel
	next           int // number of the next channel
	forwards       map[string]*forward
	inspections    map[*inspection]bool
	noMoreSessions bool
	hadSession     bool   // a session channel has been opened
	over           bool   // serve waits for the last goroutines; none may be added
	ending         string // reason code of the cut, "" while live
	endingDetail   string
	counts         map[string]int // channels served, by type
	denied         int

	pinging  atomic.Bool // a keepalive is unanswered
	schedule schedule    // owned by the housekeeping goroutine
}

// Bounds that hold before and after authentication.
const (
	preAuthBytes   = 128 << 10       // a client needs a tenth of it
	helloPatience  = 2 * time.Second // for a client that waits for our KEXINIT before it sends its own
	opensPerSecond = 200             // channel opens a session, sustained
	opensBurst     = 400
)

// serveConn runs one connection from its first byte to its last audit event.
// Every goroutine it starts has returned when it returns.
func (s *Server) serveConn(ctx context.Context, nc net.Conn) {
	defer nc.Close()
	accepted := time.Now()
	tcp, err := s.opt.Admission.Admit(ctx, nc)
	if err != nil {
		s.refused(nc, err)
		return
	}
	defer tcp.Close()
	s.opt.Metrics.Admitted("ok")

	c := s.newSession(tcp, accepted)
	defer c.recoverServe()
	ctx, c.end = context.WithCancelCause(ctx)
	defer c.end(nil)
	chans, reqs, err := c.handshake(ctx)
	if err != nil {
		return // handshake has written down why
	}
	c.serve(ctx, chans, reqs)
}

func (s *Server) newSession(tcp *admission.Conn, accepted time.Time) *session {
	id := newID()
	return &session{
		server: s, id: id, tcp: tcp, origin: tcp.Origin(), accepted: accepted,
		log: s.opt.Log.WithLazy(zap.String("conn", id)), // lazy: most sessions log nothing
	}
}

// newID returns a session ID: a UUIDv7 (RFC 9562), so that IDs sort by time.
func newID() string {
	id, err := uuid.NewV7()
	if err != nil {
		panic("the system has no randomness: " + err.Error())
	}
	return id.String()
}

// handshake runs everything before the first channel under one deadline. When
// it returns without error the session is durable in the audit log.
func (c *session) handshake(ctx context.Context) (<-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	s := c.server
	deadline := c.accepted.Add(s.opt.LoginGraceTime)
	wire, err := kexinit.Accept(c.tcp, kexinit.Options{
		ServerVersion: serverVersion, Deadline: deadline, Patience: helloPatience, Budget: preAuthBytes,
	})
	if err != nil {
		c.handshakeFailed(err, nil)
		return nil, nil, err
	}
	c.wire = wire
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	a := &authenticator{session: c, ctx: ctx, rules: s.rules.Load(), now: time.Now()}
	conn, chans, reqs, err := ssh.NewServerConn(wire, a.config())
	if err != nil {
		c.handshakeFailed(err, a)
		return nil, nil, err
	}
	c.ssh = conn
	c.who = conn.Permissions.ExtraData[principalKey{}].(*principal)
	c.opens = rate.NewLimiter(opensPerSecond, opensBurst)
	wire.Authenticated()
	c.forgetHello()
	a.ctx = nil // x/crypto keeps the callbacks, and with them a
	if err := c.tcp.SetDeadline(time.Time{}); err != nil {
		conn.Close() // serve sees the closed connection and writes the end down
	}
	s.opt.Metrics.Handshake(c.opened.Sub(c.accepted), c.id)
	return chans, reqs, nil
}

// serve dispatches channels and global requests until the connection ends.
func (c *session) serve(ctx context.Context, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
	c.register()
	defer c.unregister()
	// Whoever ends the session, ends the connection; the loop below sees that.
	stop := context.AfterFunc(ctx, func() { c.ssh.Close() })
	defer stop()
	c.recheck(time.Now()) // the rules may have changed since authentication began
	c.offerHostKeys()
	disconnected := func() {}
	if c.who.destination != nil {
		chans, disconnected = c.throughDestination(ctx, chans)
	}
	for chans != nil || reqs != nil {
		select {
		case nc, ok := <-chans:
			if !ok {
				chans = nil
				continue
			}
			c.openChannel(ctx, nc)
		case req, ok := <-reqs:
			if !ok {
				reqs = nil
				continue
			}
			c.globalRequest(ctx, req)
		}
	}
	disconnected()
	c.closeForwards() // at once: the client may be back within the second
	err := c.ssh.Wait()
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	c.channels.Wait()
	c.closed(err)
}

func (c *session) register() {
	c.live = c.server.opt.Metrics.OpenSession(c.id, c.who.identity, c.origin.Endpoint)
	c.schedule.start(c.opened, c.server.opt.ClientAliveInterval)
	c.server.mu.Lock()
	c.server.sessions[c.id] = c
	c.server.mu.Unlock()
	c.log.Debug("session open", zap.String("identity", c.who.identity), zap.String("endpoint", c.origin.Endpoint))
}

func (c *session) unregister() {
	c.server.mu.Lock()
	delete(c.server.sessions, c.id)
	c.server.mu.Unlock()
	c.live.Close()
}

// cut ends the session for a reason of ours. Session channels are told why.
func (c *session) cut(reason, detail string) {
	c.mu.Lock()
	first := c.ending == ""
	if first {
		c.ending, c.endingDetail = reason, detail
	}
	var told []func(string)
	for _, ch := range c.open {
		if ch.tell != nil {
			told = append(told, ch.tell)
		}
	}
	c.mu.Unlock()
	if !first {
		return
	}
	c.log.Info("session cut", zap.String("reason", reason), zap.String("detail", detail))
	// A client that does not read must not hold up its end.
	timer := time.AfterFunc(cutPatience, func() { c.end(errors.New(reason)) })
	c.spawn(func() {
		for _, tell := range told {
			tell(text(reason))
		}
		timer.Reset(lastWords)
	})
}

// spawn runs f in a goroutine that serve waits for, unless the session is over.
func (c *session) spawn(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.channels.Go(f)
	}
}

const (
	cutPatience = 500 * time.Millisecond // for a client that is being cut to take its text
	lastWords   = 50 * time.Millisecond  // for a refusal that is on its way, such as that of the channel which caused the cut
)

// isEnding returns the reason for which the session is being cut, or "".
func (c *session) isEnding() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

// recoverPanic keeps a defect that one client can reach from ending the
// sessions of all: it cuts that client's, whose end serve writes down.
func (c *session) recoverPanic() {
	if v := recover(); v != nil {
		c.panicked(v)
		c.cut(reasonInternal, fmt.Sprint(v))
	}
}

// recoverServe is recoverPanic for the goroutine that would have written the
// session's end.
func (c *session) recoverServe() {
	v := recover()
	if v == nil {
		return
	}
	c.panicked(v)
	e := c.event(audit.ConnClose, "session ended by a defect of the gate")
	e.Failed, e.Reason, e.Detail, e.Alert = true, reasonInternal, fmt.Sprint(v), true
	c.server.opt.Audit.Note(e)
	if c.end != nil {
		c.end(errors.New(reasonInternal))
	}
}

func (c *session) panicked(v any) {
	c.tcp.Penalize(admission.PenaltyCrash)
	c.log.Error("panic while serving a session", zap.Any("panic", v), zap.ByteString("stack", debug.Stack()))
}

// handshakeFailed writes down why a connection never became a session, and
// what that costs its source. a is nil before the key exchange.
func (c *session) handshakeFailed(err error, a *authenticator) {
	reason, code := failureReason(err, a.reached()), audit.HandshakeFailed
	switch {
	case a != nil && a.who != nil:
		// Authentication is in the log already, so the log needs its end.
		c.closed(err)
		return
	case reason == reasonBadSignature:
		a.fail(a.lastUser, "publickey", refuse(nil, reason, "%v", err))
		c.tcp.Penalize(admission.PenaltyAuthFail)
		return
	case a != nil && a.failures > 0 && reason != reasonGrace:
		c.tcp.Penalize(a.penalty())
		return // each attempt has its own event
	}
	c.penalize(reason)
	c.log.Info("handshake failed", zap.String("reason", reason), zap.Error(err))
	e := c.event(code, "SSH handshake failed: "+reason)
	e.Failed, e.Reason, e.Detail = true, reason, err.Error()
	e.Extra = map[string]any{"elapsed_ms": time.Since(c.accepted).Milliseconds()}
	c.server.opt.Metrics.Auth("none", reason)
	c.server.opt.Audit.Refuse(e)
}

func (c *session) penalize(reason string) {
	switch reason {
	case reasonGrace, string(kexinit.ReasonVersionTimeout), string(kexinit.ReasonKexTimeout):
		c.tcp.Penalize(admission.PenaltyGraceExceeded)
	case reasonNoAuth, reasonProtocol, string(kexinit.ReasonVersionBad), string(kexinit.ReasonVersionLong),
		string(kexinit.ReasonKexinitBad), string(kexinit.ReasonPreAuthBytes):
		c.tcp.Penalize(admission.PenaltyNoAuth)
	}
}

func (a *authenticator) penalty() admission.Penalty {
	if a.unknown {
		return admission.PenaltyInvalidUser
	}
	return admission.PenaltyAuthFail
}

// reached is nil before the client has said hello.
func (a *authenticator) reached() *progress {
	if a == nil {
		return nil
	}
	return &a.progress
}

// failureReason turns the error of a handshake into a reason code. p is nil
// before the client has said hello.
func failureReason(err error, p *progress) string {
	var (
		denied *admission.Denied
		hello  *kexinit.Error
		common *ssh.AlgorithmNegotiationError
		auth   *ssh.ServerAuthError
	)
	switch {
	case errors.As(err, &denied):
		return string(denied.Reason)
	case errors.As(err, &hello) && !(hello.Reason == kexinit.ReasonClosed && p != nil && p.begun):
		if isTimeout(err) && p != nil {
			return reasonGrace
		}
		return string(hello.Reason)
	case errors.As(err, &common):
		return reasonNoCommon
	case isTimeout(err):
		return reasonGrace
	case errors.As(err, &auth), isGone(err):
		return reasonNoAuth
	case p != nil && p.offered && !isProtocolError(err):
		// x/crypto returns the verifier's error as it is, and nothing else
		// can fail between an accepted key and the end of authentication.
		return reasonBadSignature
	case p != nil && p.begun:
		return reasonProtocol
	}
	return reasonKexError
}

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded)
}

func isGone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) || isDisconnect(err)
}

// isDisconnect recognises the client's SSH_MSG_DISCONNECT, whose type x/crypto
// does not export.
func isDisconnect(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "ssh: disconnect, reason ")
}

// isProtocolError recognises what x/crypto, which exports no types for it, says
// of a packet that it could not make sense of.
func isProtocolError(err error) bool {
	for _, said := range []string{"ssh: parse error", "ssh: unmarshal error", "ssh: unexpected message", "ssh: client attempted", "ssh: packet"} {
		if strings.HasPrefix(err.Error(), said) {
			return true
		}
	}
	return false
}

// closed writes the session's last event.
func (c *session) closed(err error) {
	e := c.event(audit.ConnClose, "")
	e.Start, e.End = c.accepted, time.Now()
	e.Reason, e.Detail = c.closeReason(err)
	e.Failed, e.Alert = e.Reason != reasonClient, e.Reason == reasonInternal
	e.Message = fmt.Sprintf("%s disconnected after %s: %s", c.who.identity, e.End.Sub(c.accepted).Round(time.Millisecond), e.Reason)
	e.Auth = &c.who.auth
	if c.live != nil {
		e.TotalIn, e.TotalOut = c.live.Total(metrics.ToTarget), c.live.Total(metrics.ToClient)
	}
	c.mu.Lock()
	e.Extra = map[string]any{"channels": c.counts, "denied": c.denied, "auth_ms": c.opened.Sub(c.accepted).Milliseconds()}
	c.mu.Unlock()
	if c.live != nil && c.live.LastRTT() > 0 {
		e.Extra["rtt_ms"] = float64(c.live.LastRTT().Microseconds()) / 1000
	}
	if c.wire != nil {
		e.Extra["wire_bytes"] = map[string]any{"in": c.wire.BytesRead(), "out": c.wire.BytesWritten()}
	}
	c.log.Debug("session closed", zap.String("reason", e.Reason), zap.Error(err))
	c.server.opt.Audit.Note(e)
}

func (c *session) closeReason(err error) (reason, detail string) {
	c.mu.Lock()
	reason, detail = c.ending, c.endingDetail
	c.mu.Unlock()
	switch {
	case reason != "":
		return reason, detail
	case err == nil, errors.Is(err, io.EOF), isDisconnect(err):
		return reasonClient, errText(err)
	case isGone(err), isTimeout(err):
		return reasonReset, errText(err)
	}
	return reasonProtocol, errText(err)
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// place says where the session comes from, for messages of events.
func (c *session) place() string {
	if c.origin.Endpoint != "" {
		return c.origin.Endpoint
	}
	return c.origin.Client.Addr().String()
}

// event returns an event with everything that is known of the session.
func (c *session) event(code audit.Code, message string) audit.Event {
	gate, _ := addrPort(c.tcp.LocalAddr())
	e := audit.Event{
		Code: code, Time: time.Now(), Message: message, Session: c.id,
		Peer: c.origin.Peer, Client: c.origin.Client, Endpoint: c.origin.Endpoint, Gate: gate,
		Policy: c.server.policyVersion(), Opened: c.opened,
	}
	if c.who != nil {
		e.Identity, e.User, e.Auth = c.who.identity, c.who.user, &c.who.auth
	}
	switch code {
	case audit.ConnOpen, audit.ConnClose, audit.HandshakeFailed:
		e.Hello = c.hello()
	}
	return e
}

// hello describes what the client said. Once the session is open that is in the
// log, and its fingerprints are all that is kept.
func (c *session) hello() *audit.Hello {
	if c.said != nil {
		return c.said
	}
	return describeHello(c.wire)
}

func (c *session) forgetHello() {
	c.said = describeHello(c.wire)
	c.said.HASSHAlgorithms = ""
	c.wire.Forget()
}

func describeHello(wire *kexinit.Conn) *audit.Hello {
	if wire == nil {
		return nil
	}
	h := wire.Hello()
	out := &audit.Hello{Version: h.Version}
	out.HASSH, out.HASSHAlgorithms = h.HASSH()
	out.ServerHASSH, _ = wire.ServerHello().ServerHASSH()
	return out
}

func denialReason(err error) string {
	var d *admission.Denied
	if errors.As(err, &d) {
		return string(d.Reason)
	}
	return reasonInternal
}

// describe is the session as the operator sees it.
func (c *session) describe() Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := Session{
		ID: c.id, Identity: c.who.identity, User: c.who.user, Endpoint: c.origin.Endpoint,
		Client: c.origin.Client, Since: c.opened,
		BytesIn: c.live.Total(metrics.ToTarget), BytesOut: c.live.Total(metrics.ToClient), RTT: c.live.LastRTT(),
	}
	for _, ch := range c.open {
		d.Channels = append(d.Channels, Channel{Type: ch.kind, Target: ch.target, Rule: ch.rule})
	}
	for _, f := range c.forwards {
		d.Channels = append(d.Channels, Channel{Type: "tcpip-forward", Target: f.bound.String(), Rule: f.rule})
	}
	return d
}
