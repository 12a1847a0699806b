package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// process is a program that runs beside the script; what it prints goes to
// NAME.out and NAME.err in the work directory.
type process struct {
	cmd    *exec.Cmd
	stderr string
	done   chan struct{} // closed when it has ended
}

const patience = 20 * time.Second // for anything that should happen at once

// start NAME PROGRAM [ARG...] starts a program; a program of the same name
// must have ended.
func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME PROGRAM [ARG...]")
	}
	w := worldOf(ts)
	name := args[0]
	if old := w.procs[name]; old != nil && old.runs() {
		ts.Fatalf("%s runs already", name)
	}
	p, err := launch(ts, name, args[1], args[2:])
	ts.Check(err)
	w.procs[name] = p
}

func launch(ts *testscript.TestScript, name, program string, args []string) (*process, error) {
	path, err := lookPath(ts, program)
	if err != nil {
		return nil, err
	}
	w := worldOf(ts)
	p := &process{done: make(chan struct{}), stderr: filepath.Join(w.dir, name+".err")}
	stdout, err := os.OpenFile(filepath.Join(w.dir, name+".out"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer stdout.Close()
	stderr, err := os.OpenFile(p.stderr, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	p.cmd = exec.Command(path, args...)
	p.cmd.Dir, p.cmd.Env = ts.MkAbs("."), environ(ts)
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a signal reaches its children too
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		// Ends with the process, which world.end sees to.
		p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// environ is the environment of a program: what testscript gives to exec.
func environ(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range worldOf(ts).vars {
		env = append(env, name+"="+ts.Getenv(name))
	}
	return env
}

func lookPath(ts *testscript.TestScript, program string) (string, error) {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	if filepath.IsAbs(program) {
		return program, nil
	}
	return "", fmt.Errorf("%s: not in PATH", program)
}

func (p *process) runs() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) signal(s syscall.Signal) { syscall.Kill(-p.cmd.Process.Pid, s) }

func (p *process) wait(limit time.Duration) bool {
	select {
	case <-p.done:
		return true
	case <-time.After(limit):
		return false
	}
}

// end stops the process in a hurry: a second signal forces the daemon.
func (p *process) end() {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM, syscall.SIGKILL} {
		if !p.runs() {
			return
		}
		p.signal(s)
		p.wait(3 * time.Second)
	}
}

// signals are the names that scripts use.
var signals = map[string]syscall.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL,
	"INT": syscall.SIGINT, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT}

// sig SIGNAL NAME sends a signal.
func sig(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sig SIGNAL NAME")
	}
	s, ok := signals[args[0]]
	if !ok {
		ts.Fatalf("unknown signal %s", args[0])
	}
	named(ts, args[1]).signal(s)
}

// quit NAME [SIGNAL] sends TERM or SIGNAL and waits for the end.
func quit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: quit NAME [SIGNAL]")
	}
	s := "TERM"
	if len(args) == 2 {
		s = args[1]
	}
	sig(ts, false, []string{s, args[0]})
	if !named(ts, args[0]).wait(patience) {
		ts.Fatalf("%s still runs %s after SIG%s", args[0], patience, s)
	}
}

// ends NAME [CODE...] waits until a program has ended by itself, and with one of
// the codes.
func ends(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: ends NAME [CODE...]")
	}
	p := named(ts, args[0])
	if !p.wait(patience) {
		ts.Fatalf("%s still runs after %s", args[0], patience)
	}
	if code := fmt.Sprint(p.cmd.ProcessState.ExitCode()); len(args) > 1 && !slices.Contains(args[1:], code) {
		ts.Fatalf("%s ended with %s, want %v", args[0], code, args[1:])
	}
}

// runs NAME says that a program has not ended; ! runs NAME that it has.
func runs(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] runs NAME")
	}
	if named(ts, args[0]).runs() == neg {
		ts.Fatalf("%s: runs is %v", args[0], neg)
	}
}

func named(ts *testscript.TestScript, name string) *process {
	p := worldOf(ts).procs[name]
	if p == nil {
		ts.Fatalf("nothing of the name %s was started", name)
	}
	return p
}
