package admission

import (
	"container/list"
	"net"
	"sync"
)

// maxPreheader bounds the connections whose header has not come yet. They have
// no source, so nothing but their age tells them apart.
const maxPreheader = 256

// preheader is the pool of connections that wait for their header. When it is
// full the oldest makes room: a client that means it sends its header within a
// round trip, so a flood of half-open connections pushes out itself.
type preheader struct {
	max int

	mu      sync.Mutex // guards waiting and the waiters in it
	waiting *list.List // of *waiter, oldest first
}

type waiter struct {
	nc      net.Conn
	element *list.Element
	evicted bool
}

func newPreheader(max int) *preheader { return &preheader{max: max, waiting: list.New()} }

// add puts nc into the pool, closing the oldest connection in a full one. The
// caller must call remove.
func (p *preheader) add(nc net.Conn) *waiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting.Len() >= p.max {
		oldest := p.waiting.Remove(p.waiting.Front()).(*waiter)
		oldest.evicted = true
		closeAtOnce(oldest.nc)
	}
	w := &waiter{nc: nc}
	w.element = p.waiting.PushBack(w)
	return w
}

// remove takes w out of the pool and reports whether it was pushed out before.
func (p *preheader) remove(w *waiter) (evicted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !w.evicted {
		p.waiting.Remove(w.element)
	}
	return w.evicted
}

func (p *preheader) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting.Len()
}

// closeAtOnce closes nc without writing and without leaving anything behind in
// the kernel, which would otherwise keep each refused connection of a flood
// for a minute. The connection is given up: its errors tell nobody anything.
func closeAtOnce(nc net.Conn) {
	if l, ok := nc.(interface{ SetLinger(sec int) error }); ok {
		_ = l.SetLinger(0)
	}
	_ = nc.Close()
}
