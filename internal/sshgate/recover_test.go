package sshgate

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"
	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/policy"
)

// defect is an Auditor with a bug: it panics at mallory's first event of a code.
type defect struct {
	Auditor
	code audit.Code
	met  atomic.Bool
}

func (d *defect) Append(ctx context.Context, events ...audit.Event) error {
	d.check(events)
	return d.Auditor.Append(ctx, events...)
}

func (d *defect) Note(events ...audit.Event) {
	d.check(events)
	d.Auditor.Note(events...)
}

func (d *defect) check(events []audit.Event) {
	for _, e := range events {
		if e.Code == d.code && e.Identity == "mallory" && d.met.CompareAndSwap(false, true) {
			panic("a defect that one client reaches")
		}
	}
}

// gateWithDefect lets mallory do what vendor may.
func gateWithDefect(t *testing.T, code audit.Code) *gate {
	return newGate(t, gateSpec{
		options: func(o *Options) {
			o.Audit = &defect{Auditor: o.Audit, code: code}
			o.Log = zap.NewNop() // the stack of the panic is no failure here
		},
		spec: func(s *policy.Spec) { s.Rules[0].Identities = append(s.Rules[0].Identities, "mallory") },
	})
}

// echoes fails unless bytes come back through a tunnel of c.
func echoes(t *testing.T, c *ssh.Client, target string) {
	t.Helper()
	tunnel, err := c.Dial("tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	defer tunnel.Close()
	got := make([]byte, 5)
	if _, err := io.WriteString(tunnel, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(tunnel, got); err != nil || string(got) != "hello" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestAPanicInAChannelEndsThatSessionAlone(t *testing.T) {
	g := gateWithDefect(t, audit.ForwardOpen)
	target := serveTCP(t, func(nc net.Conn) { io.Copy(nc, nc) }).String()
	other := g.client("vendor")
	echoes(t, other, target)

	mallory := g.client("mallory")
	if tunnel, err := mallory.Dial("tcp", target); err == nil {
		t.Errorf("a tunnel whose event was never written opened: %v", tunnel.RemoteAddr())
	}
	if err := mallory.Wait(); err == nil {
		t.Error("the session with the panic ended as if by itself")
	}
	g.wantEvent(audit.ConnClose, `"status_code":"internal_error"`, "a defect that one client reaches", `"is_alert":true`)
	if ends := g.events(audit.ConnClose); len(ends) != 1 {
		t.Errorf("the session ended %d times", len(ends))
	}
	echoes(t, other, target)
	echoes(t, g.client("vendor"), target)
}

func TestAPanicDuringAuthenticationLetsNobodyIn(t *testing.T) {
	g := gateWithDefect(t, audit.AuthSuccess)
	target := serveTCP(t, func(nc net.Conn) { io.Copy(nc, nc) }).String()
	other := g.client("vendor")
	if c, err := g.dial("mallory", g.keys["mallory"]); err == nil {
		c.Close()
		t.Error("authenticated without an event")
	}
	g.wantEvent(audit.ConnClose, `"status_code":"internal_error"`)
	echoes(t, other, target)
}

func TestAPanicAtTheEndOfASessionLeavesNothingBehind(t *testing.T) {
	g := gateWithDefect(t, audit.ConnClose)
	target := serveTCP(t, func(nc net.Conn) { io.Copy(nc, nc) }).String()
	other := g.client("vendor")
	mallory := g.client("mallory")
	echoes(t, mallory, target)
	mallory.Close()
	echoes(t, other, target)
}
