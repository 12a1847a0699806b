package sshgate

import (
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/policy"
	"postern/internal/record"
)

func TestTheExitComesBeforeTheEOFThatAClientAnswersWithCLOSE(t *testing.T) {
	g := newInspectGate(t, inspectSpec{target: programs(func(ch ssh.Channel, _, _ string) {
		io.WriteString(ch, "all")
		ch.CloseWrite()
		io.Copy(io.Discard, ch)
		<-time.After(50 * time.Millisecond) // as sshd does until its child is reaped
		exitWith(ch, 5)
	})})
	ch, reqs, err := g.inside(t).OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ S string }{"x"})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	ch.CloseWrite()
	if out, err := io.ReadAll(ch); string(out) != "all" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	ch.Close() // as ssh does when both sides have said EOF
	if req := <-reqs; req == nil || req.Type != "exit-status" {
		t.Errorf("no exit status, but %+v", req)
	}
	for range reqs {
	}
}

func TestAHalfCloseReachesAClientThatStillSends(t *testing.T) {
	g := newInspectGate(t, inspectSpec{target: programs(func(ch ssh.Channel, _, _ string) {
		ch.CloseWrite()
		n, _ := io.Copy(io.Discard, ch)
		exitWith(ch, uint32(n))
	})})
	s, err := g.inside(t).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, _ := s.StdinPipe()
	out, _ := s.StdoutPipe()
	if err := s.Start("x"); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(out); len(b) != 0 || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	io.WriteString(in, "sent after the EOF")
	in.Close()
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 18 {
		t.Errorf("ended with %v", err)
	}
}

func TestASignalIsTheExitAndThePassedRequest(t *testing.T) {
	g := newInspectGate(t, inspectSpec{target: func(nc ssh.NewChannel) {
		ch, reqs, err := nc.Accept()
		if err != nil {
			return
		}
		for req := range reqs {
			req.Reply(true, nil)
			if m := (struct{ S string }{}); req.Type == "signal" && ssh.Unmarshal(req.Payload, &m) == nil {
				ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
					Name string
					Core bool
					Msg  string
					Lang string
				}{m.S, false, "", ""}))
				ch.CloseWrite()
				ch.Close()
			}
		}
	}})
	s, err := g.inside(t).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("sleep"); err != nil {
		t.Fatal(err)
	}
	s.Signal(ssh.SIGTERM)
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.Signal() != "TERM" {
		t.Errorf("ended with %v", err)
	}
	_, records := g.taped(t)
	if of(records, record.Exit) != "SIG:TERM" || of(records, record.Request) != "signal TERM" {
		t.Errorf("recorded %v", records)
	}
}

func TestADeniedCommandIsToldAndTheConnectionLivesOn(t *testing.T) {
	g := newInspectGate(t, inspectSpec{
		rule:   func(r *policy.Rule) { r.Allow, r.Commands = []policy.Verb{policy.Exec}, []string{"uptime", "df *"} },
		target: programs(func(ch ssh.Channel, _, command string) { io.WriteString(ch, command); exitWith(ch, 0) }),
	})
	client := g.inside(t)
	out, stderr, status, err := exec(client, "rm -rf /")
	if out != "" || !strings.Contains(stderr, "(reason: command)") || status != 1 || err != nil {
		t.Errorf("%q, %q, %d, %v", out, stderr, status, err)
	}
	if out, _, _, err := exec(client, "df -h"); out != "df -h" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	g.eventually(t, audit.ProcStart, "rm -rf /", `"status":"Failure"`, "command")
}

func TestOtherSubsystemsAreRefused(t *testing.T) {
	g := newInspectGate(t, inspectSpec{target: programs(func(ch ssh.Channel, _, _ string) { exitWith(ch, 0) })})
	s, err := g.inside(t).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.RequestSubsystem("netconf"); err == nil {
		t.Error("netconf was let through")
	}
	g.eventually(t, audit.ProcStart, "netconf", `"status":"Failure"`)
}

func TestEnvironmentVariablesNeedARule(t *testing.T) {
	var mu sync.Mutex
	var got []string
	g := newInspectGate(t, inspectSpec{
		rule: func(r *policy.Rule) { r.Env = []string{"ANSIBLE_*"} },
		target: func(nc ssh.NewChannel) {
			ch, reqs, err := nc.Accept()
			if err != nil {
				return
			}
			for req := range reqs {
				req.Reply(true, nil)
				var m struct{ Name, Value string }
				switch {
				case req.Type == "env" && ssh.Unmarshal(req.Payload, &m) == nil:
					mu.Lock()
					got = append(got, m.Name+"="+m.Value)
					mu.Unlock()
				case req.Type == "exec":
					exitWith(ch, 0)
				}
			}
		},
	})
	ch, reqs, err := g.inside(t).OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(reqs) // ends with the channel
	env := func(name string, wait bool) bool {
		ok, err := ch.SendRequest("env", wait, ssh.Marshal(struct{ Name, Value string }{name, "v"}))
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if !env("LC_ALL", true) || !env("ANSIBLE_A", true) || env("LD_PRELOAD", true) {
		t.Error("the answers are not those of the rules")
	}
	env("ANSIBLE_B", false)
	env("BASH_ENV", false)
	if ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ S string }{"x"})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	io.Copy(io.Discard, ch)
	mu.Lock()
	defer mu.Unlock()
	if all := strings.Join(got, " "); all != "LC_ALL=v ANSIBLE_A=v ANSIBLE_B=v" {
		t.Errorf("the target got %s", all)
	}
	g.eventually(t, audit.ChannelDenied, "LD_PRELOAD BASH_ENV")
}

func TestRequestsAreAnsweredInTheirOrder(t *testing.T) {
	g := newInspectGate(t, inspectSpec{target: func(nc ssh.NewChannel) {
		ch, reqs, err := nc.Accept()
		if err != nil {
			return
		}
		defer ch.Close()
		n := 0
		for req := range reqs {
			n++
			req.Reply(n%2 == 1, nil)
		}
	}})
	ch, reqs, err := g.inside(t).OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(reqs) // ends with the channel
	for n := range 64 {
		ok, err := ch.SendRequest("break", true, ssh.Marshal(struct{ N uint32 }{500}))
		if err != nil || ok != (n%2 == 0) {
			t.Fatalf("answer %d is %v, %v", n, ok, err)
		}
	}
	if ok, _ := ch.SendRequest("unheard-of@example.com", true, nil); ok {
		t.Error("an unknown request was let through")
	}
	ch.Close()
	g.wantEvent(audit.ChannelDenied, "unheard-of@example.com")
}

func TestAfterTheExitRequestsAreRefused(t *testing.T) {
	g := newInspectGate(t, inspectSpec{target: programs(func(ch ssh.Channel, _, _ string) {
		ch.SendRequest("exit-status", false, ssh.Marshal(struct{ S uint32 }{0}))
		ch.Close()
	})})
	ch, reqs, err := g.inside(t).OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	exec := ssh.Marshal(struct{ S string }{"x"})
	if ok, err := ch.SendRequest("exec", true, exec); !ok || err != nil {
		t.Fatal(ok, err)
	}
	for req := range reqs {
		if req.Type != "exit-status" {
			t.Errorf("got %s", req.Type)
		}
	}
	if ok, err := ch.SendRequest("exec", true, exec); ok || !errors.Is(err, io.EOF) {
		t.Errorf("a second program: %v, %v", ok, err)
	}
}

func TestASecondProgramIsRefusedAndAnotherAfterARefusal(t *testing.T) {
	g := newInspectGate(t, inspectSpec{target: func(nc ssh.NewChannel) {
		ch, reqs, err := nc.Accept()
		if err != nil {
			return
		}
		for req := range reqs {
			req.Reply(req.Type == "exec", nil)
			if req.Type == "exec" {
				io.WriteString(ch, "fell back")
			}
		}
	}})
	ch, reqs, err := g.inside(t).OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(reqs) // ends with the channel
	command := ssh.Marshal(struct{ S string }{"/usr/lib/openssh/sftp-server"})
	if ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ S string }{"sftp"})); ok || err != nil {
		t.Error("the target's refusal did not arrive", ok, err)
	}
	if ok, err := ch.SendRequest("exec", true, command); !ok || err != nil {
		t.Fatal("the second try:", ok, err)
	}
	if _, err := io.ReadFull(ch, make([]byte, 9)); err != nil {
		t.Error(err)
	}
	if ok, err := ch.SendRequest("exec", true, command); ok || err != nil {
		t.Error("a second program:", ok, err)
	}
	ch.Close()
	g.eventually(t, audit.ProcEnd, "target_refused")
}
