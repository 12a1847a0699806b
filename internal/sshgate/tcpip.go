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
	t, ref := c.connect(ctx, ch, typeDirectTCPIP, open.host, open.port, extra)
	if ref != nil {
		if err := nc.Reject(rejection(ref.reason), text(ref.reason)); err != nil {
			c.log.Debug("channel refusal not sent")
		}
		return
	}
	defer t.conn.Close()
	sc, reqs, err := nc.Accept()
	if err != nil {
		t.close(0, 0, 0, reasonReset)
		return
	}
	defer c.served(typeDirectTCPIP)()
	t.relay(ctx, sc, reqs)
}

// tunnel is a target that has been connected and the facts of its events.
type tunnel struct {
	session *session
	conn    target
	opened  time.Time
	event   audit.Event // template of the closing event
}

// connect decides, writes down and dials. When it fails it has written that
// down too, and the refusal's reason is the client's to know.
func (c *session) connect(ctx context.Context, ch *channel, kind, host string, port uint16, extra map[string]any) (*tunnel, *refusal) {
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
	if err := c.server.opt.Audit.Append(ctx, e); err != nil {
		return nil, c.unwritten(err)
	}
	if !ch.allowed(v.request, v.decision.Rule, place) {
		return nil, refuse(nil, c.isEnding(), "the session is ending")
	}
	return c.dial(ctx, e, v.addrs, port, asked)
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

// relay moves the tunnel's bytes until it ends and writes its end down.
func (t *tunnel) relay(ctx context.Context, sc ssh.Channel, reqs <-chan *ssh.Request) {
	t.run(ctx, &relay{ch: sc, reqs: reqs, target: t.conn})
}

func (t *tunnel) run(ctx context.Context, r *relay) {
	c := t.session
	r.live, r.idle = c.live, c.server.opt.IdleTimeout
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
	addr, name, err := policy.CheckHost(host)
	if err != nil {
		return verdict{}, refuse(nil, string(policy.ReasonTarget), "%v", err)
	}
	req := policy.Request{
		Identity: c.who.identity, Endpoint: c.origin.Endpoint, Client: c.origin.Client.Addr(), Time: time.Now(),
		Verb: policy.Forward, Host: name, Port: port,
	}
	p := c.server.rules.Load().Policy
	if addr.IsValid() {
		req.Host = addr.String()
		return c.decideAddrs(p, req, []netip.Addr{addr})
	}
	if !p.MayResolve(req) {
		return verdict{request: req}, denial(p.Decide(req))
	}
	addrs, err := c.server.opt.Upstream.Resolve(ctx, name)
	if err != nil {
		return verdict{request: req}, refuse(nil, dialFailure(err), "%v", err)
	}
	return c.decideAddrs(p, req, addrs)
}

func (c *session) decideAddrs(p *policy.Policy, req policy.Request, addrs []netip.Addr) (verdict, *refusal) {
	v := verdict{request: req}
	var last policy.Decision
	for _, a := range addrs {
		req.Addr, req.Own = a, c.server.own.has(a, req.Port)
		d := p.Decide(req)
		if !d.Allow {
			last, v.request = d, req
			continue
		}
		if d.Inspected {
			return verdict{request: req}, refuse(nil, reasonInspection, "rule %s grants an inspected session", d.Rule)
		}
		if len(v.addrs) == 0 {
			v.decision = d
		}
		v.addrs = append(v.addrs, a)
	}
	if len(v.addrs) == 0 {
		return v, denial(last)
	}
	v.request = req
	v.request.Addr, v.request.Own = v.addrs[0], c.server.own.has(v.addrs[0], req.Port)
	return v, nil
}

func denial(d policy.Decision) *refusal {
	if d.Reason == "" {
		return refuse(nil, string(policy.ReasonNoRule), "no rule allows it")
	}
	return refuse(nil, string(d.Reason), "policy says %s", d.Reason)
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
