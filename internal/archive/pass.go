package archive

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

const (
	shortestPause = time.Second // after the first pass that failed, at most
	longestPause  = time.Minute // after the sixth
	mostStrange   = 10          // failures in a row for no known reason that end a pass
)

// Run copies what Backlog lists until ctx ends, and then returns nil.
func (a *Archive) Run(ctx context.Context) error {
	defer a.Close()
	return run(ctx, a.o.Interval, a.wake, a.pass)
}

// run makes passes: each interval, give or take a tenth, so that many gates do
// not come at once; earlier when woken; after one that S3 has failed, after a
// pause that grows.
func run(ctx context.Context, interval time.Duration, wake <-chan struct{}, pass func(context.Context) (Status, error)) error {
	failures := 0
	for {
		st, err := pass(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case global(st.Reason):
			failures++
			sleep(ctx, pause(failures), nil)
		default:
			failures = 0
			sleep(ctx, jitter(interval), wake)
		}
	}
}

func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}

// pause is the one after so many failures in a row, with full jitter.
func pause(failures int) time.Duration {
	return rand.N(min(shortestPause<<min(failures-1, 10), longestPause)) + 1
}

// sleep returns after d, when woken, or when ctx ends.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
	}
}

// Flush makes one pass over the backlog now. It returns the first failure.
func (a *Archive) Flush(ctx context.Context) error {
	st, err := a.pass(ctx)
	if err != nil {
		return err
	}
	return st.Err
}

// pass copies what waits, in its order but for what failed in the pass before,
// which comes last. One item's failure is no reason to leave out the others; S3's
// is. Its error is that of ctx, or says that there is no backlog.
func (a *Archive) pass(ctx context.Context) (Status, error) {
	if a.o.Backlog == nil {
		return Status{}, errors.New("copy to the archive: it was opened to be read only")
	}
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return Status{}, ctx.Err()
	}
	st := a.copyAll(ctx)
	if a.o.Changed != nil {
		a.o.Changed(st)
	}
	return st, ctx.Err()
}

func (a *Archive) copyAll(ctx context.Context) Status {
	items, err := a.o.Backlog()
	if err != nil {
		err := fmt.Errorf("list what is to be archived: %w", err)
		return Status{Err: err, Reason: reasonFile}
	}
	waiting := a.waiting(items)
	copied, err := a.copyThese(ctx, waiting)
	if err == nil {
		err = a.ledger.prune(keysOf(items))
	}
	return a.status(waiting, copied, err)
}

// waiting are the items that the archive does not have, those that failed in
// the pass before last.
func (a *Archive) waiting(items []Item) []Item {
	var fresh, failed []Item
	for _, it := range items {
		switch size, held := a.ledger.size(it.Key); {
		case held && (it.Size < 0 || it.Path == "" || it.Size == size):
		case a.bad[it.Key]:
			failed = append(failed, it)
		default:
			fresh = append(fresh, it)
		}
	}
	return append(fresh, failed...)
}

// copyThese returns how many it has copied and the first failure.
func (a *Archive) copyThese(ctx context.Context, items []Item) (copied int, first error) {
	if len(items) > 0 || a.lock == lockOff {
		if err := a.findLock(ctx); err != nil {
			return 0, err
		}
	}
	bad, strange := map[string]bool{}, 0
	for _, it := range items {
		err := a.copy(ctx, it)
		if err == nil {
			copied++
			strange = 0
			continue
		}
		if first == nil {
			first = err
		}
		reason := reasonOf(err)
		if ctx.Err() != nil || global(reason) {
			break // it is not this item's fault
		}
		bad[it.Key] = true
		if reason == reasonOther {
			strange++
		}
		if strange == mostStrange {
			break
		}
	}
	a.bad = bad
	if first == nil {
		first = a.lockFailure()
	}
	return copied, first
}

// status says what of waiting waits still.
func (a *Archive) status(waiting []Item, copied int, err error) Status {
	st := Status{Copied: copied, Err: err, Reason: reasonOf(err)}
	for _, it := range a.waiting(waiting) {
		st.Files++
		st.Bytes += it.bytes()
		if st.Oldest.IsZero() || it.Since.Before(st.Oldest) {
			st.Oldest = it.Since
		}
	}
	return st
}

// bytes is how much there is to copy of it; of a file that has gone, nothing.
func (it Item) bytes() int64 {
	if it.Path == "" {
		return int64(len(it.Data))
	}
	if it.Size >= 0 {
		return it.Size
	}
	info, err := os.Stat(it.Path)
	if err != nil {
		return 0
	}
	return max(0, info.Size()-it.Offset)
}

func keysOf(items []Item) map[string]bool {
	keys := make(map[string]bool, len(items))
	for _, it := range items {
		keys[it.Key] = true
	}
	return keys
}
