package sink

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// event is a line as the audit log writes it, as far as a sink reads it.
func event(at time.Time, code, message string) string {
	return fmt.Sprintf(`{"class_uid":4007,"time":%d,"severity_id":1,"metadata":{"version":"1.8.0","event_code":%q},"message":%q}`, at.UnixMilli(), code, message) + "\n"
}

// numbered are n events of now whose messages end with their number.
func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(event(time.Now(), "ssh.traffic", fmt.Sprintf("event %06d", i)))
	}
	return b.String()
}

// start runs a sink until stop, which waits for it and tells how long that took.
func start(t *testing.T, s *Sink) (stop func() time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() time.Duration {
		if stopped {
			return 0
		}
		stopped = true
		began := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		return time.Since(began)
	}
	t.Cleanup(func() { stop() })
	return stop
}

// eventually waits for something that another process or goroutine does.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
