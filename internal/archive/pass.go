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
	a.changed(st)
	return st, ctx.Err()
}

func (a *Archive) copyAll(ctx context.Context) Status {
	a.copied = 0
	items, err := a.list()
	if err != nil {
		return Status{Err: err, Reason: reasonOf(err)}
	}
	err = a.copyThese(ctx, a.waiting(items))
	if err == nil {
		err = a.ledger.prune(keysOf(items))
	}
	return a.status(items, err)
}

func (a *Archive) list() ([]Item, error) {
	a.listed = time.Now()
	items, err := a.o.Backlog()
	if err != nil {
		return nil, &failure{reasonFile, fmt.Errorf("list what is to be archived: %w", err)}
	}
	return items, nil
}

// urgent copies what is small and has come to wait while a large object is on
// its way, which may take longer than a checkpoint may wait.
func (a *Archive) urgent(ctx context.Context) {
	select {
	case <-a.wake:
	default:
		if time.Since(a.listed) < a.o.Interval {
			return
		}
	}
	items, err := a.list()
	if err != nil {
		return // as the next pass will tell
	}
	for _, it := range a.waiting(items) {
		if a.bad[it.Key] || it.bytes() > smallestPart {
			continue
		}
		if err = a.copy(ctx, it); global(reasonOf(err)) {
			break
		}
	}
	a.changed(a.status(items, err))
}

func (a *Archive) changed(st Status) {
	if a.o.Changed != nil {
		a.o.Changed(st)
	}
}

// waiting are the items that the archive does not have, those that failed in
// the pass before last.
func (a *Archive) waiting(items []Item) []Item {
	var fresh, failed []Item
	for _, it := range items {
		switch {
		case a.has(it):
		case a.bad[it.Key]:
			failed = append(failed, it)
		default:
			fresh = append(fresh, it)
		}
	}
	return append(fresh, failed...)
}

// has reports whether the ledger knows that item, in its size.
func (a *Archive) has(it Item) bool {
	size, held := a.ledger.size(it.Key)
	return held && (it.Size < 0 || it.Path == "" || it.Size == size)
}

// copyThese returns the first failure.
func (a *Archive) copyThese(ctx context.Context, items []Item) (first error) {
	if len(items) > 0 || a.lock == lockOff {
		if err := a.findLock(ctx); err != nil {
			return err
		}
	}
	bad, strange := map[string]bool{}, 0
	for _, it := range items {
		if a.has(it) {
			continue // it was urgent
		}
		err := a.copy(ctx, it)
		if err == nil {
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
	return first
}

// status says what of items waits still.
func (a *Archive) status(items []Item, err error) Status {
	st := Status{Copied: a.copied, Err: err, Reason: reasonOf(err)}
	for _, it := range a.waiting(items) {
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
