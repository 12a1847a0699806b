package sshgate

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/policy"
	"postern/internal/record"
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
