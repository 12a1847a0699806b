package metrics

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestALiveSessionStaysOneScrapeLongerThanItLives(t *testing.T) {
	m := New(Options{LiveSessions: 10})
	s := m.OpenSession("s-1", "alice", "")
	s.Add(ToClient, 5)
	s.RTT(time.Millisecond)
	s.Close()
	got := series(scrape(t, m, false), "postern_live_session_")
	for _, want := range []string{
		`postern_live_session_bytes_total{direction="to_client",endpoint="none",identity="alice",session="s-1"} 5`,
		`postern_live_session_rtt_seconds{endpoint="none",identity="alice",session="s-1"} 0.001`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if got := series(scrape(t, m, false), "postern_live_session_"); got != "" {
		t.Errorf("still there:\n%s", got)
	}
}

func TestASessionWithoutAMeasuredRoundTripHasNoRTTSeries(t *testing.T) {
	m := New(Options{LiveSessions: 10})
	m.OpenSession("s-1", "alice", "")
	if got := series(scrape(t, m, false), "postern_live_session_rtt"); got != "" {
		t.Error(got)
	}
}

func TestLiveSessionsAreCapped(t *testing.T) {
	m := New(Options{LiveSessions: 2})
	first := m.OpenSession("s-1", "alice", "")
	m.OpenSession("s-2", "alice", "")
	m.OpenSession("s-3", "alice", "")
	got := scrape(t, m, false)
	if strings.Contains(got, "s-3") || !strings.Contains(got, "s-2") || !strings.Contains(got, "postern_live_sessions_left_out_total 1\n") {
		t.Error(series(got, "postern_live"))
	}
	first.Close() // nobody scrapes: the closed one gives way
	m.OpenSession("s-4", "alice", "")
	got = scrape(t, m, false)
	if strings.Contains(got, "s-1") || !strings.Contains(got, "s-4") || !strings.Contains(got, "postern_live_sessions_left_out_total 1\n") {
		t.Error(series(got, "postern_live"))
	}
}

func TestWithoutLiveSessionsNoneIsLeftOut(t *testing.T) {
	m := New(Options{})
	m.OpenSession("s-1", "alice", "")
	if got := series(scrape(t, m, false), "postern_live"); got != "postern_live_sessions_left_out_total 0" {
		t.Error(got)
	}
}

func TestThroughputIsThatSinceTheLastScrape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Options{LiveSessions: 1})
		s := m.OpenSession("s-1", "alice", "")
		rate := func() string {
			got := series(scrape(t, m, false), `postern_live_session_throughput_bytes_per_second{direction="to_target"`)
			return got[strings.LastIndex(got, " ")+1:]
		}
		s.Add(ToTarget, 3000)
		time.Sleep(10 * time.Second)
		if got := rate(); got != "300" {
			t.Errorf("first scrape: %s", got)
		}
		s.Add(ToTarget, 100)
		time.Sleep(100 * time.Millisecond)
		if got := rate(); got != "300" {
			t.Errorf("a second scraper right after the first: %s", got)
		}
		time.Sleep(900 * time.Millisecond)
		s.Close()
		time.Sleep(time.Hour)
		if got := rate(); got != "100" {
			t.Errorf("the last one ends with the session: %s", got)
		}
	})
}

func TestBytesOfClosedSessionsStayCounted(t *testing.T) {
	m := New(Options{})
	for i := range 3 {
		s := m.OpenSession(fmt.Sprint("s-", i), "alice", "")
		s.Add(ToTarget, 100)
		if i > 0 {
			s.Close()
			s.Close() // twice is once
		}
	}
	got := scrape(t, m, false)
	for _, want := range []string{
		`postern_session_bytes_total{direction="to_target",endpoint="none",identity="alice"} 300`,
		`postern_sessions{endpoint="none",identity="alice"} 1`,
		`postern_session_duration_seconds_count 2`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, series(got, "postern_session"))
		}
	}
}

func TestTotalsAreThoseOfTheSession(t *testing.T) {
	m := New(Options{})
	s := m.OpenSession("s-1", "alice", "")
	if s.LastRTT() != 0 {
		t.Error("a round trip before the first")
	}
	s.Add(ToTarget, 1)
	s.Add(ToClient, 2)
	s.RTT(time.Second)
	if s.Total(ToTarget) != 1 || s.Total(ToClient) != 2 || s.LastRTT() != time.Second {
		t.Error(s.Total(ToTarget), s.Total(ToClient), s.LastRTT())
	}
}

func TestSessionsComeAndGoWhileScraped(t *testing.T) {
	m := New(Options{LiveSessions: 3})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				s := m.OpenSession(fmt.Sprint(i, "-", j), "alice", "")
				s.Add(ToTarget, 1)
				s.Close()
			}
		})
	}
	for range 20 {
		scrape(t, m, false)
	}
	wg.Wait()
	if got := scrape(t, m, false); !strings.Contains(got, `identity="alice"} 400`) {
		t.Error(series(got, "postern_session"))
	}
}

func BenchmarkAdd(b *testing.B) {
	s := New(Options{LiveSessions: 1}).OpenSession("s-1", "alice", "")
	for b.Loop() {
		s.Add(ToClient, 32<<10)
	}
}

func BenchmarkScrape200LiveOf2000(b *testing.B) {
	m := New(Options{LiveSessions: 200})
	for i := range 2000 {
		m.OpenSession(fmt.Sprint("s-", i), "alice", "")
	}
	for b.Loop() {
		if _, err := m.registry.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
