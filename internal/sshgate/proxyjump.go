package sshgate

import (
	"context"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/kexinit"
)

// jump is a channel to a target whose sessions are inspected: an SSH server in
// the target's name answers in it. Who the client is, the outer session has
// proven; the inner user name is the login.
type jump struct {
	session *session
	ch      *channel
	host    string
	port    uint16
	verdict verdict
	event   audit.Event // template of the channel's closing event

	wire    *kexinit.Conn // nil until the inner client has said hello
	begun   bool          // the inner key exchange is over
	refused map[string]*refusal
	last    *refusal // of the inner logins
	arrived *arrived
}

// run serves the channel to its end. sc is the client's side of it, reqs the
// requests that come on it.
func (j *jump) run(ctx context.Context, sc ssh.Channel, reqs <-chan *ssh.Request) {
	began := time.Now()
	connected, left := context.WithCancel(ctx)
	defer left()
	var helpers sync.WaitGroup
	helpers.Go(func() {
		refuseRequests(reqs)
		left() // nobody waits for the target any more
	})
	reason := j.serve(ctx, connected, sc)
	sc.Close()
	helpers.Wait()
	e := j.event
	e.Code, e.Time, e.Reason = audit.ForwardClose, time.Now(), reason
	e.Message += " closed"
	e.Start, e.End = began, e.Time
	if j.wire != nil {
		e.BytesIn, e.BytesOut = j.wire.BytesRead(), j.wire.BytesWritten()
	}
	j.session.server.opt.Audit.Note(e)
}

// abandon writes down that the client never took the channel.
func (j *jump) abandon() {
	e := j.event
	e.Code, e.Time, e.Reason = audit.ForwardClose, time.Now(), reasonReset
	e.Message += " closed"
	j.session.server.opt.Audit.Note(e)
}

// refuseRequests refuses the requests of a channel that has none, until the
// client closes it.
func refuseRequests(reqs <-chan *ssh.Request) {
	for req := range reqs {
		if req.WantReply {
			req.Reply(false, nil)
		}
	}
}

// serve returns the reason of the end. connected ends with the client's side.
func (j *jump) serve(ctx, connected context.Context, sc ssh.Channel) string {
	conn, chans, reqs, err := j.handshake(connected, sc)
	if err != nil {
		return j.failed(err)
	}
	j.arrived.client = conn
	return j.session.inspect(ctx, j.arrived, chans, reqs)
}

// handshake is the inner client's, its login at the target included, under the
// same deadline and budget as an outer one.
func (j *jump) handshake(ctx context.Context, sc ssh.Channel) (*ssh.ServerConn, <-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	stop := context.AfterFunc(ctx, func() { sc.Close() })
	defer stop()
	deadline := time.Now().Add(j.session.server.opt.LoginGraceTime)
	p := newPipe(sc, net.TCPAddrFromAddrPort(j.event.Target), net.TCPAddrFromAddrPort(j.session.origin.Client))
	wire, err := kexinit.Accept(p, kexinit.Options{
		ServerVersion: serverVersion, Deadline: deadline, Patience: helloPatience, Budget: preAuthBytes,
	})
	if err != nil {
		p.SetDeadline(time.Time{})
		return nil, nil, nil, err
	}
	j.wire = wire
	p.SetReadDeadline(time.Time{}) // from here on, the deadline closes the channel
	defer p.SetDeadline(time.Time{})
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	config, err := j.config(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	conn, chans, reqs, err := ssh.NewServerConn(wire, config)
	if err == nil {
		wire.Authenticated()
		wire.Forget() // what it said is in the events
	}
	return conn, chans, reqs, err
}

// config is that of the inner server. It shows certified host keys in the
// name that the client wrote, and the plain ones to clients without
// certificates or without our CA.
func (j *jump) config(ctx context.Context) (*ssh.ServerConfig, error) {
	s := j.session.server
	config := &ssh.ServerConfig{
		Config:                  s.config.Config,
		PublicKeyAuthAlgorithms: s.config.PublicKeyAuthAlgorithms,
		MaxAuthTries:            s.config.MaxAuthTries,
		ServerVersion:           serverVersion,
		PreAuthConnCallback:     func(ssh.ServerPreAuthConn) { j.begun = true },
		NoClientAuth:            true,
	}
	config.Ciphers = s.algorithms.adapt(j.wire.Hello())
	logIn := func(meta ssh.ConnMetadata) (*ssh.Permissions, error) { return nil, j.logIn(ctx, meta.User()) }
	config.NoClientAuthCallback = logIn
	// Clients that don't ask for "none" first, such as paramiko, come with a
	// key. It proves nothing that the outer session has not.
	config.PublicKeyCallback = func(meta ssh.ConnMetadata, _ ssh.PublicKey) (*ssh.Permissions, error) {
		if ref := j.refused[meta.User()]; ref != nil {
			return nil, ref
		}
		return nil, nil
	}
	config.VerifiedPublicKeyCallback = func(meta ssh.ConnMetadata, _ ssh.PublicKey, _ *ssh.Permissions, _ string) (*ssh.Permissions, error) {
		return logIn(meta)
	}
	certified, err := s.hostCerts.signers(j.host, time.Now())
	if err != nil {
		return nil, err
	}
	for _, k := range append(certified, s.opt.HostKeys...) {
		config.AddHostKey(k)
	}
	return config, nil
}

// logIn decides about the login and logs in at the target. A refusal is told in
// a banner, once for each login.
func (j *jump) logIn(ctx context.Context, login string) error {
	if ref := j.refused[login]; ref != nil {
		return ref
	}
	a, ref := j.arrive(ctx, login)
	if ref == nil {
		j.arrived = a
		return nil
	}
	if j.refused == nil {
		j.refused = map[string]*refusal{}
	}
	j.refused[login], j.last = ref, ref
	return &ssh.BannerError{Err: ref, Message: text(ref.reason) + "\r\n"}
}

func (j *jump) arrive(ctx context.Context, login string) (*arrived, *refusal) {
	c, d := j.session, destination{login, j.host, j.port}
	v, ref := c.decideLogin(j.verdict, login)
	if ref != nil {
		c.refuseLogin(j.ch, d, j.verdict.addr(), ref)
		return nil, ref
	}
	if !j.ch.allowed(j.verdict.request, j.event.Rule, d.String()) {
		return nil, refuse(nil, c.isEnding(), "the session is ending")
	}
	return c.arrive(ctx, arrival{destination: d, verdict: v, channel: j.ch, extra: j.facts()})
}

// facts are what the inner client has said of itself.
func (j *jump) facts() map[string]any {
	h := describeHello(j.wire)
	return map[string]any{"door": "proxyjump", "client_version": h.Version, "hassh": h.HASSH}
}

// failed ends a channel whose inner client never got in, and returns why.
func (j *jump) failed(err error) string {
	c := j.session
	if j.arrived != nil { // it left between the login and the answer
		drop(j.arrived.target)
		c.departed(j.arrived, reasonReset)
		return reasonReset
	}
	if j.last != nil {
		return j.last.reason // which is written down
	}
	var p *progress
	if j.wire != nil {
		p = &progress{begun: j.begun}
	}
	reason := failureReason(err, p)
	e := c.forwardEvent(audit.HandshakeFailed, typeDirectTCPIP, j.ch)
	e.Message = "SSH handshake inside " + j.event.Message + " failed: " + reason
	e.TargetHost, e.Target, e.Hello = j.host, j.event.Target, describeHello(j.wire)
	e.Detail = err.Error()
	c.refuseInside(reason, e)
	return reason
}
