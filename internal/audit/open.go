package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"postern/internal/durable"
)

// ErrDamaged is what Open's error wraps when the directory holds something
// that a crash can't explain: it was edited, or the disk has lost bytes.
var ErrDamaged = errors.New("the audit log is damaged")

// ErrInUse is what Open's error wraps when another process has the directory.
var ErrInUse = errors.New("the audit log is in use")

// Open opens the log in o.Dir, makes it where there is none, and holds the
// directory's lock until Close. An end that was torn off by a crash is moved to
// a file torn-*.bin, and a log.recovered event says so. Open reads the newest
// segment whole, and of each older one its first and last line.
func Open(o Options) (*Log, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(o.Dir, 0o750); err != nil {
		return nil, err
	}
	lock, err := takeLock(o.Dir)
	if err != nil {
		return nil, err
	}
	l := &Log{opts: o, lock: lock, opened: time.Now(), turn: make(chan struct{}, 1), failed: make(chan struct{})}
	if err := l.load(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return l, nil
}

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, errors.New("audit: no directory")
	}
	if o.MinFree == 0 {
		o.MinFree = 512 << 20
	}
	if o.segmentSize == 0 {
		o.segmentSize = 8 << 20
	}
	if o.segmentAge == 0 {
		o.segmentAge = 24 * time.Hour
	}
	if o.open == nil {
		o.open = openOSFile
	}
	return o, nil
}

// takeLock keeps a second process out. The kernel drops the lock with the
// process, however that ends; the file stays and says who held it.
func takeLock(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("lock the audit directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path)
		err = fmt.Errorf("%w: %s is held by %s: %w", ErrInUse, dir, orElse(strings.TrimSpace(string(holder)), "another process"), err)
		return nil, errors.Join(err, f.Close())
	}
	who := fmt.Sprintf("process %d since %s\n", os.Getpid(), time.Now().UTC().Format(time.RFC3339))
	if err := errors.Join(f.Truncate(0), writeAt(f, who)); err != nil && !noRoom(err) {
		return nil, errors.Join(fmt.Errorf("lock the audit directory: %w", err), f.Close())
	}
	return f, nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// load finds the end of the log and makes it ready to take events.
func (l *Log) load() error {
	segments, err := l.checkStored()
	if err != nil {
		return err
	}
	if err := l.holdReserve(); err != nil {
		l.state, l.cause = StateDegraded, err
	}
	if len(segments) == 0 {
		l.current, err = createSegment(l.opts, 0, time.Now())
		return err
	}
	newest := segments[len(segments)-1]
	end, err := readEnd(newest)
	if err != nil {
		return err
	}
	if len(end.torn) > 0 {
		if err := l.cutOff(newest.path, end); err != nil {
			return err
		}
	}
	if l.current, err = l.reopen(newest, end); err != nil {
		return err
	}
	l.next.Store(end.next)
	return l.noteCuts()
}

// checkStored returns the segments, the newest of which is not empty.
func (l *Log) checkStored() ([]stored, error) {
	segments, err := listSegments(l.opts.Dir)
	if err != nil {
		return nil, err
	}
	// A crash between making a segment and its first event leaves an empty one.
	// Without it the log is as it was, and rotates again.
	for n := len(segments); n > 1 && isEmpty(segments[n-1].path); n = len(segments) {
		if err := os.Remove(segments[n-1].path); err != nil {
			return nil, fmt.Errorf("remove an empty audit segment: %w", err)
		}
		segments = segments[:n-1]
	}
	for i := range len(segments) - 1 {
		if err := l.checkClosed(segments[i], segments[i+1]); err != nil {
			return nil, err
		}
	}
	return segments, nil
}

func isEmpty(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() == 0
}

// checkClosed checks that next continues s.
func (l *Log) checkClosed(s, next stored) error {
	if err := checkEnds(s, next.first); err == nil {
		return nil
	}
	// Lines that failed to become durable may have outlived a log.failure.
	head, err := firstRecord(next)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(s.path)
	if err != nil {
		return fmt.Errorf("read audit segment: %w", err)
	}
	end, err := findEnd(s, data, next.first)
	if err != nil {
		return err
	}
	if end.next != next.first || head.Code != LogFailure {
		return damaged(s.path, end.size, fmt.Errorf("it ends before event %d, and %s begins with event %d", end.next, filepath.Base(next.path), next.first))
	}
	return l.cutOff(s.path, end)
}

// end is where the good part of a segment ends.
type end struct {
	next  int64 // index of the event that comes next
	size  int64 // bytes of whole events
	torn  []byte
	began time.Time
	hash  hash.Hash
}

func readEnd(s stored) (end, error) {
	data, err := os.ReadFile(s.path)
	if err != nil {
		return end{}, fmt.Errorf("read audit segment: %w", err)
	}
	return findEnd(s, data, -1)
}

// findEnd reads events up to the index stop, or all if it is -1.
func findEnd(s stored, data []byte, stop int64) (end, error) {
	e := end{next: s.first, began: time.Now(), hash: sha256.New()}
	for int(e.size) < len(data) && e.next != stop {
		rest := data[e.size:]
		line, _, whole := bytes.Cut(rest, []byte("\n"))
		r, err := parse(line, e.next)
		if err != nil || !whole {
			if whole && !tornWrite(line, rest) {
				return e, damaged(s.path, e.size, err)
			}
			break
		}
		if e.next == s.first {
			e.began = r.Time
		}
		e.hash.Write(rest[:len(line)+1])
		e.size += int64(len(line)) + 1
		e.next++
	}
	e.torn = data[e.size:]
	return e, nil
}

// tornWrite tells a write that a power cut left with holes (zeros, and behind
// them perhaps whole lines) from an edited line: events hold no zero byte, and
// what one write holds is bounded.
func tornWrite(line, rest []byte) bool {
	return bytes.IndexByte(line, 0) >= 0 && len(rest) <= 2*maxBatchBytes
}

func (l *Log) reopen(s stored, e end) (*segment, error) {
	// It is 0440 if the crash came between closing it and beginning the next.
	if err := os.Chmod(s.path, 0o640); err != nil {
		return nil, fmt.Errorf("open audit segment: %w", err)
	}
	f, err := l.opts.open(s.path, os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open audit segment: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &segment{file: f, path: s.path, info: info, first: s.first, size: e.size, hash: e.hash, began: e.began}, nil
}

// cutOff keeps e.torn in a file of its own and cuts it off the segment.
func (l *Log) cutOff(path string, e end) error {
	saved := tornPath(l.opts.Dir, l.opened)
	if err := durable.WriteFile(saved, e.torn, 0o440); err != nil {
		return err
	}
	l.cuts = append(l.cuts, cut(path, saved, e))
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrPermission) && os.Chmod(path, 0o640) == nil {
		f, err = os.OpenFile(path, os.O_WRONLY, 0)
	}
	if err != nil {
		return fmt.Errorf("cut the torn end off: %w", err)
	}
	return errors.Join(f.Truncate(e.size), f.Sync(), f.Close())
}

func cut(path, saved string, e end) Event {
	hash := sha256.Sum256(e.torn)
	return Event{
		Code: LogRecovered, File: path,
		Message: fmt.Sprintf("%d bytes of an unfinished write were cut off", len(e.torn)),
		Extra: map[string]any{
			"torn_bytes": len(e.torn), "torn_sha256": hex.EncodeToString(hash[:]),
			"saved_as": filepath.Base(saved), "first_new_index": e.next,
		},
	}
}

// noteCuts writes down what was cut off.
func (l *Log) noteCuts() error {
	if len(l.cuts) == 0 {
		return nil
	}
	e := l.entry(l.cuts)
	e.done = make(chan error, 1)
	if _, err := l.enqueue(e, StateDegraded); err != nil {
		return err
	}
	l.cuts = nil
	return l.wait(context.Background(), e)
}

func damaged(path string, offset int64, err error) error {
	return fmt.Errorf("%w: %s, byte %d: %w; nothing was changed: keep the directory as evidence, find out who wrote to it, and start with an empty one",
		ErrDamaged, path, offset, err)
}
