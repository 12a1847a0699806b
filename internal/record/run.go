package record

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	flushDelay = 50 * time.Millisecond // after a block's first byte; 100 ms are promised
	syncPeriod = time.Second
	atOnce     = 8 // files that are written, and synced, at the same time
)

// queue says which writers want something of Run.
type queue struct {
	mu       sync.Mutex // guards what follows
	flushes  []due      // in order of time
	unsynced map[*Writer]struct{}

	wake chan struct{} // flushes is not empty
}

type due struct {
	w    *Writer
	when time.Time
}

func newQueue() queue {
	return queue{unsynced: map[*Writer]struct{}{}, wake: make(chan struct{}, 1)}
}

// flushLater has Run flush w when its delay is over.
func (q *queue) flushLater(w *Writer) {
	q.mu.Lock()
	q.flushes = append(q.flushes, due{w, time.Now().Add(flushDelay)})
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// syncLater has Run sync w within a second.
func (q *queue) syncLater(w *Writer) {
	q.mu.Lock()
	q.unsynced[w] = struct{}{}
	q.mu.Unlock()
}

// next takes the writers that are due at now; wait is the time until the next
// one is, 0 when there is none.
func (q *queue) next(now time.Time) (ready []*Writer, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for ; n < len(q.flushes) && !q.flushes[n].when.After(now); n++ {
		ready = append(ready, q.flushes[n].w)
	}
	q.flushes = append(q.flushes[:0], q.flushes[n:]...)
	clear(q.flushes[len(q.flushes) : len(q.flushes)+n]) // let go of writers
	if len(q.flushes) > 0 {
		wait = q.flushes[0].when.Sub(now)
	}
	return ready, wait
}

// takeUnsynced empties the set of writers to sync.
func (q *queue) takeUnsynced() map[*Writer]struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	set := q.unsynced
	q.unsynced = map[*Writer]struct{}{}
	return set
}

// Run flushes what writers hold within 100 ms and syncs it every second, until
// ctx ends; then it does both once more and returns nil. Failures go to the
// writers' events.
func (s *Store) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { s.flushAll(ctx); return nil })
	g.Go(func() error { s.syncAll(ctx); return nil })
	err := g.Wait()
	ready, _ := s.queue.next(time.Now().Add(flushDelay))
	each(ready, (*Writer).flushDue)
	s.syncOnce()
	return err
}

func (s *Store) flushAll(ctx context.Context) {
	timer := time.NewTimer(flushDelay)
	defer timer.Stop()
	for {
		ready, wait := s.queue.next(time.Now())
		each(ready, (*Writer).flushDue)
		if wait > 0 {
			timer.Reset(wait)
		}
		wake := s.queue.wake
		if wait > 0 {
			wake = nil // later writers are due later
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-wake:
		}
	}
}

func (s *Store) syncAll(ctx context.Context) {
	tick := time.NewTicker(syncPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.syncOnce()
		}
	}
}

// syncOnce syncs the writers that wrote something. A file system commits many
// syncs at once for the price of one, so they are not waited for one by one.
func (s *Store) syncOnce() {
	var g errgroup.Group
	g.SetLimit(atOnce)
	for w := range s.queue.takeUnsynced() {
		g.Go(func() error {
			if w.sync() {
				s.queue.syncLater(w)
			}
			return nil
		})
	}
	_ = g.Wait() // no function returns an error
}

// each calls f for all writers, a few at a time: one on a slow disk must not
// hold up the others.
func each(writers []*Writer, f func(*Writer)) {
	if len(writers) == 1 {
		f(writers[0])
		return
	}
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, w := range writers {
		g.Go(func() error { f(w); return nil })
	}
	_ = g.Wait() // no function returns an error
}
