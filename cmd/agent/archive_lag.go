package main

import (
	"bytes"
	"sync"
	"time"
)

// lag knows how old the oldest event is that no checkpoint in the archive
// covers. Its methods may be called from any goroutine.
type lag struct {
	mu     sync.Mutex // guards what follows
	events int64      // in the log
	since  time.Time  // when the oldest event that is not anchored was written; zero = all are
	haste  bool       // the next checkpoint is not to wait
}

// written takes lines that follow first events.
func (l *lag) written(first int64, lines []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = first + int64(bytes.Count(lines, []byte("\n")))
	if l.since.IsZero() {
		l.since = time.Now()
	}
}

// opened takes how many events the log has when it is opened.
func (l *lag) opened(events int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = events
}

// anchored takes how many events a checkpoint in the archive covers, and when
// the first that it does not cover was written; zero = there was none yet.
func (l *lag) anchored(size int64, next time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case size >= l.events:
		l.since = time.Time{}
	case next.IsZero(): // it was written while the caller looked
		l.since = time.Now()
	default:
		l.since = next
	}
}

// now is the age of the oldest event that is not anchored, 0 = all are.
func (l *lag) now() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since.IsZero() {
		return 0
	}
	return max(0, time.Since(l.since))
}

func (l *lag) hurry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.haste = true
}

// hurried reports whether there was a hurry since it was last asked.
func (l *lag) hurried() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	haste := l.haste
	l.haste = false
	return haste
}
