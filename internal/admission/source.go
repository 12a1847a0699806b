package admission

import (
	"container/list"
	"net/netip"
	"time"
)

// source is what limits and penalties count by. The address alone would mix
// tenants, whose private addresses overlap; the endpoint alone would punish a
// whole vendor for one of its clients; the peer is the load balancer.
type source struct {
	endpoint string
	client   netip.Addr
}

func sourceOf(o Origin) source { return source{o.Endpoint, o.Client.Addr()} }

// maxTableSize bounds each table that clients can fill, as OpenSSH's
// PerSourcePenalties max-sources4 does.
const maxTableSize = 65536

// recent maps sources to values and forgets the one that was touched longest
// ago when it is full. The zero value is not ready: use newRecent.
type recent[V any] struct {
	max     int
	entries map[source]*list.Element // of recentEntry[V]
	order   *list.List               // last touched first
}

type recentEntry[V any] struct {
	key   source
	value V
}

func newRecent[V any](max int) *recent[V] {
	return &recent[V]{max: max, entries: make(map[source]*list.Element), order: list.New()}
}

// get does not touch.
func (r *recent[V]) get(k source) (v V, ok bool) {
	e, ok := r.entries[k]
	if !ok {
		return v, false
	}
	return e.Value.(recentEntry[V]).value, true
}

// put touches k.
func (r *recent[V]) put(k source, v V) {
	if e, ok := r.entries[k]; ok {
		e.Value = recentEntry[V]{k, v}
		r.order.MoveToFront(e)
		return
	}
	if len(r.entries) >= r.max {
		r.removeOldest()
	}
	r.entries[k] = r.order.PushFront(recentEntry[V]{k, v})
}

// expire forgets the oldest entries while stale says so.
func (r *recent[V]) expire(stale func(V) bool) {
	for e := r.order.Back(); e != nil && stale(e.Value.(recentEntry[V]).value); e = r.order.Back() {
		r.removeOldest()
	}
}

func (r *recent[V]) removeOldest() {
	e := r.order.Back()
	delete(r.entries, r.order.Remove(e).(recentEntry[V]).key)
}

// New connections of one source: 5 a second, 20 at once. ssh-audit's test for
// CVE-2002-20001 wants burst + 1.5 * rate under 30; here it is 27.5.
const (
	ratePerSecond = 5
	rateBurst     = 20
)

// bucket is a token bucket.
type bucket struct {
	tokens float64
	at     time.Time // when tokens was right
}

func (b bucket) refilled(now time.Time) bucket {
	grown := b.tokens + now.Sub(b.at).Seconds()*ratePerSecond
	return bucket{tokens: min(rateBurst, grown), at: now}
}

// rates are the buckets of all sources that are not full.
type rates struct{ buckets *recent[bucket] }

func newRates() rates { return rates{newRecent[bucket](maxTableSize)} }

// take reports whether k may connect now, and counts it when so.
func (r rates) take(k source, now time.Time) bool {
	r.buckets.expire(func(b bucket) bool { return b.refilled(now).tokens >= rateBurst })
	b, ok := r.buckets.get(k)
	if !ok {
		b = bucket{tokens: rateBurst, at: now}
	}
	b = b.refilled(now)
	allowed := b.tokens >= 1
	if allowed {
		b.tokens--
	}
	r.buckets.put(k, b)
	return allowed
}

// knownFor is how long a login keeps a share of the startups for its source.
const knownFor = time.Hour

// known are the sources that logged in lately.
type known struct{ logins *recent[time.Time] }

func newKnown() known { return known{newRecent[time.Time](maxTableSize)} }

func (k known) add(s source, now time.Time) {
	k.logins.expire(func(at time.Time) bool { return now.Sub(at) >= knownFor })
	k.logins.put(s, now)
}

func (k known) has(s source, now time.Time) bool {
	at, ok := k.logins.get(s)
	return ok && now.Sub(at) < knownFor
}
