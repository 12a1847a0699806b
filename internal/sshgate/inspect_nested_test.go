package sshgate

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/policy"
	"postern/internal/record"
)

func itoa(port uint16) string { return strconv.Itoa(int(port)) }

// dialing is a target that serves direct-tcpip as sshd does.
func dialing(nc ssh.NewChannel) {
	if nc.ChannelType() != "direct-tcpip" {
		nc.Reject(ssh.UnknownChannelType, "")
		return
	}
	open, err := parseDirectTCPIP(nc.ExtraData())
	if err != nil {
		nc.Reject(ssh.ConnectionFailed, "")
		return
	}
	conn, err := net.Dial("tcp", net.JoinHostPort(open.host, itoa(open.port)))
	if err != nil {
		nc.Reject(ssh.ConnectionFailed, "connection refused at 10.9.9.9")
		return
	}
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	go ssh.DiscardRequests(reqs) // ends with the channel
	done := make(chan struct{})
	go func() { defer close(done); io.Copy(conn, ch); conn.(*net.TCPConn).CloseWrite() }()
	io.Copy(ch, conn)
	ch.CloseWrite()
	<-done
	conn.Close()
}

// echoing is a server that answers once it has heard everything.
func echoing(t testing.TB) netip.AddrPort {
	return serveTCP(t, func(nc net.Conn) {
		all, _ := io.ReadAll(nc)
		fmt.Fprintf(nc, "heard %d", len(all))
	})
}

func viaRule(t testing.TB, at netip.AddrPort) func(*policy.Spec) {
	return func(s *policy.Spec) {
		s.Rules = append(s.Rules, policy.Rule{
			Name: "behind", Identities: []string{"vendor"}, Allow: []policy.Verb{policy.Forward},
			Targets: []policy.Target{mustTarget(t, "127.0.0.1/32:"+itoa(at.Port()))},
			Via:     []policy.Target{mustTarget(t, "127.0.0.1/32:1024-65535")},
		})
	}
}

func TestATunnelOutOfASessionNeedsARuleOfItsOwn(t *testing.T) {
	at := echoing(t)
	g := newInspectGate(t, inspectSpec{target: dialing, spec: viaRule(t, at)})
	client := g.inside(t)
	conn, err := client.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(make([]byte, 3<<20)); err != nil {
		t.Fatal(err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != "heard 3145728" || err != nil {
		t.Errorf("after the half-close: %q, %v", got, err)
	}
	conn.Close()
	g.eventually(t, audit.ForwardOpen, `"through":"hadoop@`, `"behind"`)
	g.eventually(t, audit.ForwardClose, `"through":"hadoop@`, "3145728")

	if _, err := client.Dial("tcp", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "(reason: ") {
		t.Errorf("another port: %v", err)
	}
	if _, err := client.Dial("unix", "/run/docker.sock"); err == nil {
		t.Error("a socket of the target was let through")
	}
	if _, err := client.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("the target was made to listen")
	}
	g.eventually(t, audit.ForwardRefused, "127.0.0.1:1")
	g.eventually(t, audit.ForwardRefused, "/run/docker.sock")
	g.eventually(t, audit.ForwardListen, `"status":"Failure"`)
}

func TestATargetsRefusalOfATunnelNamesNothingOfItsNetwork(t *testing.T) {
	closed := serveTCP(t, func(net.Conn) {})
	g := newInspectGate(t, inspectSpec{target: func(nc ssh.NewChannel) {
		nc.Reject(ssh.ConnectionFailed, "connection refused at 10.9.9.9")
	}, spec: viaRule(t, closed)})
	_, err := g.inside(t).Dial("tcp", closed.String())
	if err == nil || strings.Contains(err.Error(), "10.9.9.9") || !strings.Contains(err.Error(), "connect failed") {
		t.Errorf("%v", err)
	}
	g.eventually(t, audit.ForwardFailed, "10.9.9.9")
}

// withAgent is a target that opens the agent's channel once it has been asked
// to, and writes what comes back to the program's output.
func withAgent(conn *ssh.Conn) func(ssh.NewChannel) {
	return func(nc ssh.NewChannel) {
		ch, reqs, err := nc.Accept()
		if err != nil {
			return
		}
		for req := range reqs {
			req.Reply(true, nil)
			if req.Type != "exec" {
				continue
			}
			back, backReqs, err := (*conn).OpenChannel("auth-agent@openssh.com", nil)
			if err != nil {
				fmt.Fprint(ch, "no agent")
				exitWith(ch, 1)
				continue
			}
			go ssh.DiscardRequests(backReqs) // ends with the channel
			io.WriteString(back, "sign this")
			back.CloseWrite()
			answer, _ := io.ReadAll(back)
			back.Close()
			fmt.Fprintf(ch, "%d bytes", len(answer))
			exitWith(ch, 0)
		}
	}
}

const agentSecret = "the agent's answer, planted to be looked for"

func askForAgent(t *testing.T, client *ssh.Client) (granted bool, out, stderr string) {
	t.Helper()
	agents := client.HandleChannelOpen("auth-agent@openssh.com")
	go func() {
		for nc := range agents { // ends with the connection
			ch, reqs, err := nc.Accept()
			if err != nil {
				return
			}
			go ssh.DiscardRequests(reqs) // ends with the channel
			io.ReadAll(ch)
			io.WriteString(ch, agentSecret)
			ch.CloseWrite()
		}
	}()
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var o, e bytes.Buffer
	s.Stdout, s.Stderr = &o, &e
	granted, err = s.SendRequest("auth-agent-req@openssh.com", true, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Run("ssh-add -l")
	return granted, o.String(), e.String()
}

func agentGate(t *testing.T, rule func(*policy.Rule)) *inspectGate {
	var conn ssh.Conn
	return newInspectGate(t, inspectSpec{
		rule: rule, target: withAgent(&conn), conn: &conn,
	})
}

func TestTheAgentIsReachedWhereARuleGrantsItAndNeverRecorded(t *testing.T) {
	g := agentGate(t, func(r *policy.Rule) { r.Allow = append(r.Allow, policy.Agent) })
	granted, out, _ := askForAgent(t, g.inside(t))
	if !granted || out != fmt.Sprintf("%d bytes", len(agentSecret)) {
		t.Errorf("granted %v, %q", granted, out)
	}
	g.eventually(t, audit.ForwardClose, "auth-agent@openssh.com")
	_, records := g.taped(t)
	for _, r := range records {
		if bytes.Contains(r.Data, []byte("planted")) {
			t.Errorf("recorded %q", r.Data)
		}
	}
	if got := of(records, record.Stdout); got != out {
		t.Errorf("recorded %q", got)
	}
}

func TestTheAgentIsOutOfReachWithoutARule(t *testing.T) {
	g := agentGate(t, nil)
	granted, out, stderr := askForAgent(t, g.inside(t))
	if granted || out != "no agent" || !strings.Contains(stderr, "(reason: not_granted)") {
		t.Errorf("granted %v, %q, told %q", granted, out, stderr)
	}
	g.eventually(t, audit.ChannelDenied, "auth-agent-req@openssh.com", "not_granted")
	g.eventually(t, audit.ChannelDenied, "opened by the target")
}

func TestInputIsRecordedWhereARuleSaysSoButForSecrets(t *testing.T) {
	g := newInspectGate(t, inspectSpec{
		rule: func(r *policy.Rule) { r.Recording.Input = true },
		target: programs(func(ch ssh.Channel, _, _ string) {
			io.WriteString(ch, "$ ")
			b := make([]byte, 64)
			n, _ := ch.Read(b)
			io.WriteString(ch, string(b[:n])+"\r\n[sudo] Password for hadoop: ")
			ch.Read(b)
			io.WriteString(ch, "\r\n$ ")
			n, _ = ch.Read(b)
			ch.Write(b[:n])
			exitWith(ch, 0)
		}),
	})
	s, err := g.inside(t).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, _ := s.StdinPipe()
	out, _ := s.StdoutPipe()
	if err := s.RequestPty("xterm", 24, 80, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	await := func(prompt string) {
		t.Helper()
		var got []byte
		for b := make([]byte, 1); !bytes.HasSuffix(got, []byte(prompt)); got = append(got, b...) {
			if _, err := out.Read(b); err != nil {
				t.Fatalf("%q, then %v", got, err)
			}
		}
	}
	await("$ ")
	io.WriteString(in, "sudo ls\r")
	await("hadoop: ")
	io.WriteString(in, "hunter2\r")
	await("$ ")
	io.WriteString(in, "exit\r")
	io.Copy(io.Discard, out)
	s.Wait()
	_, records := g.taped(t)
	if got := of(records, record.Stdin); got != "sudo ls\rexit\r" {
		t.Errorf("recorded %q", got)
	}
}

func TestPromptsForSecrets(t *testing.T) {
	for shown, want := range map[string]bool{
		"deploy@db's password: ":                       true,
		"Enter passphrase for key '/x': ":              true,
		"\x1b[1mVerification code\x1b[0m: \x1b[?2004h": true,
		"PIN:":                                  true,
		"password: \r\n$ ":                      false,
		"$ ":                                    false,
		"Are you sure (yes/no): ":               false,
		"":                                      false,
		strings.Repeat("x", 1000) + "\nToken: ": true,
	} {
		var e echo
		for i := range len(shown) { // in whatever pieces it came
			e.shown([]byte(shown[i : i+1]))
		}
		if got := e.typed([]byte("x")) == nil; got != want {
			t.Errorf("after %q: withheld %v", shown, got)
		}
		var whole echo
		whole.shown([]byte(shown))
		if got := whole.typed([]byte("x")) == nil; got != want {
			t.Errorf("after %q at once: withheld %v", shown, got)
		}
	}
	noEcho := ssh.Marshal(struct {
		A byte
		B uint32
		C byte
		D uint32
		E byte
	}{1, 3, 53, 0, 0})
	if !echoOff(string(noEcho)) || echoOff("\x35\x00\x00\x00\x01\x00") || echoOff("") || echoOff("\x35\x00") {
		t.Error("the mode ECHO is read wrongly")
	}
}
