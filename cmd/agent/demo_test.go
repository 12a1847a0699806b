package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// needs skips a test that needs a program which is not installed, but not in CI.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed", p)
		}
		t.Skipf("%s is not installed", p)
	}
}

// runningDemo is a demo in a process of its own.
type runningDemo struct {
	cmd  *exec.Cmd
	dir  string
	text []string // what it printed
	rest *bufio.Reader
}

func startDemo(t *testing.T, args ...string) *runningDemo {
	t.Helper()
	d := &runningDemo{cmd: exec.Command("postern", append([]string{"demo"}, args...)...)}
	d.cmd.Stderr = os.Stderr
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.cmd.Process.Kill(); d.cmd.Wait() })
	d.rest = bufio.NewReader(out)
	for {
		line, err := d.rest.ReadString('\n')
		if err != nil {
			t.Fatalf("the demo ended after %q", d.text)
		}
		d.text = append(d.text, strings.TrimSuffix(line, "\n"))
		if dir := regexp.MustCompile(`^The files are in (\S+): `).FindStringSubmatch(line); dir != nil {
			d.dir = dir[1]
		}
		if strings.HasPrefix(line, "Ctrl-C ends") {
			return d
		}
	}
}

// stop presses Ctrl-C and returns what was printed after that.
func (d *runningDemo) stop(t *testing.T) string {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(d.rest)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("the demo ended with %v", err)
	}
	return string(said)
}

// tried is a printed command and what must come of it.
type tried struct {
	command string // how it begins, after the program
	status  int
	output  string // a regular expression that what it printed must match
}

func TestEveryCommandThatTheDemoPrintsDoesWhatItSays(t *testing.T) {
	needs(t, "ssh", "sftp", "curl", "awk")
	d := startDemo(t)
	want := []tried{
		{"gate whoami", 0, `^vendor via vpce-`},
		{"gate targets", 0, `(?s)machine +.*services +forward`},
		{"alice whoami", 0, `(?s)^alice via vpce-.*cert `},
		{"-J gate machine uptime", 0, `^up 42 days, the demo's machine answers$`},
		{"door rainbow", 0, `^\x1b\[31m##\x1b\[0m\n`},
		{"sftp -F ", 0, `^sftp> put `},
		{"postern recordings list ", 0, `(?s)exec uptime .*exec rainbow .*subsystem sftp `},
		{"postern recordings search ", 0, `up 42 days, the demo's machine answers`},
		{"postern recordings play ", 0, `^\x1b\[31m##\x1b\[0m\r?\n`},
		{"-W 127.0.0.1:", 0, `^220 a service behind the gate`},
		{"-f -N -L ", 0, `^$`},
		{"curl -s http://", 0, `^A web page behind the gate`},
		{"postern sessions ", 0, `vendor +127\.0\.0\.1:\d+ +vpce-`},
		{"-W 169.254.169.254:80 gate", 255, `reason: `},
		{"-W 127.0.0.1:9 gate", 255, `reason: no_rule`},
		{"stranger whoami", 255, `closed by remote host|Connection (closed|reset)`},
		{"postern why vendor forward 169.254.169.254:80 ", 1, `(?s)^denied: no_rule.*rule services: `},
		{"postern freeze vendor ", 0, `^identity vendor is frozen`},
		{"gate whoami", 255, `reason: frozen`},
		{"postern freeze --lift vendor ", 0, `^identity vendor is lifted`},
		{"curl -s http://", 0, `^ok$`},
		{"curl -s http://", 0, `(?s)postern_audit_events_total.*postern_sessions\{endpoint="vpce-0demo`},
		{"postern audit tail ", 0, `(?s)auth\.failure .*failure \(frozen\).*admin\.action .*lifted`},
	}
	var commands []string
	for _, line := range d.text {
		if c, ok := strings.CutPrefix(line, "    "); ok {
			commands = append(commands, c)
		}
	}
	if len(commands) != len(want) {
		t.Fatalf("%d commands are printed, %d are tested:\n%s", len(commands), len(want), strings.Join(commands, "\n"))
	}
	for i, c := range commands {
		tryOut(t, c, want[i])
	}
	if said := d.stop(t); !strings.Contains(said, "The demo has ended.") {
		t.Errorf("at the end it said %q", said)
	}
	if _, err := os.Stat(d.dir); !os.IsNotExist(err) {
		t.Errorf("%s is left behind: %v", d.dir, err)
	}
}

func tryOut(t *testing.T, line string, want tried) {
	t.Helper()
	if !strings.Contains(line, want.command) {
		t.Errorf("%q is printed where %q is tested", line, want.command)
		return
	}
	// The command that stays in the background must not hold a pipe of ours.
	output, err := os.CreateTemp(t.TempDir(), "output")
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.Run()
	got, err := os.ReadFile(output.Name())
	if err != nil {
		t.Fatal(err)
	}
	if status := cmd.ProcessState.ExitCode(); status != want.status {
		t.Errorf("%s\nexit status %d, want %d\n%s", line, status, want.status, got)
	}
	if !regexp.MustCompile(want.output).Match(bytes.TrimSpace(got)) {
		t.Errorf("%s\nprinted %q, want %s", line, got[:min(len(got), 2000)], want.output)
	}
}

func TestTheDemoKeepsAFolderThatWasNamed(t *testing.T) {
	dir := t.TempDir() + "/made"
	d := startDemo(t, "--dir", dir)
	if d.dir != dir {
		t.Errorf("the files are in %q", d.dir)
	}
	d.stop(t)
	for _, name := range []string{"postern.yaml", "policy.yaml", "ssh_config", "known_hosts", "postern.log", "audit"} {
		if _, err := os.Stat(dir + "/" + name); err != nil {
			t.Error(err)
		}
	}
	// A second run takes over what the first has left.
	startDemo(t, "--dir", dir).stop(t)
}

func TestTheDemoRefusesAFolderThatCommandsCannotName(t *testing.T) {
	var errs bytes.Buffer
	if status := command([]string{"demo", "--dir", t.TempDir() + "/a b"}, &env{io.Discard, &errs}); status != 2 {
		t.Errorf("status %d, %s", status, errs.String())
	}
}
