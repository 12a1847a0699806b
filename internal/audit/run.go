package audit

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"
)

const (
	tickInterval      = 500 * time.Millisecond // half of what Note promises
	heartbeatInterval = 5 * time.Minute
)

// Run does the log's work by the clock until ctx ends: it writes what Note and
// Refuse left, closes segments that are a day old, writes a heartbeat every
// five minutes, and takes up writing again when a full disk has room. It
// returns nil after a last write of all that is queued; Append works until
// Close.
func (l *Log) Run(ctx context.Context) error {
	tick := time.NewTicker(tickInterval)
	defer tick.Stop()
	heartbeat := time.NewTicker(heartbeatInterval)
	defer heartbeat.Stop()
	for {
		select {
		case <-ctx.Done():
			l.Note(l.refusals.drain()...)
			l.flush()
			return nil
		case <-tick.C:
			if l.State() == StateOpen {
				l.Note(l.refusals.due(time.Now())...)
			}
			l.flush()
			l.heal()
		case <-heartbeat.C:
			l.Note(l.heartbeat())
		}
	}
}

func (l *Log) heartbeat() Event {
	facts := map[string]any{"size": l.Size(), "segment": filepath.Base(l.segment().path), "state": l.State().String()}
	if free, err := freeBytes(l.opts.Dir); err == nil {
		facts["free_bytes"] = int64(free)
	}
	return Event{
		Code: DaemonHeartbeat, Message: "alive",
		Extra: map[string]any{"uptime_s": int64(time.Since(l.opened).Seconds()), "log": facts},
	}
}

func (l *Log) segment() *segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

// stuckAfter is how long a write may take until Ready says that the disk hangs.
const stuckAfter = 5 * time.Second

// health is what Ready found when it last looked.
type health struct {
	mu  sync.Mutex // guards what follows
	at  time.Time
	err error
}

// Ready is nil while events can be written and MinFree bytes are free. It
// looks at the disk at most once a second.
func (l *Log) Ready() error {
	if err := l.writable(); err != nil {
		return err
	}
	l.health.mu.Lock()
	defer l.health.mu.Unlock()
	if time.Since(l.health.at) < time.Second {
		return l.health.err
	}
	l.health.at, l.health.err = time.Now(), l.inspect()
	return l.health.err
}

func (l *Log) writable() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if l.state != StateOpen {
		return fmt.Errorf("%w: %s: %w", ErrFailed, l.state, l.cause)
	}
	return nil
}

func (l *Log) inspect() error {
	if since := l.since.Load(); since != 0 {
		if d := time.Since(time.Unix(0, since)); d > stuckAfter {
			return fmt.Errorf("the disk hangs: a write to the audit log has taken %v", d.Round(time.Second))
		}
	}
	if _, err := l.segment().present(); err != nil {
		return err
	}
	free, err := freeBytes(l.opts.Dir)
	if err != nil {
		return err
	}
	if free < l.opts.MinFree {
		return fmt.Errorf("%d MiB free in %s, audit.min_free is %d MiB", free>>20, l.opts.Dir, l.opts.MinFree>>20)
	}
	return nil
}
