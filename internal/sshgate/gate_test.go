package sshgate

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"golang.org/x/crypto/ssh"

	"postern/internal/admission"
	"postern/internal/audit"
	"postern/internal/metrics"
	"postern/internal/policy"
	"postern/internal/upstream"
)

// gate is a running server with real files and sockets.
type gate struct {
	*Server
	t       testing.TB
	addr    string
	dir     string
	log     *audit.Log
	hostKey ssh.Signer
	keys    map[string]ssh.Signer // by identity
	spec    policy.Spec
}

// gateSpec is what a test changes of the default gate.
type gateSpec struct {
	options func(*Options)
	spec    func(*policy.Spec)
	admit   func(*admission.Options)
}

func newSigner(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustTarget(t testing.TB, s string) policy.Target {
	t.Helper()
	target, err := policy.ParseTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func mustListen(t testing.TB, s string) policy.Target {
	t.Helper()
	target, err := policy.ParseListen(s)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// newGate starts a gate on loopback. Identities vendor and mallory exist;
// vendor may forward to 127.0.0.0/8 and listen on 127.0.0.1.
func newGate(t testing.TB, gs gateSpec) *gate {
	t.Helper()
	g := &gate{t: t, dir: t.TempDir(), hostKey: newSigner(t), keys: map[string]ssh.Signer{"vendor": newSigner(t), "mallory": newSigner(t)}}
	g.spec = policy.Spec{
		Version: "sha256:test",
		Identities: []policy.Identity{
			{Name: "vendor", Keys: []policy.Key{{Blob: g.keys["vendor"].PublicKey().Marshal()}}, Users: []string{"vendor", "ec2-user"}},
			{Name: "mallory", Keys: []policy.Key{{Blob: g.keys["mallory"].PublicKey().Marshal()}}},
		},
		Rules: []policy.Rule{
			{Name: "loopback", Identities: []string{"vendor"}, Targets: []policy.Target{mustTarget(t, "127.0.0.0/8:1024-65535")}, Allow: []policy.Verb{policy.Forward}},
			{Name: "reverse", Identities: []string{"vendor"}, Listen: []policy.Target{mustListen(t, "127.0.0.1:1024-65535")},
				ConnectFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Allow: []policy.Verb{policy.Listen}},
		},
	}
	if gs.spec != nil {
		gs.spec(&g.spec)
	}
	var err error
	g.log, err = audit.Open(audit.Options{Dir: filepath.Join(g.dir, "audit")})
	if err != nil {
		t.Fatal(err)
	}
	ao := admission.Options{ProxyProtocol: admission.ProxyOff, Sources: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	if gs.admit != nil {
		gs.admit(&ao)
	}
	adm, err := admission.New(ao)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		HostKeys: []ssh.Signer{g.hostKey}, Admission: adm, Audit: g.log, Metrics: metrics.New(metrics.Options{LiveSessions: 10}),
		Upstream: upstream.New(upstream.Options{DialTimeout: 5 * time.Second}), Log: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)),
	}
	if gs.options != nil {
		gs.options(&o)
	}
	g.Server, err = New(o, Rules{Policy: mustPolicy(t, g.spec)})
	if err != nil {
		t.Fatal(err)
	}
	g.start()
	return g
}

func mustPolicy(t testing.TB, s policy.Spec) *policy.Policy {
	t.Helper()
	p, err := policy.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (g *gate) start() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	g.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := g.Serve(ctx, ln); err != nil {
			g.t.Error(err)
		}
	})
	wg.Go(func() { g.log.Run(ctx) })
	g.t.Cleanup(func() {
		cancel()
		wg.Wait()
		now, stop := context.WithTimeout(context.Background(), 20*time.Second)
		defer stop()
		if err := g.Shutdown(now); err != nil {
			g.t.Errorf("sessions were left: %v", err)
		}
		g.log.Close()
	})
}

// client connects as an identity, with its own name as the user.
func (g *gate) client(identity string) *ssh.Client {
	g.t.Helper()
	c, err := g.dial(identity, g.keys[identity])
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	return c
}

func (g *gate) dial(user string, signers ...ssh.Signer) (*ssh.Client, error) {
	c, _, err := g.dialBanner(user, signers...)
	return c, err
}

func (g *gate) dialBanner(user string, signers ...ssh.Signer) (*ssh.Client, string, error) {
	var banner bytes.Buffer
	c, err := ssh.Dial("tcp", g.addr, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signers...)}, HostKeyCallback: ssh.FixedHostKey(g.hostKey.PublicKey()),
		BannerCallback: func(m string) error { banner.WriteString(m); return nil },
	})
	return c, banner.String(), err
}

// events returns the audit log's events with a code, waiting up to a few
// seconds for the first: outcomes are durable within a second.
func (g *gate) events(code audit.Code) []audit.Record {
	g.t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		var found []audit.Record
		for r, err := range audit.Read(filepath.Join(g.dir, "audit"), 0) {
			if err != nil {
				g.t.Fatal(err)
			}
			r.Line = bytes.Clone(r.Line) // valid only until the next
			if r.Code == code {
				found = append(found, r)
			}
		}
		if len(found) > 0 || time.Now().After(deadline) {
			return found
		}
		<-time.After(20 * time.Millisecond)
	}
}

// wantEvent fails unless an event with code has been written that contains all
// of parts.
func (g *gate) wantEvent(code audit.Code, parts ...string) {
	g.t.Helper()
	events := g.events(code)
	for _, e := range events {
		if containsAll(e.Line, parts) {
			return
		}
	}
	g.t.Errorf("no %s event with %q among %d", code, parts, len(events))
}

func containsAll(line []byte, parts []string) bool {
	for _, p := range parts {
		if !bytes.Contains(line, []byte(p)) {
			return false
		}
	}
	return true
}

// serveTCP runs a target on loopback that handles each connection with f.
func serveTCP(t testing.TB, f func(net.Conn)) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				wg.Go(func() { defer nc.Close(); f(nc) })
			}
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().(*net.TCPAddr).AddrPort()
}
