// Package e2e_test tells stories of the built daemon with real clients: each
// file in testdata is one, run by testscript.
package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// bin is where TestMain puts the programs, and root is the top of the tree.
var bin, root string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "postern-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if root, err = filepath.Abs("../.."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	bin = filepath.Join(dir, "bin")
	if err := buildAll(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// buildAll builds the daemon, with the race detector if POSTERN_RACE=1, and
// the tools.
func buildAll() error {
	daemon := []string{"build", "-o", filepath.Join(bin, "postern")}
	if os.Getenv("POSTERN_RACE") == "1" {
		daemon = append(daemon, "-race")
	}
	for _, args := range [][]string{
		append(daemon, "./cmd/agent"),
		{"build", "-o", bin + "/", "./test/tools/..."},
	} {
		build := exec.Command("go", args...)
		build.Dir, build.Stderr = root, os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("go %v: %w", args, err)
		}
	}
	return nil
}

// events collects what every story's gate wrote down.
type events struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (e *events) add(lines []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lines = append(e.lines, lines...)
}

// TestStories runs testdata. Its subtests have ended when the events of all of
// them are checked.
func TestStories(t *testing.T) {
	all := &events{}
	t.Cleanup(func() { checkOCSF(t, all.lines) })
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		Setup:               func(env *testscript.Env) error { return setup(t, env, all) },
		Cmds:                verbs,
		Condition:           condition,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// condition knows [race]: the daemon was built with the race detector.
func condition(name string) (bool, error) {
	if name == "race" {
		return os.Getenv("POSTERN_RACE") == "1", nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// checkOCSF fails t unless the validator passes every event.
func checkOCSF(t *testing.T, lines []string) {
	if len(lines) == 0 {
		return // RUN picked stories without a gate
	}
	report, err := ocsf(lines)
	if err != nil {
		t.Errorf("events that are not OCSF 1.8.0: %v\n%s", err, report)
	}
}
