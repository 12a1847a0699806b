package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes this binary serve as the command postern, too.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"postern": main})
}

func TestCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", Cmds: map[string]func(*testscript.TestScript, bool, []string){
		"status": status,
	}})
}

// status N COMMAND [ARG...] runs a command that must end with exit status N.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND [ARG...]")
	}
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit status %d, want %s", got, args[0])
	}
}

// leaves are the commands that do something.
func leaves(t *testing.T) []*kong.Node {
	t.Helper()
	k, err := kong.New(&cli{}, kong.Vars{"config": defaultConfig, "socket": defaultSocket}, kong.Bind(&env{}))
	if err != nil {
		t.Fatal(err)
	}
	return k.Model.Leaves(false)
}

func TestTheManPageNamesEveryCommandAndFlagOfItsOwn(t *testing.T) {
	page, err := os.ReadFile("../../docs/postern.8")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range leaves(t) {
		path := strings.TrimSuffix(n.Path(), " list")
		if !bytes.Contains(page, []byte("\n.Cm "+path+"\n")) && !bytes.Contains(page, []byte("\n.It Cm "+path)) {
			t.Errorf("postern.8 does not describe %q", path)
		}
	}
}

func TestEveryCommandShowsExamples(t *testing.T) {
	for _, n := range leaves(t) {
		var out bytes.Buffer
		status := command(append(strings.Fields(n.Path()), "--help"), &env{stdout: &out, stderr: &out})
		if status != 0 || !strings.Contains(out.String(), "Examples:") || !strings.Contains(out.String(), "postern "+strings.Fields(n.Path())[0]) {
			t.Errorf("postern %s --help: status %d\n%s", n.Path(), status, out.String())
		}
	}
}

func TestAListCanBePrintedAsJSON(t *testing.T) {
	for _, n := range leaves(t) {
		switch n.Name {
		case "list", "tail", "query", "session", "check", "why", "version":
			found := false
			for _, f := range n.Flags {
				found = found || f.Name == "json"
			}
			if !found {
				t.Errorf("postern %s has no --json", n.Path())
			}
		}
	}
}
