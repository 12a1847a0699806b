package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// completion writes what postern completion prints to a file.
func completion(t *testing.T, shell string) string {
	t.Helper()
	if _, err := exec.LookPath(shell); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(shell + " is missing")
		}
		t.Skip(shell + " is missing")
	}
	var out, errs bytes.Buffer
	if status := command([]string{"completion", shell}, &env{stdout: &out, stderr: &errs}); status != 0 {
		t.Fatalf("status %d: %s", status, errs.String())
	}
	path := filepath.Join(t.TempDir(), "_postern")
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// shellLines runs a shell and returns the lines it prints, sorted.
func shellLines(t *testing.T, name string, args ...string) []string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil || errs.Len() > 0 {
		t.Fatalf("%s %q: %v\n%s", name, args, err, errs.String())
	}
	found := strings.Fields(string(out))
	slices.Sort(found)
	return found
}

// completions are command lines and what may come at their end.
var completions = []struct {
	line string // the last word is being typed
	want []string
}{
	{"ser", []string{"serve"}},
	{"audit ver", []string{"verify", "verify-proof"}},
	{"audit verify --js", []string{"--json"}},
	{"audit verify --recordings /tmp --js", []string{"--json"}},
	{"recordings export --format ca", []string{"cast2", "cast3"}},
	{"why vendor sh", []string{"shell"}},
	{"sessions --js", []string{"--json"}},
}

func TestBashCompletesCommandsFlagsAndValues(t *testing.T) {
	file := completion(t, "bash")
	for _, c := range completions {
		script := `source "$1"; read -ra COMP_WORDS <<<"postern $2"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _postern; printf '%s\n' "${COMPREPLY[@]}"`
		if got := shellLines(t, "bash", "-c", script, "bash", file, c.line); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.line, got, c.want)
		}
	}
}

func TestFishCompletesCommandsFlagsAndValues(t *testing.T) {
	file := completion(t, "fish")
	for _, c := range completions {
		script := `source $argv[1]; complete -C "postern $argv[2]" | string replace -r '\t.*' ''; true`
		if got := shellLines(t, "fish", "--no-config", "-c", script, file, c.line); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.line, got, c.want)
		}
	}
}

// TestZshCompletesCommandsAndFlags stands in for zsh's completion system, which
// filters what it is given.
func TestZshCompletesCommandsAndFlags(t *testing.T) {
	file := completion(t, "zsh")
	script := `
_describe() { print -rl -- ${${(P)2}%%:*} }
_files() { : }
source "$1"
words=(postern ${=2}); CURRENT=${#words}
_postern`
	for _, c := range completions {
		if strings.Contains(c.line, "--format") {
			continue // values of flags are left to the reader of the help
		}
		got := shellLines(t, "zsh", "-f", "-c", script, "zsh", file, c.line)
		for _, want := range c.want {
			if !slices.Contains(got, want) {
				t.Errorf("%q: %q has no %q", c.line, got, want)
			}
		}
	}
}
