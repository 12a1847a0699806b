package sshgate

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/metrics"
	"postern/internal/policy"
)

// Channel types that only a target opens.
const (
	typeAgent = "auth-agent@openssh.com"
	typeX11   = "x11"
)

// directTCPIP serves a tunnel out of the inspected session: it is the target
// that resolves the name and connects.
func (i *inspection) directTCPIP(ctx context.Context, nc ssh.NewChannel, ch *channel) {
	c := i.session
	open, err := parseDirectTCPIP(nc.ExtraData())
	e := i.event(audit.ForwardOpen, typeDirectTCPIP+" out of "+i.place())
	e.Kind, e.Channel, e.TargetHost = typeDirectTCPIP, strconv.Itoa(ch.number), open.host
	e.Extra = map[string]any{"originator": open.originator, "through": i.place()}
	if err != nil {
		e.Code, e.Detail = audit.ForwardRefused, err.Error()
		c.refuseOpen(nc, ssh.ConnectionFailed, reasonMalformed, e)
		return
	}
	r := i.nestedRequest(open)
	e.Target = netip.AddrPortFrom(r.Addr, open.port)
	place := net.JoinHostPort(open.host, strconv.Itoa(int(open.port)))
	rule, ref := i.decideNested(r)
	if ref != nil {
		e.Code, e.Message, e.Detail = audit.ForwardRefused, typeDirectTCPIP+" to "+place+" refused: "+ref.reason, ref.detail
		e.Alert = ref.reason == string(policy.ReasonSpecialAddress)
		c.refuseOpen(nc, rejection(ref.reason), ref.reason, e)
		return
	}
	e.Rule, e.Message = rule, typeDirectTCPIP+" to "+place+" out of "+i.place()
	if err := c.server.opt.Audit.Append(ctx, e); err != nil {
		nc.Reject(ssh.ResourceShortage, text(c.unwritten(err).reason))
		return
	}
	if !ch.allowed(r, rule, place) {
		nc.Reject(ssh.Prohibited, text(c.isEnding()))
		return
	}
	i.bridge(ctx, nc, ch, i.target, e)
}

// nestedRequest is what the rules are asked about a tunnel out of the session.
// The gate doesn't know what a name is to the target, so it has no address
// but one that the client wrote.
func (i *inspection) nestedRequest(open directTCPIPOpen) policy.Request {
	r := i.request(policy.Forward)
	r.Host, r.Port, r.Own, r.Login = open.host, open.port, false, ""
	r.Addr, _, _ = policy.CheckHost(open.host) // an error is the rules' to find
	r.Via = policy.Via{Host: i.host, Port: i.addr.Port(), Addr: i.addr.Addr()}
	return r
}

func (i *inspection) decideNested(r policy.Request) (rule string, ref *refusal) {
	if i.session.who.noForwarding {
		return "", refuse(nil, reasonCertNoForwarding, "the certificate lacks %s", extensionForwarding)
	}
	d := i.decide(r)
	switch {
	case !d.Allow:
		return "", denial(d)
	case d.Inspected:
		return "", refuse(nil, string(policy.ReasonNested), "rule %s inspects sessions to this target", d.Rule)
	}
	return d.Rule, nil
}

// denyStreamLocal refuses a tunnel to a socket on the target: no rule grants one.
func (i *inspection) denyStreamLocal(nc ssh.NewChannel, ch *channel) {
	e := i.event(audit.ForwardRefused, "direct-streamlocal refused: no rule grants a target's sockets")
	e.Kind, e.Channel = typeDirectStreamLoc, strconv.Itoa(ch.number)
	e.TargetHost, _ = parseDirectStreamLocal(nc.ExtraData())
	i.session.refuseOpen(nc, ssh.Prohibited, reasonRequestNotAllowed, e)
}

// openBack serves a channel that the target opens to the client's agent or X11
// display, once that has been granted and asked for. What it carries is never
// recorded.
func (i *inspection) openBack(ctx context.Context, nc ssh.NewChannel) {
	c := i.session
	verb, ok := i.backVerb(nc.ChannelType())
	if !ok {
		i.deny(nc, ssh.Prohibited, reasonChannelType, "opened by the target")
		return
	}
	if reason := c.roomForChannel(""); reason != "" {
		i.deny(nc, ssh.ResourceShortage, reason, "opened by the target")
		return
	}
	ctx, ch := c.addChannel(ctx, nc.ChannelType())
	i.running.Go(func() {
		defer c.removeChannel(ch)
		defer c.recoverPanic()
		i.serveBack(ctx, nc, ch, verb)
	})
}

func (i *inspection) backVerb(kind string) (policy.Verb, bool) {
	switch {
	case kind == typeAgent && i.agent.Load():
		return policy.Agent, true
	case kind == typeX11 && i.x11.Load():
		return policy.X11, true
	}
	return "", false
}

func (i *inspection) serveBack(ctx context.Context, nc ssh.NewChannel, ch *channel, verb policy.Verb) {
	c := i.session
	r := i.request(verb)
	d := i.decide(r)
	if !d.Allow {
		i.deny(nc, ssh.Prohibited, reasonNotGranted, "policy says "+string(d.Reason))
		return
	}
	e := i.event(audit.ForwardOpen, nc.ChannelType()+" from "+i.place())
	e.Kind, e.Channel, e.Rule, e.Extra = nc.ChannelType(), strconv.Itoa(ch.number), d.Rule, map[string]any{}
	if err := c.server.opt.Audit.Append(ctx, e); err != nil {
		nc.Reject(ssh.ResourceShortage, text(c.unwritten(err).reason))
		return
	}
	if !ch.allowed(r, d.Rule, i.place()) {
		nc.Reject(ssh.Prohibited, text(c.isEnding()))
		return
	}
	i.bridge(ctx, nc, ch, i.client, e)
}

// bridge opens the channel nc on the other connection too and carries its
// bytes. e is the event of its open.
func (i *inspection) bridge(ctx context.Context, nc ssh.NewChannel, ch *channel, other ssh.Conn, e audit.Event) {
	c := i.session
	far, farReqs, err := other.OpenChannel(nc.ChannelType(), nc.ExtraData())
	if err != nil {
		e.Code, e.Time, e.Message, e.Detail = audit.ForwardFailed, time.Now(), e.Message+" failed", err.Error()
		c.refuseOpen(nc, openFailure(err), reasonOpenFailed, e)
		return
	}
	near, nearReqs, err := nc.Accept()
	if err != nil {
		far.Close()
		refuseRequests(farReqs)
		return
	}
	defer c.served(nc.ChannelType())()
	b := &bridge{
		near: near, far: far, nearReqs: nearReqs, farReqs: farReqs,
		live: c.live, idle: c.server.opt.IdleTimeout, fromTarget: other == i.client, panicked: c.recoverPanic,
	}
	opened := e.Time
	reason := b.run(ctx)
	e.Code, e.Time, e.Reason = audit.ForwardClose, time.Now(), reason
	e.Message += " closed"
	e.Start, e.End = opened, e.Time
	e.BytesIn, e.BytesOut = b.out.Load(), b.back.Load()
	if b.fromTarget {
		e.BytesIn, e.BytesOut = e.BytesOut, e.BytesIn
	}
	c.server.opt.Audit.Note(e)
}

// bridge carries the bytes of one channel between two connections: from near,
// which asked for it, to far, and back. It has relay's promises.
type bridge struct {
	near, far         ssh.Channel
	nearReqs, farReqs <-chan *ssh.Request
	fromTarget        bool // near is the target
	live              *metrics.Session
	idle              time.Duration // 0 = never
	panicked          func()        // deferred by each goroutine

	out, back atomic.Int64 // bytes from near, from far; valid after run
	active    atomic.Int64 // unix nanoseconds of the last byte
}

// run returns when both directions have ended and both channels are closed, or
// ctx has ended. Each end's half-close reaches the other (RFC 4254 §5.3).
func (b *bridge) run(ctx context.Context) string {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer onDone(ctx, b.close)()
	stopIdle := b.watchIdle(cancel)
	var directions, ends sync.WaitGroup
	start := func(wg *sync.WaitGroup, f func()) {
		wg.Go(func() {
			defer b.panicked()
			f()
		})
	}
	toFar, toNear := metrics.ToTarget, metrics.ToClient
	if b.fromTarget {
		toFar, toNear = toNear, toFar
	}
	sent, got := make(chan struct{}), make(chan struct{})
	start(&directions, func() { defer close(sent); b.copy(b.far, b.near, &b.out, toFar) })
	start(&directions, func() { defer close(got); b.copy(b.near, b.far, &b.back, toNear) })
	start(&ends, func() { b.awaitClose(b.nearReqs, sent, b.far) })
	start(&ends, func() { b.awaitClose(b.farReqs, got, b.near) })
	directions.Wait()
	b.close()
	ends.Wait()
	stopIdle()
	return endReason(ctx)
}

// awaitClose waits until one end has closed the channel and what it had sent is
// delivered, then closes the other: bytes that go the other way have no reader.
func (b *bridge) awaitClose(reqs <-chan *ssh.Request, delivered <-chan struct{}, other ssh.Channel) {
	refuseRequests(reqs)
	patience := time.AfterFunc(drainPatience, func() { other.Close() })
	defer patience.Stop()
	<-delivered
	other.Close()
}

// copy carries bytes until src's EOF, which it passes on. What dst takes no
// more is dropped, so that src is never held up by a reader that is gone.
func (b *bridge) copy(dst, src ssh.Channel, total *atomic.Int64, dir metrics.Direction) {
	failed := false
	carry(src, func(p []byte) {
		if failed {
			return
		}
		total.Add(int64(len(p)))
		b.live.Add(dir, int64(len(p)))
		if b.idle > 0 {
			b.active.Store(time.Now().UnixNano())
		}
		_, err := dst.Write(p)
		failed = err != nil
	})
	if !failed {
		dst.CloseWrite()
	}
}

func (b *bridge) close() {
	b.near.Close()
	b.far.Close()
}

// watchIdle ends the bridge once nothing has moved for the idle time, until
// the returned function is called.
func (b *bridge) watchIdle(end context.CancelCauseFunc) (stop func()) {
	if b.idle == 0 {
		return func() {}
	}
	b.active.Store(time.Now().UnixNano())
	var timer *time.Timer
	ready := make(chan struct{})
	timer = time.AfterFunc(b.idle, func() {
		<-ready
		left := b.idle - time.Since(time.Unix(0, b.active.Load()))
		if left <= 0 {
			end(errIdle)
			return
		}
		timer.Reset(left)
	})
	close(ready)
	return func() { timer.Stop() }
}
