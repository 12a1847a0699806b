package audit

import (
	"context"
	"errors"
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
// Refuse left, closes segments that are a day old, removes those older than
// Retention, signs the log every ten seconds and when a segment was closed,
// writes a heartbeat every five minutes and an event when the clock was set,
// and takes up writing again when a full disk has room. It returns nil after a
// last write of all that is queued and a checkpoint of it; Append works until
// Close.
func (l *Log) Run(ctx context.Context) error {
	tick := time.NewTicker(tickInterval)
	defer tick.Stop()
	heartbeat := time.NewTicker(heartbeatInterval)
	defer heartbeat.Stop()
	checkpoint := time.NewTicker(checkpointInterval)
	defer checkpoint.Stop()
	expire := time.NewTicker(expireInterval)
	defer expire.Stop()
	clock := clock{wall: l.opts.wallClock(), passed: time.Now()}
	signer := startSigner(l.sign)
	for {
		select {
		case <-ctx.Done():
			l.Note(l.refusals.drain()...)
			l.flush()
			signer.end()
			l.sign()
			return nil
		case <-tick.C:
			if step, before, found := clock.step(l.opts.wallClock()); found {
				l.clockSet = true
				l.Note(clockStepped(step, before, clock.wall, "while this process ran"))
			}
			l.work()
			if l.rotated.Load() {
				signer.ask()
			}
		case <-l.wake():
			if l.ledger.absorb() {
				signer.ask()
			}
		case <-checkpoint.C:
			signer.ask()
		case <-expire.C:
			l.expire(ctx, time.Now())
		case <-heartbeat.C:
			l.Note(l.heartbeat())
		}
	}
}

// work is what is done at each tick.
func (l *Log) work() {
	if l.State() == StateOpen {
		l.Note(l.refusals.due(time.Now())...)
	}
	l.flush()
	l.heal()
}

// signer signs when it is asked. It does so beside Run, because the key may be
// far away and not answer, and what Run does else must not wait for that.
type signer struct {
	asked chan struct{}
	ended chan struct{}
}

func startSigner(sign func()) signer {
	s := signer{asked: make(chan struct{}, 1), ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		for range s.asked {
			sign()
		}
	}()
	return s
}

// ask has it sign once more, after what it is at.
func (s signer) ask() {
	select {
	case s.asked <- struct{}{}:
	default:
	}
}

// end returns when it has ended.
func (s signer) end() {
	close(s.asked)
	<-s.ended
}

// wake tells that many lines wait to be hashed.
func (l *Log) wake() <-chan struct{} {
	if l.ledger == nil {
		return nil
	}
	return l.ledger.wake
}

// sign makes a checkpoint. One that fails is made again in ten seconds; what
// another hand did to the files is for good.
func (l *Log) sign() {
	if l.ledger == nil {
		return
	}
	if _, err := l.Checkpoint(); err != nil {
		l.tell(l.State(), err)
		l.failSigning(err)
	}
}

func (l *Log) failSigning(err error) {
	overdue := l.ledger.overdue()
	if !errors.Is(err, errTampered) && overdue == nil {
		return
	}
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if l.State() != StateFailed {
		l.fail(errors.Join(err, overdue))
	}
}

func (l *Log) heartbeat() Event {
	facts := map[string]any{"size": l.Size(), "segment": filepath.Base(l.segment().path), "state": l.State().String()}
	if l.ledger != nil {
		facts["signed"] = l.ledger.covered.Load()
	}
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

// Ready is nil while events can be written and signed and MinFree bytes are free. It
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
	if l.ledger != nil {
		if err := l.ledger.ready(); err != nil {
			return err
		}
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
