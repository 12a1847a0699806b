package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// audit [-n COUNT] CODE [REGEX...] waits until there is an event (or COUNT of
// them) of the code whose line matches every REGEX; ! audit fails where there
// is one now.
func auditEvent(ts *testscript.TestScript, neg bool, args []string) {
	want := 1
	if len(args) > 1 && args[0] == "-n" {
		var err error
		want, err = strconv.Atoi(args[1])
		ts.Check(err)
		args = args[2:]
	}
	if len(args) < 1 {
		ts.Fatalf("usage: [!] audit [-n COUNT] CODE [REGEX...]")
	}
	dir := ts.MkAbs("audit")
	if neg {
		if found := matching(auditLines(dir), args[0], args[1:]); len(found) > 0 {
			ts.Fatalf("there is an event:\n%s", found[0])
		}
		return
	}
	ts.Check(eventually(patience, func() error {
		lines := auditLines(dir)
		if found := matching(lines, args[0], args[1:]); len(found) < want {
			return fmt.Errorf("%d of the events %s match %q, want %d; there are %v:\n%s", len(found), args[0], args[1:], want,
				counted(lines), tail(strings.Join(matching(lines, args[0], nil), "\n")))
		}
		return nil
	}))
}

func matching(lines []string, code string, wants []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool {
		if codeOf(line) != code {
			return true
		}
		return slices.ContainsFunc(wants, func(w string) bool { return !regexp.MustCompile(w).MatchString(line) })
	})
}

// counted says how many events there are of each code.
func counted(lines []string) map[string]int {
	count := map[string]int{}
	for _, line := range lines {
		count[codeOf(line)]++
	}
	return count
}

func codeOf(line string) string {
	var event struct {
		Metadata struct {
			EventCode string `json:"event_code"`
		}
	}
	if err := json.Unmarshal([]byte(line), &event); err != nil {
		return "not JSON: " + err.Error()
	}
	return event.Metadata.EventCode
}

// auditLines returns the whole lines of every segment under dir, the oldest
// segment first. A line without its end was never acknowledged.
func auditLines(dir string) []string {
	var lines []string
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".jsonl" {
			return nil // a directory that was removed has no events
		}
		b, _ := os.ReadFile(path)
		for line := range strings.Lines(string(b)) {
			if strings.HasSuffix(line, "\n") {
				lines = append(lines, strings.TrimSuffix(line, "\n"))
			}
		}
		return nil
	})
	return lines
}

// auditcheck asks the OCSF validator about every event of the story.
func auditCheck(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: auditcheck")
	}
	report, err := ocsf(auditLines(ts.MkAbs("audit")))
	ts.Logf("%s", report)
	ts.Check(err)
}

func ocsf(lines []string) (string, error) {
	if len(lines) == 0 {
		return "", errors.New("there are no events")
	}
	var out bytes.Buffer
	check := exec.Command("/usr/bin/python3", filepath.Join(root, "test/ocsf/ocsf_check.py"))
	check.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	check.Stdout, check.Stderr = &out, &out
	err := check.Run()
	return tail(out.String()), err
}

// acked FILE says that for every tunnel in FILE (one client address a line, as
// manyssh writes them) there is a forward.open event of that client.
func acked(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: acked FILE")
	}
	open := map[string]bool{}
	for _, line := range auditLines(ts.MkAbs("audit")) {
		if codeOf(line) == "forward.open" {
			open[clientOf(line)] = true
		}
	}
	clients := strings.Fields(ts.ReadFile(args[0]))
	if len(clients) == 0 {
		ts.Fatalf("%s is empty: nothing was acknowledged", args[0])
	}
	for _, client := range clients {
		if !open[client] {
			ts.Fatalf("client %s saw its tunnel open, but there is no event of it among %d", client, len(open))
		}
	}
	ts.Logf("%d acknowledged, %d with an event", len(clients), len(open))
}

func clientOf(line string) string {
	var event struct {
		Src struct {
			IP   string
			Port int
		} `json:"src_endpoint"`
	}
	json.Unmarshal([]byte(line), &event) // codeOf has read it
	return fmt.Sprintf("%s:%d", event.Src.IP, event.Src.Port)
}
