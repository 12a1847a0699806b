// Package audit is the gate's append-only log of OCSF events: what was written
// and acknowledged is on disk.
//
// A log is a directory of segments, files of JSON lines, each named for the
// index of its first line. docs/audit-format.md describes it.
package audit

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Options configure a Log. Fields are set once, before Open.
type Options struct {
	Dir     string // made where missing, 0750
	MinFree uint64 // bytes that must be free in Dir's file system, else Ready fails; 0 = 512 MiB
	Host    Host
	// Appended, if set, is called after each group commit with how long it took
	// and the codes in it, and for events that could not be written. It holds
	// up the log, so it must be quick and must not call it; codes is valid only
	// during the call.
	Appended func(d time.Duration, codes []Code, err error)
	// OnFailure, if set, is told of each failure and of each change of state,
	// under the conditions of Appended. A nil err says that all is well again.
	OnFailure func(s State, err error)

	// Key signs checkpoints; it must be Ed25519. nil = the log is not signed, and
	// nothing proves that it is whole. A log that was signed once is opened only
	// with a key. OldKey is the one before Key, if there still is one: the first
	// checkpoint of a new key is signed by both.
	Key, OldKey crypto.Signer
	// Origin begins the name of a new log or epoch, which goes on with
	// /postern/<instance>/<epoch>: a host or domain. "" = the host's name.
	Origin string
	// NewEpoch, if set, is why a new epoch is to begin: Open moves all that Dir
	// holds into a folder of it and begins a log whose first event says so.
	NewEpoch    string
	SegmentSize int64         // bytes after which a segment is closed; 0 = 8 MiB
	SegmentAge  time.Duration // after which one that is not empty is; 0 = 24 h
	Retention   time.Duration // after which closed segments are removed; 0 = never
	// Anchors are checkpoints, as they were signed, that were stored off the host.
	// Open refuses, with ErrRolledBack and before it changes anything, a log that
	// is shorter than one of them or makes another root, and one of another
	// instance or an older epoch than one of them: it is an older copy, or not the
	// log of this host. Those of epochs that have ended count no more. With
	// NewEpoch nothing is refused: the epoch that begins goes on from the newest
	// anchor. Only what Key, OldKey or a key in audit.vkey has signed is looked at,
	// and other hosts' anchors are not.
	Anchors [][]byte
	// Archived, if set, says whether a closed segment, by the index of its first
	// event, is stored elsewhere. Until then Retention leaves it, and those after
	// it. It is called on the goroutine of Run.
	Archived func(first int64) bool
	// Written, if set, is called after each group commit, and by Open for what it
	// writes, with the lines that are durable now, each with its newline, and the
	// index of the first: each line once, in the order of the log, and none whose
	// write failed. It holds up the log, so it must be quick and must not call it;
	// lines is valid only during the call.
	Written func(first int64, lines []byte)
	// Signed, if set, is called whenever a checkpoint was made, was not necessary
	// or could not be made, with the size that is signed then. It must not call
	// the log.
	Signed func(size int64, err error)

	open      openFile         // nil = openOSFile
	wallClock func() time.Time // nil = that of the system
}

// Host is the constant part of each event. What is not known stays empty.
type Host struct {
	Version, Hostname, InstanceID, Region, Zone, Account string
	LoadBalancer                                         string // ARN
}

var (
	// ErrFailed is what Append wraps when the log can't promise anything.
	ErrFailed = errors.New("the audit log has failed")
	// ErrClosed is what Append returns after Close.
	ErrClosed = errors.New("the audit log is closed")
)

// Log is an open audit log. Its methods may be called from any goroutine.
type Log struct {
	opts     Options
	lock     *os.File
	opened   time.Time
	ledger   *ledger      // nil = the log is not signed
	findings []Event      // of Open: what it found and did
	ahead    *anchor      // of Open: what a new epoch goes on from; nil = what was put aside
	next     atomic.Int64 // index of the next event; changed by the holder of turn
	rotated  atomic.Bool  // a segment was closed since the last checkpoint
	since    atomic.Int64 // when the write under way began, Unix nanoseconds; 0 = none

	// turn holds one token. Whoever put it there writes for everybody else and
	// owns buf, held and retryRotate until taking it out.
	turn        chan struct{}
	buf         []byte
	held        bool      // the reserve file exists
	retryRotate time.Time // no rotation before

	mu      sync.Mutex // guards what follows
	current *segment   // replaced with turn and mu held, so either is enough to read it
	queue   []*entry
	queued  int // events in queue
	state   State
	cause   error // of a state that is not StateOpen
	closed  bool

	clockSet bool // owned by Run: since it began, so that ages are not to be believed

	failed   chan struct{}
	refusals refusals
	health   health
}

// entry is the events of one call; they stand together in the log.
type entry struct {
	records []record
	done    chan error // one answer fits, so that nobody waits to give it; nil = nobody waits for it
}

// Append writes events, together and in order. It returns nil once they are on
// disk; until then the caller must not let the client proceed. An error wraps
// ErrFailed, or is ErrClosed or ctx's; in the last case the events may yet be
// written. Appends at the same time share one write and one sync.
func (l *Log) Append(ctx context.Context, events ...Event) error {
	if len(events) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	e := l.entry(events)
	e.done = make(chan error, 1)
	if _, err := l.enqueue(e, StateOpen); err != nil {
		return err
	}
	return l.wait(ctx, e)
}

// Note queues events that report what has already happened; the next Append or
// Run writes them within a second. It waits only while 4096 events are queued.
// Events are dropped, and reported to Appended, only after the log has failed
// or been closed.
func (l *Log) Note(events ...Event) {
	if len(events) == 0 {
		return
	}
	e := l.entry(events)
	full, err := l.enqueue(e, StateDegraded)
	if err != nil {
		l.report(0, e.records, err)
		return
	}
	if full {
		l.flush()
	}
}

// Refuse is Note for refusals: of those with the same Code, Endpoint, client
// address and Reason, ten in ten seconds are written as they are, the others
// counted and written as one event with Count, Start and End. While the disk is
// full all are counted, so that they don't take the room that endings need.
func (l *Log) Refuse(e Event) {
	now := time.Now()
	if e.Time.IsZero() {
		e.Time = now
	}
	l.Note(l.refusals.add(e, now, l.State() != StateOpen)...)
}

// Failed is closed when nothing can be written any more, for good.
func (l *Log) Failed() <-chan struct{} { return l.failed }

// Size is how many events the log holds, all on disk.
func (l *Log) Size() int64 { return l.next.Load() }

// Close writes what is queued, signs the log, and gives the directory free. It returns the
// cause if the log has failed. A second Close does nothing.
func (l *Log) Close() error {
	l.Note(l.refusals.drain()...)
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	l.flush()

	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	err := l.current.file.Close()
	if l.State() == StateFailed {
		err = l.cause // with turn held, nothing changes it
	}
	return errors.Join(err, l.closeLedger(), l.lock.Close())
}

func (l *Log) entry(events []Event) *entry {
	now := time.Now()
	records := make([]record, len(events))
	for i, e := range events {
		records[i] = encode(e, &l.opts.Host, now)
	}
	return &entry{records: records}
}

// enqueue reports whether the queue is full. It refuses when the state is worse
// than worst.
func (l *Log) enqueue(e *entry, worst State) (full bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false, ErrClosed
	}
	if l.state > worst {
		return false, fmt.Errorf("%w: %w", ErrFailed, l.cause)
	}
	l.queue = append(l.queue, e)
	l.queued += len(e.records)
	return l.queued > maxQueued, nil
}

// wait returns when e has been answered. The first to come writes for all that
// are queued behind it.
func (l *Log) wait(ctx context.Context, e *entry) error {
	for {
		select {
		case err := <-e.done: // rather than write once more for others
			return err
		default:
		}
		select {
		case err := <-e.done:
			return err
		case <-ctx.Done():
			l.withdraw(e)
			return ctx.Err()
		case l.turn <- struct{}{}:
			l.commit()
			<-l.turn
		}
	}
}

// withdraw takes e back if its writing has not begun.
func (l *Log) withdraw(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, queued := range l.queue {
		if queued == e {
			l.queue = append(l.queue[:i], l.queue[i+1:]...)
			l.queued -= len(e.records)
			return
		}
	}
}

func (l *Log) report(d time.Duration, records []record, err error) {
	if l.opts.Appended == nil {
		return
	}
	codes := make([]Code, len(records))
	for i, r := range records {
		codes[i] = r.code
	}
	l.opts.Appended(d, codes, err)
}
