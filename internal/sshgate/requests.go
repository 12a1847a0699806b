package sshgate

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/metrics"
)

// globalRequest answers one global request (RFC 4254 §4). They are answered in
// the order in which they came, whatever their names: clients match replies by
// order alone, and several take a missing one for a dead connection.
func (c *session) globalRequest(ctx context.Context, req *ssh.Request) {
	c.schedule.requests.Add(1)
	switch req.Type {
	case "tcpip-forward":
		c.tcpipForward(ctx, req)
	case "cancel-tcpip-forward":
		c.cancelForward(req)
	case requestHostKeysProve:
		c.proveHostKeys(req)
	case "no-more-sessions@openssh.com":
		c.mu.Lock()
		c.noMoreSessions = true
		c.mu.Unlock()
		c.reply(req, false, nil)
	case "streamlocal-forward@openssh.com":
		e := c.event(audit.ForwardListen, "streamlocal-forward refused: the gate listens on no sockets for clients")
		e.Kind = req.Type
		c.noteRefusal(reasonRequestNotAllowed, e)
		c.reply(req, false, nil)
	default:
		c.reply(req, false, nil)
	}
}

func (c *session) reply(req *ssh.Request, ok bool, payload []byte) {
	if !req.WantReply {
		return
	}
	if err := req.Reply(ok, payload); err != nil {
		c.log.Debug("global request not answered", zap.String("request", printable(req.Type)), zap.Error(err))
	}
}

// offerHostKeys names all host keys to the client, as OpenSSH's sshd does.
func (c *session) offerHostKeys() {
	if _, _, err := c.ssh.SendRequest(requestHostKeys, false, hostKeysPayload(c.server.opt.HostKeys)); err != nil {
		c.log.Debug("host keys not offered", zap.Error(err))
	}
}

func (c *session) proveHostKeys(req *ssh.Request) {
	proof, err := proveHostKeys(c.server.opt.HostKeys, c.ssh.SessionID(), req.Payload)
	if err != nil {
		c.log.Debug("host keys not proven", zap.Error(err))
	}
	c.reply(req, err == nil, proof)
}

// schedule is when the housekeeping goroutine has something to do for a session.
type schedule struct {
	interval    time.Duration
	ping        time.Time
	missed      int
	requests    atomic.Int64 // global requests of the client; any goroutine may add
	heard       int64        // signs of life at the last ping
	traffic     time.Time
	in, out     int64 // reported in the last traffic event
	recheck     time.Time
	lastTraffic time.Time
}

const (
	trafficInterval = time.Minute
	recheckInterval = 10 * time.Second // for rules that end at an hour or a date
	firstPing       = 2 * time.Second  // short sessions have a round trip time too
)

func (s *schedule) start(now time.Time, interval time.Duration) {
	s.interval = interval
	s.ping = now.Add(min(firstPing, interval))
	s.traffic, s.lastTraffic = now.Add(trafficInterval), now
	s.recheck = now.Add(recheckInterval)
}

// tick does what is due for the session.
func (c *session) tick(now time.Time) {
	s := &c.schedule
	if !now.Before(s.ping) {
		s.ping = now.Add(s.interval)
		c.keepalive()
	}
	c.tickInspections(now)
	if !now.Before(s.traffic) {
		s.traffic = now.Add(trafficInterval)
		c.reportTraffic(now)
	}
	if !now.Before(s.recheck) {
		s.recheck = now.Add(recheckInterval)
		c.recheck(now)
	}
}

// keepalive asks the client for a sign of life, as OpenSSH's ClientAliveInterval
// does, and measures the round trip. A client that has shown no other sign of
// life since ClientAliveCountMax questions is gone.
func (c *session) keepalive() {
	s := &c.schedule
	heard := c.signsOfLife()
	if !c.pinging.CompareAndSwap(false, true) {
		if heard != s.heard {
			s.missed = 0
		} else if s.missed++; s.missed >= c.server.opt.ClientAliveCountMax {
			c.cut(reasonKeepalive, "the client answers no keepalive")
		}
		s.heard = heard
		return
	}
	s.missed, s.heard = 0, heard
	c.spawn(func() {
		asked := time.Now()
		if _, _, err := c.ssh.SendRequest("keepalive@openssh.com", true, nil); err == nil {
			c.live.RTT(time.Since(asked))
		}
		c.pinging.Store(false)
	})
}

// signsOfLife grows while the client takes part: it asks, sends or takes data.
// Bytes alone are no sign: a client may begin a key exchange, which holds up
// everything else both ways, and send nothing but SSH_MSG_IGNORE from then on.
func (c *session) signsOfLife() int64 {
	return c.live.Total(metrics.ToTarget) + c.live.Total(metrics.ToClient) + c.schedule.requests.Load()
}

// reportTraffic writes how much has moved since the last report, if anything.
func (c *session) reportTraffic(now time.Time) {
	s := &c.schedule
	in, out := c.live.Total(metrics.ToTarget), c.live.Total(metrics.ToClient)
	if in == s.in && out == s.out {
		s.lastTraffic = now
		return
	}
	e := c.event(audit.Traffic, "traffic of the last minute")
	e.BytesIn, e.BytesOut = in-s.in, out-s.out
	e.TotalIn, e.TotalOut = in, out
	e.Start, e.End = s.lastTraffic, now
	s.in, s.out, s.lastTraffic = in, out, now
	c.server.opt.Audit.Note(e)
}
