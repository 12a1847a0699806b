package sink

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"postern/test/awsfake"
)

// fakeLogs is CloudWatch Logs for one test, with the group g.
func fakeLogs(t *testing.T) (*awsfake.Server, *awsfake.Logs) {
	t.Helper()
	server := awsfake.New()
	t.Cleanup(server.Close)
	for _, pair := range server.Env() {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	logs := server.Logs()
	logs.MakeGroup("g")
	return server, logs
}

func openLogs(t *testing.T, o CloudWatchOptions) *Sink {
	t.Helper()
	if o.Group == "" {
		o.Group = "g"
	}
	o.Stream = "gate-a"
	s, err := CloudWatch(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// arrived waits until a sink has nothing left and returns what the stream holds.
func arrived(t *testing.T, s *Sink, logs *awsfake.Logs) []awsfake.LogEvent {
	t.Helper()
	eventually(t, "the queue is empty", func() bool { return s.Stats().Queued == 0 })
	return logs.Events("g", "gate-a")
}

func TestCloudWatchGetsEachLine(t *testing.T) {
	server, logs := fakeLogs(t)
	s := openLogs(t, CloudWatchOptions{})
	stop := start(t, s)
	now := time.Now()
	lines := []string{event(now, "a", "one"), event(now.Add(time.Second), "b", "ü \" \\ \n 😀"), event(now.Add(2*time.Second), "c", strings.Repeat("x", 100_000))}
	s.Offer([]byte(strings.Join(lines, "")))
	got := arrived(t, s, logs)
	for i, e := range got {
		if want := strings.TrimSuffix(lines[i], "\n"); e.Message != want || e.Timestamp != now.Add(time.Duration(i)*time.Second).UnixMilli() {
			t.Errorf("%d: %.200q", e.Timestamp, e.Message)
		}
	}
	if calls := server.Calls(); len(got) != 3 || !slices.Equal(calls, []string{"logs PutLogEvents", "logs CreateLogStream", "logs PutLogEvents"}) {
		t.Errorf("%d events, calls %q", len(got), calls)
	}
	if st := s.Stats(); s.Name() != "cloudwatch" || st.Sent != 3 || st.Dropped != 0 || !st.Connected || st.LastError != "" {
		t.Errorf("%+v", st)
	}
	stop()
}

// TestEventsWaitForCompany offers one event after the other; they go in few
// calls, and none waits for long.
func TestEventsWaitForCompany(t *testing.T) {
	_, logs := fakeLogs(t)
	s := openLogs(t, CloudWatchOptions{})
	start(t, s)
	for range 100 {
		s.Offer([]byte(numbered(1)))
	}
	began := time.Now()
	if got := len(arrived(t, s, logs)); got != 100 || len(logs.Puts()) > 2 {
		t.Errorf("%d events in %d calls", got, len(logs.Puts()))
	}
	if took := time.Since(began); took > batchWait+5*time.Second {
		t.Errorf("they took %s", took)
	}
}

func TestBatchesKeepTheLimitsOfCloudWatch(t *testing.T) {
	now := time.Now()
	var days strings.Builder // no more than a day fits in a batch
	for _, hours := range []int{30, 25, 5, 1, 26, 0} {
		days.WriteString(event(now.Add(-time.Duration(hours)*time.Hour), "a", fmt.Sprint(hours)))
	}
	tiny := fmt.Sprintf(`{"time":%d}`, now.UnixMilli()) + "\n"
	largest := event(now, "a", "")
	largest = event(now, "a", strings.Repeat("x", batchBytes-eventExtra-len(largest)+1))
	for name, c := range map[string]struct {
		lines string
		puts  []int
	}{
		"10,000 events":  {strings.Repeat(tiny, 25_000), []int{10_000, 10_000, 5_000}},
		"1 MiB":          {strings.Repeat(event(now, "a", strings.Repeat("x", 500_000)), 5), []int{2, 2, 1}},
		"the largest":    {largest + largest, []int{1, 1}},
		"with overhead":  {strings.Repeat(event(now, "a", strings.Repeat("x", 174_600)), 12), []int{6, 6}},
		"in 24 hours":    {days.String(), []int{2, 2, 1, 1}},
		"time goes back": {event(now, "a", "1") + event(now.Add(-time.Hour), "b", "2") + event(now.Add(-time.Minute), "c", "3"), []int{3}},
	} {
		t.Run(name, func(t *testing.T) {
			_, logs := fakeLogs(t)
			s := openLogs(t, CloudWatchOptions{})
			start(t, s)
			s.Offer([]byte(c.lines))
			got := arrived(t, s, logs)
			if st := s.Stats(); len(got) != strings.Count(c.lines, "\n") || st.Dropped != 0 || st.LastError != "" {
				t.Errorf("%d events arrived, %+v", len(got), st)
			}
			if puts := logs.Puts(); !slices.Equal(puts, c.puts) {
				t.Errorf("batches of %d, want %d", puts, c.puts)
			}
		})
	}
}

func TestAnEventTooLargeForCloudWatchIsDropped(t *testing.T) {
	_, logs := fakeLogs(t)
	s := openLogs(t, CloudWatchOptions{})
	start(t, s)
	empty := len(event(time.Now(), "a", "")) - 1
	s.Offer([]byte(event(time.Now(), "a", strings.Repeat("x", batchBytes-eventExtra-empty+1)) + event(time.Now(), "b", strings.Repeat("x", 2<<20)) + event(time.Now(), "c", "")))
	if got := arrived(t, s, logs); len(got) != 1 {
		t.Errorf("%d events arrived", len(got))
	}
	if st := s.Stats(); st.Dropped != 2 || st.Reasons["too_large"] != 2 {
		t.Errorf("%+v", st)
	}
}

// TestWhatCloudWatchRejectsIsCounted is about the answer 200 that says which
// events of the batch were not taken.
func TestWhatCloudWatchRejectsIsCounted(t *testing.T) {
	_, logs := fakeLogs(t)
	s := openLogs(t, CloudWatchOptions{})
	start(t, s)
	now := time.Now()
	s.Offer([]byte(event(now.Add(3*time.Hour), "new", "") + event(now, "a", "") + event(now.Add(-time.Hour), "b", "") + event(now.Add(-15*24*time.Hour), "old", "") +
		event(now.Add(-15*24*time.Hour), "old", "") + event(now, "c", "")))
	if got := arrived(t, s, logs); len(got) != 3 {
		t.Errorf("%v arrived", got)
	}
	st := s.Stats()
	if st.Sent != 3 || st.Dropped != 3 || st.Reasons["too_old"] != 2 || st.Reasons["rejected"] != 1 || st.LastError != "" {
		t.Errorf("%+v", st)
	}
}

func TestRejectedEventsAreCountedWhateverCloudWatchSays(t *testing.T) {
	for name, c := range map[string]struct {
		info *types.RejectedLogEventsInfo
		want outcome
	}{
		"nothing":         {nil, outcome{sent: 10}},
		"empty":           {&types.RejectedLogEventsInfo{}, outcome{sent: 10}},
		"old":             {&types.RejectedLogEventsInfo{TooOldLogEventEndIndex: aws.Int32(3)}, outcome{sent: 7, tooOld: 3}},
		"expired and old": {&types.RejectedLogEventsInfo{TooOldLogEventEndIndex: aws.Int32(3), ExpiredLogEventEndIndex: aws.Int32(5)}, outcome{sent: 5, tooOld: 5}},
		"new":             {&types.RejectedLogEventsInfo{TooNewLogEventStartIndex: aws.Int32(8)}, outcome{sent: 8, rejected: 2}},
		"all new":         {&types.RejectedLogEventsInfo{TooNewLogEventStartIndex: aws.Int32(0)}, outcome{rejected: 10}},
		"nonsense":        {&types.RejectedLogEventsInfo{TooOldLogEventEndIndex: aws.Int32(99), TooNewLogEventStartIndex: aws.Int32(-1)}, outcome{tooOld: 10}},
		"negative":        {&types.RejectedLogEventsInfo{TooOldLogEventEndIndex: aws.Int32(-9), TooNewLogEventStartIndex: aws.Int32(99)}, outcome{sent: 10}},
	} {
		if got := count(10, c.info); got != c.want || got.events() != 10 {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestFaultsOfCloudWatchPassWithoutLoss(t *testing.T) {
	for name, fault := range map[string]awsfake.Fault{
		"throttled":   {Status: 400, Code: "ThrottlingException"},
		"broken":      {Status: 500, Code: "InternalFailure"},
		"unavailable": {Status: 503, Code: "ServiceUnavailableException"},
		"HTML":        {HTML: true},
		"denied":      {Status: 400, Code: "AccessDeniedException", Message: "User is not authorized"},
		"expired":     {Status: 400, Code: "ExpiredTokenException"},
	} {
		t.Run(name, func(t *testing.T) {
			server, logs := fakeLogs(t)
			s := openLogs(t, CloudWatchOptions{})
			fault.Operation = "PutLogEvents"
			mend := server.Fail(fault)
			start(t, s)
			s.Offer([]byte(numbered(10)))
			eventually(t, "the failure is known", func() bool { return s.Stats().LastError != "" })
			if st := s.Stats(); st.Connected || st.Sent != 0 || st.Queued != 10 || !strings.Contains(st.LastError, "logs:PutLogEvents to stream gate-a of log group g in us-east-1") {
				t.Errorf("%+v", st)
			}
			mend()
			if got := arrived(t, s, logs); len(got) != 10 || s.Stats().Dropped != 0 || !s.Stats().Connected {
				t.Errorf("%d events arrived, %+v", len(got), s.Stats())
			}
		})
	}
}

// TestAnAnswerThatBreaksOffMeansAgain: whether the events have arrived is not
// known, so they come once more.
func TestAnAnswerThatBreaksOffMeansAgain(t *testing.T) {
	server, logs := fakeLogs(t)
	s := openLogs(t, CloudWatchOptions{})
	start(t, s)
	s.Offer([]byte(numbered(1)))
	arrived(t, s, logs)
	server.Fail(awsfake.Fault{Operation: "PutLogEvents", Truncate: 5, Times: 1})
	s.Offer([]byte(numbered(1)))
	if got := arrived(t, s, logs); len(got) != 3 || s.Stats().Sent != 2 {
		t.Errorf("%d events arrived, %+v", len(got), s.Stats())
	}
}

// TestAPageOfHTMLWithStatus200IsNoSuccess is what a proxy does that wants a
// login.
func TestAPageOfHTMLWithStatus200IsNoSuccess(t *testing.T) {
	_, _ = fakeLogs(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html>Log in</html>")
	}))
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	s := openLogs(t, CloudWatchOptions{Endpoint: server.URL})
	start(t, s)
	s.Offer([]byte(numbered(1)))
	eventually(t, "the failure is known", func() bool { return s.Stats().LastError != "" })
	if st := s.Stats(); st.Sent != 0 || st.Queued != 1 {
		t.Errorf("%+v", st)
	}
}

func TestAMissingGroupIsSaidAndMayBeMade(t *testing.T) {
	_, logs := fakeLogs(t)
	s := openLogs(t, CloudWatchOptions{Group: "later"})
	start(t, s)
	s.Offer([]byte(numbered(3)))
	eventually(t, "the error says what to do", func() bool { return strings.Contains(s.Stats().LastError, "make the log group") })
	logs.MakeGroup("later")
	eventually(t, "the events are sent", func() bool { return s.Stats().Sent == 3 })
	if got := logs.Events("later", "gate-a"); len(got) != 3 {
		t.Errorf("%d events", len(got))
	}
}

func TestAStreamThatMayNotBeMadeIsSaid(t *testing.T) {
	server, _ := fakeLogs(t)
	server.Fail(awsfake.Fault{Operation: "CreateLogStream", Status: 400, Code: "AccessDeniedException"})
	s := openLogs(t, CloudWatchOptions{})
	start(t, s)
	s.Offer([]byte(numbered(1)))
	eventually(t, "the error names the action", func() bool { return strings.Contains(s.Stats().LastError, "allow logs:CreateLogStream") })
}

// TestOneInvalidEventDoesNotTakeTheOthersWithIt has an event that CloudWatch
// refuses together with its whole batch.
func TestOneInvalidEventDoesNotTakeTheOthersWithIt(t *testing.T) {
	_, logs := fakeLogs(t)
	s := openLogs(t, CloudWatchOptions{})
	start(t, s)
	s.Offer([]byte(numbered(700) + event(time.UnixMilli(-5), "bad", "") + numbered(300)))
	if got := arrived(t, s, logs); len(got) != 1000 {
		t.Errorf("%d events arrived", len(got))
	}
	if st := s.Stats(); st.Sent != 1000 || st.Dropped != 1 || st.Reasons["rejected"] != 1 {
		t.Errorf("%+v", st)
	}
}

// TestCloudWatchThatIsAwayForLongHoldsUpNobody offers more than the queue holds.
func TestCloudWatchThatIsAwayForLongHoldsUpNobody(t *testing.T) {
	server, logs := fakeLogs(t)
	mend := server.Fail(awsfake.Fault{Hang: true})
	const room = 256 << 10
	s := openLogs(t, CloudWatchOptions{Queue: room})
	s.out.(*cloudWatch).patience = 2 * time.Second
	start(t, s)
	batch := []byte(numbered(256))
	var slowest time.Duration
	for range 100 {
		began := time.Now()
		s.Offer(batch)
		slowest = max(slowest, time.Since(began))
	}
	st := s.Stats()
	if st.QueuedBytes > room || st.QueuedBytes < room-1000 || uint64(st.Queued)+st.Reasons["queue_full"] != 25600 || st.Dropped != st.Reasons["queue_full"] {
		t.Errorf("%+v", st)
	}
	if slowest > time.Second { // the machine may be busy; a sink that waits would take longer
		t.Errorf("an Offer took %s", slowest)
	}
	eventually(t, "calls time out", func() bool { return len(server.Calls()) > 1 && s.Stats().LastError != "" })
	mend()
	if got := arrived(t, s, logs); len(got) != st.Queued {
		t.Errorf("%d of %d events arrived", len(got), st.Queued)
	}
}

func TestStopPutsWhatIsQueued(t *testing.T) {
	server, logs := fakeLogs(t)
	s := openLogs(t, CloudWatchOptions{})
	stop := start(t, s)
	s.Offer([]byte(numbered(1)))
	arrived(t, s, logs)
	s.Offer([]byte(numbered(300)))
	if took := stop(); took > flushTime+time.Second {
		t.Errorf("it took %s", took)
	}
	if st := s.Stats(); st.Sent != 301 || len(logs.Events("g", "gate-a")) != 301 {
		t.Errorf("%+v", st)
	}
	server.Fail(awsfake.Fault{Hang: true})
	s = openLogs(t, CloudWatchOptions{})
	stop = start(t, s)
	s.Offer([]byte(numbered(1)))
	if took := stop(); took > flushTime+time.Second {
		t.Errorf("with CloudWatch hanging it took %s", took)
	}
}

func TestNamesThatCloudWatchRefusesAreFoundAtTheStart(t *testing.T) {
	_, _ = fakeLogs(t)
	for _, o := range []CloudWatchOptions{
		{Stream: "s"}, {Group: "g"}, {Group: "g g", Stream: "s"}, {Group: "ü", Stream: "s"}, {Group: strings.Repeat("g", 513), Stream: "s"},
		{Group: "g", Stream: "a:b"}, {Group: "g", Stream: "a*"}, {Group: "g", Stream: strings.Repeat("s", 513)},
	} {
		if _, err := CloudWatch(t.Context(), o); err == nil {
			t.Errorf("%.100v was taken", o)
		}
	}
	if _, err := CloudWatch(t.Context(), CloudWatchOptions{Group: "/postern/audit.log-1_#", Stream: "gate/a b"}); err != nil {
		t.Error(err)
	}
}

func TestARegionThatIsNotKnownIsSaid(t *testing.T) {
	_, _ = fakeLogs(t)
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	if _, err := CloudWatch(t.Context(), CloudWatchOptions{Group: "g", Stream: "s"}); err == nil || !strings.Contains(err.Error(), "region") {
		t.Errorf("got %v", err)
	}
	if _, err := CloudWatch(t.Context(), CloudWatchOptions{Group: "g", Stream: "s", Region: "eu-west-1"}); err != nil {
		t.Error(err)
	}
}
