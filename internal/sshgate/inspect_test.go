package sshgate

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"postern/internal/audit"
	"postern/internal/policy"
	"postern/internal/record"
	"postern/internal/upstream"
)

// inspectGate is a gate that inspects and records, with one target.
type inspectGate struct {
	*doorGate
	recordings string
	at         netip.AddrPort
}

// inspectSpec is what a test changes of the rule "sessions", of the others and
// of the gate.
type inspectSpec struct {
	rule    func(*policy.Rule)
	spec    func(*policy.Spec)
	options func(*Options)
	target  func(ssh.NewChannel) // serves one channel
	global  func(conn ssh.Conn)  // runs beside the channels
	silent  bool                 // the target answers no global request
	conn    *ssh.Conn            // set to the connection before its first channel
}

func newInspectGate(t testing.TB, s inspectSpec) *inspectGate {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) }) // once everything below has been closed
	g := &inspectGate{recordings: filepath.Join(t.TempDir(), "recordings")}
	store, err := record.Open(record.Options{Dir: g.recordings})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { store.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() }) // runs after the gate has ended
	g.doorGate = newDoorGate(t, gateSpec{
		options: func(o *Options) {
			o.Recordings = store
			if s.options != nil {
				s.options(o)
			}
		},
		spec: func(spec *policy.Spec) {
			r := &spec.Rules[len(spec.Rules)-1]
			r.Recording = policy.Recording{}
			if s.rule != nil {
				s.rule(r)
			}
			if s.spec != nil {
				s.spec(spec)
			}
		},
	})
	key := newSigner(t)
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(key)
	g.at = serveTCP(t, func(nc net.Conn) { serveTarget(nc, config, s) })
	g.knows(t, knownLine(g.at, key.PublicKey()))
	return g
}

func serveTarget(nc net.Conn, config *ssh.ServerConfig, s inspectSpec) {
	conn, chans, reqs, err := ssh.NewServerConn(nc, config)
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer conn.Close()
	wg.Go(func() {
		for req := range reqs {
			if !s.silent {
				req.Reply(false, nil)
			}
		}
	})
	if s.conn != nil {
		*s.conn = conn
	}
	if s.global != nil {
		wg.Go(func() { s.global(conn) })
	}
	for nc := range chans {
		wg.Go(func() { s.target(nc) })
	}
}

// inside returns a client of the target, through ProxyJump.
func (g *inspectGate) inside(t testing.TB) *ssh.Client {
	t.Helper()
	inner, _, err := jumpTo(g.client("vendor"), g.at.String(), g.inner("hadoop"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inner.Close() })
	return inner
}

// programs is a target whose channels run f once a program is asked for; each
// request is answered with true.
func programs(f func(ch ssh.Channel, kind, command string)) func(ssh.NewChannel) {
	return func(nc ssh.NewChannel) {
		ch, reqs, err := nc.Accept()
		if err != nil {
			return
		}
		defer ch.Close()
		var wg sync.WaitGroup
		defer wg.Wait()
		for req := range reqs {
			req.Reply(true, nil)
			switch req.Type {
			case "shell", "exec", "subsystem":
				var m struct{ S string }
				ssh.Unmarshal(req.Payload, &m)
				wg.Go(func() { f(ch, req.Type, m.S) })
			}
		}
	}
}

func exitWith(ch ssh.Channel, status uint32) {
	ch.SendRequest("exit-status", false, ssh.Marshal(struct{ S uint32 }{status}))
	ch.CloseWrite()
	ch.Close()
}

// taped returns the one recording that has ended, by kind of record.
func (g *inspectGate) taped(t testing.TB) (record.Header, []record.Record) {
	t.Helper()
	all := g.allTaped(t, 1)
	return all[0].header, all[0].records
}

type taped struct {
	header  record.Header
	totals  record.Totals
	records []record.Record
}

func (g *inspectGate) allTaped(t testing.TB, n int) []taped {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for len(g.events(audit.RecordingEnd)) < n {
		if time.Now().After(deadline) {
			t.Fatalf("%d recordings have ended, not %d", len(g.events(audit.RecordingEnd)), n)
		}
		<-time.After(20 * time.Millisecond)
	}
	entries, err := record.List(g.recordings)
	if err != nil || len(entries) != n {
		t.Fatalf("%d recordings, %v", len(entries), err)
	}
	var all []taped
	for _, e := range entries {
		all = append(all, readTape(t, e.Path))
	}
	return all
}

func readTape(t testing.TB, path string) taped {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := record.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out := taped{header: r.Header()}
	for rec, err := range r.Records() {
		if err != nil {
			t.Fatal(err)
		}
		rec.Data = bytes.Clone(rec.Data)
		out.records = append(out.records, rec)
	}
	out.totals, _ = r.End()
	return out
}

// of joins the bytes of one kind of record.
func of(records []record.Record, k record.Kind) string {
	var b bytes.Buffer
	for _, r := range records {
		if r.Kind == k {
			b.Write(r.Data)
		}
	}
	return b.String()
}

func TestUTF8SplitOverTwoPacketsAndLatin1Survive(t *testing.T) {
	text := "price \xe2\x82\xac caf\xe9 \x00\xff"
	g := newInspectGate(t, inspectSpec{target: programs(func(ch ssh.Channel, _, _ string) {
		ch.Write([]byte(text[:8])) // in the middle of the euro sign
		ch.Write([]byte(text[8:]))
		exitWith(ch, 0)
	})})
	out, _, status, err := exec(g.inside(t), "show")
	if err != nil || out != text || status != 0 {
		t.Errorf("%q, status %d, %v", out, status, err)
	}
	header, records := g.taped(t)
	if got := of(records, record.Stdout); got != text {
		t.Errorf("recorded %q", got)
	}
	if got := of(records, record.Exit); got != "0" {
		t.Errorf("exit %q", got)
	}
	if header.Command != "show" || header.Login != "hadoop" || header.Rule != "sessions" || header.Kind != "exec" {
		t.Errorf("header %+v", header)
	}
}

func TestWindowChangeIsRecorded(t *testing.T) {
	resized := make(chan struct{})
	g := newInspectGate(t, inspectSpec{target: func(nc ssh.NewChannel) {
		ch, reqs, err := nc.Accept()
		if err != nil {
			return
		}
		for req := range reqs {
			req.Reply(true, nil)
			if m := (struct{ C, R, W, H uint32 }{}); req.Type == "window-change" && ssh.Unmarshal(req.Payload, &m) == nil && m.C == 132 {
				close(resized)
				exitWith(ch, 0)
			}
		}
	}})
	s, err := g.inside(t).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WindowChange(30, 90); err != nil { // before there is a terminal
		t.Fatal(err)
	}
	if err := s.RequestPty("xterm", 24, 80, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.WindowChange(25, 81); err != nil { // before there is a shell
		t.Fatal(err)
	}
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	if err := s.WindowChange(43, 132); err != nil {
		t.Fatal(err)
	}
	<-resized
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
	header, records := g.taped(t)
	if header.Columns != 81 || header.Rows != 25 || header.Term != "xterm" || header.Kind != "shell" {
		t.Errorf("header %+v", header)
	}
	if got := of(records, record.Resize); got != string(record.AppendSize(nil, 132, 43)) {
		t.Errorf("resized to %x", got)
	}
	g.wantEvent(audit.ProcStart, "xterm 81x25")
}

func TestStderrIsRecorded(t *testing.T) {
	g := newInspectGate(t, inspectSpec{target: programs(func(ch ssh.Channel, _, _ string) {
		io.WriteString(ch, "out")
		io.WriteString(ch.Stderr(), "err")
		exitWith(ch, 3)
	})})
	out, stderr, status, err := exec(g.inside(t), "both")
	if out != "out" || stderr != "err" || status != 3 || err != nil {
		t.Errorf("%q, %q, %d, %v", out, stderr, status, err)
	}
	_, records := g.taped(t)
	if of(records, record.Stdout) != "out" || of(records, record.Stderr) != "err" || of(records, record.Exit) != "3" {
		t.Errorf("recorded %v", records)
	}
}

func TestTwoChannelsKeepTheirOwnClocks(t *testing.T) {
	g := newInspectGate(t, inspectSpec{target: programs(func(ch ssh.Channel, _, command string) {
		if command == "slow" {
			b := make([]byte, 1)
			ch.Read(b) // until the other has come and gone
		}
		io.WriteString(ch, "done")
		exitWith(ch, 0)
	})})
	client := g.inside(t)
	slow, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, _ := slow.StdinPipe()
	if err := slow.Start("slow"); err != nil {
		t.Fatal(err)
	}
	<-time.After(300 * time.Millisecond) // real clocks are what is compared
	if _, _, _, err := exec(client, "fast"); err != nil {
		t.Fatal(err)
	}
	in.Write([]byte("x"))
	slow.Wait()
	for _, tape := range g.allTaped(t, 2) {
		at := tape.records[0].At
		if tape.header.Command == "slow" && at < 300*time.Millisecond || tape.header.Command == "fast" && at > 250*time.Millisecond {
			t.Errorf("%s began to write after %v", tape.header.Command, at)
		}
	}
}

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

func TestNothingIsClosedBeforeTheLastByte(t *testing.T) {
	const size = 8 << 20 // more than every window on the way
	noise := make([]byte, size)
	rand.Read(noise)
	g := newInspectGate(t, inspectSpec{target: programs(func(ch ssh.Channel, _, _ string) {
		// As sshd may: the status comes before the rest of the output.
		ch.SendRequest("exit-status", false, ssh.Marshal(struct{ S uint32 }{9}))
		ch.Write(noise)
		io.WriteString(ch.Stderr(), "last")
		ch.Close()
	})})
	out, stderr, status, err := exec(g.inside(t), "much")
	if out != string(noise) || stderr != "last" || status != 9 || err != nil {
		t.Errorf("%d bytes, %q, %d, %v", len(out), stderr, status, err)
	}
	_, records := g.taped(t)
	if got := of(records, record.Stdout); got != out {
		t.Errorf("recorded %d bytes", len(got))
	}
	g.wantEvent(audit.ProcEnd, fmt.Sprint(size+4))
}

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

func TestALongRecordingIsVouchedForWhileItRuns(t *testing.T) {
	data, _ := noise(t, 2<<20)
	g := newInspectGate(t, inspectSpec{target: programs(func(ch ssh.Channel, _, _ string) {
		ch.Write(data)
		io.Copy(io.Discard, ch)
		exitWith(ch, 0)
	})})
	s, err := g.inside(t).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, _ := s.StdinPipe()
	if err := s.Start("x"); err != nil {
		t.Fatal(err)
	}
	g.eventually(t, audit.RecordingChunk, "SHA-256")
	in.Close()
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
	g.eventually(t, audit.RecordingEnd, "SHA-256", `"complete":true`)
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
