package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// segmentsOf puts events into a folder, in segments that begin where starts says,
// without the work of a log.
func segmentsOf(t testing.TB, events []Event, starts ...int) string {
	t.Helper()
	dir := t.TempDir()
	starts = append(starts, len(events))
	begin := 0
	for _, end := range starts {
		var b []byte
		for i, e := range events[begin:end] {
			b = append(b, line(e, inAWS, int64(begin+i))...)
		}
		if err := os.WriteFile(filepath.Join(dir, segmentName(int64(begin))), b, 0o600); err != nil {
			t.Fatal(err)
		}
		begin = end
	}
	return dir
}

// asLines renders events as they stand in the log.
func asLines(dst []byte, e *Entry) []byte { return append(append(dst, e.Line...), '\n') }

func searched(t testing.TB, dir string, s Search) string {
	t.Helper()
	s.Render = asLines
	var out bytes.Buffer
	if _, err := s.Run(t.Context(), dir, func(b []byte) error { out.Write(b); return nil }); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// vocabulary is what random events and random queries are made of.
var vocabulary = []string{"", "vendor", "deploy", "ven", "ops team", `a"b\c`, "\x1b[2Jred", "日本", "\xff\xfe", "\ufffd", "\u202egnp", "x*y", "[fd00::7]", "10.0.12.8"}

func word(r *rand.Rand) string { return vocabulary[r.IntN(len(vocabulary))] }

func randomEvents(r *rand.Rand, n int) []Event {
	samples := sampled()
	hosts := append([]string{"node-3.cluster.internal", "fd00::7", "/run/docker.sock"}, vocabulary...)
	var events []Event
	for i := range n {
		e := samples[r.IntN(len(samples))]
		e.Time = noon.Add(time.Duration(i)*time.Minute + time.Duration(r.IntN(600)-300)*time.Second)
		e.User, e.Identity, e.Login, e.Rule, e.Reason = word(r), word(r), word(r), word(r), word(r)
		e.TargetHost, e.Command, e.Failed, e.Alert = hosts[r.IntN(len(hosts))], word(r)+" "+word(r), r.IntN(3) == 0, r.IntN(5) == 0
		if e.Session != "" {
			e.Session = fmt.Sprintf("01998e4c-7a10-7c3e-9d55-%012d", r.IntN(4))
		}
		events = append(events, e)
	}
	return events
}

func randomPatterns(r *rand.Rand, words ...string) []string {
	if r.IntN(4) != 0 {
		return nil
	}
	var patterns []string
	for range 1 + r.IntN(2) {
		p := words[r.IntN(len(words))]
		if r.IntN(3) == 0 && p != "" {
			cut := r.IntN(len(p))
			p = p[:cut] + "*" + p[cut+r.IntN(len(p)-cut):]
		}
		patterns = append(patterns, strings.ToValidUTF8(p, "\ufffd"))
	}
	return patterns
}

func randomQuery(r *rand.Rand, n int) Query {
	q := Query{
		Codes: randomPatterns(r, "forward.open", "forward.*", "ssh.conn.open", "*.refused", "sftp.op", "admin.action"), Identities: randomPatterns(r, vocabulary...),
		Users: randomPatterns(r, vocabulary...), Logins: randomPatterns(r, vocabulary...), Reasons: randomPatterns(r, vocabulary...), Rules: randomPatterns(r, vocabulary...),
		Targets:   randomPatterns(r, "", "node-3.cluster.internal", "10.0.12.8:8088", "10.0.12.8", "10.0.0.0/16", "*.internal:22", "fd00::7", "[fd00::7]:22", "169.254.169.254:80", "/run/docker.sock"),
		Endpoints: randomPatterns(r, "vpce-0a1b2c3d4e5f60718", "vpce-*", ""), Clients: randomPatterns(r, "10.20.1.37", "10.20.1.37:50222", "10.20.0.0/16", "10.21.0.0/16", ""),
		Sessions: randomPatterns(r, "01998e4c-7a10-7c3e-9d55-000000000001", "01998e4c", "01998e4c-7a10-7c3e-9d55-3b0f6f1b2a77", ""),
	}
	q.Failed, q.Alerts = r.IntN(5) == 0, r.IntN(8) == 0
	if r.IntN(4) == 0 {
		q.Text = word(r)
	}
	if r.IntN(4) == 0 {
		q.Since = noon.Add(time.Duration(r.IntN(n)) * time.Minute)
	}
	if r.IntN(4) == 0 {
		q.Until = noon.Add(time.Duration(n/2+r.IntN(n))*time.Minute + time.Hour)
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && !q.Since.Before(q.Until) {
		q.Until = time.Time{}
	}
	return q
}

func TestASearchFindsWhatReadingEveryEventFinds(t *testing.T) {
	const seed = 4
	r := rand.New(rand.NewPCG(seed, seed))
	const n = 400
	dir := segmentsOf(t, randomEvents(r, n), 1, 90, 91, 250)
	var all []*told
	for record, err := range Read(dir, 0) {
		if err != nil {
			t.Fatal(err)
		}
		e := &told{line: string(record.Line) + "\n"}
		if err := errors.Join(json.Unmarshal(record.Line, e), json.Unmarshal(record.Line, &e.anything)); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	found := 0
	for i := range 100 {
		q := randomQuery(r, n)
		var want []string
		for _, e := range all {
			if isMeant(q, e) {
				want = append(want, e.line)
			}
		}
		found += len(want)
		s := Search{Query: q, workers: 1 + r.IntN(3)}
		if got := searched(t, dir, s); got != strings.Join(want, "") {
			t.Fatalf("query %d, %+v: found %q, want %q", i, q, sequences(got), sequences(strings.Join(want, "")))
		}
		s.Newest = true
		s.Limit = r.IntN(20)
		slices.Reverse(want)
		if s.Limit > 0 {
			want = want[:min(len(want), s.Limit)]
		}
		if got := searched(t, dir, s); got != strings.Join(want, "") {
			t.Fatalf("query %d, newest %d, %+v: found %q, want %q", i, s.Limit, q, sequences(got), sequences(strings.Join(want, "")))
		}
	}
	if found < 500 {
		t.Errorf("the queries found %d events in all: they test nothing", found)
	}
}

var sequence = regexp.MustCompile(`"sequence":\d+`)

func sequences(lines string) []string { return sequence.FindAllString(lines, -1) }

// indexes are the sequences of what a search finds.
func indexes(t *testing.T, dir string, s Search) []int64 {
	t.Helper()
	var got []int64
	s.Render = func(dst []byte, e *Entry) []byte { return strconv.AppendInt(dst, e.Index, 10) }
	_, err := s.Run(t.Context(), dir, func(b []byte) error {
		i, err := strconv.ParseInt(string(b), 10, 64)
		got = append(got, i)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func hourly(n int) []Event {
	var events []Event
	for i := range n {
		events = append(events, Event{Code: DaemonHeartbeat, Time: noon.Add(time.Duration(i) * time.Hour), Message: fmt.Sprintf("number %d of all", i)})
	}
	return events
}

func TestALimitIsOfAllSegments(t *testing.T) {
	dir := segmentsOf(t, hourly(30), 4, 5, 17)
	for _, c := range []struct {
		limit  int
		newest bool
		want   []int64
	}{{6, false, []int64{0, 1, 2, 3, 4, 5}}, {3, true, []int64{29, 28, 27}}, {14, true, []int64{29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16}}} {
		if got := indexes(t, dir, Search{Limit: c.limit, Newest: c.newest}); !slices.Equal(got, c.want) {
			t.Errorf("limit %d, newest %v: %v", c.limit, c.newest, got)
		}
	}
}

func TestSegmentsOfAnotherTimeAreNotRead(t *testing.T) {
	events := hourly(300)
	dir := segmentsOf(t, events, 100, 200)
	// The middle of the first segment is nonsense; only who reads it can know.
	spoil(t, dir, 0, "number 50 of all", `number 50 of all", "a": [[[`)
	q := Query{Since: events[260].Time.Truncate(time.Millisecond), Text: "of all"}
	if got := indexes(t, dir, Search{Query: q}); len(got) != 40 || got[0] != 260 {
		t.Errorf("found %v", got)
	}
	q.Since = events[10].Time
	s := Search{Query: q, Render: asLines}
	if _, err := s.Run(t.Context(), dir, func([]byte) error { return nil }); !errors.Is(err, ErrDamaged) {
		t.Errorf("where it is read: %v", err)
	}
}

// spoil replaces old in the segment that begins with the event first.
func spoil(t *testing.T, dir string, first int64, old, with string) {
	t.Helper()
	path := filepath.Join(dir, segmentName(first))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(b, []byte(old), []byte(with), 1)
	if bytes.Equal(b, changed) {
		t.Fatalf("no %q in %s", old, path)
	}
	if err := os.WriteFile(path, changed, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsFoundStandsWhereItShould(t *testing.T) {
	for name, c := range map[string]struct{ old, with string }{
		"a line is missing": {"", ""},
		"another sequence":  {`"sequence":7,`, `"sequence":8,`},
		"no sequence":       {`"sequence":7,`, ``},
		"not whole":         {`"message":"number 7 of all"`, `"message":"number 7 of all`},
		"two values":        {`"message":"number 7 of all"`, `"message":"number 7 of all"}, {"a":1`},
		"no object at all":  {`{"class_uid":6002,`, `["number 7 of all"`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := segmentsOf(t, hourly(20), 7, 8)
			if c.old == "" {
				if err := os.Remove(filepath.Join(dir, segmentName(7))); err != nil {
					t.Fatal(err)
				}
			} else {
				spoil(t, dir, 7, c.old, c.with)
			}
			s := Search{Query: Query{Text: "of all"}, Render: asLines}
			_, err := s.Run(t.Context(), dir, func([]byte) error { return nil })
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAnUnfinishedLastLineIsNoEvent(t *testing.T) {
	dir := segmentsOf(t, hourly(5), 2)
	path := filepath.Join(dir, segmentName(2))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range []int{1, 2, 100, 600} {
		if err := os.WriteFile(path, b[:len(b)-cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if got := indexes(t, dir, Search{}); !slices.Equal(got, []int64{0, 1, 2, 3}) {
			t.Errorf("without the last %d bytes: %v", cut, got)
		}
	}
}

func TestASearchReadsOverAFailedWrite(t *testing.T) {
	events := hourly(6)
	dir := segmentsOf(t, events, 4)
	// The log took event 3 back and wrote log.failure in its place.
	var b []byte
	for i, e := range []Event{{Code: LogFailure, Time: noon, Message: "a write failed"}, events[3]} {
		b = append(b, line(e, inAWS, int64(3+i))...)
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, segmentName(4))), os.WriteFile(filepath.Join(dir, segmentName(3)), b, 0o600)); err != nil {
		t.Fatal(err)
	}
	if got := indexes(t, dir, Search{}); !slices.Equal(got, []int64{0, 1, 2, 3, 3, 4}) {
		t.Errorf("found %v", got)
	}
}

func TestASegmentMayGrowWhileItIsSearched(t *testing.T) {
	l, err := Open(Options{Dir: t.TempDir(), MinFree: 1, SegmentSize: 40 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const n = 400
	write := func(from, to int) {
		for i := from; i < to; i++ {
			if err := l.Append(t.Context(), Event{Code: DaemonHeartbeat, Message: fmt.Sprintf("number %d", i)}); err != nil {
				t.Error(err)
				return
			}
		}
	}
	write(0, 20)
	done := make(chan struct{})
	go func() {
		defer close(done)
		write(20, n)
	}()
	s := Search{Query: Query{Codes: []string{string(DaemonHeartbeat)}}, Render: func(dst []byte, e *Entry) []byte { return append(dst, e.Facts().Message...) }}
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		var got []string
		next, err := s.Run(t.Context(), l.opts.Dir, func(b []byte) error { got = append(got, string(b)); return nil })
		if err != nil {
			t.Fatal(err)
		}
		if len(got) < 20 || next < int64(len(got)) {
			t.Fatalf("%d events up to index %d", len(got), next)
		}
		for i, message := range got {
			if message != fmt.Sprintf("number %d", i) {
				t.Fatalf("event %d is %q", i, message)
			}
		}
		if !running && len(got) != n {
			t.Errorf("at last there are %d", len(got))
		}
	}
}

func TestACommandOfTwoMebibytesIsFoundByItsBeginning(t *testing.T) {
	l, err := Open(Options{Dir: t.TempDir(), MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e := Event{Code: ProcStart, Message: "exec", Command: "begin" + strings.Repeat(`\"`+"\x1b\xff", 1<<19) + "the end"}
	if err := l.Append(t.Context(), hourly(1)[0], e, hourly(1)[0]); err != nil {
		t.Fatal(err)
	}
	if got := indexes(t, l.opts.Dir, Search{Query: Query{Text: "begin\\\"\x1b"}}); !slices.Equal(got, []int64{1}) {
		t.Errorf("found %v", got)
	}
}

func TestALineLongerThanAChunkIsReadWhole(t *testing.T) {
	events := hourly(3)
	text := strings.Repeat("long ", scanSize/5)
	events[1].Extra = map[string]any{"text": map[string]any{}}
	dir := segmentsOf(t, events)
	spoil(t, dir, 0, `"text":{}`, `"text":"`+text+`needle"`)
	if got := indexes(t, dir, Search{Query: Query{Text: "needle"}}); !slices.Equal(got, []int64{1}) {
		t.Errorf("found %v", got)
	}
	spoil(t, dir, 0, `needle"`, strings.Repeat(text, 5)+`"`)
	s := Search{Render: asLines}
	if _, err := s.Run(t.Context(), dir, func([]byte) error { return nil }); !errors.Is(err, ErrDamaged) {
		t.Errorf("a line without end: %v", err)
	}
}

func TestASearchEndsWhenNobodyListens(t *testing.T) {
	dir := segmentsOf(t, hourly(2000), 500, 1000, 1500)
	stop := errors.New("the pipe is closed")
	s := Search{Render: asLines}
	if _, err := s.Run(t.Context(), dir, func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Run(ctx, dir, func([]byte) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAQueryWhoseTimeEndsBeforeItBeginsIsNone(t *testing.T) {
	s := Search{Query: Query{Since: noon, Until: noon}, Render: asLines}
	if _, err := s.Run(t.Context(), t.TempDir(), func([]byte) error { return nil }); err == nil {
		t.Error("no error")
	}
}
