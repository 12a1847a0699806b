package sshgate

import (
	"context"
	"time"

	"go.uber.org/zap"
	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/policy"
)

// Channel types of RFC 4254 and OpenSSH's PROTOCOL.
const (
	typeSession         = "session"
	typeDirectTCPIP     = "direct-tcpip"
	typeForwardedTCPIP  = "forwarded-tcpip"
	typeDirectStreamLoc = "direct-streamlocal@openssh.com"
)

// channel is one channel of a session, from its open to the end of its last
// goroutine.
type channel struct {
	session *session
	number  int
	kind    string
	end     context.CancelCauseFunc // closes the channel and what is behind it

	// Guarded by session.mu.
	target  string           // for the operator
	rule    string           // that allowed it
	request policy.Request   // re-decided when the rules change; Verb is "" before the decision
	jump    bool             // the gate's own SSH server answers in the target's name
	also    []policy.Request // decided with it: what allows one half of a file transfer and the other
	tell    func(text string)
}

// openChannel decides whether there is room for another channel and serves it
// in a goroutine of its own: a target that hangs holds up nobody else.
func (c *session) openChannel(ctx context.Context, nc ssh.NewChannel) {
	if reason := c.roomForChannel(nc.ChannelType()); reason != "" {
		c.denyChannel(nc, ssh.ResourceShortage, reason)
		return
	}
	ctx, ch := c.addChannel(ctx, nc.ChannelType())
	c.channels.Go(func() {
		defer c.removeChannel(ch)
		defer c.recoverPanic()
		c.serveChannel(ctx, nc, ch)
	})
}

// roomForChannel says why there is none. A client says that it will open no more
// sessions right after it has opened its first, and requests may overtake the
// channels before them on the way here: the first one passes.
func (c *session) roomForChannel(kind string) string {
	if !c.opens.Allow() {
		return reasonChannelRate
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ending != "":
		return c.ending
	case len(c.open) >= c.server.opt.MaxChannels:
		return reasonMaxChannels
	case kind == typeSession && c.noMoreSessions && c.hadSession:
		return reasonNoMoreSessions
	}
	c.hadSession = c.hadSession || kind == typeSession
	return ""
}

func (c *session) addChannel(ctx context.Context, kind string) (context.Context, *channel) {
	ctx, end := context.WithCancelCause(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := &channel{session: c, number: c.next, kind: kind, end: end}
	c.next++
	if c.open == nil {
		c.open = map[int]*channel{}
	}
	c.open[ch.number] = ch
	return ctx, ch
}

func (c *session) removeChannel(ch *channel) {
	ch.end(nil)
	c.mu.Lock()
	delete(c.open, ch.number)
	c.mu.Unlock()
}

// serveChannel answers one channel open and serves the channel to its end.
func (c *session) serveChannel(ctx context.Context, nc ssh.NewChannel, ch *channel) {
	switch nc.ChannelType() {
	case typeDirectTCPIP:
		c.directTCPIP(ctx, nc, ch)
	case typeDirectStreamLoc:
		c.directStreamLocal(ctx, nc, ch)
	case typeSession:
		c.sessionChannel(ctx, nc, ch)
	default:
		c.denyChannel(nc, ssh.UnknownChannelType, reasonChannelType)
	}
}

// allowed marks a channel as decided, so that it is re-decided from now on and
// shown to the operator. It reports false if the session is being cut.
func (ch *channel) allowed(r policy.Request, rule, target string) bool {
	ch.session.mu.Lock()
	defer ch.session.mu.Unlock()
	ch.request, ch.rule, ch.target = r, rule, target
	return ch.session.ending == ""
}

// isJump says that the gate's own SSH server answers in the channel.
func (ch *channel) isJump() {
	ch.session.mu.Lock()
	defer ch.session.mu.Unlock()
	ch.jump = true
}

// alsoAllowed adds decisions that the channel rests on.
func (ch *channel) alsoAllowed(also []policy.Request) {
	ch.session.mu.Lock()
	defer ch.session.mu.Unlock()
	ch.also = also
}

// served counts an open channel until the returned function is called.
func (c *session) served(kind string) func() {
	c.mu.Lock()
	if c.counts == nil {
		c.counts = map[string]int{}
	}
	c.counts[kind]++
	c.mu.Unlock()
	m := c.server.opt.Metrics
	m.ChannelOpen(kind, "ok")
	m.ChannelOpened(kind)
	return func() { m.ChannelClosed(kind) }
}

// denyChannel refuses a channel that never came to a decision about a target.
func (c *session) denyChannel(nc ssh.NewChannel, code ssh.RejectionReason, reason string) {
	e := c.event(audit.ChannelDenied, "channel refused: "+reason)
	e.Kind = printable(nc.ChannelType())
	c.refuseOpen(nc, code, reason, e)
}

// refuseOpen writes a refusal down and tells the client.
func (c *session) refuseOpen(nc ssh.NewChannel, code ssh.RejectionReason, reason string, e audit.Event) {
	c.noteRefusal(reason, e)
	if err := nc.Reject(code, text(reason)); err != nil {
		c.log.Debug("channel refusal not sent", zap.Error(err))
	}
}

// countDenied counts for the session's last event.
func (c *session) countDenied() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.denied++
}

func (c *session) noteRefusal(reason string, e audit.Event) {
	c.countDenied()
	e.Failed, e.Reason = true, reason
	c.server.opt.Metrics.ChannelOpen(e.Kind, reason)
	c.server.countLimit(reason)
	c.log.Info("channel refused", zap.String("type", e.Kind), zap.String("reason", reason), zap.String("target", e.TargetHost))
	c.server.opt.Audit.Refuse(e)
}

// rejection is the RFC 4254 §5.1 code for a refusal by policy or of a target.
func rejection(reason string) ssh.RejectionReason {
	switch reason {
	case "refused", "timeout", "unreachable", "no_such_name", "error", "canceled",
		"host_key_unknown", "host_key_changed", "host_key_revoked", "not_ssh", "login_refused", "handshake":
		return ssh.ConnectionFailed
	case reasonMaxChannels, reasonChannelRate, reasonAuditUnavailable:
		return ssh.ResourceShortage
	}
	return ssh.Prohibited
}

// recheck re-decides the session, its channels and its forwards with the rules
// of now, and ends what is no longer allowed.
func (c *session) recheck(now time.Time) {
	r := c.server.rules.Load()
	if reason, detail := c.stillAdmitted(r); reason != "" {
		c.cut(reason, detail)
		return
	}
	c.mu.Lock()
	var end []*channel
	for _, ch := range c.open {
		if ch.request.Verb != "" && !c.channelAllowed(r, ch, now) {
			end = append(end, ch)
		}
	}
	var close []*forward
	for _, f := range c.forwards {
		if !c.stillAllowed(r, f.request, false, now) {
			close = append(close, f)
		}
	}
	unwelcome := c.unwelcome(r.Policy)
	c.mu.Unlock()
	for _, ch := range end {
		ch.end(errPolicyChanged)
	}
	for _, i := range unwelcome {
		time.AfterFunc(cutPatience, func() { i.end(errPolicyChanged) }) // once its channels have been told
	}
	for _, f := range close {
		c.closeForward(f, reasonPolicyChanged)
	}
	c.recheckTargets(r)
}

// unwelcome returns the logins at targets that may no longer do anything, with
// or without open channels. It is called with session.mu held.
func (c *session) unwelcome(p *policy.Policy) []*inspection {
	var all []*inspection
	for i := range c.inspections {
		if !decideSession(p, i.request("")).Allow {
			all = append(all, i)
		}
	}
	return all
}

// channelAllowed is called with session.mu held.
func (c *session) channelAllowed(r *Rules, ch *channel, now time.Time) bool {
	for _, also := range ch.also {
		if !c.stillAllowed(r, also, false, now) {
			return false
		}
	}
	return c.stillAllowed(r, ch.request, ch.jump, now)
}

// stillAllowed also ends what is allowed in another way only: a tunnel that is
// to be inspected now, and an inspected channel that is a mere tunnel.
func (c *session) stillAllowed(r *Rules, req policy.Request, inspected bool, now time.Time) bool {
	req.Time = now
	d := r.Policy.Decide(req)
	return d.Allow && d.Inspected == inspected
}

// stillAdmitted reports why the session as a whole may no longer be.
func (c *session) stillAdmitted(r *Rules) (reason, detail string) {
	if err := c.server.opt.Admission.Allows(c.origin); err != nil {
		return denialReason(err), err.Error()
	}
	if reason := r.Policy.StillValid(c.who.identity); reason != "" {
		return string(reason), "identity " + c.who.identity
	}
	for _, l := range r.Revoked {
		if l.Revoked(c.who.key) {
			return reasonKeyRevoked, c.who.auth.Fingerprint
		}
	}
	if !keyStillValid(r.Policy, c.who) {
		return reasonPolicyChanged, "the key or certificate is no longer listed"
	}
	return "", ""
}

func keyStillValid(p *policy.Policy, who *principal) bool {
	if cert, ok := who.key.(*ssh.Certificate); ok {
		return p.AuthorityStillValid(who.identity, cert.SignatureKey.Marshal(), cert.ValidPrincipals)
	}
	return p.KeyStillValid(who.identity, who.key.Marshal())
}

// printable cuts a name that a client chose to what fits a log line; the set
// of metric labels is the metrics package's to guard.
func printable(s string) string {
	if len(s) > 64 {
		return s[:64]
	}
	return s
}
