package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// clockStep is how far back in time an event may lie behind one before it
	// without a word. Events of a full queue are a few seconds out of order.
	clockStep = 10 * time.Second
	// silence is how long a daemon that runs may write nothing.
	silence = 2 * heartbeatInterval
	// clockNotice is how long after that it may take to be written down.
	clockNotice = 5 * time.Second
)

// history follows what happened: that what began ended, that time went on, and
// that there was no silence. It looks at lines before they are proven; what a
// changed line makes it say is only more of the same finding.
type history struct {
	report *Report
	daemon runState

	open       map[string]opening // what has no end yet
	recordings map[string]*recorded
	clock      int64 // the highest metadata.logged_time, milliseconds; 0 = none yet
	clockAt    spot
	last       int64 // metadata.logged_time of the event before; 0 = none yet
	wentBack   *wentBack
	deleted    int64 // events before it are gone by what the log says
}

// wentBack is a step back that no event has explained yet.
type wentBack struct {
	to   int64 // milliseconds
	what Finding
}

// runState is what is known of the daemon's run.
type runState uint8

const (
	runUnknown runState = iota // no start was seen
	runs
	stopped
)

// opening is an event that another one should answer.
type opening struct {
	at   spot
	code string
	n    int // how many of the same session and channel
}

// endOf is the code that begins what code ends.
func endOf(code string) (begin string, ends bool) {
	switch Code(code) {
	case ConnClose:
		return string(ConnOpen), true
	case TargetClose:
		return string(TargetOpen), true
	case ProcEnd:
		return string(ProcStart), true
	}
	return "", false
}

func begins(f *lineFields) bool {
	switch Code(f.code) {
	case ConnOpen, TargetOpen, ProcStart:
		return f.status != 2 // what was refused never began
	}
	return false
}

func (h *history) see(f *lineFields, at spot) {
	h.time(f, at)
	switch code := Code(f.code); code {
	case DaemonStart:
		h.started(at)
	case DaemonStop:
		h.unclosed("the daemon stopped in order after it")
		h.daemon = stopped
	case RecordingStart, RecordingChunk, RecordingEnd, RecordingFailed:
		h.recording(f, at)
	case LogDelete:
		if f.first >= 0 && f.records > 0 {
			h.deleted = max(h.deleted, f.first+f.records)
		}
	default:
		h.pair(f, at)
	}
}

func (h *history) pair(f *lineFields, at spot) {
	if begins(f) {
		key := pairKey(string(f.code), f)
		o := h.open[key]
		if o.n == 0 {
			o.at, o.code = at, string(f.code)
		}
		o.n++
		if h.open == nil {
			h.open = map[string]opening{}
		}
		h.open[key] = o
		return
	}
	begin, ends := endOf(string(f.code))
	if !ends {
		return
	}
	key := pairKey(begin, f)
	if o := h.open[key]; o.n > 1 {
		o.n--
		h.open[key] = o
		return
	}
	delete(h.open, key)
}

func pairKey(begin string, f *lineFields) string {
	if Code(begin) == ConnOpen {
		return begin + " " + string(f.session)
	}
	return begin + " " + string(f.session) + " " + string(f.channel)
}

// started is the begin of a run of the daemon. Where the one before did not
// say that it stops, it crashed, and that explains what has no end.
func (h *history) started(at spot) {
	if h.daemon == runs || h.daemon == runUnknown && len(h.open) > 0 {
		h.remark(KindCrash, at, string(DaemonStart), "the daemon had ended without daemon.stop, which cut off %s", h.counted())
	}
	h.daemon = runs
	clear(h.open)
}

func (h *history) counted() string {
	n := map[string]int64{}
	for _, o := range h.open {
		n[o.code] += int64(o.n)
	}
	if len(n) == 0 {
		return "nothing"
	}
	return fmt.Sprintf("%s, %s to targets and %s", countOf(n[string(ConnOpen)], "session"), countOf(n[string(TargetOpen)], "connection"), countOf(n[string(ProcStart)], "program"))
}

// unclosed reports what is still open where it can't be.
func (h *history) unclosed(why string) {
	for _, o := range h.openings() {
		h.wrong(KindUnclosed, o.at, o.code, "it has no end, and %s", why)
	}
	clear(h.open)
}

func (h *history) openings() []opening {
	list := make([]opening, 0, len(h.open))
	for _, o := range h.open {
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b opening) int { return int(min(max(a.at.index-b.at.index, -1), 1)) })
	return list
}

// finish counts what runs on.
func (h *history) finish() {
	for _, o := range h.open {
		if !strings.HasPrefix(o.code, "target.") {
			h.report.Running += o.n
		}
	}
}

// time checks that it went on, and not for long without an event. The log's own
// events are stamped when they are written, and those that had waited follow.
func (h *history) time(f *lineFields, at spot) {
	if f.logged < 0 {
		h.wrong(KindEvent, at, string(f.code), "it has no metadata.logged_time")
		return
	}
	code := Code(f.code)
	h.silence(f, at)
	h.last = f.logged
	h.explained(code, f.logged)
	back := time.Duration(h.clock-f.logged) * time.Millisecond
	switch {
	case code == ClockStep:
	case h.clock > 0 && back > clockStep:
		h.wentBack = &wentBack{f.logged, Finding{Kind: KindClock, File: at.file, Line: at.line, Index: at.index, Event: string(code),
			What: fmt.Sprintf("it was written %v before event %d, and no %s says that the clock was set", back.Round(time.Millisecond), h.clockAt.index, ClockStep)}}
	case back > 0 || code == LogRotate || code == LogFailure || code == LogRecovered:
		return
	}
	h.clock, h.clockAt = f.logged, at
}

// explained reports a step back once the event that says so should have come.
func (h *history) explained(code Code, logged int64) {
	switch {
	case h.wentBack == nil:
	case code == ClockStep:
		h.wentBack = nil
	case time.Duration(logged-h.wentBack.to)*time.Millisecond > clockNotice:
		h.report.wrong(h.wentBack.what)
		h.wentBack = nil
	}
}

// silence remarks on time without events while the daemon ran. How long it
// ran before a crash is not known.
func (h *history) silence(f *lineFields, at spot) {
	d := time.Duration(f.logged-h.last) * time.Millisecond
	if h.last == 0 || d <= silence || h.daemon == stopped || Code(f.code) == DaemonStart {
		return
	}
	h.remark(KindSilence, at, string(f.code), "no event for %v before it, though the daemon writes one every %v", d.Round(time.Second), heartbeatInterval)
}

func (h *history) wrong(kind string, at spot, code, format string, args ...any) {
	h.report.wrong(Finding{Kind: kind, File: at.file, Line: at.line, Index: at.index, Event: code, What: fmt.Sprintf(format, args...)})
}

func (h *history) remark(kind string, at spot, code, format string, args ...any) {
	h.report.remark(Finding{Kind: kind, File: at.file, Line: at.line, Index: at.index, Event: code, What: fmt.Sprintf(format, args...)})
}

func countOf(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
