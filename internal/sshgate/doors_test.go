package sshgate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/policy"
	"postern/internal/upstream"
)

// doorGate is a gate that inspects: vendor may do anything as hadoop at
// 127.0.0.1, on every port from 1024.
type doorGate struct {
	*gate
	hostCA, userCA ssh.Signer
}

// newDoorGate starts a doorGate. When the test ends, every goroutine has.
func newDoorGate(t testing.TB, gs gateSpec) *doorGate {
	t.Helper()
	leaks := []goleak.Option{
		goleak.IgnoreCurrent(),
		// A store of recordings that the test runs ends after its gate.
		goleak.IgnoreAnyFunction("postern/internal/record.(*Store).Run"),
		goleak.IgnoreAnyFunction("postern/internal/record.(*Store).Run.func1"),
		goleak.IgnoreAnyFunction("postern/internal/record.(*Store).Run.func2"),
	}
	t.Cleanup(func() { goleak.VerifyNone(t, leaks...) }) // after all that is cleaned up later than this
	d := &doorGate{hostCA: newSigner(t), userCA: newSigner(t)}
	minter, err := upstream.NewMinter(upstream.MinterOptions{CA: d.userCA})
	if err != nil {
		t.Fatal(err)
	}
	options, spec := gs.options, gs.spec
	gs.options = func(o *Options) {
		o.HostCA, o.Minter = d.hostCA, minter
		if options != nil {
			options(o)
		}
	}
	gs.spec = func(s *policy.Spec) {
		s.Rules = append(s.Rules, policy.Rule{
			Name: "sessions", Identities: []string{"vendor"}, Targets: []policy.Target{mustTarget(t, "127.0.0.1/32:1024-65535")},
			Logins: []string{"hadoop", "root"}, Recording: policy.Recording{Off: true},
			Allow: []policy.Verb{policy.Shell, policy.Exec, policy.SFTPRead, policy.SFTPWrite},
		})
		if spec != nil {
			spec(s)
		}
	}
	d.gate = newGate(t, gs)
	d.knows(t)
	return d
}

// knows replaces what the gate knows of host keys.
func (d *doorGate) knows(t testing.TB, lines ...string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	known, err := upstream.LoadKnownHosts([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	d.SetRules(Rules{Policy: mustPolicy(t, d.spec), KnownHosts: known})
}

// eventually is wantEvent where other events with the code came before: what
// has happened already is durable within a second.
func (d *doorGate) eventually(t testing.TB, code audit.Code, parts ...string) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for time.Now().Before(deadline) {
		for _, e := range d.events(code) {
			if containsAll(e.Line, parts) {
				return
			}
		}
		<-time.After(20 * time.Millisecond)
	}
	d.wantEvent(code, parts...)
}

func knownLine(target netip.AddrPort, key ssh.PublicKey) string {
	return fmt.Sprintf("[%s]:%d %s", target.Addr(), target.Port(), ssh.MarshalAuthorizedKey(key))
}

// target starts an SSH server that the gate knows and that takes hadoop's
// certificates; each command is answered with what it was.
func (d *doorGate) target(t testing.TB) netip.AddrPort {
	t.Helper()
	key := newSigner(t)
	at := sshTarget(t, key, d.userCA.PublicKey(), "hadoop")
	d.knows(t, knownLine(at, key.PublicKey()))
	return at
}

func sshTarget(t testing.TB, key ssh.Signer, ca ssh.PublicKey, login string) netip.AddrPort {
	checker := &ssh.CertChecker{IsUserAuthority: func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), ca.Marshal()) }}
	config := &ssh.ServerConfig{PublicKeyCallback: func(meta ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if meta.User() != login {
			return nil, errors.New("no such user")
		}
		return checker.Authenticate(meta, k)
	}}
	config.AddHostKey(key)
	return serveTCP(t, func(nc net.Conn) {
		conn, chans, reqs, err := ssh.NewServerConn(nc, config)
		if err != nil {
			return
		}
		defer conn.Close()
		go ssh.DiscardRequests(reqs) // ends with the connection
		for c := range chans {
			ch, in, err := c.Accept()
			if err != nil {
				return
			}
			if !answerExec(ch, in) {
				return
			}
		}
	})
}

// answerExec returns false where the command was to hang up.
func answerExec(ch ssh.Channel, in <-chan *ssh.Request) bool {
	for req := range in {
		var m struct{ Command string }
		if req.Type != "exec" || ssh.Unmarshal(req.Payload, &m) != nil {
			if req.WantReply {
				req.Reply(req.Type == "env" || req.Type == "pty-req", nil)
			}
			continue
		}
		req.Reply(true, nil)
		if m.Command == "hang up" {
			return false
		}
		fmt.Fprintf(ch, "ran %q", m.Command)
		ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{7}))
		ch.Close()
	}
	return true
}

// jumpTo opens an inner connection through an outer client, as ssh -J does.
func jumpTo(outer *ssh.Client, target string, config *ssh.ClientConfig) (*ssh.Client, string, error) {
	var banner bytes.Buffer
	nc, err := outer.Dial("tcp", target)
	if err != nil {
		return nil, "", err
	}
	config.BannerCallback = func(m string) error { banner.WriteString(m); return nil }
	conn, chans, reqs, err := ssh.NewClientConn(nc, target, config)
	if err != nil {
		nc.Close()
		return nil, banner.String(), err
	}
	return ssh.NewClient(conn, chans, reqs), banner.String(), nil
}

func (d *doorGate) inner(login string) *ssh.ClientConfig {
	checker := ssh.CertChecker{IsHostAuthority: func(k ssh.PublicKey, _ string) bool {
		return bytes.Equal(k.Marshal(), d.hostCA.PublicKey().Marshal())
	}}
	return &ssh.ClientConfig{User: login, HostKeyCallback: checker.CheckHostKey, HostKeyAlgorithms: []string{ssh.CertAlgoED25519v01}}
}

// exec runs a command and returns what it wrote and its exit status.
func exec(client *ssh.Client, command string) (stdout, stderr string, status int, err error) {
	s, err := client.NewSession()
	if err != nil {
		return "", "", 0, err
	}
	defer s.Close()
	var out, errs bytes.Buffer
	s.Stdout, s.Stderr = &out, &errs
	err = s.Run(command)
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		status, err = exit.ExitStatus(), nil
	}
	return out.String(), errs.String(), status, err
}

func wantRun(t *testing.T, client *ssh.Client) {
	t.Helper()
	out, stderr, status, err := exec(client, "uptime")
	if err != nil || out != `ran "uptime"` || status != 7 {
		t.Errorf("the target's command: %q, told %q, status %d, %v", out, stderr, status, err)
	}
}

func TestProxyJumpIsAnsweredInTheTargetsNameWithoutASecondKey(t *testing.T) {
	d := newDoorGate(t, gateSpec{})
	at := d.target(t)
	inner, _, err := jumpTo(d.client("vendor"), at.String(), d.inner("hadoop"))
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	wantRun(t, inner)
	d.eventually(t, audit.ForwardOpen, `"inspected":true`, `"sessions"`)
	d.eventually(t, audit.TargetOpen, "hadoop", `"door":"proxyjump"`, `"key_id":"vendor session=`, "SHA256:")
	inner.Close()
	d.eventually(t, audit.TargetClose, "hadoop")
	d.eventually(t, audit.ForwardClose, `"inspected":true`)
}

func TestClientsWithoutCertificatesAreShownAPlainHostKey(t *testing.T) {
	d := newDoorGate(t, gateSpec{})
	at := d.target(t)
	config := &ssh.ClientConfig{User: "hadoop", HostKeyCallback: ssh.FixedHostKey(d.hostKey.PublicKey()), HostKeyAlgorithms: []string{ssh.KeyAlgoED25519}}
	inner, _, err := jumpTo(d.client("vendor"), at.String(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	wantRun(t, inner)
}

func TestAHostCertificateIsForTheNameThatWasAskedFor(t *testing.T) {
	d := newDoorGate(t, gateSpec{})
	at := d.target(t)
	var cert *ssh.Certificate
	config := d.inner("hadoop")
	config.HostKeyCallback = func(_ string, _ net.Addr, key ssh.PublicKey) error {
		cert, _ = key.(*ssh.Certificate)
		return nil
	}
	inner, _, err := jumpTo(d.client("vendor"), at.String(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	if cert == nil || len(cert.ValidPrincipals) != 1 || cert.ValidPrincipals[0] != "127.0.0.1" || cert.CertType != ssh.HostCert {
		t.Errorf("shown %+v", cert)
	}
}

// Paramiko, for one, comes with its key and never asks for "none".
func TestAnInnerKeyIsTakenForWhatItIsWorthNothing(t *testing.T) {
	d := newDoorGate(t, gateSpec{})
	at := d.target(t)
	config := d.inner("mallory")
	config.Auth = []ssh.AuthMethod{ssh.PublicKeys(newSigner(t))}
	_, banner, err := jumpTo(d.client("vendor"), at.String(), config)
	if err == nil || strings.Count(banner, "(reason: login)") != 1 {
		t.Errorf("another login got in or was told more than once: %v, %q", err, banner)
	}
}

func TestAnInnerLoginThatNoRuleListsIsRefusedWithAText(t *testing.T) {
	d := newDoorGate(t, gateSpec{})
	at := d.target(t)
	_, banner, err := jumpTo(d.client("vendor"), at.String(), d.inner("admin"))
	if err == nil || !strings.Contains(banner, "(reason: login)") {
		t.Errorf("%v, told %q", err, banner)
	}
	d.eventually(t, audit.ForwardRefused, `"admin"`, `"login"`)
	d.eventually(t, audit.ForwardClose, `"status_code":"login"`)
}

func TestLoginAtTargetReachesItInOneHandshake(t *testing.T) {
	d := newDoorGate(t, gateSpec{})
	at := d.target(t)
	for _, user := range []string{
		"hadoop@" + at.String(),
		fmt.Sprintf("hadoop@127.0.0.1#%d", at.Port()),
		fmt.Sprintf("hadoop@[127.0.0.1]:%d", at.Port()),
	} {
		client, err := d.dial(user, d.keys["vendor"])
		if err != nil {
			t.Fatal(err)
		}
		wantRun(t, client)
		client.Close()
	}
	d.eventually(t, audit.TargetOpen, `"door":"login"`, "hadoop")
	d.eventually(t, audit.TargetClose, "hadoop")
	d.eventually(t, audit.AuthSuccess, "hadoop@127.0.0.1#")
}

func TestLoginAtTargetIsWhoTheKeyBelongsTo(t *testing.T) {
	d := newDoorGate(t, gateSpec{})
	at := d.target(t)
	if _, err := d.dial("hadoop@"+at.String(), newSigner(t)); err == nil {
		t.Error("a key of nobody got in")
	}
	client, err := d.dial("hadoop@"+at.String(), d.keys["mallory"])
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, stderr, status, err := exec(client, "uptime")
	if err != nil || status != exitTurnedAway || !strings.Contains(stderr, "(reason: no_rule)") {
		t.Errorf("mallory: told %q, status %d, %v", stderr, status, err)
	}
	d.eventually(t, audit.ForwardRefused, `"mallory"`, `"no_rule"`)
}

// Both doors tell the same reasons, each in its way.
func TestATargetThatCantBeLoggedInAtIsToldAndWrittenDown(t *testing.T) {
	d := newDoorGate(t, gateSpec{options: func(o *Options) {
		o.Upstream = upstream.New(upstream.Options{DialTimeout: 700 * time.Millisecond})
	}})
	key, ca := newSigner(t), d.userCA.PublicKey()
	unknown, changed := sshTarget(t, key, ca, "hadoop"), sshTarget(t, key, ca, "hadoop")
	revoked := sshTarget(t, d.hostKey, ca, "hadoop")
	strict := sshTarget(t, key, newSigner(t).PublicKey(), "hadoop")
	web := serveTCP(t, func(nc net.Conn) {
		io.WriteString(nc, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
	})
	silent := serveTCP(t, func(nc net.Conn) { io.Copy(io.Discard, nc) })
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	d.knows(t, knownLine(changed, newSigner(t).PublicKey()), knownLine(strict, key.PublicKey()),
		"@revoked * "+string(ssh.MarshalAuthorizedKey(d.hostKey.PublicKey())))
	for reason, at := range map[string]string{
		"host_key_unknown": unknown.String(), "host_key_changed": changed.String(), "host_key_revoked": revoked.String(),
		"login_refused": strict.String(), "not_ssh": web.String(), "timeout": silent.String(), "refused": gone.Addr().String(),
	} {
		t.Run(reason, func(t *testing.T) {
			_, banner, err := jumpTo(d.client("vendor"), at, d.inner("hadoop"))
			if err == nil || !strings.Contains(banner, "(reason: "+reason+")") {
				t.Errorf("ProxyJump: %v, told %q", err, banner)
			}
			client, err := d.dial("hadoop@"+at, d.keys["vendor"])
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			_, stderr, status, err := exec(client, "uptime")
			if err != nil || status != exitTurnedAway || !strings.Contains(stderr, "(reason: "+reason+")") {
				t.Errorf("login@target: told %q, status %d, %v", stderr, status, err)
			}
			_, port, _ := net.SplitHostPort(at)
			d.eventually(t, audit.TargetFailed, `"`+reason+`"`, port)
			client.Wait() // the gate closes what it has turned away
		})
	}
}

func TestAnInnerClientThatIsNotSSHIsClosed(t *testing.T) {
	d := newDoorGate(t, gateSpec{options: func(o *Options) { o.LoginGraceTime = 2 * time.Second }})
	at := d.target(t)
	outer := d.client("vendor")
	for _, c := range []struct{ says, reason string }{
		{"GET / HTTP/1.1\r\nHost: target\r\n\r\n", "version.bad"},
		{"SSH-2.0-" + strings.Repeat("A", 4096), "version.long"},
		{"SSH-2.0-x\r\n" + strings.Repeat("\x00", 64), "kexinit.malformed"},
		{"", "version.timeout"},
		{"SSH-2.0-x\r\n", "kex.timeout"},
	} {
		conn, err := outer.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, c.says)
		io.Copy(io.Discard, conn) // returns when the gate has closed it
		conn.Close()
		d.eventually(t, audit.HandshakeFailed, `"`+c.reason+`"`, "inside direct-tcpip")
	}
}

func TestInspectionIsUnavailableOnlyWhereItIsNotSetUp(t *testing.T) {
	d := newDoorGate(t, gateSpec{options: func(o *Options) { o.Minter = nil }})
	at := d.target(t)
	_, _, err := jumpTo(d.client("vendor"), at.String(), d.inner("hadoop"))
	if err == nil || !strings.Contains(err.Error(), reasonInspection) {
		t.Errorf("ProxyJump: %v", err)
	}
	client, err := d.dial("hadoop@"+at.String(), d.keys["vendor"])
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, stderr, _, err := exec(client, "uptime"); err != nil || !strings.Contains(stderr, reasonInspection) {
		t.Errorf("login@target: told %q, %v", stderr, err)
	}
}

func TestAChangeOfRulesEndsWhatIsNoLongerInspected(t *testing.T) {
	d := newDoorGate(t, gateSpec{})
	at := d.target(t)
	inner, _, err := jumpTo(d.client("vendor"), at.String(), d.inner("hadoop"))
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	wantRun(t, inner)
	through := Channel{Type: typeDirectTCPIP, Target: "hadoop@" + at.String(), Rule: "sessions"}
	if got := d.Sessions()[0].Channels; !slices.Contains(got, through) {
		t.Errorf("the operator sees %+v", got)
	}
	d.spec.Rules = d.spec.Rules[:2] // what is left is forward, which would be a tunnel
	d.knows(t)
	inner.Wait()
	d.eventually(t, audit.ForwardClose, `"inspected":true`)
}

// A rule that loses the login, or all of it, ends idle connections too.
func TestAChangeOfRulesEndsALoginThatHasNoChannels(t *testing.T) {
	d := newDoorGate(t, gateSpec{})
	at := d.target(t)
	direct, err := d.dial("hadoop@"+at.String(), d.keys["vendor"])
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	inner, _, err := jumpTo(d.client("vendor"), at.String(), d.inner("hadoop"))
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	wantRun(t, direct)
	wantRun(t, inner)
	d.spec.Rules[2].Logins = []string{"root"}
	d.knows(t)
	direct.Wait()
	inner.Wait()
	d.eventually(t, audit.TargetClose, `"door":"login"`, `"`+reasonPolicyChanged+`"`)
	d.eventually(t, audit.TargetClose, `"door":"proxyjump"`, `"`+reasonPolicyChanged+`"`)
	d.eventually(t, audit.ConnClose, `"`+reasonPolicyChanged+`"`)
}

func TestACertificateWithoutForwardingHasNoProxyJump(t *testing.T) {
	ca := newSigner(t)
	d := newDoorGate(t, gateSpec{spec: func(s *policy.Spec) {
		s.Authorities = []policy.Authority{{Name: "corp", Keys: [][]byte{ca.PublicKey().Marshal()}}}
		s.Identities = append(s.Identities, policy.Identity{Name: "alice", Authority: "corp", Principal: "alice"})
		s.Rules[2].Identities = append(s.Rules[2].Identities, "alice")
	}})
	at := d.target(t)
	key := newSigner(t)
	signer, err := ssh.NewCertSigner(certificate(t, ca, key.PublicKey(), func(c *ssh.Certificate) {
		delete(c.Extensions, extensionForwarding)
	}), key)
	if err != nil {
		t.Fatal(err)
	}
	outer, err := d.dial("alice", signer)
	if err != nil {
		t.Fatal(err)
	}
	defer outer.Close()
	if _, _, err := jumpTo(outer, at.String(), d.inner("hadoop")); err == nil || !strings.Contains(err.Error(), reasonCertNoForwarding) {
		t.Errorf("ProxyJump: %v", err)
	}
	direct, err := d.dial("hadoop@"+at.String(), signer)
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	wantRun(t, direct)
}

// A target that never answers must not keep a session that nobody is in.
func TestWhoeverLeavesDuringTheLoginLeavesNothingBehind(t *testing.T) {
	d := newDoorGate(t, gateSpec{options: func(o *Options) {
		o.Upstream = upstream.New(upstream.Options{DialTimeout: time.Hour})
	}})
	asked := make(chan struct{}, 2)
	silent := serveTCP(t, func(nc net.Conn) {
		asked <- struct{}{}
		io.Copy(io.Discard, nc)
	})
	d.knows(t)
	direct, err := d.dial("hadoop@"+silent.String(), d.keys["vendor"])
	if err != nil {
		t.Fatal(err)
	}
	<-asked
	direct.Close()
	outer := d.client("vendor")
	var inner sync.WaitGroup
	inner.Go(func() { jumpTo(outer, silent.String(), d.inner("hadoop")) })
	<-asked
	outer.Close()
	inner.Wait()
	d.eventually(t, audit.TargetFailed, `"canceled"`, `"door":"login"`)
	d.eventually(t, audit.TargetFailed, `"canceled"`, `"door":"proxyjump"`)
	for deadline := time.Now().Add(5 * time.Second); len(d.Sessions()) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("left: %+v", d.Sessions())
		}
		<-time.After(10 * time.Millisecond)
	}
}

func TestATargetThatEndsTheConnectionEndsTheSession(t *testing.T) {
	d := newDoorGate(t, gateSpec{})
	at := d.target(t)
	client, err := d.dial("hadoop@"+at.String(), d.keys["vendor"])
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if out, _, _, err := exec(client, "hang up"); out != "" || err == nil {
		t.Errorf("%q, %v", out, err)
	}
	client.Wait()
	d.eventually(t, audit.TargetClose, `"target_closed"`)
	d.eventually(t, audit.ConnClose, `"target_closed"`)
}

func TestMalloryMayNotEvenKnock(t *testing.T) {
	d := newDoorGate(t, gateSpec{})
	at := d.target(t)
	if _, _, err := jumpTo(d.client("mallory"), at.String(), d.inner("hadoop")); err == nil || !strings.Contains(err.Error(), "no_rule") {
		t.Errorf("%v", err)
	}
}

func TestAUserNameThatIsListedIsNoDestination(t *testing.T) {
	d := newDoorGate(t, gateSpec{spec: func(s *policy.Spec) {
		s.Identities[0].Users = append(s.Identities[0].Users, "vendor@corp.example")
	}})
	client, err := d.dial("vendor@corp.example", d.keys["vendor"])
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if out, err := run(client, "whoami"); err != nil || !strings.HasPrefix(out, "vendor via") {
		t.Errorf("%q, %v", out, err)
	}
}

func TestHostCertificatesAreKeptWithinBoundsAndRenewedInTime(t *testing.T) {
	h := hostCerts{ca: newSigner(t), keys: []ssh.Signer{newSigner(t)}}
	now := time.Now()
	first, err := h.signers("first", now)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxHostCerts - 1 {
		if _, err := h.signers(strconv.Itoa(i), now); err != nil {
			t.Fatal(err)
		}
	}
	if again, _ := h.signers("first", now.Add(hostCertLifetime/2-time.Second)); again[0] != first[0] {
		t.Error("it was signed again while more than half of its validity was left")
	}
	if renewed, _ := h.signers("first", now.Add(hostCertLifetime/2)); renewed[0] == first[0] {
		t.Error("it was not renewed")
	}
	if _, err := h.signers("one more", now); err != nil {
		t.Fatal(err)
	}
	if len(h.byName) != maxHostCerts || h.recent.Len() != maxHostCerts || h.byName["0"] != nil || h.byName["first"] == nil {
		t.Errorf("%d names are kept in %d, the oldest among them: %v", len(h.byName), h.recent.Len(), h.byName["0"] != nil)
	}
}
