package awsfake

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits of PutLogEvents (CloudWatch Logs API reference).
const (
	maxLogBatch  = 1_048_576 // bytes, with logOverhead an event
	maxLogEvents = 10_000
	logOverhead  = 26
	maxLogSpan   = 24 * time.Hour
	maxLogAge    = 14 * 24 * time.Hour
	maxLogAhead  = 2 * time.Hour
)

// LogEvent is one event of a log stream.
type LogEvent struct {
	Timestamp int64  `json:"timestamp"` // Unix milliseconds
	Message   string `json:"message"`
}

// Logs are the log groups of the fake's CloudWatch Logs. Its methods may be
// called from any goroutine.
type Logs struct {
	mu     sync.Mutex
	groups map[string]map[string][]LogEvent // by group and stream
	puts   []int                            // events of each PutLogEvents that was taken
}

// Logs adds the service: CreateLogStream, DescribeLogStreams, PutLogEvents and
// GetLogEvents (one page).
func (s *Server) Logs() *Logs {
	l := &Logs{groups: map[string]map[string][]LogEvent{}}
	s.Serve("logs", l.answer)
	return l
}

// MakeGroup makes an empty log group.
func (l *Logs) MakeGroup(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.groups[name] = map[string][]LogEvent{}
}

// Events are those of a stream in the order in which they came.
func (l *Logs) Events(group, stream string) []LogEvent {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.groups[group][stream])
}

// Puts lists how many events each PutLogEvents brought that was not refused as
// a whole.
func (l *Logs) Puts() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.puts)
}

type logsRequest struct {
	LogGroupName, LogStreamName, LogStreamNamePrefix string
	LogEvents                                        []LogEvent
}

func (l *Logs) answer(r Request) (status int, body []byte) {
	var in logsRequest
	if err := json.Unmarshal(r.Body, &in); err != nil {
		return refuse(r, "SerializationException", err.Error())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	streams, ok := l.groups[in.LogGroupName]
	if !ok {
		return refuse(r, "ResourceNotFoundException", "The specified log group does not exist.")
	}
	switch r.Operation {
	case "CreateLogStream":
		return createStream(r, in, streams)
	case "DescribeLogStreams":
		return reply(map[string]any{"logStreams": listStreams(streams, in.LogStreamNamePrefix)})
	}
	if _, ok := streams[in.LogStreamName]; !ok {
		return refuse(r, "ResourceNotFoundException", "The specified log stream does not exist.")
	}
	switch r.Operation {
	case "PutLogEvents":
		return l.put(r, in, streams)
	case "GetLogEvents":
		return reply(map[string]any{"events": streams[in.LogStreamName], "nextForwardToken": "f/0", "nextBackwardToken": "b/0"})
	}
	return refuse(r, "UnknownOperationException", "")
}

func createStream(r Request, in logsRequest, streams map[string][]LogEvent) (int, []byte) {
	if n := len(in.LogStreamName); n == 0 || n > 512 || strings.ContainsAny(in.LogStreamName, ":*") {
		return refuse(r, "InvalidParameterException", "1 validation error detected: Value at 'logStreamName' failed to satisfy constraint")
	}
	if _, ok := streams[in.LogStreamName]; ok {
		return refuse(r, "ResourceAlreadyExistsException", "The specified log stream already exists")
	}
	streams[in.LogStreamName] = nil
	return reply(struct{}{})
}

func listStreams(streams map[string][]LogEvent, prefix string) []map[string]any {
	found := []map[string]any{}
	for name, events := range streams {
		if strings.HasPrefix(name, prefix) {
			found = append(found, map[string]any{"logStreamName": name, "storedBytes": len(events)})
		}
	}
	slices.SortFunc(found, func(a, b map[string]any) int {
		return strings.Compare(a["logStreamName"].(string), b["logStreamName"].(string))
	})
	return found
}

func (l *Logs) put(r Request, in logsRequest, streams map[string][]LogEvent) (int, []byte) {
	now := time.Now()
	if problem := checkBatch(in.LogEvents, now); problem != "" {
		return refuse(r, "InvalidParameterException", problem)
	}
	l.puts = append(l.puts, len(in.LogEvents))
	from, to := valid(in.LogEvents, now)
	streams[in.LogStreamName] = append(streams[in.LogStreamName], in.LogEvents[from:to]...)
	out := map[string]any{"nextSequenceToken": "49000000000000000000000000000000000000000000000000000000"}
	info := map[string]any{}
	if from > 0 {
		info["tooOldLogEventEndIndex"] = from
	}
	if to < len(in.LogEvents) {
		info["tooNewLogEventStartIndex"] = to
	}
	if len(info) > 0 {
		out["rejectedLogEventsInfo"] = info
	}
	return reply(out)
}

// valid are the events that are neither too old nor too far in the future.
func valid(events []LogEvent, now time.Time) (from, to int) {
	oldest, newest := now.Add(-maxLogAge).UnixMilli(), now.Add(maxLogAhead).UnixMilli()
	for from < len(events) && events[from].Timestamp < oldest {
		from++
	}
	to = len(events)
	for to > from && events[to-1].Timestamp > newest {
		to--
	}
	return from, to
}

// checkBatch is what is wrong with a batch as a whole.
func checkBatch(events []LogEvent, now time.Time) string {
	if n := len(events); n == 0 || n > maxLogEvents {
		return fmt.Sprintf("1 validation error detected: Value at 'logEvents' failed to satisfy constraint: Member must have length between 1 and %d", maxLogEvents)
	}
	size := 0
	for i, e := range events {
		size += len(e.Message) + logOverhead
		switch {
		case e.Message == "" || e.Timestamp < 0:
			return "1 validation error detected: an event without a message or with a negative timestamp"
		case len(e.Message)+logOverhead > maxLogBatch:
			return fmt.Sprintf("Log event too large: %d bytes exceeds limit of %d", len(e.Message)+logOverhead, maxLogBatch)
		case i > 0 && e.Timestamp < events[i-1].Timestamp:
			return "Log events in a single PutLogEvents request must be in chronological order."
		}
	}
	if size > maxLogBatch {
		return fmt.Sprintf("Upload too large: %d bytes exceeds limit of %d", size, maxLogBatch)
	}
	if from, to := valid(events, now); from < to && events[to-1].Timestamp-events[from].Timestamp > maxLogSpan.Milliseconds() {
		return "The batch of log events in a single PutLogEvents request cannot span more than 24 hours."
	}
	return ""
}
