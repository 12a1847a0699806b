package sshgate

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/metrics"
	"postern/internal/record"
)

// openChannel decides whether there is room for another channel and serves it
// in a goroutine of its own: a target that is slow to answer holds up nobody
// else.
func (i *inspection) openChannel(ctx context.Context, nc ssh.NewChannel) {
	c, kind := i.session, nc.ChannelType()
	if reason := i.room(kind); reason != "" {
		i.deny(nc, ssh.ResourceShortage, reason, "")
		return
	}
	ctx, ch := c.addChannel(ctx, kind)
	i.running.Go(func() {
		defer c.removeChannel(ch)
		defer c.recoverPanic()
		i.serveChannel(ctx, nc, ch)
	})
}

// room says why there is none. Behind a ProxyJump the two connections each have
// their own no-more-sessions.
func (i *inspection) room(kind string) string {
	if i.channel == nil {
		return i.session.roomForChannel(kind)
	}
	if kind == typeSession && i.noMoreSessions && i.hadSession {
		return reasonNoMoreSessions
	}
	i.hadSession = i.hadSession || kind == typeSession
	return i.session.roomForChannel("")
}

func (i *inspection) serveChannel(ctx context.Context, nc ssh.NewChannel, ch *channel) {
	switch nc.ChannelType() {
	case typeSession:
		i.sessionChannel(ctx, nc, ch)
	case typeDirectTCPIP:
		i.directTCPIP(ctx, nc, ch)
	case typeDirectStreamLoc:
		i.denyStreamLocal(nc, ch)
	default:
		i.deny(nc, ssh.UnknownChannelType, reasonChannelType, "")
	}
}

// deny refuses a channel, writes that down and tells whoever asked for it.
func (i *inspection) deny(nc ssh.NewChannel, code ssh.RejectionReason, reason, detail string) {
	e := i.event(audit.ChannelDenied, "channel refused: "+reason)
	e.Kind, e.Detail = printable(nc.ChannelType()), detail
	i.session.refuseOpen(nc, code, reason, e)
}

// sessionChannel serves a channel of type "session" (RFC 4254 §6) to its end.
// The client's open is answered once the target's is.
func (i *inspection) sessionChannel(ctx context.Context, nc ssh.NewChannel, ch *channel) {
	c := i.session
	e := i.event(audit.ChannelOpen, "session channel to "+i.place())
	e.Kind, e.Channel = typeSession, strconv.Itoa(ch.number)
	if err := c.server.opt.Audit.Append(ctx, e); err != nil {
		nc.Reject(ssh.ResourceShortage, text(c.unwritten(err).reason))
		return
	}
	target, targetReqs, err := i.target.OpenChannel(typeSession, nil)
	if err != nil {
		i.deny(nc, openFailure(err), reasonTargetRefused, err.Error())
		return
	}
	client, clientReqs, err := nc.Accept()
	if err != nil {
		target.Close()
		refuseRequests(targetReqs)
		return
	}
	defer c.served(typeSession)()
	s := &inspectedChannel{
		inspection: i, session: c, ch: ch,
		client: client, clientReqs: clientReqs, target: target, targetReqs: targetReqs,
		outputDone: make(chan struct{}), aborted: make(chan struct{}),
	}
	s.openOutputs.Store(2)
	s.serve(ctx)
}

// openFailure is the RFC 4254 §5.1 code with which a target refused a channel.
func openFailure(err error) ssh.RejectionReason {
	var refused *ssh.OpenChannelError
	if errors.As(err, &refused) {
		return refused.Reason
	}
	return ssh.ConnectionFailed
}

// inspectedChannel is a session channel of an inspection. Five goroutines serve
// it: the client's requests, the target's requests, and the three streams.
type inspectedChannel struct {
	inspection             *inspection
	session                *session
	ch                     *channel
	client, target         ssh.Channel
	clientReqs, targetReqs <-chan *ssh.Request

	openOutputs atomic.Int32  // of stdout and stderr
	outputDone  chan struct{} // closed once both have been passed on to their end
	aborted     chan struct{} // closed once a channel that is ended by the gate has been told so
	input       sync.WaitGroup
	inputEnded  atomic.Bool // the client has sent its EOF
	clientGone  atomic.Bool // the client takes no more

	// Owned by the goroutine of the client's requests.
	pty        *pty
	env        []variable      // waiting for the program's decision
	envRefused []string        // names
	told       map[string]bool // request types that were refused with an event and a text

	mu      sync.Mutex // guards program
	program *program   // asked for; nil again if the target refused it

	stderr  sync.Mutex // held while writing to the client's stderr, or its EOF
	eofSent bool       // guarded by stderr
}

// serve relays the channel to its end, the client's requests in this goroutine.
func (s *inspectedChannel) serve(ctx context.Context) {
	s.session.setTell(s.ch, s.say)
	defer onDone(ctx, func() {
		defer close(s.aborted)
		s.abort(ctx)
	})()
	var rest sync.WaitGroup
	guarded := func(f func()) {
		rest.Go(func() {
			defer s.session.recoverPanic()
			f()
		})
	}
	guarded(func() { s.output(s.target, s.client, record.Stdout) })
	guarded(func() { s.output(s.target.Stderr(), s.client.Stderr(), record.Stderr) })
	guarded(func() { s.fromTarget(ctx) })
	for req := range s.clientReqs {
		s.fromClient(ctx, req)
	}
	s.clientGone.Store(true)
	// What the client has sent before it left still gets to the target.
	patience := time.AfterFunc(drainPatience, func() { s.target.Close() })
	s.input.Wait()
	patience.Stop()
	s.target.Close()
	rest.Wait()
}

// setTell makes f what a channel is told its end with.
func (c *session) setTell(ch *channel, f func(string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch.tell = f
}

// abort ends the channel for a reason of the gate's.
func (s *inspectedChannel) abort(ctx context.Context) {
	s.target.Close()
	// A client that does not read must not hold this up.
	patience := time.AfterFunc(cutPatience, func() { s.client.Close() })
	defer patience.Stop()
	if s.session.isEnding() == "" { // else the whole session has been told
		s.say(text(endOf(context.Cause(ctx))))
		s.exit(exitByGate)
		return
	}
	s.client.Close()
}

// exitByGate is the exit status of a program that the gate has ended.
const exitByGate = exitAuditUnavailable

// say shows the client a line of the gate's, and records it as shown.
func (s *inspectedChannel) say(line string) {
	s.stderr.Lock()
	defer s.stderr.Unlock()
	if s.eofSent {
		return
	}
	p := []byte(line + "\r\n")
	if program := s.current(); program != nil {
		program.tape.output(record.Stderr, p)
	}
	s.client.Stderr().Write(p)
}

// exit ends the channel in the order of RFC 4254 §6.10: status, EOF, CLOSE.
func (s *inspectedChannel) exit(status uint32) {
	s.client.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
	s.sendEOF()
	s.client.Close()
}

func (s *inspectedChannel) sendEOF() {
	s.stderr.Lock()
	defer s.stderr.Unlock()
	if !s.eofSent {
		s.eofSent = true
		s.client.CloseWrite()
	}
}

// output passes one of the target's streams on until its end. Each byte is
// recorded before it is passed on.
func (s *inspectedChannel) output(from io.Reader, to io.Writer, which record.Kind) {
	defer func() {
		if s.openOutputs.Add(-1) == 0 {
			close(s.outputDone)
		}
	}()
	var (
		p       *program
		sampler metrics.Sampler
	)
	gone := false
	carry(from, func(b []byte) {
		if p == nil {
			p = s.running()
		}
		if p == nil || gone {
			return // of no program, or to nobody
		}
		s.inspection.heard.Add(int64(len(b)))
		gone = !s.show(p, to, which, b, sampler.Pick())
	})
}

// show records bytes, passes them on, and reports whether there is anybody to
// take more.
func (s *inspectedChannel) show(p *program, to io.Writer, which record.Kind, b []byte, timed bool) bool {
	var began time.Time
	if timed {
		began = time.Now()
	}
	s.countOut(p, len(b))
	if which == record.Stderr {
		s.stderr.Lock()
		defer s.stderr.Unlock()
		if s.eofSent {
			return false
		}
	}
	if which == record.Stdout && p.transfer != nil {
		if p.transfer.restricted {
			p.transfer.answers.Lock()
			defer p.transfer.answers.Unlock()
		}
		b = p.transfer.fromTarget(b)
	}
	if !(which == record.Stdout && p.digested()) && !p.tape.output(which, b) {
		return false
	}
	if timed {
		s.session.server.opt.Metrics.Inspected(time.Since(began))
	}
	return writeAll(to, b) == nil
}

func (s *inspectedChannel) countOut(p *program, n int) {
	s.session.live.Add(metrics.ToClient, int64(n))
	if p.out.Add(int64(n)) == int64(n) {
		s.session.server.opt.Metrics.FirstByte(typeSession, time.Since(p.started), s.session.id)
	}
}

// stdin passes on what the client sends until its EOF.
func (s *inspectedChannel) stdin(p *program) {
	failed := false
	carry(s.client, func(b []byte) {
		if failed {
			return // what the target doesn't take is dropped
		}
		p.in.Add(int64(len(b)))
		s.session.live.Add(metrics.ToTarget, int64(len(b)))
		failed = s.take(p, b) != nil
	})
	s.inputEnded.Store(true)
	if !failed {
		s.target.CloseWrite()
	}
}

// take records bytes of the client, where that is asked for, and passes them on.
func (s *inspectedChannel) take(p *program, b []byte) error {
	if p.transfer == nil {
		p.tape.typed(b)
		return writeAll(s.target, b)
	}
	err := p.transfer.toTarget(s.target, b)
	if !p.digested() {
		p.tape.typed(b)
	}
	return err
}

// carry calls each with what it reads from src until that ends. It waits with
// a small buffer of its own and borrows a large one while bulk is moving.
func carry(src io.Reader, each func([]byte)) {
	idle := make([]byte, idleReadSize)
	var held *[bufferSize]byte
	defer func() {
		if held != nil {
			buffers.Put(held)
		}
	}()
	for {
		buf := idle
		if held != nil {
			buf = held[:]
		}
		n, err := src.Read(buf)
		if n > 0 {
			each(buf[:n])
		}
		if err != nil {
			return
		}
		held = sized(held, n, len(buf))
	}
}
