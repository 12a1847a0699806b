package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"postern/internal/admin"
)

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	// A sealed segment may not be written; whoever means harm replaces it.
	os.Remove(path)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestSessionsAreATable(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	live := []admin.SessionInfo{
		{ID: "01998e4c-a000-7aaa-9d55-3b0f6f1b2a05", Identity: "vendor", Client: "10.20.0.5:40112", Endpoint: "vpce-0a1b2c3d4e5f60718",
			Since: now.Add(-3*time.Hour - 12*time.Minute), BytesIn: 1300, BytesOut: 120 << 20, RTTMillis: 12.34,
			Channels: []admin.ChannelInfo{{Type: "direct-tcpip", Target: "10.0.2.17:8088"}, {Type: "session"}, {Type: "session"}, {Type: "session"}, {Type: "session"}}},
		{ID: "01998e4d-b000-7aaa-9d55-3b0f6f1b2a06", Identity: "alice", Client: "10.20.0.6:5", Since: now.Add(-5 * time.Second)},
	}
	var out bytes.Buffer
	if err := printSessions(&out, live, now); err != nil {
		t.Fatal(err)
	}
	want := `SESSION                               IDENTITY  CLIENT           ENDPOINT                AGE    IN    OUT   RTT     CHANNELS
01998e4c-a000-7aaa-9d55-3b0f6f1b2a05  vendor    10.20.0.5:40112  vpce-0a1b2c3d4e5f60718  3h12m  1.3K  120M  12.3ms  direct-tcpip 10.0.2.17:8088, session, session, and 2 more
01998e4d-b000-7aaa-9d55-3b0f6f1b2a06  alice     10.20.0.6:5      -                       5s     0     0     -       -
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
}

func TestBytesAreShownInFewDigits(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 1023: "1023", 1024: "1.0K", 10189: "10K", 1 << 20: "1.0M", 1048064: "1.0M", 5 << 40: "5.0T"} {
		if got := byteCount(n); got != want {
			t.Errorf("byteCount(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestAGateThatDoesNotRunIsNoAnswer(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "admin.sock")
	for _, args := range [][]string{
		{"sessions"}, {"sessions", "kill", "0199"}, {"freeze", "vendor"}, {"drain"}, {"reload"},
	} {
		var out, errs bytes.Buffer
		status := command(append(args, "--socket", socket), &env{&out, &errs})
		if status != exitUsage || !bytes.Contains(errs.Bytes(), []byte("\nhint: ")) || out.Len() != 0 {
			t.Errorf("%v: status %d\n%s%s", args, status, &out, &errs)
		}
	}
}
