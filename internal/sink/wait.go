package sink

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// pause is how long to wait after a failure: longer each time, and not the same
// for all gates that lost the same server.
type pause struct{ next time.Duration }

func (p *pause) reset() { p.next = 0 }

func (p *pause) wait(ctx context.Context) {
	p.next = min(max(p.next, minPause), maxPause)
	t := time.NewTimer(p.next/2 + rand.N(p.next/2))
	defer t.Stop()
	p.next *= 2
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// outlive makes a context that ends some time after ctx does, or with end, which
// waits for what outlive has started.
func outlive(ctx context.Context, grace time.Duration) (longer context.Context, end func()) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var timer sync.WaitGroup
	timer.Go(func() {
		select {
		case <-ctx.Done():
		case <-longer.Done():
			return
		}
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-t.C:
			cancel()
		case <-longer.Done():
		}
	})
	return longer, func() {
		cancel()
		timer.Wait()
	}
}
