package sshgate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/policy"
)

func TestATunnelKeepsBothHalfClosesAndEveryByte(t *testing.T) {
	g := newGate(t, gateSpec{})
	target := serveTCP(t, func(nc net.Conn) {
		h := sha256.New()
		n, _ := io.Copy(h, nc) // until the client's EOF
		fmt.Fprintf(nc, "%d %x", n, h.Sum(nil))
	})
	payload := make([]byte, 5<<20+7)
	rand.NewChaCha8([32]byte{1}).Read(payload)
	conn, err := g.client("vendor").Dial("tcp", target.String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(payload); err != nil {
		t.Fatal(err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%d %x", len(payload), sha256.Sum256(payload)); string(got) != want {
		t.Errorf("the target saw %q, want %q", got, want)
	}
	conn.Close()
	g.wantEvent(audit.ForwardOpen, `"loopback"`, target.String()[strings.LastIndexByte(target.String(), ':')+1:])
	g.wantEvent(audit.ForwardClose, fmt.Sprintf(`"bytes_in":%d`, len(payload)))
}

func TestATargetThatIsDoneStillLetsTheClientSend(t *testing.T) {
	g := newGate(t, gateSpec{})
	got := make(chan int64, 1)
	target := serveTCP(t, func(nc net.Conn) {
		nc.(*net.TCPConn).CloseWrite()
		n, _ := io.Copy(io.Discard, nc)
		got <- n
	})
	conn, err := g.client("vendor").Dial("tcp", target.String())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(conn); err != nil || len(b) != 0 {
		t.Fatalf("read %q, %v; want EOF", b, err)
	}
	if _, err := conn.Write(make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if n := <-got; n != 100_000 {
		t.Errorf("the target got %d bytes of 100000: what was sent before CLOSE was lost", n)
	}
}

func TestAStalledChannelStopsNoOther(t *testing.T) {
	g := newGate(t, gateSpec{})
	release := make(chan struct{})
	stalled := serveTCP(t, func(nc net.Conn) { <-release })
	echo := serveTCP(t, func(nc net.Conn) { io.Copy(nc, nc) })
	t.Cleanup(func() { close(release) })
	client := g.client("vendor")
	slow, err := client.Dial("tcp", stalled.String())
	if err != nil {
		t.Fatal(err)
	}
	go slow.Write(make([]byte, 16<<20)) // ends with the connection
	conn, err := client.Dial("tcp", echo.String())
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if _, err := conn.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRefusalsHaveTheirReasonAndTheRightCode(t *testing.T) {
	g := newGate(t, gateSpec{spec: func(s *policy.Spec) {
		s.Rules = append(s.Rules, policy.Rule{Name: "any", Identities: []string{"vendor"}, Targets: []policy.Target{mustTarget(t, "0.0.0.0/0:80")}, Allow: []policy.Verb{policy.Forward}})
	}})
	closed := serveTCP(t, func(net.Conn) {})
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	client := g.client("vendor")
	for _, c := range []struct {
		target, reason string
		code           ssh.RejectionReason
	}{
		{"10.9.9.9:22", "no_rule", ssh.Prohibited},
		{"169.254.169.254:80", "special_address", ssh.Prohibited},
		{"0x7f000001:" + fmt.Sprint(closed.Port()), "target_malformed", ssh.Prohibited},
		{"127.1:" + fmt.Sprint(closed.Port()), "target_malformed", ssh.Prohibited},
		{"127.0.0.1.:" + fmt.Sprint(closed.Port()), "target_malformed", ssh.Prohibited},
		{"no.such.name.invalid:22", "no_rule", ssh.Prohibited}, // not even looked up
		{"no.such.name.invalid:4711", "no_such_name", ssh.ConnectionFailed},
		{gone.Addr().String(), "refused", ssh.ConnectionFailed},
	} {
		_, err := client.Dial("tcp", c.target)
		var refused *ssh.OpenChannelError
		if !errors.As(err, &refused) {
			t.Errorf("%s: %v, want an open failure", c.target, err)
			continue
		}
		if refused.Reason != c.code || !strings.Contains(refused.Message, "(reason: "+c.reason+")") {
			t.Errorf("%s: %d %q, want %d and reason %s", c.target, refused.Reason, refused.Message, c.code, c.reason)
		}
		if strings.Contains(refused.Message, "127.") || strings.Contains(refused.Message, "10.9") {
			t.Errorf("%s: the text %q tells an address", c.target, refused.Message)
		}
	}
	g.wantEvent(audit.ForwardRefused, "special_address", `"is_alert":true`)
	g.wantEvent(audit.ForwardFailed, `"refused"`)
}

func TestAPortAboveTheirRangeIsMalformed(t *testing.T) {
	g := newGate(t, gateSpec{})
	_, _, err := g.client("vendor").OpenChannel("direct-tcpip", ssh.Marshal(struct {
		Host string
		Port uint32
		From string
		N    uint32
	}{"127.0.0.1", 65536 + 22, "x", 1}))
	var refused *ssh.OpenChannelError
	if !errors.As(err, &refused) || !strings.Contains(refused.Message, reasonMalformed) {
		t.Errorf("got %v, want %s", err, reasonMalformed)
	}
}

func TestTheGatesOwnListenersAreNoTargets(t *testing.T) {
	var own net.Listener
	g := newGate(t, gateSpec{options: func(o *Options) {
		var err error
		if own, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		o.Listeners = append(o.Listeners, own.Addr().(*net.TCPAddr).AddrPort())
	}})
	defer own.Close()
	_, err := g.client("vendor").Dial("tcp", own.Addr().String())
	if err == nil || !strings.Contains(err.Error(), "special_address") {
		t.Errorf("got %v, want special_address", err)
	}
}

func TestOneChannelTooManyIsRefusedAndTheRestLives(t *testing.T) {
	g := newGate(t, gateSpec{options: func(o *Options) { o.MaxChannels = 3 }})
	echo := serveTCP(t, func(nc net.Conn) { io.Copy(nc, nc) })
	client := g.client("vendor")
	var last net.Conn
	for range 3 {
		var err error
		if last, err = client.Dial("tcp", echo.String()); err != nil {
			t.Fatal(err)
		}
	}
	_, err := client.Dial("tcp", echo.String())
	var refused *ssh.OpenChannelError
	if !errors.As(err, &refused) || refused.Reason != ssh.ResourceShortage || !strings.Contains(refused.Message, reasonMaxChannels) {
		t.Fatalf("got %v, want %s", err, reasonMaxChannels)
	}
	fmt.Fprint(last, "still here")
	if b := make([]byte, 10); func() error { _, err := io.ReadFull(last, b); return err }() != nil || string(b) != "still here" {
		t.Errorf("an open channel was hurt: %q", b)
	}
}

func TestAStormOfOpensIsBounded(t *testing.T) {
	g := newGate(t, gateSpec{})
	client := g.client("vendor")
	var limited, wg = 0, sync.WaitGroup{}
	var mu sync.Mutex
	for range 1300 {
		wg.Go(func() {
			_, _, err := client.OpenChannel("tun@openssh.com", nil)
			if err != nil && strings.Contains(err.Error(), reasonChannelRate) {
				mu.Lock()
				limited++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if limited == 0 {
		t.Error("1300 channel opens at once met no limit")
	}
	if out, err := run(client, "whoami"); err == nil && !strings.HasPrefix(out, "vendor via") {
		t.Errorf("whoami after the storm: %q", out)
	}
	g.wantEvent(audit.ChannelDenied, reasonChannelRate)
}

func TestARemoteForwardServesOnlyItsSources(t *testing.T) {
	g := newGate(t, gateSpec{})
	client := g.client("vendor")
	ln, err := client.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(nc, "from the client")
			nc.Close()
		}
	}()
	read := func(from string) (string, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		nc, err := d.Dial("tcp", ln.Addr().String())
		if err != nil {
			return "", err
		}
		defer nc.Close()
		b, err := io.ReadAll(nc)
		return string(b), err
	}
	if got, err := read("127.0.0.1"); err != nil || got != "from the client" {
		t.Errorf("allowed source: %q, %v", got, err)
	}
	if got, _ := read("127.0.0.2"); got != "" {
		t.Errorf("source outside connect_from was served: %q", got)
	}
	g.wantEvent(audit.ForwardListen, `"reverse"`)
	g.wantEvent(audit.ForwardRefused, reasonConnectFrom)
	client.Close()
	for range 200 { // the port is free once the gate has seen the client go
		again, err := net.Listen("tcp", ln.Addr().String())
		if err == nil {
			again.Close()
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Error("the port is still bound after the client has gone")
}

func TestARemoteForwardOutsideTheRuleIsRefused(t *testing.T) {
	g := newGate(t, gateSpec{})
	for _, at := range []string{"127.0.0.2:4711", "0.0.0.0:4711"} {
		if ln, err := g.client("vendor").Listen("tcp", at); err == nil {
			ln.Close()
			t.Errorf("listening on %s was granted", at)
		}
	}
	if ln, err := g.client("mallory").Listen("tcp", "127.0.0.1:4711"); err == nil {
		ln.Close()
		t.Error("mallory may listen")
	}
	g.wantEvent(audit.ForwardListen, "no_rule")
}

func TestAnIdleTunnelEndsOnlyWhereItIsConfigured(t *testing.T) {
	g := newGate(t, gateSpec{options: func(o *Options) { o.IdleTimeout = 50 * time.Millisecond }})
	target := serveTCP(t, func(nc net.Conn) { io.Copy(io.Discard, nc) })
	conn, err := g.client("vendor").Dial("tcp", target.String())
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(conn); len(b) != 0 {
		t.Errorf("read %q", b)
	}
	conn.Close()
	g.wantEvent(audit.ForwardClose, reasonIdle)
}

func TestAPolicyChangeEndsWhatItNoLongerAllows(t *testing.T) {
	g := newGate(t, gateSpec{})
	echo := serveTCP(t, func(nc net.Conn) { io.Copy(nc, nc) })
	client := g.client("vendor")
	conn, err := client.Dial("tcp", echo.String())
	if err != nil {
		t.Fatal(err)
	}
	g.SetRules(Rules{Policy: mustPolicy(t, policy.Spec{Identities: g.spec.Identities})})
	if b, _ := io.ReadAll(conn); len(b) != 0 {
		t.Errorf("read %q", b)
	}
	conn.Close()
	g.wantEvent(audit.ForwardClose, reasonPolicyChanged)
	if out, err := run(client, "whoami"); err != nil {
		t.Errorf("the session itself is still allowed: %q %v", out, err)
	}
	g.SetRules(Rules{Policy: mustPolicy(t, policy.Spec{Identities: g.spec.Identities, Frozen: []string{"vendor"}})})
	client.Wait()
	g.wantEvent(audit.ConnClose, "frozen")
	if _, banner, err := g.dialBanner("vendor", g.keys["vendor"]); err == nil || !strings.Contains(banner, "(reason: frozen)") {
		t.Errorf("a frozen identity got in, or was told %q", banner)
	}
}

func TestAKilledSessionEndsWithEverythingInIt(t *testing.T) {
	g := newGate(t, gateSpec{})
	hang := make(chan struct{})
	target := serveTCP(t, func(nc net.Conn) { <-hang })
	t.Cleanup(func() { close(hang) })
	client := g.client("vendor")
	if _, err := client.Dial("tcp", target.String()); err != nil {
		t.Fatal(err)
	}
	sessions := g.Sessions()
	if len(sessions) != 1 || len(sessions[0].Channels) != 1 || sessions[0].Channels[0].Rule != "loopback" {
		t.Fatalf("sessions: %+v", sessions)
	}
	if !g.Kill(sessions[0].ID, "test") || g.Kill("nobody", "test") {
		t.Error("Kill reports the wrong thing")
	}
	client.Wait()
	g.wantEvent(audit.ConnClose, reasonKilled)
}

func TestADrainingGateLetsLiveSessionsGoOnAndRefusesNewOnes(t *testing.T) {
	g := newGate(t, gateSpec{})
	client := g.client("vendor")
	g.Drain()
	if out, err := run(client, "whoami"); err != nil {
		t.Errorf("whoami: %q, %v", out, err)
	}
	if _, banner, err := g.dialBanner("vendor", g.keys["vendor"]); err == nil || !strings.Contains(banner, reasonDraining) {
		t.Errorf("a new session: %v, told %q", err, banner)
	}
}

func TestEveryGlobalRequestIsAnsweredInOrder(t *testing.T) {
	g := newGate(t, gateSpec{})
	client := g.client("vendor")
	for _, name := range []string{"keepalive@openssh.com", "keepalive@passage", "", strings.Repeat("x", 9000)} {
		ok, _, err := client.SendRequest(name, true, []byte("payload"))
		if ok || err != nil {
			t.Errorf("%.20q: %v, %v", name, ok, err)
		}
	}
}

func TestHostKeysAreOfferedAndProven(t *testing.T) {
	g := newGate(t, gateSpec{})
	client := g.client("vendor")
	blob := g.hostKey.PublicKey().Marshal()
	ok, proof, err := client.SendRequest(requestHostKeysProve, true, ssh.Marshal(struct{ Key []byte }{blob}))
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	var m struct{ Sig []byte }
	var sig ssh.Signature
	if err := errors.Join(ssh.Unmarshal(proof, &m), ssh.Unmarshal(m.Sig, &sig)); err != nil {
		t.Fatal(err)
	}
	signed := ssh.Marshal(struct {
		Name string
		ID   []byte
		Key  []byte
	}{requestHostKeysProve, client.SessionID(), blob})
	if err := g.hostKey.PublicKey().Verify(signed, &sig); err != nil {
		t.Error(err)
	}
	other := newSigner(t).PublicKey().Marshal()
	if ok, _, _ := client.SendRequest(requestHostKeysProve, true, ssh.Marshal(struct{ Key []byte }{other})); ok {
		t.Error("a foreign key was proven")
	}
}

// run executes a command on the gate and returns its standard output.
func run(c *ssh.Client, command string) (string, error) {
	s, err := c.NewSession()
	if err != nil {
		return "", err
	}
	defer s.Close()
	var out bytes.Buffer
	s.Stdout = &out
	err = s.Run(command)
	return out.String(), err
}

func TestANetcatCommandIsAForwardByAnotherName(t *testing.T) {
	g := newGate(t, gateSpec{})
	echo := serveTCP(t, func(nc net.Conn) { io.Copy(nc, nc) })
	s, err := g.client("vendor").NewSession()
	if err != nil {
		t.Fatal(err)
	}
	s.Stdin = strings.NewReader("through nc")
	out, err := s.Output(fmt.Sprintf("nc 127.0.0.1 %d", echo.Port()))
	if err != nil || string(out) != "through nc" {
		t.Errorf("got %q, %v", out, err)
	}
	g.wantEvent(audit.ForwardOpen, "exec nc")
	_, err = run(g.client("vendor"), "nc 10.0.0.1 22")
	var exit *ssh.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != 1 {
		t.Errorf("refused nc: %v, want exit status 1", err)
	}
}

func TestOnlyBuiltInCommandsRun(t *testing.T) {
	g := newGate(t, gateSpec{})
	client := g.client("vendor")
	out, err := run(client, "whoami")
	if err != nil || !strings.HasPrefix(out, "vendor via 127.0.0.1\n") {
		t.Errorf("whoami: %q, %v", out, err)
	}
	if out, err = run(client, "targets --json"); err != nil || !strings.Contains(out, `"rule":"loopback"`) {
		t.Errorf("targets: %q, %v", out, err)
	}
	if out, err = run(client, "help"); err != nil || !strings.Contains(out, "ssh -J") {
		t.Errorf("help: %q, %v", out, err)
	}
	for _, command := range []string{"id", "sh -c id", "", "whoami; id", "scp -t /tmp"} {
		_, err := run(client, command)
		var exit *ssh.ExitError
		if !errors.As(err, &exit) || exit.ExitStatus() != 1 {
			t.Errorf("%q: %v, want exit status 1", command, err)
		}
	}
	g.wantEvent(audit.ProcStart, "sh -c id", reasonCommand)
	g.wantEvent(audit.ProcEnd, `"exit_code":1`)
}

func TestAnAuditLogThatCantBeWrittenLetsNobodyThrough(t *testing.T) {
	g := newGate(t, gateSpec{})
	client := g.client("vendor")
	target := serveTCP(t, func(net.Conn) { t.Error("the target was dialled without an event") })
	if err := g.log.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Dial("tcp", target.String()); err == nil || !strings.Contains(err.Error(), reasonAuditUnavailable) {
		t.Errorf("channel: %v", err)
	}
	client.Wait() // the session is cut
	if _, banner, err := g.dialBanner("vendor", g.keys["vendor"]); err == nil || !strings.Contains(banner, reasonAuditUnavailable) {
		t.Errorf("session: %v, told %q", err, banner)
	}
}

func TestShutdownWaitsAndThenCuts(t *testing.T) {
	g := newGate(t, gateSpec{})
	client := g.client("vendor")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- waitCut(ctx, g) }()
	client.Wait()
	if err := <-done; err != nil {
		t.Error(err)
	}
	g.wantEvent(audit.ConnClose, reasonDraining)
}

// waitCut does what Shutdown does once its context has ended, without ending
// the server, which the test's clean-up does.
func waitCut(ctx context.Context, g *gate) error {
	<-ctx.Done()
	for _, c := range g.live() {
		c.cut(reasonDraining, "drain timeout")
	}
	return nil
}
