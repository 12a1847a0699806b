package metrics

import (
	"errors"
	"flag"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
)

var update = flag.Bool("update", false, "write testdata/metrics.txt anew")

// TestMain makes every test of the package a leak test.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scrape returns the exposition, in OpenMetrics with exemplars or in
// Prometheus' own text format.
func scrape(t *testing.T, m *Metrics, openMetrics bool) string {
	t.Helper()
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.Header.Set("Accept", "text/plain")
	if openMetrics {
		r.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	}
	w := httptest.NewRecorder()
	m.handler(zap.NewNop()).ServeHTTP(w, r)
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// series returns the lines of the exposition that begin with prefix.
func series(exposition, prefix string) string {
	var lines []string
	for l := range strings.Lines(exposition) {
		if strings.HasPrefix(l, prefix) {
			lines = append(lines, strings.TrimSuffix(l, "\n"))
		}
	}
	return strings.Join(lines, "\n")
}

// aDay plays one of everything that the gate reports.
func aDay(m *Metrics) {
	m.SetEndpoints([]string{"vpce-0a", "vpce-0b"})
	m.ConfigReloaded(true, time.Now())
	m.ConfigReloaded(false, time.Now().Add(time.Hour))
	m.SetReady(true)
	m.SetDraining(false)
	m.WatchAudit(func() (AuditLog, error) { return AuditLog{Events: 7, DiskFree: 512 << 20}, nil })
	m.WatchRecordings(func() (uint64, error) { return 1 << 30, nil })
	m.WatchArchive(func() Archive { return Archive{AnchorAge: time.Minute, Files: 2, Bytes: 9000, BacklogAge: time.Hour} })
	m.WatchSinks(func() []Sink { return []Sink{{Name: "syslog", Sent: 5, Connected: true}} })
	m.ArchivePass(4, "unreachable")
	for _, r := range []string{ResultOK, ResultOK, ResultProbe, "endpoint"} {
		m.Admitted(r)
	}
	m.HealthChecked(true)
	m.HealthChecked(false)
	m.LimitRejected("max_sessions")
	m.Handshake(30*time.Millisecond, "s-1")
	m.Auth("publickey", ResultOK)
	m.Auth("password", "method")
	m.Auth("x-made-up-by-a-client", "method")

	alice := m.OpenSession("s-1", "alice", "vpce-0a")
	vendor := m.OpenSession("s-2", "vendor", "vpce-0elsewhere")
	m.OpenSession("s-3", "vendor", "")
	alice.RTT(12 * time.Millisecond)
	m.ChannelOpen("direct-tcpip", ResultOK)
	m.ChannelOpened("direct-tcpip")
	m.ChannelOpened("session")
	m.ChannelClosed("session")
	m.ChannelOpen("made-up@example.com", "unknown_type")
	m.UpstreamDial(ResultOK, 2*time.Millisecond, "s-1")
	m.UpstreamDial("refused", time.Millisecond, "s-2")
	m.FirstByte("direct-tcpip", 40*time.Millisecond, "s-1")
	m.TargetLogin(ResultOK, 30*time.Millisecond, "s-1")
	m.TargetLogin("login_refused", 20*time.Millisecond, "s-2")
	m.Inspected(4 * time.Microsecond)
	m.Inspected(2 * time.Second)
	m.RecordingBytes(18_211)
	m.RecordingBytes(-1)
	m.RecordingFailed()
	m.FileOperation("sftp", "get", ResultOK)
	m.FileOperation("sftp", "put", ResultDenied)
	m.FileOperation("scp", "put", ResultFailed)
	m.AuditAppended(800*time.Microsecond, []string{"ssh.conn.open", "auth.success"}, nil)
	m.AuditAppended(5*time.Second, []string{"forward.open"}, errors.New("disk full"))
	m.Checkpoint(7)
	alice.Add(ToTarget, 1000)
	alice.Add(ToClient, 50_000)
	vendor.Add(ToTarget, 10)
	time.Sleep(10 * time.Second) // of the bubble's clock
	vendor.Close()
}

// runs strips what differs from machine to machine.
var runs = regexp.MustCompile(`(?m)^(# (HELP|TYPE) )?(go_|process_|promhttp_).*\n|goversion="[^"]*",`)

func TestTheExpositionIsAsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Options{LiveSessions: 2, Version: "1.2.3", Revision: "abcdef0"})
		aDay(m)
		got := runs.ReplaceAllString(scrape(t, m, false), "")
		if *update {
			if err := os.WriteFile("testdata/metrics.txt", []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile("testdata/metrics.txt")
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("not as in testdata/metrics.txt (go test -update writes it):\n%s", firstDifference(got, string(want)))
		}
	})
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return "got  " + g[i] + "\nwant " + w[i]
		}
	}
	return "one is longer"
}

// promtool returns the path of Prometheus' tool.
func promtool(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("promtool is missing: it is in Debian's package prometheus")
	}
	t.Skip("promtool is missing: it is in Debian's package prometheus")
	return ""
}

func TestPromtoolFindsNothingToSay(t *testing.T) {
	tool := promtool(t)
	exposition, err := os.ReadFile("testdata/metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool, "check", "metrics")
	cmd.Stdin = strings.NewReader(string(exposition))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

func TestExemplarsCarryTheSessionID(t *testing.T) {
	m := New(Options{})
	m.Handshake(30*time.Millisecond, "s-1")
	m.UpstreamDial(ResultOK, time.Millisecond, "s-2")
	m.FirstByte("session", time.Millisecond, "s-3")
	m.TargetLogin(ResultOK, time.Millisecond, "s-5")
	s := m.OpenSession("s-4", "alice", "")
	s.RTT(time.Millisecond)
	s.Close()
	got := scrape(t, m, true)
	for name, id := range map[string]string{
		"postern_handshake_seconds": "s-1", "postern_upstream_dial_seconds": "s-2", "postern_first_byte_seconds": "s-3",
		"postern_target_login_seconds": "s-5", "postern_session_rtt_seconds": "s-4", "postern_session_duration_seconds": "s-4",
	} {
		if !strings.Contains(series(got, name+"_bucket"), `# {session="`+id+`"}`) {
			t.Errorf("no exemplar %s in\n%s", id, series(got, name))
		}
	}
}

func TestAnUnfitSessionIDIsNoExemplarAndNoPanic(t *testing.T) {
	m := New(Options{})
	for _, id := range []string{"", strings.Repeat("x", 200), "\xff"} {
		m.Handshake(time.Second, id)
	}
	if got := series(scrape(t, m, true), "postern_handshake_seconds"); !strings.Contains(got, "_count 3") || strings.Contains(got, "session=") {
		t.Error(got)
	}
}

func TestLabelsNeverComeFromAClient(t *testing.T) {
	m := New(Options{LiveSessions: 5})
	m.SetEndpoints([]string{"vpce-0a"})
	m.OpenSession("s-1", "alice", "vpce-0evil")
	m.ChannelOpen("evil@example.com", ResultOK)
	m.ChannelOpened("evil@example.com")
	m.FirstByte("evil@example.com", time.Second, "")
	m.Auth("evil", ResultOK)
	m.FileOperation("evil", "evil", "evil")
	if got := scrape(t, m, false); strings.Contains(got, "evil") {
		t.Error(series(got, "postern_"))
	}
}

func TestTheFirstPieceAndEverySixtyFourthAfterItAreTimed(t *testing.T) {
	var s Sampler
	var picked []int
	for i := range 130 {
		if s.Pick() {
			picked = append(picked, i)
		}
	}
	if !slices.Equal(picked, []int{0, 64, 128}) {
		t.Errorf("picked %v", picked)
	}
}

func TestNoEndpointIsKnownUntilSaid(t *testing.T) {
	m := New(Options{})
	m.OpenSession("s-1", "alice", "vpce-0a")
	if got := series(scrape(t, m, false), "postern_sessions"); got != `postern_sessions{endpoint="other",identity="alice"} 1` {
		t.Error(got)
	}
}

func TestWhatCantBeReadLeavesTheOtherSeries(t *testing.T) {
	m := New(Options{})
	m.WatchAudit(func() (AuditLog, error) { return AuditLog{}, errors.New("gone") })
	m.WatchRecordings(func() (uint64, error) { return 0, errors.New("gone") })
	got := scrape(t, m, false)
	if strings.Contains(got, "audit_log_size") || strings.Contains(got, "recording_disk") || !strings.Contains(got, "postern_ready 0") {
		t.Error(series(got, "postern_"))
	}
}
