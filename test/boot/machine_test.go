package boot_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// included are the Debian packages of the root that is booted. rpm and dnf are
// there for the RPM, which has no distribution of its own to be tested on.
const included = "systemd,systemd-sysv,dbus,cloud-init,openssh-server,openssh-client,iproute2,netbase,ifupdown,ca-certificates,kmod,udev,passwd,procps,curl,rpm,dnf"

// machine is a Debian that runs in a container of systemd-nspawn, with a
// network of its own that leads nowhere.
type machine struct {
	t      *testing.T
	root   string // its files
	leader string // its PID 1, seen from here
}

// rootTree returns the tree that is booted, which is made once and kept beside
// the other tools.
func rootTree(t *testing.T) string {
	t.Helper()
	tools := os.Getenv("POSTERN_TOOLS")
	if tools == "" {
		tools = filepath.Join(root, ".tools")
	}
	tree := filepath.Join(tools, "debian-bookworm.tar")
	if _, err := os.Stat(tree); err == nil {
		return tree
	}
	if err := os.MkdirAll(tools, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Log("making the root of a Debian; it is kept in", tree)
	out, err := exec.Command("mmdebstrap", "--variant=minbase", "--include="+included, "bookworm", tree+".new", "http://deb.debian.org/debian").CombinedOutput()
	if err != nil {
		t.Fatalf("mmdebstrap: %v\n%s", err, out)
	}
	if err := os.Rename(tree+".new", tree); err != nil {
		t.Fatal(err)
	}
	return tree
}

// newMachine unpacks the tree; boot starts it.
func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, root: t.TempDir()}
	host(t, "tar", "-C", m.root, "-xf", rootTree(t))
	return m
}

// boot starts the machine with a seed for cloud-init and a folder of packages,
// and waits until cloud-init is done.
func (m *machine) boot(seed, packages string) {
	m.t.Helper()
	console, err := os.Create(filepath.Join(m.t.TempDir(), "console"))
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.Command("systemd-nspawn", "-D", m.root, "--machine=postern-boot", "--boot", "--register=no", "--keep-unit", "--private-network",
		"--bind-ro="+packages+":/srv/repo", "--bind-ro="+seed+":/var/lib/cloud/seed/nocloud", "--console=pipe")
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { // SIGTERM shuts the machine down
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		console.Close()
	})
	m.eventually(time.Minute, "the machine has a first process", func() bool {
		out, err := exec.Command("pgrep", "-P", fmt.Sprint(cmd.Process.Pid)).Output()
		m.leader, _, _ = strings.Cut(string(out), "\n")
		return err == nil && m.leader != ""
	})
	m.eventually(2*time.Minute, "systemd answers", func() bool { _, err := m.try("systemctl is-system-running"); return err == nil || m.state() != "" })
}

// state is what systemctl is-system-running says, "" while systemd starts.
func (m *machine) state() string {
	out, _ := m.try("systemctl is-system-running")
	switch s := strings.TrimSpace(out); s {
	case "running", "degraded", "starting":
		return s
	}
	return ""
}

// try runs a shell script in the machine.
func (m *machine) try(script string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", "-t", m.leader, "-m", "-u", "-i", "-n", "-p", "--", "sh", "-c", "cd /root; export HOME=/root DEBIAN_FRONTEND=noninteractive; "+script)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// do runs a script that must succeed, and prints both into the transcript.
func (m *machine) do(script string) string {
	m.t.Helper()
	out, err := m.try(script)
	m.t.Logf("# %s\n%s", script, out)
	if err != nil {
		m.t.Fatalf("%s: %v", script, err)
	}
	return out
}

// fails runs a script that must not succeed.
func (m *machine) fails(script string) string {
	m.t.Helper()
	out, err := m.try(script)
	m.t.Logf("# %s\n%s%v", script, out, err)
	if err == nil {
		m.t.Errorf("%s: it succeeded", script)
	}
	return out
}

// says runs a script that must succeed and print want.
func (m *machine) says(script, want string) {
	m.t.Helper()
	if out := m.do(script); !strings.Contains(out, want) {
		m.t.Errorf("%s: want %q", script, want)
	}
}

// eventually waits until a condition holds.
func (m *machine) eventually(patience time.Duration, what string, holds func() bool) {
	m.t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		if holds() {
			return
		}
		if time.Now().After(end) {
			m.t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// host runs a program on this machine, which must succeed.
func host(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
