package admission

import (
	"container/heap"
	"time"
)

// As OpenSSH's PerSourcePenalties has them by default.
const (
	penaltyMin = 15 * time.Second // nothing is refused until more has accrued
	penaltyMax = 10 * time.Minute
)

// duration is 0 for a penalty that is not listed.
func (p Penalty) duration() time.Duration {
	switch p {
	case PenaltyAuthFail, PenaltyInvalidUser:
		return 5 * time.Second
	case PenaltyNoAuth:
		return time.Second
	case PenaltyGraceExceeded:
		return 10 * time.Second
	case PenaltyCrash:
		return 90 * time.Second
	}
	return 0
}

// penalty is the time that one source has run up.
type penalty struct {
	key    source
	until  time.Time
	active bool // passed penaltyMin; stays so until the end
	index  int  // in the heap
}

// penalties are those of all sources. When the table is full the one that ends
// soonest makes room: refusing everybody else would let one attacker lock out all.
type penalties struct {
	max   int
	byKey map[source]*penalty
	soon  penaltyHeap
}

func newPenalties(max int) *penalties {
	return &penalties{max: max, byKey: make(map[source]*penalty)}
}

// add lets d accrue on k.
func (t *penalties) add(k source, d time.Duration, now time.Time) {
	if d <= 0 {
		return
	}
	p := t.entry(k, now)
	p.until = p.until.Add(d)
	if latest := now.Add(penaltyMax); p.until.After(latest) {
		p.until = latest
	}
	p.active = p.active || p.until.Sub(now) > penaltyMin
	heap.Fix(&t.soon, p.index)
}

// entry is the penalty of k, a new one that ends now if it has none.
func (t *penalties) entry(k source, now time.Time) *penalty {
	t.expire(now)
	if p, ok := t.byKey[k]; ok {
		return p
	}
	if len(t.soon) >= t.max {
		t.removeSoonest()
	}
	p := &penalty{key: k, until: now}
	t.byKey[k] = p
	heap.Push(&t.soon, p)
	return p
}

// left is how long connections of k are still refused; 0 = not at all.
func (t *penalties) left(k source, now time.Time) time.Duration {
	t.expire(now)
	p, ok := t.byKey[k]
	if !ok || !p.active {
		return 0
	}
	return p.until.Sub(now)
}

func (t *penalties) expire(now time.Time) {
	for len(t.soon) > 0 && !now.Before(t.soon[0].until) {
		t.removeSoonest()
	}
}

func (t *penalties) removeSoonest() {
	p := heap.Pop(&t.soon).(*penalty)
	delete(t.byKey, p.key)
}

// penaltyHeap has the penalty that ends soonest first.
type penaltyHeap []*penalty

func (h penaltyHeap) Len() int           { return len(h) }
func (h penaltyHeap) Less(i, j int) bool { return h[i].until.Before(h[j].until) }

func (h penaltyHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *penaltyHeap) Push(x any) {
	p := x.(*penalty)
	p.index = len(*h)
	*h = append(*h, p)
}

func (h *penaltyHeap) Pop() any {
	last := len(*h) - 1
	p := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return p
}
