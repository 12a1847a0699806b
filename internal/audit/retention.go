package audit

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"postern/internal/durable"
)

const expireInterval = time.Hour

// expire removes the segments that are older than Retention, each after an
// event that says so. What is not signed or not archived stays, and so does
// everything after the clock was set: it would make all segments old at once.
func (l *Log) expire(ctx context.Context, now time.Time) {
	if l.opts.Retention == 0 || l.ledger == nil || l.clockSet || l.State() != StateOpen {
		return
	}
	for {
		s, next, err := l.oldest()
		if err == nil && (next.Index == 0 || now.Sub(next.Time) < l.opts.Retention || next.Index > l.ledger.covered.Load() || !l.archived(s)) {
			return
		}
		if err == nil {
			err = l.remove(ctx, s, next.Index)
		}
		if err != nil {
			l.tell(l.State(), fmt.Errorf("remove an old audit segment: %w", err))
			return
		}
	}
}

func (l *Log) archived(s stored) bool { return l.opts.Archived == nil || l.opts.Archived(s.first) }

// oldest returns the oldest segment and the first event after it, which is as
// old as the segment's end. The event is zero if there is none.
func (l *Log) oldest() (stored, Record, error) {
	segments, err := listSegments(l.opts.Dir)
	if err != nil || len(segments) < 2 {
		return stored{}, Record{}, err
	}
	next, err := firstRecord(segments[1])
	return segments[0], next, err
}

func (l *Log) remove(ctx context.Context, s stored, next int64) error {
	info, err := os.Lstat(s.path)
	if err != nil {
		return err
	}
	days := int64(l.opts.Retention / (24 * time.Hour))
	err = l.Append(ctx, Event{
		Code: LogDelete, Message: fmt.Sprintf("audit segment removed: older than %d days", days), File: s.path, FileSize: info.Size(),
		Extra: map[string]any{"first_index": s.first, "records": next - s.first, "retention_days": days},
	})
	if err != nil {
		return err
	}
	if err := os.Remove(s.path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(s.path))
}
