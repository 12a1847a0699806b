package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/audit"
)

// writtenLog is an audit log with n refusals.
func writtenLog(t *testing.T, n int) (*audit.Log, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "audit")
	l, err := audit.Open(audit.Options{Dir: dir, MinFree: 1, Host: audit.Host{Version: "1.0.0", Hostname: "gate"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for i := range n {
		e := audit.Event{Code: audit.ForwardRefused, Failed: true, Reason: "no_rule", Session: "01998e4c-a000-7aaa-9d55-3b0f6f1b2a05",
			Time: time.Date(2026, 11, 24, 6, 1, i, 0, time.UTC), Message: fmt.Sprintf("number %d\x1b[2J", i)}
		if err := l.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	return l, dir
}

func TestTailShowsTheLastEventsOnALineEach(t *testing.T) {
	_, dir := writtenLog(t, 5)
	var out, errs bytes.Buffer
	if status := command([]string{"audit", "tail", "-n", "2", "--dir", dir}, &env{&out, &errs}); status != 0 {
		t.Fatalf("status %d: %s", status, &errs)
	}
	want := "2026-11-24T06:01:03.000Z  forward.refused      01998e4c-a000-7aaa-9d55-3b0f6f1b2a05 failure (no_rule): number 3\ufffd[2J\n" +
		"2026-11-24T06:01:04.000Z  forward.refused      01998e4c-a000-7aaa-9d55-3b0f6f1b2a05 failure (no_rule): number 4\ufffd[2J\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
}

func TestTailAsJSONIsTheLogItself(t *testing.T) {
	_, dir := writtenLog(t, 3)
	var out, errs bytes.Buffer
	if status := command([]string{"audit", "tail", "--json", "--dir", dir}, &env{&out, &errs}); status != 0 {
		t.Fatalf("status %d: %s", status, &errs)
	}
	var want strings.Builder
	for r, err := range audit.Read(dir, 0) {
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&want, "%s\n", r.Line)
	}
	if out.String() != want.String() {
		t.Errorf("got\n%swant\n%s", &out, &want)
	}
}

func TestTailFollowsTheLog(t *testing.T) {
	l, dir := writtenLog(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	done := make(chan error, 1)
	go func() {
		defer in.Close()
		done <- (&auditTailCmd{Lines: 10, Follow: true}).tail(ctx, in, dir)
	}()
	lines := make(chan string)
	go func() {
		defer close(lines)
		buf := make([]byte, 4096)
		for {
			n, err := out.Read(buf)
			if err != nil {
				return
			}
			lines <- string(buf[:n])
		}
	}()
	next := func(want string) {
		t.Helper()
		select {
		case got := <-lines:
			if !strings.Contains(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no %q", want)
		}
	}
	next("forward.refused")
	if err := l.Append(t.Context(), audit.Event{Code: audit.DaemonStop, Message: "postern stopped"}); err != nil {
		t.Fatal(err)
	}
	next("daemon.stop")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestTailFindsTheEndOfALongLogByItsNames(t *testing.T) {
	dir := t.TempDir()
	for _, first := range []int{0, 1000, 5000, 5100} {
		writeFile(t, filepath.Join(dir, fmt.Sprintf("audit-%020d.jsonl", first)), "")
	}
	writeFile(t, filepath.Join(dir, "reserve"), "")
	for n, want := range map[int]int64{10: 5000, 100: 5000, 101: 1000, 4101: 0, 1 << 20: 0} {
		got, err := tailStart(dir, n)
		if err != nil || got != want {
			t.Errorf("the last %d begin at %d (%v), want %d", n, got, err, want)
		}
	}
}

func TestADamagedLogIsSaidToBe(t *testing.T) {
	l, dir := writtenLog(t, 3)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	segment, err := filepath.Glob(filepath.Join(dir, "audit-*.jsonl"))
	if err != nil || len(segment) != 1 {
		t.Fatal(segment, err)
	}
	var first string
	for r, err := range audit.Read(dir, 0) {
		if err != nil {
			t.Fatal(err)
		}
		first = string(r.Line)
		break
	}
	writeFile(t, segment[0], first+"\nnonsense\n")
	var out, errs bytes.Buffer
	if status := command([]string{"audit", "tail", "--dir", dir}, &env{&out, &errs}); status != exitWrong || !strings.Contains(errs.String(), "hint: keep the folder") {
		t.Errorf("status %d: %s", status, &errs)
	}
	if status := command([]string{"audit", "tail", "--dir", dir + "/missing"}, &env{&out, &errs}); status != exitUsage {
		t.Errorf("without a log: status %d", status)
	}
}
