package sshgate

import (
	"context"
	"time"

	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/policy"
)

// parseDirectStreamLocal returns the path of a direct-streamlocal channel open
// (OpenSSH PROTOCOL §2.4): a path, and two reserved fields.
func parseDirectStreamLocal(payload []byte) (string, error) {
	var m struct {
		Path      string
		Reserved0 string
		Reserved1 uint32
	}
	if err := ssh.Unmarshal(payload, &m); err != nil {
		return "", err
	}
	return m.Path, nil
}

// directStreamLocal serves a tunnel to a unix socket on the gate's host.
func (c *session) directStreamLocal(ctx context.Context, nc ssh.NewChannel, ch *channel) {
	e := c.forwardEvent(audit.ForwardOpen, typeDirectStreamLoc, ch)
	path, err := parseDirectStreamLocal(nc.ExtraData())
	if err != nil {
		e.Code, e.Detail = audit.ForwardRefused, err.Error()
		c.refuseOpen(nc, ssh.ConnectionFailed, reasonMalformed, e)
		return
	}
	e.TargetHost, e.Extra = path, map[string]any{}
	req := policy.Request{
		Identity: c.who.identity, Endpoint: c.origin.Endpoint, Client: c.origin.Client.Addr(), Time: time.Now(),
		Verb: policy.Socket, Host: path,
	}
	d := c.server.rules.Load().Policy.Decide(req)
	if ref := c.mayForward(d); ref != nil {
		e.Code, e.Message, e.Detail = audit.ForwardRefused, "direct-streamlocal refused: "+ref.reason, ref.detail
		c.refuseOpen(nc, ssh.Prohibited, ref.reason, e)
		return
	}
	e.Rule, e.Message = d.Rule, "direct-streamlocal to "+path
	if err := c.server.opt.Audit.Append(ctx, e); err != nil {
		nc.Reject(ssh.ResourceShortage, text(c.unwritten(err).reason))
		return
	}
	if !ch.allowed(req, d.Rule, path) {
		nc.Reject(ssh.Prohibited, text(c.isEnding()))
		return
	}
	c.tunnelSocket(ctx, nc, e)
}

func (c *session) tunnelSocket(ctx context.Context, nc ssh.NewChannel, e audit.Event) {
	began := time.Now()
	conn, err := c.server.opt.Upstream.DialUnix(ctx, e.TargetHost)
	c.server.opt.Metrics.UpstreamDial(dialFailure(err), time.Since(began), c.id)
	if err != nil {
		ref := c.dialFailed(e, err)
		nc.Reject(rejection(ref.reason), text(ref.reason))
		return
	}
	defer conn.Close()
	t := &tunnel{session: c, conn: conn, opened: began, event: e}
	sc, reqs, err := nc.Accept()
	if err != nil {
		t.close(0, 0, 0, reasonReset)
		return
	}
	defer c.served(typeDirectStreamLoc)()
	t.run(ctx, sc, reqs)
}

// mayForward joins what the policy and what the certificate say of forwarding.
func (c *session) mayForward(d policy.Decision) *refusal {
	if c.who.noForwarding {
		return refuse(nil, reasonCertNoForwarding, "the certificate lacks %s", extensionForwarding)
	}
	if !d.Allow {
		return denial(d)
	}
	return nil
}
