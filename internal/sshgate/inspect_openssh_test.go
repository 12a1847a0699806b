package sshgate

import (
	"bytes"
	"context"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/audit"
	"postern/internal/policy"
	"postern/internal/record"
)

// tape returns the one recording of a command that holds part, once it has ended.
func (o *openSSH) tape(t testing.TB, dir, part string) taped {
	t.Helper()
	o.eventually(t, audit.ProcEnd, part)
	deadline := time.Now().Add(5 * time.Second)
	for {
		entries, err := record.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			tape := readTape(t, e.Path)
			if strings.Contains(tape.header.Command, part) && tape.totals.Complete {
				return tape
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("none of %d recordings is of %q", len(entries), part)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// newRecorded is newOpenSSH with a gate that records.
func newRecorded(t testing.TB, gs gateSpec) (*openSSH, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "recordings")
	store, err := record.Open(record.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { store.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	o := newOpenSSHWith(t, gateSpec{
		options: func(op *Options) {
			op.Recordings = store
			if gs.options != nil {
				gs.options(op)
			}
		},
		spec: func(s *policy.Spec) {
			s.Rules[len(s.Rules)-1].Recording = policy.Recording{}
			if gs.spec != nil {
				gs.spec(s)
			}
		},
	})
	return o, dir
}

// jump are ssh's arguments for the target through the gate.
func (o *openSSH) jump(t testing.TB, more ...string) []string {
	return append(append([]string{"-J", "gate", "-p", itoa(o.target.Port())}, more...), me(t)+"@127.0.0.1")
}

// configure adds a line to the sshd_config of connections to come.
func (o *openSSH) configure(t testing.TB, line string) {
	t.Helper()
	config, err := os.OpenFile(filepath.Join(filepath.Dir(o.config), "sshd_config"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(config, line)
	config.Close()
}

func TestWhatOpenSSHShowsIsWhatIsRecorded(t *testing.T) {
	o, dir := newRecorded(t, gateSpec{})
	const command = "head -c 3000000 /dev/urandom | base64; echo oops >&2; exit 3"
	out, stderr, status := o.run(t, "ssh", append(o.jump(t), command)...)
	if status != 3 || stderr != "oops\n" || len(out) < 4000000 {
		t.Errorf("%d bytes, %q, %d", len(out), stderr, status)
	}
	tape := o.tape(t, dir, "urandom")
	if of(tape.records, record.Stdout) != out || of(tape.records, record.Stderr) != stderr || of(tape.records, record.Exit) != "3" {
		t.Error("the recording is not what was shown")
	}
}

func TestATerminalHasItsSizeItsModesAndItsSignals(t *testing.T) {
	o, dir := newRecorded(t, gateSpec{})
	out, _, status := o.run(t, "ssh", append(o.jump(t, "-tt"), "stty size; stty -a | tr ';' '\\n' | grep speed; kill -TERM $$")...)
	if !strings.Contains(out, "0 0") || !strings.Contains(out, "speed") || status != 255 && status != 143 {
		t.Errorf("%q, %d", out, status)
	}
	tape := o.tape(t, dir, "stty size")
	if of(tape.records, record.Stdout) != out || tape.header.Term == "" {
		t.Errorf("recorded %q, of %+v", of(tape.records, record.Stdout), tape.header)
	}
}

func TestRekeyingOnBothLegsHurtsNothing(t *testing.T) {
	o, _ := newRecorded(t, gateSpec{})
	o.configure(t, "RekeyLimit 64K")
	data, _ := noise(t, 4<<20)
	cmd := osexec.CommandContext(t.Context(), tool(t, "ssh"), append([]string{"-F", o.config, "-o", "RekeyLimit=64K"}, append(o.jump(t), "cat")...)...)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil || !bytes.Equal(out, data) {
		t.Errorf("%d of %d bytes came back: %v", len(out), len(data), err)
	}
}

func TestTwentySessionsOverOneConnection(t *testing.T) {
	o, dir := newRecorded(t, gateSpec{})
	o.configure(t, "MaxSessions 30")
	control := filepath.Join(t.TempDir(), "c")
	master := osexec.CommandContext(t.Context(), tool(t, "ssh"), append([]string{"-F", o.config, "-M", "-S", control, "-N"}, o.jump(t)...)...)
	if err := master.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { master.Process.Kill(); master.Wait() }()
	for range 200 {
		if _, err := os.Stat(control); err == nil {
			break
		}
		<-time.After(25 * time.Millisecond)
	}
	var wg sync.WaitGroup
	for n := range 20 {
		wg.Go(func() {
			out, stderr, status := o.run(t, "ssh", append(o.jump(t, "-S", control), fmt.Sprintf("sleep 0.2; echo number-%d; exit %d", n, n))...)
			if out != fmt.Sprintf("number-%d\n", n) || status != n {
				t.Errorf("session %d: %q, %q, %d", n, out, stderr, status)
			}
		})
	}
	wg.Wait()
	for n := range 20 {
		tape := o.tape(t, dir, fmt.Sprintf("number-%d;", n))
		if got := of(tape.records, record.Stdout); got != fmt.Sprintf("number-%d\n", n) {
			t.Errorf("recording %d holds %q", n, got)
		}
	}
}

func TestOpenSSHTunnelsOutOfASessionWhereARuleLetsIt(t *testing.T) {
	at := echoing(t)
	o, _ := newRecorded(t, gateSpec{spec: viaRule(t, at)})
	out, stderr, status := o.run(t, "ssh", o.jump(t, "-W", at.String())...)
	if out != "heard 0" || status != 0 {
		t.Errorf("%q, %q, %d", out, stderr, status)
	}
}

func TestRsyncAndGitWorkUnchanged(t *testing.T) {
	o, _ := newRecorded(t, gateSpec{})
	login := me(t)
	shell := strings.Join(append([]string{tool(t, "ssh"), "-F", o.config}, o.jump(t)[:4]...), " ")
	t.Run("rsync", func(t *testing.T) {
		dir := t.TempDir()
		data, _ := noise(t, 1<<20)
		write(t, filepath.Join(dir, "a"), string(data))
		out, err := osexec.CommandContext(t.Context(), tool(t, "rsync"), "-a", "-e", shell, filepath.Join(dir, "a"), login+"@127.0.0.1:"+filepath.Join(dir, "b")).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "b")); err != nil || !bytes.Equal(got, data) {
			t.Error("other bytes", err)
		}
		o.eventually(t, audit.FileOp, "rsync", filepath.Join(dir, "b"))
	})
	t.Run("git", func(t *testing.T) {
		dir := t.TempDir()
		git := func(args ...string) {
			t.Helper()
			cmd := osexec.CommandContext(t.Context(), tool(t, "git"), args...)
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "GIT_SSH_COMMAND="+shell, "GIT_CONFIG_GLOBAL=/dev/null",
				"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("git %v: %v: %s", args, err, out)
			}
		}
		git("init", "-q", "from")
		write(t, filepath.Join(dir, "from", "file"), "contents")
		git("-C", "from", "add", "file")
		git("-C", "from", "commit", "-q", "-m", "one")
		git("clone", "-q", login+"@127.0.0.1:"+filepath.Join(dir, "from"), "to")
		if got, err := os.ReadFile(filepath.Join(dir, "to", "file")); string(got) != "contents" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestSFTPBatchesOfOpenSSH(t *testing.T) {
	o, _ := newRecorded(t, gateSpec{})
	dir := t.TempDir()
	data, sum := noise(t, 5<<20)
	write(t, filepath.Join(dir, "a"), string(data))
	batch := fmt.Sprintf("put %[1]s/a %[1]s/b\nget %[1]s/b %[1]s/c\nmkdir %[1]s/d\nrename %[1]s/b %[1]s/d/e\n-get %[1]s/none\nls %[1]s\n", dir)
	cmd := osexec.CommandContext(t.Context(), tool(t, "sftp"), "-F", o.config, "-b", "-", "-J", "gate", "-P", itoa(o.target.Port()), me(t)+"@127.0.0.1")
	cmd.Stdin = strings.NewReader(batch)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "c")); err != nil || !bytes.Equal(got, data) {
		t.Error("other bytes", err)
	}
	o.eventually(t, audit.FileOp, `"Put"`, dir+"/b", sum, `"hash_complete":true`)
	o.eventually(t, audit.FileOp, `"Get"`, dir+"/b", sum, `"hash_complete":true`)
	o.eventually(t, audit.FileOp, `"Rename"`, dir+"/d/e")
}
