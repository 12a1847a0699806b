package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/clipperhouse/displaywidth"

	"postern/internal/audit"
)

// sampleLog is a log with one event of each code, which happened at the time.
func sampleLog(t *testing.T, at time.Time) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/audit-samples.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.ReplaceAll(b, []byte(`"time":1795521600123,`), fmt.Appendf(nil, `"time":%d,`, at.UnixMilli()))
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "audit-00000000000000041200.jsonl"), string(b))
	return dir
}

// ran is a command that ended with the status.
func ran(t *testing.T, status int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	if got := command(args, &env{&out, &errs}); got != status {
		t.Errorf("%q: status %d, want %d: %s", args, got, status, &errs)
	}
	return out.String(), errs.String()
}

var sampled = time.Date(2026, 11, 24, 12, 0, 0, 123e6, time.UTC)

func TestQueryShowsATableForPeople(t *testing.T) {
	dir := sampleLog(t, sampled)
	out, _ := ran(t, exitFine, "audit", "query", "--dir", dir, "--code", "auth.*,proc.start,target.failed,admin.action,forward.refused")
	const want = `
TIME                      CODE                  SESSION        IDENTITY      ENDPOINT                TARGET                    WHAT
2026-11-24T12:00:00.123Z  auth.success          01998e4c-7a10  vendor        vpce-0a1b2c3d4e5f60718  -                         vendor authenticated
2026-11-24T12:00:00.123Z  auth.failure          01998e4c-7a10  deploy?       vpce-0a1b2c3d4e5f60718  -                         (key_unknown) authentication refused
2026-11-24T12:00:00.123Z  forward.refused       01998e4c-7a10  vendor        vpce-0a1b2c3d4e5f60718  169.254.169.254:80        (special_address) tunnel to 169.254.169.254:80 refused
2026-11-24T12:00:00.123Z  target.failed         01998e4c-7a10  vendor        vpce-0a1b2c3d4e5f60718  hadoop@node-3.cluster.internal:22  ALERT login as hadoop@node-3.cluster.internal failed: host_key_changed
2026-11-24T12:00:00.123Z  proc.start            01998e4c-7a10  vendor        vpce-0a1b2c3d4e5f60718  hadoop@node-3.cluster.internal  exec at hadoop@node-3.cluster.internal: /opt/agent/upgrade.sh --check
2026-11-24T12:00:00.123Z  admin.action          -              alice (host)  -                       -                         alice ended a session
`
	if out != want[1:] {
		t.Errorf("got\n%s\nwant%s", out, want)
	}
}

func TestQueryAsJSONIsTheLogItself(t *testing.T) {
	dir := sampleLog(t, sampled)
	all, _ := ran(t, exitFine, "audit", "query", "--dir", dir, "--json")
	log, err := os.ReadFile(filepath.Join(dir, "audit-00000000000000041200.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if all != string(log) {
		t.Error("it is not")
	}
	lines := strings.SplitAfter(all, "\n")
	slices.Reverse(lines)
	newest, _ := ran(t, exitFine, "audit", "query", "--dir", dir, "--json", "--newest", "-n", "2")
	if newest != strings.Join(lines[1:3], "") {
		t.Errorf("the newest are %s", newest)
	}
}

// found are the codes of what a query finds, each once.
func found(t *testing.T, args ...string) []string {
	t.Helper()
	out, _ := ran(t, exitFine, args...)
	var codes []string
	for i, l := range strings.Split(strings.TrimSpace(out), "\n") {
		if fields := strings.Fields(l); i > 0 && !slices.Contains(codes, fields[1]) {
			codes = append(codes, fields[1])
		}
	}
	return codes
}

func TestConditionsOfAQueryMustAllHold(t *testing.T) {
	dir := sampleLog(t, sampled)
	for _, c := range []struct{ flags, want string }{
		{"--identity vendor --code forward.* --failed", "forward.refused forward.failed"},
		{"--identity ven* --target 10.0.12.0/24 --rule web-uis", "forward.open forward.failed forward.close"},
		{"--target node-3.cluster.internal:22 --login hadoop --code *.end,target.open", "target.open recording.end"},
		{"--client 10.20.0.0/16 --reason source,key_unknown", "ssh.conn.refused auth.failure"},
		{"--user alice", "admin.action log.access"},
		{"--session 01998e4c-7a10 --text upgrade.sh", "proc.start proc.end"},
		{"--alerts --code target.*", "target.failed"},
		{"--since 2026-11-24T12:00:00Z --until 2026-11-24T12:00:01Z --code daemon.*", "daemon.start daemon.stop daemon.heartbeat"},
		{"--until 2026-11-24T12:00:00Z", ""},
		{"--since 2026-11-25", ""},
	} {
		args := append([]string{"audit", "query", "--dir", dir}, strings.Fields(c.flags)...)
		if got := strings.Join(found(t, args...), " "); got != c.want {
			t.Errorf("%s finds %s, want %s", c.flags, got, c.want)
		}
	}
}

func TestAQueryThatCannotBeAnsweredSaysWhatToDo(t *testing.T) {
	dir := sampleLog(t, sampled)
	for _, c := range []struct {
		status int
		flags  string
		says   string
	}{
		{exitUsage, "--dir " + dir + " --since yesterday", "is no time"},
		{exitUsage, "--dir " + dir + " --since 2026-11-25 --until 2026-11-24", "--until is not after --since"},
		{exitUsage, "--dir " + dir + " --newest --follow", "hint: postern audit query --help"},
		{exitUsage, "--dir " + dir + "/missing", "no such file"},
		{exitUsage, "--dir " + t.TempDir(), "hint: --dir names the folder"},
		{exitUsage, "--config /missing.yaml", "hint: --dir names"},
		{exitFine, "--dir " + dir + " --identity nobody", "nothing found"},
	} {
		_, errs := ran(t, c.status, append([]string{"audit", "query"}, strings.Fields(c.flags)...)...)
		if !strings.Contains(errs, c.says) {
			t.Errorf("%s: %s", c.flags, errs)
		}
	}
	log := filepath.Join(dir, "audit-00000000000000041200.jsonl")
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, log, strings.Replace(string(b), `"sequence":41210,`, `"sequence":41211,`, 1))
	if _, errs := ran(t, exitWrong, "audit", "query", "--dir", dir); !strings.Contains(errs, "hint: keep the folder") {
		t.Error(errs)
	}
}

// hostile sets every string of v to s.
func hostile(v reflect.Value, s string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		hostile(v.Elem(), s)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() || v.Type() == reflect.TypeFor[netip.AddrPort]() {
			return
		}
		for i := range v.NumField() {
			hostile(v.Field(i), s)
		}
	}
}

func TestNoFieldOfAnEventReachesTheTerminalAsItIs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l, err := audit.Open(audit.Options{Dir: dir, MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const evil = "\x1b]0;owned\a\x1b[2J\u202e\u200b\u009b1m\r\n\t\x00\x7f\xff\u2028 日本"
	var events []audit.Event
	for _, code := range audit.Codes() {
		for _, failed := range []bool{false, true} {
			var e audit.Event
			hostile(reflect.ValueOf(&e).Elem(), evil)
			e.Code, e.Failed = code, failed
			e.Extra = map[string]any{"recording": evil, "host_key": evil, "signal": evil, "originator": evil, "requested": evil}
			events = append(events, e)
		}
	}
	if err := l.Append(t.Context(), events...); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"query"}, {"query", "--newest"}, {"tail", "-n", "1000"}, {"session", "\x1b]0"}, {"session", "--all", "\x1b]0"}} {
		out, errs := ran(t, exitFine, append([]string{"audit", args[0], "--dir", dir}, args[1:]...)...)
		if lines := strings.Count(out, "\n"); lines < 20 {
			t.Errorf("%q: %d lines: %s", args, lines, errs)
		}
		if !utf8.ValidString(out) {
			t.Errorf("%q prints what is no UTF-8", args)
		}
		for _, r := range out {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Fatalf("%q prints %U", args, r)
			}
		}
	}
}

func TestAnErrorAboutASessionIsHarmlessToo(t *testing.T) {
	_, errs := ran(t, exitWrong, "audit", "session", "--dir", sampleLog(t, sampled), "\x1b[2J\u202e")
	for _, r := range errs {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Fatalf("%q has %U", errs, r)
		}
	}
}

func TestRowsFitTheTerminal(t *testing.T) {
	dir := sampleLog(t, sampled)
	for _, width := range []int{110, 159, 160, 200} {
		rows := &auditRows{width: width}
		s := audit.Search{Render: rows.append}
		n := 0
		_, err := s.Run(t.Context(), dir, func(b []byte) error {
			n++
			if got := displaywidth.String(strings.TrimSuffix(string(b), "\n")); got > width {
				t.Errorf("%d columns of %d: %s", got, width, b)
			}
			return nil
		})
		if err != nil || n < 30 {
			t.Errorf("%d rows, %v", n, err)
		}
	}
}

// lineWriter gives out each write.
type lineWriter chan string

func (w lineWriter) Write(b []byte) (int, error) {
	w <- string(b)
	return len(b), nil
}

func TestQueryFollowsTheLog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l, err := audit.Open(audit.Options{Dir: dir, MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	write := func(ctx context.Context, messages ...string) {
		t.Helper()
		for i, m := range messages {
			e := audit.Event{Code: []audit.Code{audit.ForwardRefused, audit.ConnClose}[i%2], Failed: true, Reason: "no_rule", Message: m}
			if err := l.Append(ctx, e); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(t.Context(), "first", "not meant")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		out := make(lineWriter)
		done := make(chan error)
		go func() {
			_, err := (&auditQueryCmd{Follow: true}).find(ctx, out, dir, audit.Query{Codes: []string{"forward.*"}})
			done <- err
		}()
		if got := <-out; !strings.Contains(got, "first\n") || !strings.HasPrefix(got, "TIME") {
			t.Errorf("got %q", got)
		}
		for _, m := range []string{"second", "third"} {
			// The log has goroutines of its own, which are not of the bubble; the
			// segment is written here as it writes it.
			appendTo(t, dir, m)
			if got := <-out; !strings.Contains(got, m+"\n") || strings.Contains(got, "TIME") {
				t.Errorf("got %q", got)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// appendTo adds an event like the log's first, and one that is not meant.
func appendTo(t *testing.T, dir, message string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(dir, "audit-*.jsonl"))
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	b, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(b), "\n")
	next := len(lines) - 1
	again := func(l, old, with string, index int) string {
		l = strings.Replace(l, old, with, 1)
		i := strings.Index(l, `"sequence":`) + len(`"sequence":`)
		j := i + strings.IndexByte(l[i:], ',')
		return l[:i] + fmt.Sprint(index) + l[j:]
	}
	f, err := os.OpenFile(segments[0], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(again(lines[1], "not meant", "nor this", next) + again(lines[0], "first", message, next+1))
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestALimitedQueryNeedsNotSeeTheEndOfTheLog(t *testing.T) {
	dir := toldLog(t, story()...) // many segments
	out, errs := ran(t, exitFine, "audit", "query", "--dir", dir, "--limit", "2")
	if strings.Count(out, "\n") != 3 {
		t.Errorf("got %s%s", out, errs)
	}
}

func TestAFollowedQueryEndsAtItsLimit(t *testing.T) {
	_, dir := writtenLog(t, 3)
	var out bytes.Buffer
	n, err := (&auditQueryCmd{Follow: true, Limit: 2}).find(t.Context(), &out, dir, audit.Query{})
	if err != nil || n != 2 || strings.Count(out.String(), "\n") != 3 {
		t.Errorf("%d events, %v:\n%s", n, err, &out)
	}
}
