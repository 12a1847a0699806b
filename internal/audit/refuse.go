package audit

import (
	"fmt"
	"net/netip"
	"sync"
	"time"
)

const (
	refusalWindow = 10 * time.Second
	refusalsEach  = 10   // of one kind in a window are written as they are
	refusalsAll   = 1000 // of all kinds in a window, so that many sources can't fill the disk either
	refusalKinds  = 4096 // counted apart; what comes on top is counted by Code and Reason alone
)

// refusals counts floods of refusals. Its zero value is ready.
type refusals struct {
	mu     sync.Mutex // guards what follows
	kinds  map[refusalKind]*refusal
	began  time.Time // of the window of single
	single int       // refusals written as they are
}

type refusalKind struct {
	code     Code
	endpoint string
	client   netip.Addr
	reason   string
}

type refusal struct {
	began  time.Time
	single int
	sum    Event // Count is how many were not written
}

// add returns the events to write now: e, or the sum of a window that has
// ended, or both, or nothing. With quiet it is nothing in any case.
func (r *refusals) add(e Event, now time.Time, quiet bool) []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	kind, f := r.find(&e, now)
	if quiet {
		f.count(&e, kind)
		return nil
	}
	var due []Event
	if now.Sub(f.began) >= refusalWindow {
		due = f.summed()
		f = &refusal{began: now}
		r.kinds[kind] = f
	}
	if now.Sub(r.began) >= refusalWindow {
		r.began, r.single = now, 0
	}
	if f.single < refusalsEach && r.single < refusalsAll {
		f.single++
		r.single++
		return append(due, e)
	}
	f.count(&e, kind)
	return due
}

func (r *refusals) find(e *Event, now time.Time) (refusalKind, *refusal) {
	kind := refusalKind{e.Code, e.Endpoint, e.Client.Addr(), e.Reason}
	if f, ok := r.kinds[kind]; ok {
		return kind, f
	}
	if len(r.kinds) >= refusalKinds {
		kind = refusalKind{code: e.Code, reason: e.Reason}
	}
	f, ok := r.kinds[kind]
	if !ok {
		f = &refusal{began: now}
		if r.kinds == nil {
			r.kinds = make(map[refusalKind]*refusal)
		}
		r.kinds[kind] = f
	}
	return kind, f
}

// count keeps of e what is true of all the events of its kind.
func (f *refusal) count(e *Event, kind refusalKind) {
	if f.sum.Count == 0 {
		f.sum = Event{
			Code: e.Code, Failed: e.Failed, Reason: e.Reason, Detail: e.Detail, Kind: e.Kind,
			Endpoint: kind.endpoint, Client: netip.AddrPortFrom(kind.client, 0), Peer: netip.AddrPortFrom(e.Peer.Addr(), 0), Gate: e.Gate,
			Rule: e.Rule, Policy: e.Policy, Time: e.Time, Start: e.Time,
		}
	}
	f.sum.Count++
	f.sum.Alert = f.sum.Alert || e.Alert
	f.sum.End = e.Time
}

func (f *refusal) summed() []Event {
	if f.sum.Count == 0 {
		return nil
	}
	e := f.sum
	e.Message = fmt.Sprintf("%d more refusals of this kind: %s", e.Count, e.Reason)
	return []Event{e}
}

// due returns the sums of windows that have ended, and forgets those.
func (r *refusals) due(now time.Time) []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var sums []Event
	for kind, f := range r.kinds {
		if now.Sub(f.began) >= refusalWindow {
			sums = append(sums, f.summed()...)
			delete(r.kinds, kind)
		}
	}
	return sums
}

// drain is due for all windows, ended or not.
func (r *refusals) drain() []Event { return r.due(time.Now().Add(refusalWindow)) }
