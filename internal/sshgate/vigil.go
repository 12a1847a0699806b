package sshgate

import (
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

var errTargetSilent = errors.New(reasonTargetSilent)

// vigil is the keepalive of a target. All but pinging is owned by the
// housekeeping goroutine.
type vigil struct {
	pinging atomic.Bool
	next    time.Time
	missed  int
	heard   int64
}

// inspects registers an inspection with the housekeeping until the returned
// function is called.
func (c *session) inspects(i *inspection) (forget func()) {
	i.vigil.next = time.Now().Add(c.server.opt.ClientAliveInterval)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inspections == nil {
		c.inspections = map[*inspection]bool{}
	}
	c.inspections[i] = true
	return func() {
		c.mu.Lock()
		delete(c.inspections, i)
		c.mu.Unlock()
	}
}

// recheckTargets ends inspections of targets whose host key known hosts no
// longer accept.
func (c *session) recheckTargets(r *Rules) {
	for _, i := range c.inspecting() {
		if !r.KnownHosts.StillAccepts(i.target) {
			i.end(errPolicyChanged)
		}
	}
}

func (c *session) inspecting() []*inspection {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.inspections))
}

// tickInspections does what is due for the session's inspections.
func (c *session) tickInspections(now time.Time) {
	for _, i := range c.inspecting() {
		i.tick(now)
	}
}

// tick asks the target for a sign of life every ClientAliveInterval, as
// session.keepalive does with the client. A target that has answered nothing
// and sent nothing since ClientAliveCountMax questions is gone.
func (i *inspection) tick(now time.Time) {
	v := &i.vigil
	if now.Before(v.next) {
		return
	}
	opt := &i.session.server.opt
	v.next = now.Add(opt.ClientAliveInterval)
	heard := i.heard.Load()
	if v.pinging.CompareAndSwap(false, true) {
		v.missed, v.heard = 0, heard
		i.session.spawn(func() {
			i.target.SendRequest("keepalive@openssh.com", true, nil)
			v.pinging.Store(false)
		})
		return
	}
	v.missed++
	if heard != v.heard {
		v.missed, v.heard = 0, heard
	}
	if v.missed >= opt.ClientAliveCountMax {
		i.end(errTargetSilent)
	}
}
