package e2e_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// worldKey is the key of a story's world.
type worldKey struct{}

// world is what belongs to one story.
type world struct {
	t     *testing.T // of TestStories: it outlives the story's own
	name  string
	dir   string
	procs map[string]*process
	vars  []string // names of the variables that programs get
	all   *events

	evidence evidence
}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

func setup(t *testing.T, env *testscript.Env, all *events) error {
	w := &world{t: t, name: filepath.Base(env.WorkDir), dir: env.WorkDir, procs: map[string]*process{}, all: all}
	env.Values[worldKey{}] = w
	env.Values[skipper{}] = env.T()
	env.Defer(w.end)
	me, err := user.Current()
	if err != nil {
		return err
	}
	base, err := freePorts(portsOfAStory)
	if err != nil {
		return err
	}
	at := func(n int) string { return strconv.Itoa(base + n) }
	for name, value := range map[string]string{
		"PATH":         bin + ":" + toolsDir() + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin",
		"ROOT":         root,
		"ME":           me.Username,
		"GATE":         "127.0.0.1:" + at(0),
		"GATE_PORT":    at(0),
		"HEALTH_PORT":  at(1),
		"METRICS_PORT": at(2),
		"PORT1":        at(3),
		"PORT2":        at(4),
		"PORT3":        at(5),
		"PORT4":        at(6),
		"PORT5":        at(7),
		"LISTEN1":      at(8), // the rule "reverse" grants LISTEN1 to LISTEN4
		"LISTEN2":      at(9),
		"LISTEN3":      at(10),
		"LISTEN4":      at(11),
		"NOT_LISTEN":   at(12),
		"GORACE":       "exitcode=66",
	} {
		env.Setenv(name, value)
	}
	for _, v := range env.Vars {
		name, _, _ := strings.Cut(v, "=")
		w.vars = append(w.vars, name)
	}
	return nil
}

// end stops what still runs, and takes the story's events along.
func (w *world) end() {
	for _, p := range w.procs {
		p.end()
	}
	for name, p := range w.procs {
		w.checkOutput(name, p)
	}
	for _, leak := range w.leaks() {
		w.t.Errorf("%s: %s", w.name, leak)
	}
	if err := w.prove(); err != nil {
		w.t.Errorf("%s: %v", w.name, err)
	}
	w.all.add(auditLines(filepath.Join(w.dir, "audit")))
}

// prove has the audit log that the story leaves behind verified, and the
// recordings against it.
func (w *world) prove() error {
	log := filepath.Join(w.dir, "audit")
	if _, err := os.Stat(filepath.Join(log, "checkpoint")); err != nil {
		return nil // no gate, or one whose directory is gone
	}
	args := []string{"audit", "verify", "--dir", log}
	if recordings := filepath.Join(w.dir, "recordings"); isDir(recordings) && w.name != takesRecordingsAway {
		args = append(args, "--recordings", recordings)
	}
	out, err := exec.Command(filepath.Join(bin, "postern"), args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("the audit log does not verify: %w\n%s", err, tail(string(out)))
	}
	return nil
}

// takesRecordingsAway is the story that keeps its recordings on a small file
// system of their own, which is gone when its log is verified.
const takesRecordingsAway = "script-recorder-error-ends-the-session"

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// checkOutput fails the test for what no daemon may ever print.
func (w *world) checkOutput(name string, p *process) {
	out, err := os.ReadFile(p.stderr)
	if err != nil {
		w.t.Errorf("%s: %v", w.name, err)
	}
	for _, bad := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
		if strings.Contains(string(out), bad) {
			w.t.Errorf("%s: %s printed %q:\n%s", w.name, name, bad, out)
		}
	}
}

const (
	portsOfAStory = 13
	// Below what the kernel gives to outgoing connections, so that none of
	// them takes a port between its choice and its use.
	firstPort, lastPort = 10000, 32000
)

var taken atomic.Int64 // blocks of ports given out; each story gets its own

// freePorts returns the first of n ports in a row that nobody listens on.
func freePorts(n int) (int, error) {
	const blocks = (lastPort - firstPort) / portsOfAStory
	for range blocks {
		block := (int64(os.Getpid()) + taken.Add(1)) % blocks
		base := firstPort + int(block)*portsOfAStory
		if free(base, n) {
			return base, nil
		}
	}
	return 0, fmt.Errorf("no %d free ports in a row between %d and %d", n, firstPort, lastPort)
}

func free(base, n int) bool {
	for port := base; port < base+n; port++ {
		ln, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err != nil {
			return false
		}
		ln.Close()
	}
	return true
}
