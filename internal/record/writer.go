package record

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"math"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrClosed says that the recording was closed.
var ErrClosed = errors.New("the recording is closed")

const (
	fullBlock   = 64 << 10 // bytes that are written at once
	maxPiece    = 32 << 10 // bytes of a stream in one record
	chunkSize   = 1 << 20
	chunkPeriod = time.Minute
)

// Events are what a Writer reports while it writes. They are called from
// Store.Run or the writer's own calls, never at the same time for one Writer.
// They must not call the Writer; they may block, which delays its syncs alone.
type Events struct {
	Chunk  func(Chunk) // each MiB or minute and at most once a second; durable when called
	Failed func(error) // once; the recording takes no more
}

// Writer is one recording that is being written. It is safe for concurrent use.
type Writer struct {
	store  *Store
	file   *os.File
	id     string
	events Events
	began  time.Time
	offset time.Duration // began since the header's Started
	prefix [32]byte      // hash of the file up to its first block
	sealer *sealer       // nil: not sealed; guarded by mu

	// syncing is held over a sync and over each call of events. It is taken
	// before mu.
	syncing  sync.Mutex
	stated   int64 // bytes of the file that the last Chunk spoke of
	statedAt time.Time

	mu       sync.Mutex // guards what follows
	pending  *buffer    // records that are not in a block yet; nil = none
	count    int64      // of records in pending
	held     streams    // bytes in pending
	first    time.Duration
	last     time.Duration // time of the newest record
	queued   bool          // a flush is due
	dirty    bool          // something was written since the last sync
	size     int64         // bytes of whole blocks in the file
	reserved int64         // bytes that the file has room for
	sum      hash.Hash     // SHA-256 of the first size bytes
	totals   Totals
	failure  error
	reported bool // Failed was called
	summary  *Summary
}

// ID names the recording.
func (w *Writer) ID() string { return w.id }

// Path is the recording's file.
func (w *Writer) Path() string { return w.file.Name() }

// Write takes one record; when it returns nil, p has been copied and is on its
// way to the file within 100 ms. Bytes of a stream that are more than 32 KiB
// become several records of one time; other kinds may have up to 1 MiB. After
// an error the recording has ended.
func (w *Writer) Write(k Kind, p []byte) error {
	w.mu.Lock()
	err := w.take(k, p)
	failed := err != nil && w.failure != nil && !w.reported
	w.mu.Unlock()
	if failed {
		w.report()
	}
	return err
}

// take adds p to what is pending; mu is held.
func (w *Writer) take(k Kind, p []byte) error {
	if w.failure != nil {
		return w.failure
	}
	if w.summary != nil {
		return ErrClosed
	}
	limit := maxRecord
	if k == Stdout || k == Stderr || k == Stdin {
		limit = maxPiece
	}
	at := max(w.last, w.now())
	for {
		n := min(len(p), limit)
		if err := w.add(k, at, p[:n]); err != nil {
			return err
		}
		if p = p[n:]; len(p) == 0 {
			return nil
		}
	}
}

// add appends one record to what is pending, and writes a block that is full.
func (w *Writer) add(k Kind, at time.Duration, p []byte) error {
	w.grow(recordHead + len(p))
	if w.count == 0 {
		w.first, w.last = at, at
	}
	w.pending.b = appendRecord(w.pending.b, k, at-w.last, p)
	w.last = at
	w.count++
	w.held.add(k, len(p))
	if len(w.pending.b) >= fullBlock {
		return w.flush(true)
	}
	if !w.queued {
		w.queued = true
		w.store.queue.flushLater(w)
	}
	return nil
}

// now is the time since the header's Started.
func (w *Writer) now() time.Duration { return w.offset + time.Since(w.began) }

// grow makes room for n bytes in pending.
func (w *Writer) grow(n int) {
	if w.pending == nil {
		w.pending = w.store.buffers.get(n)
		return
	}
	have := len(w.pending.b)
	if have+n <= cap(w.pending.b) {
		return
	}
	bigger := w.store.buffers.get(max(have+n, smallBuffer+1))
	bigger.b = append(bigger.b, w.pending.b...)
	w.store.buffers.give(w.pending)
	w.pending = bigger
}

// fail ends the recording; mu is held.
func (w *Writer) fail(err error) error {
	if w.failure == nil {
		w.failure = fmt.Errorf("recording %s: %w", w.id, err)
	}
	return w.failure
}

// report calls Failed, once.
func (w *Writer) report() {
	w.syncing.Lock()
	defer w.syncing.Unlock()
	w.reportLocked()
}

func (w *Writer) reportLocked() {
	w.mu.Lock()
	err, done := w.failure, w.reported
	w.reported = err != nil
	w.mu.Unlock()
	if err != nil && !done && w.events.Failed != nil {
		w.events.Failed(err)
	}
}

// flushDue writes what is pending; Run calls it.
func (w *Writer) flushDue() {
	w.mu.Lock()
	w.queued = false
	var err error
	if w.failure == nil && w.summary == nil {
		err = w.flush(false)
	}
	w.mu.Unlock()
	if err != nil {
		w.report()
	}
}

// sync makes what was written durable and says so in a Chunk when one is due.
// It tells whether the writer wants to be called again in a second.
func (w *Writer) sync() (again bool) {
	w.syncing.Lock()
	defer w.syncing.Unlock()
	w.mu.Lock()
	if w.failure != nil || w.summary != nil {
		w.mu.Unlock()
		return false
	}
	dirty, grown := w.dirty, w.size-w.stated
	w.dirty = false
	due := grown >= chunkSize || grown > 0 && time.Since(w.statedAt) >= chunkPeriod
	var c Chunk
	if due {
		c = w.chunk()
	}
	w.mu.Unlock()
	// The lock is not held over the sync: a slow disk delays no record.
	if dirty {
		if err := fdatasync(w.file); err != nil {
			w.mu.Lock()
			w.fail(err)
			w.mu.Unlock()
			w.reportLocked()
			return false
		}
	}
	if due {
		w.stated, w.statedAt = c.Size, time.Now()
		if w.events.Chunk != nil {
			w.events.Chunk(c)
		}
		return false
	}
	return grown > 0
}

// chunk states what the file holds; mu is held.
func (w *Writer) chunk() Chunk {
	return Chunk{Size: w.size, SHA256: hex.EncodeToString(w.sum.Sum(nil)), Records: w.totals.Records}
}

// Close writes the end record, syncs, and returns the final hash. It uses space
// that was reserved, so it works on a full disk. complete is false where the
// session was cut before its end was seen. After a failure it ends the file as
// well as it can and returns that failure, with what is known to be written. A
// second Close returns what the first did.
func (w *Writer) Close(complete bool) (Summary, error) {
	w.syncing.Lock()
	defer w.syncing.Unlock()
	s, err := w.close(complete)
	w.reportLocked()
	return s, err
}

func (w *Writer) close(complete bool) (Summary, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.summary != nil {
		return *w.summary, w.failure
	}
	w.reserved = math.MaxInt64 // what was reserved is for this
	if w.failure == nil {
		w.flush(false) // its failure is kept
	}
	w.last = max(w.last, w.now())
	w.totals.Complete = complete && w.failure == nil
	w.totals.Duration = w.last
	if err := w.end(); err != nil {
		w.fail(err)
	}
	w.dropPending()
	w.file.Chmod(settledMode) // or BrokenOff has a look, and finds the end
	if err := w.file.Close(); err != nil {
		w.fail(err)
	}
	t := w.totals
	w.summary = &Summary{Chunk: w.chunk(), ID: w.id, Path: w.Path(), Duration: t.Duration,
		Stdout: t.Stdout, Stderr: t.Stderr, Stdin: t.Stdin, Complete: t.Complete && w.failure == nil}
	w.sum = nil
	return *w.summary, w.failure
}

// end writes the end block over what a failed write may have left, gives back
// the space that was reserved, and syncs. Where there is no end block, the file
// is what the summary's hash is of.
func (w *Writer) end() error {
	err := w.putEnd()
	return errors.Join(err, w.file.Truncate(w.size), fdatasync(w.file))
}

func (w *Writer) dropPending() {
	if w.pending != nil {
		w.store.buffers.give(w.pending)
		w.pending = nil
	}
	w.count, w.held = 0, streams{}
}

func fdatasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
