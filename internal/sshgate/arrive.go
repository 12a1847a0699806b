package sshgate

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"
	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/policy"
	"postern/internal/upstream"
)

// arrival is what a client asks for at either door, decided.
type arrival struct {
	destination
	verdict
	channel *channel       // the direct-tcpip it comes through; nil where the session's own user name said where to
	extra   map[string]any // for the events
}

// inspects reports whether the gate can log in at targets at all.
func (s *Server) inspects() bool {
	return s.opt.Minter != nil && s.rules.Load().KnownHosts != nil
}

// decideDestination decides whether the session may log in at a destination,
// and at which of its addresses. Each act there is decided about again.
func (c *session) decideDestination(ctx context.Context, d destination) (verdict, *refusal) {
	if !c.server.inspects() {
		return verdict{}, refuse(nil, reasonInspection, "the gate has no credential for targets, or knows no host keys")
	}
	req, addr, ref := c.ask(d.host, d.port)
	if ref != nil {
		return verdict{}, ref
	}
	req.Login = d.login
	p := c.server.rules.Load().Policy
	decide := func(r policy.Request) policy.Decision { return decideSession(p, r) }
	addrs, ref := c.addresses(ctx, req, addr, decide)
	if ref != nil {
		return verdict{request: req}, ref
	}
	return c.decideAddrs(req, addrs, decide)
}

// decideLogin decides about a login at addresses that are decided already to be
// reached in an inspected session only.
func (c *session) decideLogin(v verdict, login string) (verdict, *refusal) {
	req := v.request
	req.Login, req.Time = login, time.Now()
	p := c.server.rules.Load().Policy
	return c.decideAddrs(req, v.addrs, func(r policy.Request) policy.Decision { return decideSession(p, r) })
}

// decideSession allows a login that may do anything for which a session is
// opened. The denial it returns is that of the verb which came furthest.
func decideSession(p *policy.Policy, req policy.Request) policy.Decision {
	var best policy.Decision
	for _, verb := range []policy.Verb{policy.Shell, policy.Exec, policy.SFTPRead, policy.SFTPWrite} {
		d := decideVerb(p, req, verb)
		if d.Allow {
			return d
		}
		if best.Reason == "" || best.Reason == policy.ReasonNoRule || d.Reason == policy.ReasonUnresolved {
			best = d
		}
	}
	return best
}

// decideVerb decides about one verb in a session that has asked for nothing
// yet. Which commands a rule lists is decided about when there is one.
func decideVerb(p *policy.Policy, req policy.Request, verb policy.Verb) policy.Decision {
	req.Verb = verb
	d := p.Decide(req)
	if d.Reason == policy.ReasonCommand {
		return policy.Decision{Allow: true}
	}
	return d
}

// arrived is a target that the gate has logged in at.
type arrived struct {
	*inspection
	event  audit.Event // template of the closing event
	opened time.Time
}

// arrive logs in at a decided destination. When it returns without a refusal,
// target.open is durable; a refusal is written down too. Only addresses that
// were decided about are dialled.
func (c *session) arrive(ctx context.Context, a arrival) (*arrived, *refusal) {
	e := c.targetEvent(a)
	began := time.Now()
	conn, addr, cred, err := c.logIn(ctx, a)
	if addr.IsValid() {
		e.Target = addr
	}
	if err != nil {
		return nil, c.targetFailed(e, err)
	}
	e.Extra["login_ms"], e.Extra["kex_ms"], e.Extra["auth_ms"] = millis(time.Since(began)), millis(conn.Kex), millis(conn.Auth)
	describeTarget(e.Extra, conn, cred)
	if err := c.server.opt.Audit.Append(ctx, e); err != nil {
		drop(conn)
		return nil, c.unwritten(err)
	}
	return &arrived{
		inspection: &inspection{
			session: c, channel: a.channel, target: conn, login: a.login, host: a.host,
			addr: addr, own: c.server.own.has(addr.Addr(), addr.Port()),
		},
		event: e, opened: time.Now(),
	}, nil
}

// describeTarget adds who the target has proven to be and what the gate has
// shown it: a plain key has neither ID nor serial.
func describeTarget(extra map[string]any, conn *upstream.Conn, cred upstream.Credential) {
	extra["host_key"] = conn.HostKey
	if conn.HostCA != "" {
		extra["host_ca"] = conn.HostCA
	}
	if cred.KeyID != "" {
		extra["key_id"], extra["serial"] = cred.KeyID, strconv.FormatUint(cred.Serial, 10)
	}
}

func (c *session) targetEvent(a arrival) audit.Event {
	e := c.event(audit.TargetOpen, "logged in as "+a.destination.String())
	e.Kind, e.TargetHost, e.Login, e.Rule = typeSession, a.host, a.login, a.decision.Rule
	e.Target, e.Extra = netip.AddrPortFrom(a.addr(), a.port), a.extra
	if a.channel != nil {
		e.Kind, e.Channel = a.channel.kind, strconv.Itoa(a.channel.number)
	}
	return e
}

// logIn dials and logs in with a credential made for this session.
func (c *session) logIn(ctx context.Context, a arrival) (*upstream.Conn, netip.AddrPort, upstream.Credential, error) {
	s := c.server
	cred, err := s.opt.Minter.Mint(time.Now(), c.grant(a))
	if err != nil {
		return nil, netip.AddrPort{}, cred, fmt.Errorf("make a credential: %w", err)
	}
	began := time.Now()
	tcp, err := s.opt.Upstream.DialTCP(ctx, a.addrs, a.port)
	s.opt.Metrics.UpstreamDial(dialFailure(err), time.Since(began), c.id)
	if err != nil {
		return nil, netip.AddrPort{}, cred, err
	}
	addr, _ := addrPort(tcp.RemoteAddr())
	began = time.Now()
	conn, err := s.opt.Upstream.SSH(ctx, tcp, s.rules.Load().KnownHosts, upstream.Target{
		Host: a.host, Port: a.port, Login: a.login, Credential: cred,
	})
	s.opt.Metrics.TargetLogin(dialFailure(err), time.Since(began), c.id)
	return conn, addr, cred, err
}

// grant says what the credential is for. Its key ID is what the target's own
// log names: the person, the session and the rule.
func (c *session) grant(a arrival) upstream.Grant {
	p, req := c.server.rules.Load().Policy, a.request
	can := func(v policy.Verb) bool { return decideVerb(p, req, v).Allow }
	return upstream.Grant{
		Login: a.login,
		KeyID: upstream.KeyID(c.who.identity, c.id, a.decision.Rule),
		PTY:   !c.who.noPTY && (can(policy.Shell) || can(policy.Exec)),
		// Where to is decided at each channel; here, whether to anywhere.
		Forwarding: !c.who.noForwarding && c.mayForwardAny(p),
		Agent:      can(policy.Agent),
		X11:        can(policy.X11),
	}
}

func (c *session) mayForwardAny(p *policy.Policy) bool {
	grants := p.Grants(c.who.identity, c.origin.Endpoint, c.origin.Client.Addr(), time.Now())
	return slices.ContainsFunc(grants, func(r policy.Rule) bool { return slices.Contains(r.Allow, policy.Forward) })
}

// targetFailed writes down that a target could not be logged in at.
func (c *session) targetFailed(e audit.Event, err error) *refusal {
	outcome := upstream.Classify(err)
	ref := refuse(nil, string(outcome), "%v", err)
	e.Code, e.Time, e.Message = audit.TargetFailed, time.Now(), "login as "+e.Login+"@"+e.TargetHost+" failed: "+ref.reason
	e.Detail = err.Error()
	e.Alert = outcome == upstream.OutcomeHostKeyChanged || outcome == upstream.OutcomeHostKeyRevoked
	c.refuseInside(ref.reason, e)
	return ref
}

// refuseInside writes down what was refused or failed on a channel or a
// connection that is open already, and counted so.
func (c *session) refuseInside(reason string, e audit.Event) {
	c.countDenied()
	e.Failed, e.Reason = true, reason
	c.log.Info("inspected session refused", zap.String("reason", reason), zap.String("target", e.TargetHost), zap.String("login", e.Login), zap.String("detail", e.Detail))
	c.server.opt.Audit.Refuse(e)
}

// inspect relays between the client and the target until either connection
// ends, and writes the end down.
func (c *session) inspect(ctx context.Context, a *arrived, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) (reason string) {
	reason = a.serve(ctx, chans, reqs)
	a.client.Close()
	drain(chans, reqs)
	drop(a.target)
	c.departed(a, reason)
	return reason
}

func (c *session) departed(a *arrived, reason string) {
	e := a.event
	e.Code, e.Time, e.Reason = audit.TargetClose, time.Now(), reason
	e.Message = "connection as " + e.Login + "@" + e.TargetHost + " closed: " + reason
	e.Start, e.End = a.opened, e.Time
	c.server.opt.Audit.Note(e)
}

// drop closes a target's connection that nobody serves, and takes what it
// still has to say, so that its goroutines end.
func drop(conn *upstream.Conn) {
	conn.Close()
	drain(conn.Channels, conn.Requests)
}

// drain refuses what is left on a closed connection's channels, so that its
// reader doesn't wait for somebody to take it.
func drain(chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
	for chans != nil || reqs != nil {
		select {
		case nc, ok := <-chans:
			if !ok {
				chans = nil
				continue
			}
			nc.Reject(ssh.Prohibited, "")
		case _, ok := <-reqs:
			if !ok {
				reqs = nil
			}
		}
	}
}
