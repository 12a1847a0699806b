package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/internal/audit"
	"postern/internal/nlb"
	"postern/internal/sshgate"
)

// testGate is a gate that runs in this process, from the files of a demo.
type testGate struct {
	*demo
	t       *testing.T
	signals chan os.Signal
	stderr  *lockedBuffer
	ended   chan struct{}
	err     error // after ended
}

// lockedBuffer is a log that can be read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// newTestGate makes the files; start runs the gate from them.
func newTestGate(t *testing.T) *testGate {
	t.Helper()
	d, err := newDemo(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	d.lns.banner.Close()
	d.lns.stranger.Close()
	return &testGate{demo: d, t: t, signals: make(chan os.Signal, 4), stderr: &lockedBuffer{}, ended: make(chan struct{})}
}

func (g *testGate) start() {
	g.t.Helper()
	g.begin()
	g.eventually("ready", func() bool { return g.get(g.Health, "/readyz") == "200 ok" })
}

// begin is start for a gate that need not become ready.
func (g *testGate) begin() {
	g.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var around sync.WaitGroup
	front := nlb.Front{Target: g.Gate, Endpoint: demoEndpoint}
	around.Go(func() { front.Serve(ctx, g.lns.front) })
	around.Go(func() { serveDemoWeb(ctx, g.lns.web) })
	around.Go(func() { g.machine.serve(ctx, g.lns.ssh) })
	go func() {
		defer close(g.ended)
		g.err = run(ctx, process{config: g.path("postern.yaml"), inherited: g.lns.gate, signals: g.signals, stderr: g.stderr})
	}()
	g.t.Cleanup(func() {
		cancel()
		around.Wait()
		<-g.ended
		if g.t.Failed() {
			g.t.Logf("the gate's log:\n%s", g.stderr)
		}
	})
}

// eventually fails the test where holds does not come true in time.
func (g *testGate) eventually(what string, holds func() bool) {
	g.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			g.t.Fatalf("not %s\n%s", what, g.stderr)
		}
	}
}

// get returns the status and the body.
func (g *testGate) get(address, path string) string {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	resp, err := client.Get("http://" + address + path)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return resp.Status[:3] + " " + strings.TrimSpace(string(body))
}

func (g *testGate) metric(line string) bool {
	return strings.Contains(g.get(g.Metrics, "/metrics"), "\n"+line+"\n")
}

// publicKey returns the public half of a key of the demo.
func (g *testGate) publicKey(name string) string {
	g.t.Helper()
	signer, err := sshgate.LoadSigner(g.path(name))
	if err != nil {
		g.t.Fatal(err)
	}
	return line(signer.PublicKey())
}

// events returns the log's events of a code.
func (g *testGate) events(code audit.Code) []string {
	g.t.Helper()
	var found []string
	for r, err := range audit.Read(g.path("audit"), 0) {
		if err != nil {
			g.t.Fatal(err)
		}
		if r.Code == code {
			found = append(found, string(r.Line))
		}
	}
	return found
}

// edit replaces old, which must be there, by text in a file.
func (g *testGate) edit(name, old, text string) {
	g.t.Helper()
	data, err := os.ReadFile(g.path(name))
	if err != nil {
		g.t.Fatal(err)
	}
	if !bytes.Contains(data, []byte(old)) {
		g.t.Fatalf("%s has no %q:\n%s", name, old, data)
	}
	next := g.path(name + ".new")
	if err := os.WriteFile(next, bytes.Replace(data, []byte(old), []byte(text), 1), 0o644); err != nil {
		g.t.Fatal(err)
	}
	if err := os.Rename(next, g.path(name)); err != nil {
		g.t.Fatal(err)
	}
}

// ssh runs the real client and returns what it printed.
func (g *testGate) ssh(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(g.t.Context(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ssh", append([]string{"-F", g.path("ssh_config"), "-n"}, args...)...).CombinedOutput()
	return string(out), err
}

// session keeps a real client connected; what it returns is closed when the
// client has ended.
func (g *testGate) session() (ended <-chan struct{}) {
	g.t.Helper()
	cmd := exec.Command("ssh", "-F", g.path("ssh_config"), "-N", "gate")
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		cmd.Wait()
		close(done)
	}()
	g.t.Cleanup(func() { cmd.Process.Kill(); <-done })
	// The events come before the session.
	g.eventually("connected", func() bool {
		_, out, _ := g.postern("sessions", "--json")
		return len(g.events(audit.AuthSuccess)) > 0 && out != "[]\n"
	})
	return done
}

func (g *testGate) stops(within time.Duration) {
	g.t.Helper()
	select {
	case <-g.ended:
	case <-time.After(within):
		g.t.Fatalf("the gate has not ended within %s", within)
	}
	if g.err != nil {
		g.t.Errorf("the gate ended with %v", g.err)
	}
}

func has(list []string, pattern string) bool {
	re := regexp.MustCompile(pattern)
	for _, s := range list {
		if re.MatchString(s) {
			return true
		}
	}
	return false
}

func TestAnEditedPolicyIsInForceWithinASecond(t *testing.T) {
	needs(t, "ssh")
	g := newTestGate(t)
	g.start()
	ended := g.session()
	began := time.Now()
	g.edit("policy.yaml", "keys: [\""+g.publicKey("vendor_key")+"\"]", "keys: [\""+g.publicKey("alice_key")+"\"]")
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatalf("the session of a key that was removed goes on\n%s", g.stderr)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s", took)
	}
	if e := g.events(audit.ConfigReload); len(e) != 1 || !has(e, `"status":"Success"`) || !has(e, `policy\.yaml`) || !has(e, viaWatch) {
		t.Errorf("events: %q", e)
	}
}

func TestABrokenPolicyKeepsTheOldOneInForce(t *testing.T) {
	needs(t, "ssh")
	g := newTestGate(t)
	g.start()
	g.edit("policy.yaml", "rules:", "ruels:")
	g.eventually("told", func() bool { return g.metric("postern_config_last_reload_successful 0") })
	if e := g.events(audit.ConfigReload); len(e) != 1 || !has(e, `"status":"Failure"`) || !has(e, "ruels") {
		t.Errorf("events: %q", e)
	}
	if out, err := g.ssh("gate", "whoami"); err != nil || !strings.HasPrefix(out, "vendor") {
		t.Errorf("whoami: %v, %s", err, out)
	}
	if got := g.get(g.Health, "/readyz"); got != "200 ok" {
		t.Errorf("with the old policy in force, readiness is %q", got)
	}
	if !strings.Contains(g.stderr.String(), "ruels") {
		t.Error("the log does not say what is wrong")
	}
	g.edit("policy.yaml", "ruels:", "rules:")
	g.eventually("mended", func() bool { return g.metric("postern_config_last_reload_successful 1") })
}

func TestAKeyFileThatAppearsMendsThePolicy(t *testing.T) {
	g := newTestGate(t)
	g.start()
	g.edit("policy.yaml", "vendor: { keys:", "vendor: { keys_files: [more.pub], keys:")
	g.eventually("told", func() bool { return g.metric("postern_config_last_reload_successful 0") })
	if err := os.WriteFile(g.path("more.pub"), []byte(g.publicKey("alice_key")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	g.eventually("mended", func() bool { return g.metric("postern_config_last_reload_successful 1") })
	if e := g.events(audit.ConfigReload); len(e) != 2 {
		t.Errorf("%d events, want one refusal and one reload: %q", len(e), e)
	}
}

func TestSIGHUPReadsBothFilesAndNamesWhatNeedsARestart(t *testing.T) {
	g := newTestGate(t)
	g.start()
	g.edit("postern.yaml", "sources: [127.0.0.0/8]", "sources: [10.0.0.0/8]")
	g.edit("postern.yaml", "timeout: 1s }", "timeout: 2s }\nlimits: { max_channels: 7 }")
	g.signals <- syscall.SIGHUP
	g.eventually("reloaded", func() bool { return len(g.events(audit.ConfigReload)) >= 2 })
	e := g.events(audit.ConfigReload)
	if !has(e, `postern\.yaml.*"changed":\["admission\.sources","drain"\]`) || !has(e, "policy\\.yaml") || !has(e, "SIGHUP") {
		t.Errorf("events: %q", e)
	}
	g.eventually("logged", func() bool { return strings.Contains(g.stderr.String(), `["limits.max_channels"]`) })

	g.edit("postern.yaml", "listen:", "lisen:")
	g.edit("policy.yaml", "services", "hosts")
	g.signals <- syscall.SIGHUP
	g.eventually("refused", func() bool { return has(g.events(audit.ConfigReload), `"status":"Failure".*postern\.yaml`) })
	g.eventually("told", func() bool { return g.metric("postern_config_last_reload_successful 0") })
}

func TestANewSourceListCutsLiveSessions(t *testing.T) {
	needs(t, "ssh")
	g := newTestGate(t)
	g.start()
	ended := g.session()
	g.edit("postern.yaml", "sources: [127.0.0.0/8]", "sources: [10.0.0.0/8]")
	g.signals <- syscall.SIGHUP
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("a session from a source that is no longer allowed goes on")
	}
}

func TestADrainIsUnreadyThenClosedThenSilent(t *testing.T) {
	needs(t, "ssh")
	g := newTestGate(t)
	g.edit("postern.yaml", "settle: 0s, timeout: 1s", "settle: 1s, timeout: 1m")
	g.start()
	ended := g.session()
	g.signals <- syscall.SIGTERM
	g.eventually("unready", func() bool { return strings.HasPrefix(g.get(g.Health, "/readyz"), "503") })
	if !g.metric("postern_draining 1") || !g.metric("postern_ready 0") {
		t.Error("the metrics do not say that the gate drains")
	}
	if out, err := g.ssh("gate", "whoami"); err != nil {
		t.Errorf("refused while the load balancer may still send connections: %v, %s", err, out)
	}
	g.eventually("closed", func() bool { _, err := g.ssh("gate", "whoami"); return err != nil })
	select {
	case <-ended:
		t.Error("a live session was cut before drain.timeout")
	case <-g.ended:
		t.Error("the gate ended with a live session")
	default:
	}
	if !strings.HasPrefix(g.get(g.Health, "/livez"), "200") {
		t.Error("not alive while it drains")
	}
	g.signals <- syscall.SIGTERM // the second one
	g.stops(5 * time.Second)
	<-ended
	if e := g.events(audit.DaemonStop); len(e) != 1 || !has(e, `"cut":1`) || !has(e, "SIGTERM") {
		t.Errorf("daemon.stop: %q", e)
	}
	var last audit.Code
	for r, err := range audit.Read(g.path("audit"), 0) {
		if err != nil {
			t.Fatal(err)
		}
		last = r.Code
	}
	if last != audit.DaemonStop {
		t.Errorf("the last event is %s", last)
	}
}

func TestWithoutItsLogTheGateCutsEverybody(t *testing.T) {
	needs(t, "ssh")
	g := newTestGate(t)
	g.start()
	ended := g.session()
	if err := os.Rename(g.path("audit"), g.path("gone")); err != nil {
		t.Fatal(err)
	}
	g.ssh("gate", "whoami") // the next write finds out
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("a session goes on that nothing is written down of")
	}
	g.eventually("unready", func() bool { return strings.HasPrefix(g.get(g.Health, "/readyz"), "503") })
	if _, err := g.ssh("gate", "whoami"); err == nil {
		t.Error("somebody was let in without a log")
	}
	g.signals <- syscall.SIGTERM
	<-g.ended
	if !errors.Is(g.err, audit.ErrFailed) {
		t.Errorf("the gate ended with %v", g.err)
	}
}

func TestAGateThatHasEndedLeavesNoGoroutine(t *testing.T) {
	before := goleak.IgnoreCurrent()
	g := newTestGate(t)
	done := make(chan error, 1)
	go func() {
		done <- run(t.Context(), process{config: g.path("postern.yaml"), inherited: g.lns.gate, signals: g.signals, stderr: g.stderr})
	}()
	g.eventually("ready", func() bool { return g.get(g.Health, "/readyz") == "200 ok" })
	g.signals <- syscall.SIGINT
	if err := <-done; err != nil {
		t.Error(err)
	}
	goleak.VerifyNone(t, before)
}

func TestAGateThatCannotStartLeavesNothingBehind(t *testing.T) {
	for _, c := range []struct {
		name   string
		spoil  func(g *testGate)
		status int
		says   string
	}{
		{"frozen file", func(g *testGate) { os.WriteFile(g.path("frozen.json"), []byte("{"), 0o600) }, exitConfig, "frozen"},
		{"host key", func(g *testGate) { os.WriteFile(g.path("ssh_host_ecdsa_key"), []byte("x"), 0o600) }, exitConfig, "host key"},
		{"policy", func(g *testGate) { os.Remove(g.path("policy.yaml")) }, exitConfig, "policy"},
		{"audit", func(g *testGate) { os.WriteFile(g.path("audit"), nil, 0o600) }, exitWrong, "audit"},
		{"tls", func(g *testGate) {
			g.edit("postern.yaml", "health: { listen:", "health: { tls_cert: a, tls_key: b, listen:")
		}, exitConfig, "tls_cert"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newTestGate(t)
			c.spoil(g)
			err := run(t.Context(), process{config: g.path("postern.yaml"), inherited: g.lns.gate, signals: g.signals, stderr: g.stderr})
			var said bytes.Buffer
			if status := report(&said, err); status != c.status || !strings.Contains(said.String(), c.says) {
				t.Errorf("status %d, want %d: %s", status, c.status, &said)
			}
			if _, err := os.Stat(filepath.Join(g.Dir, "admin.sock")); !os.IsNotExist(err) {
				t.Errorf("the admin socket: %v", err)
			}
		})
	}
}
