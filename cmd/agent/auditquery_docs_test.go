package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// readyCommands are what the reviewer's guide says of asking the audit log,
// without what is done with the answer.
func readyCommands(t *testing.T) []string {
	t.Helper()
	guide, err := os.ReadFile("../../docs/reviewer.md")
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, found := range regexp.MustCompile("(?m)(?:^|`)(postern audit (?:query|session) [^`\n]+)").FindAllStringSubmatch(string(guide), -1) {
		command, _, _ := strings.Cut(strings.ReplaceAll(found[1], `\|`, "|"), " | ")
		commands = append(commands, command)
	}
	return commands
}

func TestTheQueriesOfTheReviewersGuideFindWhatTheySay(t *testing.T) {
	lately, that := sampleLog(t, time.Now().Add(-time.Hour)), sampleLog(t, sampled)
	commands := readyCommands(t)
	if len(commands) < 25 {
		t.Errorf("the guide has %d queries: it was not understood", len(commands))
	}
	for _, command := range commands {
		dir := lately
		if strings.Contains(command, " 2026-") {
			dir = that
		}
		command = strings.NewReplacer(" --follow", "", "'", "", `"$sum"`, strings.Repeat("e1", 32)).Replace(command)
		args := append(strings.Fields(command)[1:], "--dir", dir)
		out, errs := ran(t, exitFine, args...)
		if strings.Count(out, "\n") < 1 {
			t.Errorf("%s finds nothing: %s", command, errs)
		}
	}
}

func TestTheQueriesOfTheReviewersGuideMissNothing(t *testing.T) {
	dir := sampleLog(t, time.Now().Add(-time.Hour))
	for question, want := range map[string][]string{
		"every attempt that was refused":        {"ssh.conn.refused", "ssh.handshake.failed", "auth.failure", "ssh.channel.denied", "forward.refused", "target.failed"},
		"start, stop and gaps of logging":       {"recording.failed", "daemon.start", "daemon.stop", "log.rotate", "log.recovered", "log.failure", "log.epoch", "log.key", "log.delete"},
		"who was on which machine, and as whom": {"forward.open", "target.open", "proc.start", "sftp.op"},
		"what needs somebody's eyes today":      {"target.failed", "recording.failed", "log.epoch", "log.key", "clock.step"},
	} {
		guide, err := os.ReadFile("../../docs/reviewer.md")
		if err != nil {
			t.Fatal(err)
		}
		row := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(question) + " \\|[^`]*`postern ([^`]*)`").FindSubmatch(guide)
		if row == nil {
			t.Errorf("the guide does not ask %s", question)
			continue
		}
		got := found(t, append(strings.Fields(strings.ReplaceAll(string(row[1]), "'", "")), "--dir", dir)...)
		for _, code := range want {
			if !slices.Contains(got, code) {
				t.Errorf("%s: %s is not in %q", question, code, got)
			}
		}
	}
}
