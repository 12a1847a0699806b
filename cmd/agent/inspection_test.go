package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/config"
	"postern/internal/record"
	"postern/internal/sshgate"
)

// throughJump runs a command on the demo's machine.
func (g *testGate) throughJump(command string) (string, error) {
	return g.ssh("-J", "gate", "machine", command)
}

func TestKnownHostsAreReadAgainOnSIGHUP(t *testing.T) {
	needs(t, "ssh")
	g := newTestGate(t)
	g.start()
	if out, err := g.throughJump("hostname"); err != nil || !strings.Contains(out, "demo-machine") {
		t.Fatalf("%v, %s", err, out)
	}
	good, err := os.ReadFile(g.path("targets"))
	if err != nil {
		t.Fatal(err)
	}
	reload := func(content string) {
		t.Helper()
		before := len(g.events(audit.ConfigReload))
		if err := os.WriteFile(g.path("targets"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		g.signals <- syscall.SIGHUP
		g.eventually("reloaded", func() bool { return len(g.events(audit.ConfigReload)) >= before+2 })
	}
	reload(string(bytes.Replace(good, []byte(line(g.machine.hostKey.PublicKey())), []byte(g.publicKey("vendor_key")), 1)))
	if out, err := g.throughJump("hostname"); err == nil || strings.Contains(out, "demo-machine\n") {
		t.Errorf("a machine whose key is another than the one listed was reached: %s", out)
	}
	for _, result := range []string{"ok", "host_key_changed"} {
		if !g.metric(`postern_target_login_seconds_count{result="` + result + `"} 1`) {
			t.Errorf("a login with the outcome %s was not counted", result)
		}
	}
	reload(string(good))
	if out, err := g.throughJump("hostname"); err != nil || !strings.Contains(out, "demo-machine") {
		t.Errorf("%v, %s", err, out)
	}

	reload("a line that is none\n")
	if e := g.events(audit.ConfigReload); !has(e, `"status":"Failure".*targets:1`) {
		t.Errorf("a faulty file was not told: %q", e)
	}
	if out, err := g.throughJump("hostname"); err != nil {
		t.Errorf("a faulty file did not keep the old one in force: %v, %s", err, out)
	}
}

// records returns the recordings of a gate.
func (g *testGate) records() []record.Entry {
	g.t.Helper()
	all, err := record.List(g.path("recordings"))
	if err != nil {
		g.t.Fatal(err)
	}
	return all
}

func TestAGateEndsWhenItsRecordingsHave(t *testing.T) {
	needs(t, "ssh")
	g := newTestGate(t)
	g.start()
	client := exec.Command("ssh", "-F", g.path("ssh_config"), "-tt", "-J", "gate", "machine")
	in, err := client.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	defer client.Wait()
	defer client.Process.Kill()
	if _, err := in.Write([]byte("echo seen\r")); err != nil {
		t.Fatal(err)
	}
	g.eventually("recording", func() bool { all := g.records(); return len(all) == 1 && all[0].Records > 0 })
	g.signals <- syscall.SIGTERM
	g.signals <- syscall.SIGTERM
	g.stops(20 * time.Second)
	all := g.records()
	if len(all) != 1 || !all[0].Ended || all[0].Live {
		t.Fatalf("%+v", all)
	}
	var codes []audit.Code
	for r, err := range audit.Read(g.path("audit"), 0) {
		if err != nil {
			t.Fatal(err)
		}
		codes = append(codes, r.Code)
	}
	end, stop := slices.Index(codes, audit.RecordingEnd), slices.Index(codes, audit.DaemonStop)
	if end < 0 || stop != len(codes)-1 || end > stop {
		t.Errorf("events: %v", codes)
	}
}

func TestAGateThatCannotRecordIsNotReady(t *testing.T) {
	g := newTestGate(t)
	g.start()
	if err := os.Rename(g.path("recordings"), g.path("gone")); err != nil {
		t.Fatal(err)
	}
	g.eventually("unready", func() bool { return strings.Contains(g.get(g.Health, "/readyz"), "recordings") })
	if err := os.Rename(g.path("gone"), g.path("recordings")); err != nil {
		t.Fatal(err)
	}
	g.eventually("ready again", func() bool { return g.get(g.Health, "/readyz") == "200 ok" })
}

func TestAKeyThatCannotBeReadStopsTheStart(t *testing.T) {
	for name, key := range map[string]string{"host_ca": "load ssh.host_ca", "user_ca": "load upstream.user_ca", "targets": "load upstream.known_hosts"} {
		g := newTestGate(t)
		if err := os.WriteFile(g.path(name), []byte("no key"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := run(t.Context(), process{config: g.path("postern.yaml"), inherited: g.lns.gate, signals: g.signals, stderr: g.stderr})
		f, ok := errors.AsType[*fault](err)
		if !ok || f.status != exitConfig || !strings.HasPrefix(err.Error(), key) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhereAPrivateKeyIsSetNoUserCAIsMade(t *testing.T) {
	dir := t.TempDir()
	l := config.Login{UserCA: filepath.Join(dir, "user_ca"), PrivateKey: filepath.Join(dir, "id")}
	if _, err := newMinter(&config.Config{Login: l}, zap.NewNop()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if _, err := makeDemoKey(l.PrivateKey); err != nil {
		t.Fatal(err)
	}
	if _, err := newMinter(&config.Config{Login: l}, zap.NewNop()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(l.UserCA); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a user CA: %v", err)
	}
}

func TestRecipientsAreReadAsAgeWritesThem(t *testing.T) {
	const good = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
	o, err := recordOptions(config.Recordings{Dir: "x", Recipients: []string{good, good}, MinFree: 7})
	if err != nil || len(o.Recipients) != 2 || len(o.Names) != 2 || o.MinFree != 7 {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := recordOptions(config.Recordings{Recipients: []string{good[:len(good)-1] + "q"}}); err == nil || !strings.Contains(err.Error(), "recordings.recipients") {
		t.Errorf("%v", err)
	}
}

func TestCheckReadsWhatInspectionNeeds(t *testing.T) {
	dir := t.TempDir()
	c := &config.Config{
		SSH:   config.SSH{HostCA: filepath.Join(dir, "host_ca")},
		Login: config.Login{UserCA: filepath.Join(dir, "user_ca"), KnownHosts: []string{filepath.Join(dir, "known_hosts")}},
	}
	faulty := func(want string) {
		t.Helper()
		if err := checkInspection(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	faulty("upstream.known_hosts")
	write("known_hosts", "\n")
	if err := checkInspection(c); err != nil {
		t.Errorf("CAs that will be made: %v", err)
	}
	write("known_hosts", "\nx\n")
	faulty("known_hosts:2: ")
	write("known_hosts", "")
	write("host_ca", "x")
	faulty("ssh.host_ca")
	if _, err := makeDemoKey(c.SSH.HostCA); err != nil {
		t.Fatal(err)
	}
	write("user_ca", "x")
	faulty("upstream.user_ca")
	c.Login.PrivateKey = filepath.Join(dir, "id")
	faulty("upstream.private_key")
	if _, err := makeDemoKey(c.Login.PrivateKey); err != nil {
		t.Fatal(err)
	}
	if err := checkInspection(c); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.pub")); err != nil || len(left) != 0 {
		t.Errorf("check made %v, %v", left, err)
	}
	c.Recordings.Recipients = []string{"age1x"}
	faulty("recordings.recipients")
}

func TestTheGateMakesItsCAsAtTheFirstStart(t *testing.T) {
	g := newTestGate(t)
	for _, name := range []string{"host_ca", "user_ca"} {
		for _, path := range []string{g.path(name), g.path(name) + ".pub"} {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	g.start()
	for _, name := range []string{"host_ca", "user_ca"} {
		signer, err := sshgate.LoadSigner(g.path(name))
		if err != nil || signer.PublicKey().Type() != ssh.KeyAlgoED25519 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
