// Package systemd_test holds the units against systemd itself.
package systemd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const (
	daemon = "/usr/sbin/postern" // what the units start
	there  = "/bin/true"         // a program that is on every host
)

func TestUnitsAreWhatSystemdUnderstands(t *testing.T) {
	out, err := analyze(t, "verify", "--man=no")
	if err != nil || strings.Contains(out, "postern") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// TestServiceIsConfined fails when the unit is exposed by more than 1.2: what is
// left is for the most part that it may use the network.
func TestServiceIsConfined(t *testing.T) {
	out, err := analyze(t, "security", "--offline=true", "--threshold=12", "--no-pager")
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}

// analyze runs systemd-analyze on copies of the units that start a program
// which exists.
func analyze(t *testing.T, args ...string) (string, error) {
	t.Helper()
	need(t, "systemd-analyze")
	dir := t.TempDir()
	for _, name := range []string{"postern.socket", "postern.service", "postern.slice"} {
		unit, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		unit = []byte(strings.ReplaceAll(string(unit), daemon, there))
		if err := os.WriteFile(filepath.Join(dir, name), unit, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("systemd-analyze", append(args, filepath.Join(dir, "postern.service"))...)
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestAuditFolderIsForItsReaders makes users and folders in an empty root and
// looks at who may read what.
func TestAuditFolderIsForItsReaders(t *testing.T) {
	need(t, "systemd-sysusers")
	need(t, "systemd-tmpfiles")
	if os.Geteuid() != 0 {
		skip(t, "only root may make users")
	}
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"systemd-sysusers", "--root=" + root, "postern.sysusers"},
		{"systemd-tmpfiles", "--root=" + root, "--create", "postern.tmpfiles"},
	} {
		args[len(args)-1] = abs(t, args[len(args)-1])
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	state := owner(t, root, "var/lib/postern")
	audit := owner(t, root, "var/log/postern/audit")
	if state.Uid == 0 || audit.Uid != state.Uid {
		t.Errorf("state belongs to user %d, audit to %d; want both the daemon's", state.Uid, audit.Uid)
	}
	if audit.Gid == state.Gid {
		t.Errorf("who may read the audit log has the group of the state too")
	}
	for name, mode := range map[string]os.FileMode{
		"var/lib/postern":       os.ModeDir | 0o700,
		"var/log/postern":       os.ModeDir | 0o750,
		"var/log/postern/audit": os.ModeDir | os.ModeSetgid | 0o750,
	} {
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != mode {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), mode)
		}
	}
}

func owner(t *testing.T, root, name string) *syscall.Stat_t {
	t.Helper()
	info, err := os.Stat(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t)
}

func abs(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		skip(t, program+" is missing")
	}
}

func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}
