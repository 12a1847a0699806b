package sshgate

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/policy"
	"postern/internal/upstream"
)

// inspection is one SSH connection whose inside the gate sees: the client's
// SSH connection on one side, the target's on the other. Whichever door the
// client came through (ProxyJump or login@target), this is the same.
type inspection struct {
	session *session
	channel *channel       // the direct-tcpip channel it came through; nil where the client's own connection is the inspected one
	client  ssh.Conn       // to the client: the server that runs inside the direct-tcpip channel, or the session's own
	target  *upstream.Conn // to the target
	login   string
	host    string // as the client wrote it
	addr    netip.AddrPort
	own     bool // addr belongs to the gate's own host

	running    sync.WaitGroup // one goroutine a channel
	end        context.CancelCauseFunc
	targetGone chan struct{} // closed once the target's connection has ended

	noMoreSessions bool        // owned by serve, as is hadSession
	hadSession     bool        // a session channel has been opened
	agent, x11     atomic.Bool // granted, and asked for on one of the channels
	heard          atomic.Int64
	vigil          vigil
}

// request is what the rules are asked about an act in this inspection.
func (i *inspection) request(verb policy.Verb) policy.Request {
	c := i.session
	return policy.Request{
		Identity: c.who.identity, Endpoint: c.origin.Endpoint, Client: c.origin.Client.Addr(), Time: time.Now(),
		Verb: verb, Host: i.host, Port: i.addr.Port(), Addr: i.addr.Addr(), Own: i.own, Login: i.login,
	}
}

// decide asks the rules of now.
func (i *inspection) decide(r policy.Request) policy.Decision {
	return i.session.server.rules.Load().Policy.Decide(r)
}

// event is session.event with what is known of the target.
func (i *inspection) event(code audit.Code, message string) audit.Event {
	e := i.session.event(code, message)
	e.TargetHost, e.Target, e.Login = i.host, i.addr, i.login
	return e
}

// place names the account at the target for the operator.
func (i *inspection) place() string {
	return i.login + "@" + net.JoinHostPort(i.host, strconv.Itoa(int(i.addr.Port())))
}

// serve relays channels and requests both ways until either connection ends,
// and closes both. Every goroutine it started has ended when it returns. The
// result is the reason code of the end.
func (i *inspection) serve(ctx context.Context, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) string {
	ctx, i.end = context.WithCancelCause(ctx)
	defer i.end(nil)
	i.targetGone = make(chan struct{})
	// The channels tell their clients why, which must not take long.
	hurry := time.AfterFunc(forever, i.close)
	defer hurry.Stop()
	defer onDone(ctx, func() {
		i.target.Close()
		hurry.Reset(cutPatience)
	})()
	forget := i.session.inspects(i)
	p := parties{chans, reqs, i.target.Channels, i.target.Requests}
	reason := i.dispatch(ctx, &p)
	forget()
	i.settle(&p)
	if cause := context.Cause(ctx); cause != nil {
		return endOf(cause)
	}
	return reason
}

const forever = time.Duration(1<<63 - 1)

// parties are what both connections ask for. A nil channel has been closed.
type parties struct {
	chans      <-chan ssh.NewChannel
	reqs       <-chan *ssh.Request // may be closed while the connection lives
	targetNew  <-chan ssh.NewChannel
	targetReqs <-chan *ssh.Request
}

// dispatch serves until one of the connections has ended. x/crypto closes the
// channel of channel opens when that is so.
func (i *inspection) dispatch(ctx context.Context, p *parties) string {
	for {
		select {
		case nc, ok := <-p.chans:
			if !ok {
				p.chans = nil
				return reasonClient
			}
			i.openChannel(ctx, nc)
		case req, ok := <-p.reqs:
			if !ok {
				p.reqs = nil
				continue
			}
			i.globalRequest(req)
		case nc, ok := <-p.targetNew:
			if !ok {
				p.targetNew = nil
				close(i.targetGone)
				return reasonTargetClosed
			}
			i.openBack(ctx, nc)
		case req, ok := <-p.targetReqs:
			if !ok {
				p.targetReqs = nil
				continue
			}
			// keepalive@openssh.com is content with any answer, and
			// hostkeys-00@openssh.com is for whoever keeps known_hosts.
			i.session.reply(req, false, nil)
		}
	}
}

// settle lets the channels deliver what is on its way, then closes both
// connections. It returns when every channel has ended.
func (i *inspection) settle(p *parties) {
	channels := make(chan struct{})
	go func() {
		defer close(channels)
		i.running.Wait()
		i.close()
	}()
	patience := time.AfterFunc(drainPatience, i.close)
	defer patience.Stop()
	// Until x/crypto has closed them: who leaves an open or a request lying
	// keeps the connection's reader from ending.
	for p.chans != nil || p.reqs != nil || p.targetNew != nil || p.targetReqs != nil {
		select {
		case nc, ok := <-p.chans:
			p.chans = late(p.chans, nc, ok)
		case nc, ok := <-p.targetNew:
			if !ok {
				close(i.targetGone)
			}
			p.targetNew = late(p.targetNew, nc, ok)
		case req, ok := <-p.reqs:
			p.reqs = tooLate(p.reqs, req, ok)
		case req, ok := <-p.targetReqs:
			p.targetReqs = tooLate(p.targetReqs, req, ok)
		}
	}
	<-channels
}

func late(from <-chan ssh.NewChannel, nc ssh.NewChannel, ok bool) <-chan ssh.NewChannel {
	if !ok {
		return nil
	}
	nc.Reject(ssh.ConnectionFailed, text(reasonTargetClosed))
	return from
}

func tooLate(from <-chan *ssh.Request, req *ssh.Request, ok bool) <-chan *ssh.Request {
	if !ok {
		return nil
	}
	req.Reply(false, nil)
	return from
}

func (i *inspection) close() {
	i.target.Close()
	i.client.Close()
}

// onDone calls f when ctx ends. The returned function undoes that, or waits
// for f to return.
func onDone(ctx context.Context, f func()) (undo func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		f()
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}

// endOf is the reason code of a cause that this package cancels contexts with.
func endOf(cause error) string {
	for _, known := range []error{errPolicyChanged, errIdle, errRecording, errTargetSilent, errUnreadable} {
		if errors.Is(cause, known) {
			return cause.Error()
		}
	}
	return reasonKilled
}

// globalRequest answers the client's global requests (RFC 4254 §4) in the order
// in which they came. None reaches the target: keepalives are of one
// connection, its host keys are not the client's to know, and it listens on
// nothing for clients.
func (i *inspection) globalRequest(req *ssh.Request) {
	switch req.Type {
	case "no-more-sessions@openssh.com":
		i.noMoreSessions = true
	case "tcpip-forward", "streamlocal-forward@openssh.com":
		e := i.event(audit.ForwardListen, req.Type+" refused: targets listen on nothing for clients")
		e.Kind = req.Type
		i.session.noteRefusal(reasonRequestNotAllowed, e)
	}
	i.session.reply(req, false, nil)
}
