package sshgate

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"postern/internal/audit"
)

// watchedAuditor is the log with a hook before each event with one code.
type watchedAuditor struct {
	Auditor
	code   audit.Code
	before func() error
}

func (w watchedAuditor) Append(ctx context.Context, events ...audit.Event) error {
	if slices.ContainsFunc(events, func(e audit.Event) bool { return e.Code == w.code }) {
		if err := w.before(); err != nil {
			return err
		}
	}
	return w.Auditor.Append(ctx, events...)
}

// knocked is a target that counts who connects, and hangs up.
func knocked(t *testing.T) (at string, knocks *atomic.Int32) {
	knocks = new(atomic.Int32)
	return serveTCP(t, func(net.Conn) { knocks.Add(1) }).String(), knocks
}

func TestATargetIsNotDialledUnlessThatIsWrittenDown(t *testing.T) {
	at, knocks := knocked(t)
	d := newDoorGate(t, gateSpec{options: func(o *Options) {
		o.Audit = watchedAuditor{o.Audit, audit.TargetDial, func() error { return errors.New("the disk is full") }}
	}})
	client, err := d.dial("hadoop@"+at, d.keys["vendor"])
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	out, stderr, status, err := exec(client, "uptime")
	if err != nil || out != "" || status != exitAuditUnavailable || !strings.Contains(stderr, "(reason: audit_unavailable)") {
		t.Errorf("%q, told %q, status %d, %v", out, stderr, status, err)
	}
	client.Wait()
	d.eventually(t, audit.ConnClose, `"audit_unavailable"`)
	if n := knocks.Load(); n != 0 {
		t.Errorf("the target got %d connections", n)
	}
}

func TestATargetIsDialledOnlyOnceThatIsDurable(t *testing.T) {
	at, knocks := knocked(t)
	asked, durable := make(chan struct{}), make(chan struct{})
	d := newDoorGate(t, gateSpec{options: func(o *Options) {
		o.Audit = watchedAuditor{o.Audit, audit.TargetDial, func() error {
			close(asked)
			<-durable
			return nil
		}}
	}})
	client, err := d.dial("hadoop@"+at, d.keys["vendor"])
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	<-asked
	if n := knocks.Load(); n != 0 {
		t.Errorf("the target got %d connections before the log had the event", n)
	}
	close(durable)
	d.eventually(t, audit.TargetDial, `"hadoop"`, `"vendor"`, `"sessions"`, `"door":"login"`, `"127.0.0.1"`)
	d.eventually(t, audit.TargetFailed, `"hadoop"`) // it hung up
	if n := knocks.Load(); n != 1 {
		t.Errorf("the target got %d connections", n)
	}
}
