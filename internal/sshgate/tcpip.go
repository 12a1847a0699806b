package sshgate

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/policy"
)

// directTCPIPOpen is the payload of a direct-tcpip channel open (RFC 4254
// §7.2), past its checks.
type directTCPIPOpen struct {
	host       string
	port       uint16
	originator string // what the client says; nothing rests on it
}

// parseDirectTCPIP checks everything but the host, which policy.CheckHost does.
func parseDirectTCPIP(payload []byte) (directTCPIPOpen, error) {
	var m struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(payload, &m); err != nil {
		return directTCPIPOpen{}, err
	}
	if m.Port == 0 || m.Port > 65535 {
		return directTCPIPOpen{host: m.Host}, fmt.Errorf("port %d", m.Port)
	}
	return directTCPIPOpen{m.Host, uint16(m.Port), net.JoinHostPort(printable(m.OriginHost), strconv.FormatUint(uint64(m.OriginPort), 10))}, nil
}

// directTCPIP serves a tunnel that the client asked for with -L, -D, -W or -J.
func (c *session) directTCPIP(ctx context.Context, nc ssh.NewChannel, ch *channel) {
	open, err := parseDirectTCPIP(nc.ExtraData())
	if err != nil {
		e := c.forwardEvent(audit.ForwardRefused, typeDirectTCPIP, ch)
		e.TargetHost, e.Detail = open.host, err.Error()
		c.refuseOpen(nc, ssh.ConnectionFailed, reasonMalformed, e)
		return
	}
	extra := map[string]any{"originator": open.originator}
	w, ref := c.connect(ctx, ch, typeDirectTCPIP, open.host, open.port, extra)
	if ref != nil {
		if err := nc.Reject(rejection(ref.reason), text(ref.reason)); err != nil {
			c.log.Debug("channel refusal not sent")
		}
		return
	}
	sc, reqs, err := nc.Accept()
	if err != nil {
		w.abandon()
		return
	}
	defer c.served(typeDirectTCPIP)()
	w.run(ctx, sc, reqs)
}

// way is what serves an accepted channel to a target: a tunnel or a jump.
type way interface {
	// run serves the channel to its end, closes it and writes its end down.
	run(ctx context.Context, sc ssh.Channel, reqs <-chan *ssh.Request)
	// abandon writes down that the channel never came to be.
	abandon()
}

// tunnel is a target that has been connected and the facts of its events.
type tunnel struct {
	session *session
	conn    target
	opened  time.Time
	event   audit.Event // template of the closing event
}

// connect decides, writes down and, unless an SSH server of the gate is to
// answer, dials. When it fails it has written that down too, and the refusal's
// reason is the client's to know.
func (c *session) connect(ctx context.Context, ch *channel, kind, host string, port uint16, extra map[string]any) (way, *refusal) {
	e := c.forwardEvent(audit.ForwardOpen, kind, ch)
	e.TargetHost, e.Extra = host, extra
	place := net.JoinHostPort(host, strconv.Itoa(int(port)))
	asked := time.Now()
	v, ref := c.decideTarget(ctx, host, port)
	if ref != nil {
		e.Code, e.Message, e.Detail = audit.ForwardRefused, kind+" refused: "+ref.reason, ref.detail
		if ref.reason == string(policy.ReasonSpecialAddress) {
			e.Alert = true
		}
		e.Target = netip.AddrPortFrom(v.addr(), port)
		c.noteRefusal(ref.reason, e)
		return nil, ref
	}
	e.Rule, e.Target = v.decision.Rule, netip.AddrPortFrom(v.addr(), port)
	e.Message = kind + " to " + place
	if v.decision.Inspected {
		e.Extra["inspected"] = true
	}
	if err := c.server.opt.Audit.Append(ctx, e); err != nil {
		return nil, c.unwritten(err)
	}
	if v.decision.Inspected {
		ch.isJump()
	}
	if !ch.allowed(v.request, v.decision.Rule, place) {
		return nil, refuse(nil, c.isEnding(), "the session is ending")
	}
	if v.decision.Inspected {
		return &jump{session: c, ch: ch, host: host, port: port, verdict: v, event: e}, nil
	}
	t, ref := c.dial(ctx, e, v.addrs, port, asked)
	if ref != nil {
		return nil, ref
	}
	return t, nil
}

// unwritten ends a session whose acts can't be written down any more.
func (c *session) unwritten(err error) *refusal {
	c.cut(reasonAuditUnavailable, err.Error())
	return refuse(nil, reasonAuditUnavailable, "%v", err)
}

func (c *session) dial(ctx context.Context, e audit.Event, addrs []netip.Addr, port uint16, asked time.Time) (*tunnel, *refusal) {
	began := time.Now()
	conn, err := c.server.opt.Upstream.DialTCP(ctx, addrs, port)
	took := time.Since(began)
	c.server.opt.Metrics.UpstreamDial(dialFailure(err), took, c.id)
	if err != nil {
		return nil, c.dialFailed(e, err)
	}
	e.Target, _ = addrPort(conn.RemoteAddr())
	e.Extra["dial_ms"] = millis(took)
	return &tunnel{session: c, conn: conn, opened: asked, event: e}, nil
}

func (c *session) dialFailed(e audit.Event, err error) *refusal {
	ref := refuse(nil, dialFailure(err), "%v", err)
	e.Code, e.Time, e.Message = audit.ForwardFailed, time.Now(), e.Message+" failed: "+ref.reason
	e.Detail = err.Error()
	c.noteRefusal(ref.reason, e)
	return ref
}

func (t *tunnel) abandon() {
	t.conn.Close()
	t.close(0, 0, 0, reasonReset)
}

// run moves the tunnel's bytes until it ends.
func (t *tunnel) run(ctx context.Context, sc ssh.Channel, reqs <-chan *ssh.Request) {
	defer t.conn.Close()
	c := t.session
	r := &relay{ch: sc, reqs: reqs, target: t.conn, live: c.live, idle: c.server.opt.IdleTimeout}
	reason := r.run(ctx)
	if r.firstByte > 0 {
		first := r.firstByte + r.began.Sub(t.opened)
		c.server.opt.Metrics.FirstByte(t.event.Kind, first, c.id)
		t.event.Extra["ttfb_ms"] = millis(first)
	}
	t.close(r.in.Load(), r.out.Load(), time.Since(t.opened), reason)
}

func (t *tunnel) close(in, out int64, took time.Duration, reason string) {
	e := t.event
	e.Code, e.Time, e.Reason = audit.ForwardClose, time.Now(), reason
	e.Message += " closed"
	e.BytesIn, e.BytesOut = in, out
	e.Start, e.End = e.Time.Add(-took), e.Time
	t.session.server.opt.Audit.Note(e)
}

func (c *session) forwardEvent(code audit.Code, kind string, ch *channel) audit.Event {
	e := c.event(code, kind)
	e.Kind, e.Channel = kind, strconv.Itoa(ch.number)
	return e
}

// verdict is a decision and the addresses it is true of.
type verdict struct {
	request  policy.Request
	decision policy.Decision
	addrs    []netip.Addr
}

func (v verdict) addr() netip.Addr {
	if len(v.addrs) > 0 {
		return v.addrs[0]
	}
	return v.request.Addr
}

// decideTarget decides about a forward. A name is resolved only where that can
// change the answer, and each of its addresses is decided about: only those
// that are allowed may be dialled.
func (c *session) decideTarget(ctx context.Context, host string, port uint16) (verdict, *refusal) {
	if c.who.noForwarding {
		return verdict{}, refuse(nil, reasonCertNoForwarding, "the certificate lacks %s", extensionForwarding)
	}
	req, addr, ref := c.ask(host, port)
	if ref != nil {
		return verdict{}, ref
	}
	req.Verb = policy.Forward
	decide := c.server.rules.Load().Policy.Decide
	addrs, ref := c.addresses(ctx, req, addr, decide)
	if ref != nil {
		return verdict{request: req}, ref
	}
	v, ref := c.decideAddrs(req, addrs, decide)
	if ref == nil && v.decision.Inspected && !c.server.inspects() {
		return v, refuse(nil, reasonInspection, "rule %s grants an inspected session", v.decision.Rule)
	}
	return v, ref
}

// ask begins a request about a host that the client wrote. addr is set where it
// wrote an address.
func (c *session) ask(host string, port uint16) (req policy.Request, addr netip.Addr, ref *refusal) {
	addr, name, err := policy.CheckHost(host)
	if err != nil {
		return req, addr, refuse(nil, string(policy.ReasonTarget), "%v", err)
	}
	if addr.IsValid() {
		name = addr.String()
	}
	return policy.Request{
		Identity: c.who.identity, Endpoint: c.origin.Endpoint, Client: c.origin.Client.Addr(), Time: time.Now(),
		Host: name, Port: port,
	}, addr, nil
}

// addresses returns addr, or what the request's name resolves to.
func (c *session) addresses(ctx context.Context, req policy.Request, addr netip.Addr, decide decider) ([]netip.Addr, *refusal) {
	if addr.IsValid() {
		return []netip.Addr{addr}, nil
	}
	if d := decide(req); d.Reason != policy.ReasonUnresolved {
		return nil, denial(d)
	}
	addrs, err := c.server.opt.Upstream.Resolve(ctx, req.Host)
	if err != nil {
		return nil, refuse(nil, dialFailure(err), "%v", err)
	}
	return addrs, nil
}

type decider func(policy.Request) policy.Decision

// decideAddrs decides about each address and keeps those that are allowed. If
// any is to be inspected, only such are kept.
func (c *session) decideAddrs(req policy.Request, addrs []netip.Addr, decide decider) (verdict, *refusal) {
	denied, last, v := req, policy.Decision{}, verdict{}
	for _, a := range addrs {
		req.Addr, req.Own = a, c.server.own.has(a, req.Port)
		d := decide(req)
		switch {
		case !d.Allow:
			denied, last = req, d
		case len(v.addrs) == 0, d.Inspected && !v.decision.Inspected:
			v = verdict{req, d, []netip.Addr{a}}
		case d.Inspected == v.decision.Inspected:
			v.addrs = append(v.addrs, a)
		}
	}
	if len(v.addrs) == 0 {
		return verdict{request: denied}, denial(last)
	}
	return v, nil
}

func denial(d policy.Decision) *refusal {
	if d.Reason == "" {
		return refuse(nil, string(policy.ReasonNoRule), "no rule allows it")
	}
	return refuse(nil, string(d.Reason), "policy says %s", d.Reason)
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
