package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// State is what a log can do. It gets better only from StateDegraded.
type State int

const (
	// StateOpen: everything is written.
	StateOpen State = iota
	// StateDegraded: the disk is full. Append refuses, so that nothing new
	// begins; Note writes on into the room that was kept for endings. Run leaves
	// this state when there is room again.
	StateDegraded
	// StateFailed: nothing is written any more.
	StateFailed
)

func (s State) String() string { return [...]string{"open", "degraded", "failed"}[s] }

// State is the log's state now.
func (l *Log) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

func (l *Log) enter(s State, cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state, l.cause = s, cause
}

func (l *Log) tell(s State, err error) {
	if l.opts.OnFailure != nil {
		l.opts.OnFailure(s, err)
	}
}

// fail ends the log and answers everybody in the queue. It returns what Append
// is to return. The caller holds turn.
func (l *Log) fail(cause error) error {
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	l.mu.Lock()
	l.state, l.cause = StateFailed, cause
	queue := l.queue
	l.queue, l.queued = nil, 0
	l.mu.Unlock()

	close(l.failed)
	l.tell(StateFailed, err)
	for _, e := range queue {
		if e.done != nil {
			e.done <- err
		}
		l.report(0, e.records, err)
	}
	return err
}

// reserveSize is what the reserve file holds of the disk, in bytes: the batch
// that found the disk full, and some two thousand events to end sessions with.
const reserveSize = 4 << 20

func (l *Log) reservePath() string { return filepath.Join(l.opts.Dir, "reserve") }

// holdReserve takes the room that is given up when the disk is full. File
// systems that can't preallocate do without.
func (l *Log) holdReserve() error {
	f, err := os.OpenFile(l.reservePath(), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("keep room for the end of sessions: %w", err)
	}
	err = syscall.Fallocate(int(f.Fd()), 0, 0, reserveSize)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		err = nil
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("keep room for the end of sessions: %w", err), os.Remove(l.reservePath()))
	}
	l.held = true
	return nil
}

func (l *Log) releaseReserve() {
	if l.held && os.Remove(l.reservePath()) == nil {
		l.held = false
	}
}

// heal leaves StateDegraded when there is room again.
func (l *Log) heal() {
	if l.State() != StateDegraded {
		return
	}
	free, err := freeBytes(l.opts.Dir)
	if err != nil || free < l.opts.MinFree+reserveSize {
		return
	}
	if !l.reopenForAll() {
		return
	}
	l.Note(Event{Code: LogRecovered, Message: "the audit log has room again", Extra: map[string]any{"free_bytes": int64(free)}})
}

func (l *Log) reopenForAll() bool {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if l.State() != StateDegraded || l.holdReserve() != nil {
		return false
	}
	l.enter(StateOpen, nil)
	l.tell(StateOpen, nil)
	return true
}

func freeBytes(dir string) (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}
