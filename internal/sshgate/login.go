package sshgate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/policy"
)

// destination is an account at a target.
type destination struct {
	login string
	host  string // as the client wrote it
	port  uint16
}

// String is the destination as the operator reads it.
func (d destination) String() string {
	return d.login + "@" + net.JoinHostPort(d.host, strconv.Itoa(int(d.port)))
}

const sshPort = 22

// parseDestination reads the user name of the second door: LOGIN@HOST,
// LOGIN@HOST:PORT, LOGIN@HOST#PORT (scp takes a colon for its own), an IPv6
// address with a port in brackets. The last "@" divides, as in OpenSSH. ok is
// false where user has no "@": it is a plain user name. An error is for the
// operator.
func parseDestination(user string) (d destination, ok bool, err error) {
	at := strings.LastIndexByte(user, '@')
	if at < 0 {
		return destination{}, false, nil
	}
	d.login, d.port = user[:at], sshPort
	if d.login == "" {
		return destination{}, true, errors.New("no login before the @")
	}
	host, port := splitPort(user[at+1:])
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return destination{}, true, fmt.Errorf("port %q", port)
		}
		d.port = uint16(n)
	}
	if _, _, err := policy.CheckHost(host); err != nil {
		return destination{}, true, err
	}
	d.host = host
	return d, true, nil
}

// splitPort cuts the port off, if there is one. What is no host after that is
// CheckHost's to refuse.
func splitPort(s string) (host, port string) {
	if _, err := netip.ParseAddr(s); err == nil {
		return s, "" // every colon is the address's
	}
	if i := strings.LastIndexAny(s, ":#"); i >= 0 && !strings.HasSuffix(s, "]") {
		s, port = s[:i], s[i+1:]
		if port == "" {
			port = "0" // a colon announces one
		}
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if inner, ok := strings.CutSuffix(inner, "]"); ok {
			return inner, port
		}
	}
	return s, port
}

// throughDestination lets the session's channels, all of them, be those of its
// destination; what it returns in their place has none. Global requests stay
// the gate's to answer. The function is to be called when the client's
// connection has ended.
func (c *session) throughDestination(ctx context.Context, chans <-chan ssh.NewChannel) (none <-chan ssh.NewChannel, disconnected func()) {
	connected, cancel := context.WithCancel(ctx)
	reqs := make(chan *ssh.Request) // never sent on
	c.channels.Go(func() {
		defer c.recoverPanic()
		a, ref := c.arriveAt(connected, *c.who.destination)
		if ref != nil {
			c.turnAway(chans, ref)
			return
		}
		a.client = c.ssh
		c.endedBy(c.inspect(ctx, a, chans, reqs))
	})
	return nil, func() {
		cancel() // nobody waits for the target any more
		close(reqs)
	}
}

// arriveAt decides about a destination and logs in there.
func (c *session) arriveAt(ctx context.Context, d destination) (*arrived, *refusal) {
	v, ref := c.decideDestination(ctx, d)
	if ref != nil {
		c.refuseLogin(nil, d, v.addr(), ref)
		return nil, ref
	}
	a := arrival{destination: d, verdict: v, extra: map[string]any{"door": "login"}}
	if ref := c.writeDial(ctx, a); ref != nil {
		return nil, ref
	}
	return c.arrive(ctx, a)
}

// writeDial makes it durable that a destination is about to be dialled. Through
// a ProxyJump, forward.open has said so. The refusal leaves the session to be
// turned away, which shows its client more than a cut would.
func (c *session) writeDial(ctx context.Context, a arrival) *refusal {
	e := c.targetEvent(a)
	e.Code, e.Message = audit.TargetDial, "logging in as "+a.destination.String()
	if err := c.server.opt.Audit.Append(ctx, e); err != nil {
		c.log.Error("target not dialled: the audit log takes no event", zap.String("target", a.host), zap.Error(err))
		return refuse(nil, reasonAuditUnavailable, "%v", err)
	}
	return nil
}

// endedBy gives the session's last event the reason for which its target's
// connection ended.
func (c *session) endedBy(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending == "" && reason != reasonClient {
		c.ending = reason
	}
}

// turnAway tells a client why its session can't be: on the first session
// channel, where people and programs look, and as the refusal of any other.
// Then the session is cut. It returns when the connection has ended.
func (c *session) turnAway(chans <-chan ssh.NewChannel, ref *refusal) {
	cut := func() { c.cut(ref.reason, ref.detail) }
	timer := time.AfterFunc(turnAwayPatience, cut)
	defer timer.Stop()
	told := false
	for nc := range chans {
		if told || nc.ChannelType() != typeSession {
			nc.Reject(rejection(ref.reason), text(ref.reason))
			continue
		}
		told = true
		c.channels.Go(func() {
			sayAndExit(nc, ref.reason)
			cut()
		})
	}
}

// turnAwayPatience is how long a client that was refused may take to open the
// channel on which it is told so.
const turnAwayPatience = 10 * time.Second

// exitTurnedAway is the exit status of a session that never reached its target:
// what ssh itself exits with when it can't connect.
const exitTurnedAway = 255

// sayAndExit answers a session channel with a text and an exit status once the
// client has asked for its program, so that every client shows both.
func sayAndExit(nc ssh.NewChannel, reason string) {
	sc, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	awaitProgram(reqs)
	var status uint32 = exitTurnedAway
	if reason == reasonAuditUnavailable {
		status = exitAuditUnavailable
	}
	io.WriteString(sc.Stderr(), text(reason)+"\r\n")
	sc.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
	sc.CloseWrite()
	sc.Close()
	refuseRequests(reqs)
}

// awaitProgram grants requests up to that for the program, or until the client
// closes the channel.
func awaitProgram(reqs <-chan *ssh.Request) {
	for req := range reqs {
		program := req.Type == "shell" || req.Type == "exec" || req.Type == "subsystem"
		if req.WantReply {
			req.Reply(program || req.Type == "pty-req" || req.Type == "env", nil)
		}
		if program {
			return
		}
	}
}

// refuseLogin writes down that a login was refused. ch is the direct-tcpip
// channel it came through, or nil.
func (c *session) refuseLogin(ch *channel, d destination, addr netip.Addr, ref *refusal) {
	e := c.event(audit.ForwardRefused, "session to "+d.String()+" refused: "+ref.reason)
	e.Kind, e.TargetHost, e.Login, e.Detail = typeSession, d.host, d.login, ref.detail
	e.Target = netip.AddrPortFrom(addr, d.port)
	e.Alert = ref.reason == string(policy.ReasonSpecialAddress)
	if ch != nil {
		e.Kind, e.Channel = ch.kind, strconv.Itoa(ch.number)
	}
	c.refuseInside(ref.reason, e)
}
