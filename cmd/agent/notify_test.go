package main

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"postern/internal/sshgate"
)

func TestTheStatusLineSaysWhatIsLeft(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	two := []sshgate.Session{{Since: now.Add(-3*time.Hour - 12*time.Minute)}, {Since: now.Add(-time.Minute)}}
	for _, c := range []struct {
		draining bool
		live     []sshgate.Session
		want     string
	}{
		{false, nil, "serving; 0 sessions"},
		{false, two[:1], "serving; 1 session"},
		{true, two, "draining; 2 sessions, oldest 3h12m"},
		{true, nil, "draining; 0 sessions"},
	} {
		if got := sessionStatus(c.draining, c.live, now); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// serviceManager reads what a gate tells systemd.
func serviceManager(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return conn
}

// notified reads messages until one has the line wanted.
func notified(t *testing.T, conn *net.UnixConn, wanted string) []string {
	t.Helper()
	var seen []string
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("no %s after %q: %v", wanted, seen, err)
		}
		lines := strings.Split(strings.TrimSpace(string(buf[:n])), "\n")
		seen = append(seen, lines...)
		if slices.Contains(lines, wanted) {
			return seen
		}
	}
}

func TestTheWatchdogIsPingedWhileTheGateIsWell(t *testing.T) {
	conn := serviceManager(t)
	t.Setenv("WATCHDOG_USEC", "30000")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- systemd{zap.NewNop()}.watch(ctx, func(context.Context) error { return nil }, func() string { return "serving" })
	}()
	notified(t, conn, "STATUS=serving")
	notified(t, conn, "WATCHDOG=1")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestTheWatchdogIsNotPingedByAGateThatHangs(t *testing.T) {
	conn := serviceManager(t)
	t.Setenv("WATCHDOG_USEC", "30000")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	checks := 0
	hung := func(context.Context) error {
		if checks++; checks == 3 {
			cancel()
		}
		return errors.New("hangs")
	}
	if err := (systemd{zap.NewNop()}).watch(ctx, hung, func() string { return "serving" }); err != nil {
		t.Fatal(err)
	}
	if seen := notified(t, conn, "STATUS=serving"); slices.Contains(seen, "WATCHDOG=1") {
		t.Errorf("pinged: %q", seen)
	}
	conn.SetReadDeadline(time.Now())
	if n, err := conn.Read(make([]byte, 64)); err == nil {
		t.Errorf("%d bytes more were sent", n)
	}
}
