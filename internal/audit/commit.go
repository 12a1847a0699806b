package audit

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// What one write carries at most, but for a single call that has more.
const (
	maxBatchEvents = 256
	maxBatchBytes  = 1 << 20
)

// maxQueued is how many events wait until Note waits too.
const maxQueued = 4096

// flush writes all that is queued.
func (l *Log) flush() {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	for l.commit() {
	}
}

// commit writes one batch from the head of the queue, answers those who wait
// for it, and reports whether there was one. The caller holds turn.
func (l *Log) commit() bool {
	batch := l.take()
	records := l.rotate(time.Now())
	for _, e := range batch {
		records = append(records, e.records...)
	}
	if len(records) == 0 {
		return false
	}
	began := time.Now()
	l.since.Store(began.UnixNano())
	err := l.write(records)
	if err != nil {
		err = l.rescue(records, err)
	}
	l.since.Store(0)
	for _, e := range batch {
		if e.done != nil {
			e.done <- err
		}
	}
	l.report(time.Since(began), records, err)
	return true
}

func (l *Log) take() []*entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n, events, bytes int
	for n < len(l.queue) && events < maxBatchEvents && bytes < maxBatchBytes {
		e := l.queue[n]
		if n > 0 && events+len(e.records) > maxBatchEvents {
			break
		}
		events += len(e.records)
		for _, r := range e.records {
			bytes += len(r.body)
		}
		n++
	}
	batch := append([]*entry(nil), l.queue[:n]...)
	l.queue = append(l.queue[:0], l.queue[n:]...)
	l.queued -= events
	return batch
}

// write gives records their places in the log, and returns nil once they are
// durable there.
func (l *Log) write(records []record) error {
	l.buf = l.buf[:0]
	first := l.next.Load()
	next := first
	for _, r := range records {
		l.buf = r.appendTo(l.buf, next)
		next++
	}
	if err := l.current.append(l.buf); err != nil {
		return err
	}
	l.next.Store(next)
	if l.ledger != nil {
		l.ledger.add(l.buf)
	}
	if l.opts.Written != nil {
		l.opts.Written(first, l.buf)
	}
	return nil
}

// rotate begins a new segment if the current one is full or old, and returns
// the event that is to stand first in it.
func (l *Log) rotate(now time.Time) []record {
	old := l.current
	due := old.size >= l.opts.SegmentSize || old.size > 0 && now.Sub(old.began) >= l.opts.SegmentAge
	if !due || l.State() != StateOpen || now.Before(l.retryRotate) {
		return nil
	}
	s, err := createSegment(l.opts, l.next.Load(), now)
	if err != nil {
		// The old segment still takes events, so this is no failure yet.
		l.retryRotate = now.Add(10 * time.Second)
		l.tell(StateOpen, fmt.Errorf("begin a new audit segment: %w", err))
		return nil
	}
	l.replace(s)
	l.rotated.Store(true)
	if err := old.seal(); err != nil {
		l.tell(StateOpen, fmt.Errorf("close audit segment: %w", err))
	}
	return []record{encode(rotated(old, s.first), &l.opts.Host, now)}
}

func rotated(old *segment, next int64) Event {
	return Event{
		Code: LogRotate, Message: "audit segment closed",
		File: old.path, FileSize: old.size, FileHash: old.sum(),
		Extra: map[string]any{"first_index": old.first, "records": next - old.first},
	}
}

// rescue tries once to write records, which cause kept from the disk, to a new
// segment behind a log.failure event. After a failed sync the kernel may have
// dropped the bytes and call the file clean, so the old one is never synced
// again. Records that this returns nil for are durable.
func (l *Log) rescue(records []record, cause error) error {
	if errors.Is(cause, errTampered) {
		return l.fail(cause)
	}
	state := l.State()
	if noRoom(cause) {
		state = StateDegraded
		l.releaseReserve()
	}
	now := time.Now()
	old := l.current
	if err := old.abandon(now); err != nil {
		return l.fail(errors.Join(cause, err))
	}
	s, err := createSegment(l.opts, l.next.Load(), now)
	if err != nil {
		return l.fail(errors.Join(cause, err))
	}
	l.replace(s)
	failure := encode(failureEvent(old, state, cause), &l.opts.Host, now)
	if err := l.write(append([]record{failure}, records...)); err != nil {
		return l.fail(errors.Join(cause, err))
	}
	l.enter(state, cause)
	l.tell(state, fmt.Errorf("the audit log went on in %s: %w", filepath.Base(s.path), cause))
	return nil
}

// The reasons of LogFailure.
const (
	reasonIO      = "io_error"
	reasonNoSpace = "no_space" // the disk or a quota is full
)

func failureEvent(old *segment, state State, cause error) Event {
	reason := reasonIO
	if noRoom(cause) {
		reason = reasonNoSpace
	}
	return Event{
		Code: LogFailure, Message: "a write to the audit log failed; it goes on in this segment", Alert: true,
		Reason: reason, Detail: strings.ReplaceAll(cause.Error(), "\n", "; "), File: old.path,
		Extra: map[string]any{"mode": state.String()},
	}
}

func noRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// replace makes s the current segment. The caller holds turn.
func (l *Log) replace(s *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = s
}
