package health

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// TestMain makes every test of the package a leak test.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ask(s *Server, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	if len(header) == 2 {
		r.Header.Set(header[0], header[1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func holds() error { return nil }

func fails() error { return errors.New("statfs /var/log/postern: 12 bytes free") }

func TestAnswers(t *testing.T) {
	ready := New(Options{Checks: []Check{{Name: "audit", Test: holds}}})
	unready := New(Options{Checks: []Check{
		{Name: "audit", Test: fails, Failing: "not enough space"},
		{Name: "policy", Test: holds},
		{Name: "listener", Test: fails},
	}})
	drained := New(Options{Checks: []Check{{Name: "audit", Test: holds}}})
	drained.Drain()
	for _, tc := range []struct {
		name           string
		server         *Server
		method, target string
		code           int
		body           string
	}{
		{"alive", unready, "GET", "/livez", 200, "ok\n"},
		{"alive while draining", drained, "GET", "/livez", 200, "ok\n"},
		{"ready", ready, "GET", "/readyz", 200, "ok\n"},
		{"ready, HEAD", ready, "HEAD", "/readyz", 200, "ok\n"}, // the recorder keeps what net/http drops
		{"ready, JSON", ready, "GET", "/readyz?format=json", 200, `{"status":"ok"}` + "\n"},
		{"unready", unready, "GET", "/readyz", 503, "audit: not enough space\nlistener: not ready\n"},
		{"draining", drained, "GET", "/readyz", 503, "draining: takes no new sessions\n"},
		{"no checks", New(Options{}), "GET", "/readyz", 503, "checks: not ready\n"},
		{"other path", ready, "GET", "/", 404, "there are /livez and /readyz\n"},
		{"untidy path", ready, "GET", "//readyz", 404, "there are /livez and /readyz\n"},
		{"path below", ready, "GET", "/readyz/", 404, "there are /livez and /readyz\n"},
		{"POST", ready, "POST", "/readyz", 405, "use GET\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if w := ask(tc.server, tc.method, tc.target); w.Code != tc.code || w.Body.String() != tc.body {
				t.Errorf("%d %q, want %d %q", w.Code, w.Body, tc.code, tc.body)
			}
		})
	}
}

func TestJSONNamesEachFailingCheck(t *testing.T) {
	s := New(Options{Checks: []Check{{Name: "audit", Test: fails, Failing: "not enough space"}}})
	w := ask(s, "GET", "/readyz", "Accept", "application/json")
	var got status
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := status{Status: "not ready", Failing: []failing{{"audit", "not enough space"}}}
	if !reflect.DeepEqual(got, want) || w.Code != 503 || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %+v %v", w.Code, got, w.Header())
	}
}

func TestTheErrorIsForTheOperatorOnly(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	s := New(Options{Log: zap.New(core), Checks: []Check{{Name: "audit", Test: fails}}})
	for _, target := range []string{"/readyz", "/readyz?format=json"} {
		if w := ask(s, "GET", target); strings.Contains(w.Body.String(), "statfs") {
			t.Errorf("%s told the network %q", target, w.Body)
		}
	}
	if err := s.Ready(); err == nil || err.Error() != "audit: statfs /var/log/postern: 12 bytes free" {
		t.Errorf("Ready: %v", err)
	}
	if got := logs.All(); len(got) != 1 || !strings.Contains(got[0].ContextMap()["error"].(string), "statfs") {
		t.Errorf("log: %v", got)
	}
}

func TestChangesAreToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failing atomic.Bool
		var told []bool
		s := New(Options{
			Changed: func(ready bool) { told = append(told, ready) },
			Checks: []Check{{Name: "audit", Test: func() error {
				if failing.Load() {
					return fails()
				}
				return nil
			}}},
		})
		for _, f := range []bool{false, false, true, true, false} {
			failing.Store(f)
			s.Ready()
			time.Sleep(cacheTime)
		}
		s.Drain()
		s.Drain()
		s.Ready()
		if want := []bool{true, false, true, false}; !reflect.DeepEqual(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
	})
}

func TestAnAnswerIsKeptForHalfASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := 0
		s := New(Options{Checks: []Check{{Name: "audit", Test: func() error { made++; return nil }}}})
		for range 100 {
			ask(s, "GET", "/readyz")
			time.Sleep(10 * time.Millisecond)
		}
		if made != 2 {
			t.Errorf("checked %d times in a second", made)
		}
	})
}

func TestACheckThatHangsFailsAfterTwoSecondsAndRunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made atomic.Int32
		release := make(chan struct{})
		s := New(Options{Checks: []Check{
			{Name: "disk", Test: func() error { made.Add(1); <-release; return nil }},
			{Name: "policy", Test: holds},
		}})
		for range 3 {
			began := time.Now()
			if err := s.Ready(); !errors.Is(err, errTimeout) || time.Since(began) != checkTimeout {
				t.Errorf("after %v: %v", time.Since(began), err)
			}
			time.Sleep(cacheTime)
		}
		if made.Load() != 1 {
			t.Errorf("%d of the check ran at once", made.Load())
		}
		close(release)
		synctest.Wait()
		if err := s.Ready(); err != nil {
			t.Error(err)
		}
	})
}

func TestAnswersAreCounted(t *testing.T) {
	var counted []bool
	s := New(Options{Answered: func(ready bool) { counted = append(counted, ready) }, Checks: []Check{{Name: "audit", Test: holds}}})
	ask(s, http.MethodGet, "/readyz")
	ask(s, http.MethodGet, "/livez")
	s.Drain()
	ask(s, http.MethodGet, "/readyz")
	if want := []bool{true, false}; !reflect.DeepEqual(counted, want) {
		t.Errorf("counted %v, want %v", counted, want)
	}
}
