package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"math"
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
// segment whole, and of each older one its first and last line; what it read
// must make the root of the newest checkpoint, with hashes.bin for the rest.
// It refuses, with an error that wraps ErrDamaged, what a crash can't explain.
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
	if err := l.start(); err != nil {
		l.abandon()
		return nil, errors.Join(err, lock.Close())
	}
	return l, nil
}

// abandon closes what a start that failed had opened.
func (l *Log) abandon() {
	if l.current != nil {
		l.current.file.Close()
	}
	if l.ledger != nil {
		l.ledger.close()
	}
}

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, errors.New("audit: no directory")
	}
	if o.MinFree == 0 {
		o.MinFree = 512 << 20
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = 8 << 20
	}
	if o.SegmentAge == 0 {
		o.SegmentAge = 24 * time.Hour
	}
	if o.open == nil {
		o.open = openOSFile
	}
	if o.wallClock == nil {
		o.wallClock = func() time.Time { return time.Now().Round(0) }
	}
	o.Origin = orElse(orElse(o.Origin, o.Host.Hostname), "localhost")
	if err := checkOrigin(originOf(o.Origin, strings.Repeat("0", 16), math.MaxInt64)); err != nil {
		return o, fmt.Errorf("audit: %w", err)
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

// load finds the end of the log, checks it against what was signed, and makes
// it ready to take events. Nothing is changed before all has been checked.
func (l *Log) load() error {
	found, err := surveySegments(l.opts.Dir)
	if err != nil {
		return err
	}
	claim, err := readClaim(l.opts.Dir, l.opts.Key)
	if err != nil {
		return err
	}
	if err := l.checkEpoch(found.last.next); err != nil {
		return err
	}
	g := &grown{}
	if l.opts.Key != nil {
		if g, err = found.grow(l.opts.Dir, claim); err != nil {
			return err
		}
		if l.opts.NewEpoch == "" {
			if g, err = l.checkAnchors(found, claim, g); err != nil {
				return err
			}
		}
	}
	if err := found.apply(l); err != nil {
		return err
	}
	if err := l.holdReserve(); err != nil {
		l.state, l.cause = StateDegraded, err
	}
	if err := l.begin(found); err != nil {
		return err
	}
	if l.opts.Key != nil {
		err := l.openLedger(claim, g)
		if noRoom(err) && l.held {
			l.releaseReserve()
			l.state, l.cause = StateDegraded, err
			err = l.openLedger(claim, g)
		}
		if err != nil {
			return err
		}
	}
	return l.noteFindings(found.last)
}

// begin opens the segment that takes the next event.
func (l *Log) begin(found *survey) error {
	newest, ok := found.newest()
	if !ok {
		var err error
		l.current, err = createSegment(l.opts, 0, time.Now())
		return err
	}
	var err error
	l.current, err = l.reopen(newest, found.last)
	l.next.Store(found.last.next)
	return err
}

// end is where the good part of a segment ends.
type end struct {
	next  int64     // index of the event that comes next
	time  time.Time // the latest at which one before that was logged
	size  int64     // bytes of whole events
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
		if r.Logged.After(e.time) {
			e.time = r.Logged
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
	// What a killed process wrote may not have reached the disk, and is signed soon.
	err = f.Sync()
	info, statErr := f.Stat()
	if err = errors.Join(err, statErr); err != nil {
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
	l.findings = append(l.findings, cut(path, saved, e))
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

// noteFindings writes down what Open found and did. newest is the end that the
// log had.
func (l *Log) noteFindings(newest end) error {
	if step := time.Since(newest.time); newest.next > 0 && step < -stepBack {
		l.findings = append(l.findings, clockStepped(step, newest.time, time.Now(), "since the last event, which an earlier process wrote"))
	}
	if len(l.findings) == 0 {
		return nil
	}
	e := l.entry(l.findings)
	e.done = make(chan error, 1)
	if _, err := l.enqueue(e, StateDegraded); err != nil {
		return err
	}
	l.findings = nil
	return l.wait(context.Background(), e)
}

func damaged(path string, offset int64, err error) error {
	return fmt.Errorf("%w: %s, byte %d: %w; %s", ErrDamaged, path, offset, err, nothingChanged)
}
