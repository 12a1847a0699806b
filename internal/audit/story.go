package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Story is what happened in one session, in the words of somebody who does not
// know the codes. Events are added in their order. Texts end with what others
// wrote; they are not made safe for a terminal. All, Size and Lasted are set before
// the first event.
type Story struct {
	All    bool                       // each event has its line: file operations are not counted together, reports of bytes are there too
	Size   func(int64) string         // how a number of bytes is written
	Lasted func(time.Duration) string // how a time is

	Session      string
	Began, Ended time.Time // of the session; Ended is zero while it lives
	Last         time.Time // of the last event
	Lines        []StoryLine
	Recordings   []StoryRecording // in the order in which they began

	who       storyWho
	totals    storyTotals
	rules     []string
	targets   []string
	transfers []*transferred // since the last line, by what they have in common
	ending    string
}

// StoryLine is one thing that happened.
type StoryLine struct {
	At    time.Time
	Text  string
	Alert bool
	Bad   bool // it failed or was refused
}

// StoryRecording is what can be played of the session.
type StoryRecording struct {
	ID    string // for postern recordings
	State string // "complete", "cut", "broken off", "running"
	Size  int64  // bytes; 0 = not known yet
	What  string // the command, or the kind of session
}

// storyWho is what the story says of who came from where.
type storyWho struct {
	identity, user, credential string
	client, endpoint, balancer string
	version, gate, policy      string
}

type storyTotals struct {
	in, out                               int64
	commands, shells, subsystems, tunnels int
	files, fileBytes                      int64
	refused, failed, alerts               int
}

// Add adds the event that line is. It must be one of the session.
func (s *Story) Add(line []byte) error {
	e, err := parseStory(line)
	if err != nil {
		return err
	}
	s.learn(e)
	s.count(e)
	if e.code() == FileOp && !s.All {
		s.transfer(e)
		return nil
	}
	if text := s.tell(e); text != "" {
		s.flush()
		s.line(e, text)
	}
	return nil
}

func (s *Story) line(e *storyEvent, text string) {
	s.Lines = append(s.Lines, StoryLine{At: e.at(), Text: text, Alert: e.Alert, Bad: e.failed()})
}

// End is to be called after the last event.
func (s *Story) End() {
	s.flush()
	for i := range s.Recordings {
		if r := &s.Recordings[i]; r.State == "running" && !s.Ended.IsZero() {
			r.State = "broken off"
		}
	}
}

// learn takes what the event says of the session.
func (s *Story) learn(e *storyEvent) {
	if s.Began.IsZero() {
		s.Began = e.at()
	}
	if e.at().After(s.Last) {
		s.Last = e.at()
	}
	s.Session = orElse(s.Session, e.Metadata.Session)
	w := &s.who
	if who := e.who(); who.Kind != adminAccount && e.code() != AuthFailure {
		w.identity, w.user = orElse(w.identity, who.UID), orElse(w.user, who.Name)
	}
	if e.code() == AuthSuccess || w.credential == "" && e.code() != AuthFailure {
		w.credential = orElse(e.credential(), w.credential)
	}
	w.client, w.endpoint = orElse(w.client, e.client()), orElse(w.endpoint, e.endpoint())
	w.balancer, w.version = orElse(w.balancer, e.Balancer.IP), orElse(w.version, e.Unmapped.Postern.Version)
	w.policy = orElse(w.policy, e.Policy.Version)
	if e.Device.Name == "postern" {
		w.gate = orElse(w.gate, strings.TrimSpace(e.Device.Hostname+" "+e.Device.Instance))
	}
	s.rules = with(s.rules, e.Rule.Name)
	s.record(e)
	s.end(e)
}

func with(list []string, s string) []string {
	if s == "" || slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

func (s *Story) end(e *storyEvent) {
	if e.code() != ConnClose {
		return
	}
	s.Ended = e.at()
	s.totals.in, s.totals.out = e.Cumulative.In, e.Cumulative.Out
	s.ending = orElse(ReasonWords(e.Reason), e.Reason)
	if took := e.Cumulative.Timespan.Duration; took > 0 {
		s.Began = minTime(s.Began, s.Ended.Add(-time.Duration(took)*time.Millisecond))
	}
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (s *Story) count(e *storyEvent) {
	t := &s.totals
	if e.Alert {
		t.alerts++
	}
	switch e.code() {
	case Traffic:
		t.in, t.out = e.Cumulative.In, e.Cumulative.Out
	case ForwardRefused, ChannelDenied, AuthFailure:
		t.refused += max(1, e.Count)
		return
	case TargetOpen:
		s.targets = with(s.targets, e.destination())
	case ForwardOpen:
		if !e.failed() && !e.Unmapped.Postern.Inspected {
			t.tunnels++
		}
	case FileOp:
		t.files++
		t.fileBytes += e.Traffic.In + e.Traffic.Out
	case ProcStart:
		s.countProgram(e)
		return
	}
	if e.failed() && e.code() != ConnClose {
		t.failed += max(1, e.Count)
	}
}

func (s *Story) countProgram(e *storyEvent) {
	switch {
	case e.failed():
		s.totals.refused++
	case e.Process.Name == "shell":
		s.totals.shells++
	case e.Process.Name == "subsystem":
		s.totals.subsystems++
	default:
		s.totals.commands++
	}
}

// record keeps the list of recordings.
func (s *Story) record(e *storyEvent) {
	id := e.Unmapped.Postern.Recording
	if id == "" {
		return
	}
	i := slices.IndexFunc(s.Recordings, func(r StoryRecording) bool { return r.ID == id })
	if i < 0 {
		i = len(s.Recordings)
		s.Recordings = append(s.Recordings, StoryRecording{ID: id, State: "running"})
	}
	r := &s.Recordings[i]
	switch e.code() {
	case ProcStart:
		r.What = orElse(e.Process.Command, e.Process.Name)
	case RecordingFailed:
		r.State = "broken off"
	case RecordingChunk, RecordingEnd:
		if e.File.Size != nil {
			r.Size = *e.File.Size
		}
	}
	if e.code() == RecordingEnd {
		r.State = "complete"
		if c := e.Unmapped.Postern.Complete; c != nil && !*c {
			r.State = "cut"
		}
	}
}

// StoryFact is a line of the story's heading.
type StoryFact struct{ Name, Value string }

// Facts are the heading: who, from where, when, by which rule, and how much.
func (s *Story) Facts() []StoryFact {
	w := s.who
	who := orElse(w.identity, "nobody was authenticated")
	if w.user != "" && w.user != w.identity {
		who += ", as user " + w.user
	}
	from := orElse(w.client, "unknown")
	if w.endpoint != "" {
		from += ", through endpoint " + w.endpoint
	}
	if w.balancer != "" {
		from += ", by load balancer " + w.balancer
	}
	ended := "it has no end in the log: it runs, or the gate died; its last event is " + s.Lasted(s.Last.Sub(s.Began)) + " after its beginning"
	if !s.Ended.IsZero() {
		ended = stamp(s.Ended) + ", after " + s.Lasted(s.Ended.Sub(s.Began))
		if s.ending != "" {
			ended += ": " + s.ending
		}
	}
	facts := []StoryFact{
		{"who", who}, {"proved by", w.credential}, {"from", from}, {"software", w.version}, {"gate", w.gate},
		{"began", stamp(s.Began)}, {"ended", ended},
		{"rules", strings.Join(s.rules, ", ")}, {"policy", w.policy}, {"targets", strings.Join(s.targets, ", ")}, {"in all", s.totals.words(s.Size)},
	}
	return slices.DeleteFunc(facts, func(f StoryFact) bool { return f.Value == "" })
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000 UTC") }

func (t *storyTotals) words(size func(int64) string) string {
	words := []string{size(t.in) + " in, " + size(t.out) + " out"}
	add := func(n int64, one, many string) {
		switch {
		case n == 1:
			words = append(words, "1 "+one)
		case n > 1:
			words = append(words, fmt.Sprintf("%d %s", n, many))
		}
	}
	add(int64(t.shells), "shell", "shells")
	add(int64(t.commands), "command", "commands")
	add(int64(t.subsystems), "subsystem", "subsystems")
	add(int64(t.tunnels), "tunnel", "tunnels")
	add(t.files, "file operation", "file operations")
	add(int64(t.refused), "refusal", "refusals")
	add(int64(t.failed), "failure", "failures")
	add(int64(t.alerts), "ALERT", "ALERTS")
	return strings.Join(words, ", ")
}
