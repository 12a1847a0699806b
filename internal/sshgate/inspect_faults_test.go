package sshgate

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"postern/internal/audit"
	"postern/internal/policy"
	"postern/internal/upstream"
)

func TestARecordingThatCantBeginEndsTheSessionWith254(t *testing.T) {
	for name, s := range map[string]inspectSpec{
		"no store": {options: func(o *Options) { o.Recordings = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			s.target = programs(func(ch ssh.Channel, _, _ string) { io.WriteString(ch, "ran"); exitWith(ch, 0) })
			g := newInspectGate(t, s)
			out, stderr, status, err := exec(g.inside(t), "x")
			if out != "" || !strings.Contains(stderr, "(reason: recording_failed)") || status != 254 || err != nil {
				t.Errorf("%q, %q, %d, %v", out, stderr, status, err)
			}
			g.wantEvent(audit.RecordingFailed, `"on_failure":"terminate"`)
		})
	}
}

func TestARuleMayLetASessionGoOnUnrecorded(t *testing.T) {
	g := newInspectGate(t, inspectSpec{
		options: func(o *Options) { o.Recordings = nil },
		rule:    func(r *policy.Rule) { r.Recording.Continue = true },
		target:  programs(func(ch ssh.Channel, _, _ string) { io.WriteString(ch, "ran"); exitWith(ch, 0) }),
	})
	out, _, status, err := exec(g.inside(t), "x")
	if out != "ran" || status != 0 || err != nil {
		t.Errorf("%q, %d, %v", out, status, err)
	}
	g.wantEvent(audit.RecordingFailed, `"on_failure":"continue"`)
}

// fillDisk makes every further write to recordings fail as on a full disk.
func fillDisk(t *testing.T, dir string) {
	t.Helper()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range open {
		path, _ := os.Readlink("/proc/self/fd/" + e.Name())
		fd, err := strconv.Atoi(e.Name())
		if err == nil && strings.HasPrefix(path, dir+"/") && strings.HasSuffix(path, ".prec") {
			if err := unix.Dup3(int(full.Fd()), fd, unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// flooding is a program that writes until it can't.
func flooding(ch ssh.Channel, _, command string) {
	if command == "small" {
		io.WriteString(ch, "small")
		exitWith(ch, 0)
		return
	}
	io.WriteString(ch, "begun")
	io.ReadFull(ch, make([]byte, 1))
	block, total := make([]byte, 32<<10), 0
	for total < 4<<20 {
		n, err := ch.Write(block)
		if total += n; err != nil {
			return
		}
	}
	exitWith(ch, 0)
}

func TestARecorderErrorMidSessionEndsTheSessionWithoutAHang(t *testing.T) {
	for name, want := range map[string]struct {
		goOn   bool
		status int
	}{"terminate": {false, 254}, "continue": {true, 0}} {
		t.Run(name, func(t *testing.T) {
			g := newInspectGate(t, inspectSpec{
				rule:   func(r *policy.Rule) { r.Recording.Continue = want.goOn },
				target: programs(flooding),
			})
			client := g.inside(t)
			s, err := client.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			var stderr bytes.Buffer
			s.Stderr = &stderr
			in, _ := s.StdinPipe()
			out, _ := s.StdoutPipe()
			if err := s.Start("flood"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(out, make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
			fillDisk(t, g.recordings)
			in.Write([]byte("x"))
			io.Copy(io.Discard, out)
			var exit *ssh.ExitError
			status := 0
			if err := s.Wait(); errors.As(err, &exit) {
				status = exit.ExitStatus()
			}
			if status != want.status || want.status != 0 && !strings.Contains(stderr.String(), "(reason: recording_failed)") {
				t.Errorf("status %d, told %q", status, stderr.String())
			}
			g.eventually(t, audit.RecordingFailed, `"on_failure":"`+name+`"`)
			if out, _, _, err := exec(client, "small"); out != "small" || err != nil {
				t.Errorf("the next channel: %q, %v", out, err)
			}
		})
	}
}

func TestAChangeOfRulesEndsAProgramWithAText(t *testing.T) {
	g := newInspectGate(t, inspectSpec{target: programs(func(ch ssh.Channel, _, _ string) {
		io.WriteString(ch, "running")
		io.Copy(io.Discard, ch)
	})})
	client := g.inside(t)
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	s.Stderr = &stderr
	out, _ := s.StdoutPipe()
	in, _ := s.StdinPipe() // left open
	defer in.Close()
	if err := s.Start("forever"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 7)); err != nil {
		t.Fatal(err)
	}
	g.spec.Rules[len(g.spec.Rules)-1].Allow = []policy.Verb{policy.Shell} // the connection may stay
	known := g.rules.Load().KnownHosts
	g.SetRules(Rules{Policy: mustPolicy(t, g.spec), KnownHosts: known})
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 254 {
		t.Errorf("ended with %v", err)
	}
	if !strings.Contains(stderr.String(), "(reason: policy_changed)") {
		t.Errorf("told %q", stderr.String())
	}
	g.wantEvent(audit.ProcEnd, "policy_changed")
	if out, stderr, status, err := exec(client, "again"); status != 1 || err != nil {
		t.Errorf("%q, %q, %d, %v", out, stderr, status, err)
	}
}

func TestATargetThatDiesIsToldApartFromAProgramThatEnds(t *testing.T) {
	die := make(chan struct{})
	g := newInspectGate(t, inspectSpec{
		target: programs(func(ch ssh.Channel, _, _ string) { io.WriteString(ch, "half"); close(die) }),
		global: func(conn ssh.Conn) { <-die; conn.Close() },
	})
	out, stderr, _, err := exec(g.inside(t), "x")
	var missing *ssh.ExitMissingError
	if out != "half" || !strings.Contains(stderr, "(reason: target_closed)") || !errors.As(err, &missing) {
		t.Errorf("%q, %q, %v", out, stderr, err)
	}
	g.wantEvent(audit.ProcEnd, "target_closed")
	g.wantEvent(audit.TargetClose, "target_closed")
}

func TestATargetThatAnswersNothingIsGone(t *testing.T) {
	g := newInspectGate(t, inspectSpec{
		options: func(o *Options) { o.ClientAliveInterval, o.ClientAliveCountMax = time.Second, 2 },
		target:  programs(func(ch ssh.Channel, _, _ string) { io.Copy(io.Discard, ch) }),
		silent:  true,
	})
	_, stderr, status, err := exec2(g.inside(t), "hang")
	if !strings.Contains(stderr, "(reason: target_keepalive_timeout)") {
		t.Errorf("told %q, status %d, %v", stderr, status, err)
	}
	g.wantEvent(audit.TargetClose, "target_keepalive_timeout")
}

// exec2 is exec with a standard input that stays open.
func exec2(client *ssh.Client, command string) (stdout, stderr string, status int, err error) {
	s, err := client.NewSession()
	if err != nil {
		return "", "", 0, err
	}
	defer s.Close()
	var out, errs bytes.Buffer
	s.Stdout, s.Stderr = &out, &errs
	in, err := s.StdinPipe()
	if err != nil {
		return "", "", 0, err
	}
	defer in.Close()
	err = s.Run(command)
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		status, err = exit.ExitStatus(), nil
	}
	return out.String(), errs.String(), status, err
}

func TestAReaderThatNeverReadsStopsNobodyElse(t *testing.T) {
	g := newInspectGate(t, inspectSpec{target: programs(func(ch ssh.Channel, _, command string) {
		if command == "flood" {
			for {
				if _, err := ch.Write(make([]byte, 32<<10)); err != nil {
					return
				}
			}
		}
		io.WriteString(ch, "here")
		exitWith(ch, 0)
	})})
	client := g.inside(t)
	ch, reqs, err := client.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(reqs) // ends with the channel
	if ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ S string }{"flood"})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	for range 3 {
		if out, _, _, err := exec(client, "small"); out != "here" || err != nil {
			t.Errorf("%q, %v", out, err)
		}
	}
	ch.Close()
	g.eventually(t, audit.ProcEnd, "flood")
}

func TestAClientThatLeavesMidUploadHasSentWhatItHasSent(t *testing.T) {
	const size = 1 << 20
	got := make(chan int64, 1)
	g := newInspectGate(t, inspectSpec{target: programs(func(ch ssh.Channel, _, _ string) {
		n, _ := io.Copy(io.Discard, ch)
		got <- n
	})})
	client := g.inside(t)
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, _ := s.StdinPipe()
	if err := s.Start("cat > file"); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if n := <-got; n != size {
		t.Errorf("the target got %d of %d bytes", n, size)
	}
	g.wantEvent(audit.ProcEnd, "client_disconnect")
	tape := g.allTaped(t, 1)[0]
	if tape.totals.Complete {
		t.Error("the recording claims to be complete")
	}
}

func TestATargetWhoseKeyIsTakenOutOfKnownHostsIsLeft(t *testing.T) {
	g := newInspectGate(t, inspectSpec{target: programs(func(ch ssh.Channel, _, _ string) {
		io.WriteString(ch, "running")
		io.Copy(io.Discard, ch)
	})})
	s, err := g.inside(t).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, _ := s.StdoutPipe()
	in, _ := s.StdinPipe() // left open
	defer in.Close()
	if err := s.Start("forever"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 7)); err != nil {
		t.Fatal(err)
	}
	g.SetRules(Rules{Policy: mustPolicy(t, g.spec), KnownHosts: &upstream.KnownHosts{}})
	if err := s.Wait(); err == nil {
		t.Error("the program ended well")
	}
	g.wantEvent(audit.TargetClose, "policy_changed")
}
