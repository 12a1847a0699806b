package admission

import "time"

// occupancy counts who is in. Its fields are guarded by Gate.mu.
type occupancy struct {
	startups   int
	bySource   map[source]int // startups
	sessions   int
	byIdentity map[string]int // sessions
}

func newOccupancy() occupancy {
	return occupancy{bySource: make(map[source]int), byIdentity: make(map[string]int)}
}

// room says whether a connection of k may start now, as far as the limits of
// the gate go. The caller holds g.mu.
func (g *Gate) room(k source, l Limits, now time.Time) *Denied {
	if left := g.penalties.left(k, now); l.Penalties && left > 0 {
		return deny(ReasonPenalty, "client %v has a penalty for another %v", k.client, left.Round(time.Second))
	}
	if !g.rates.take(k, now) {
		return deny(ReasonRate, "client %v made more than %d connections at once and %d a second", k.client, rateBurst, ratePerSecond)
	}
	if g.dropsStartup(k, l, now) {
		return deny(ReasonMaxStartups, "%d connections of max_startups %d are not authenticated yet", g.in.startups, l.MaxStartups)
	}
	if g.in.bySource[k] >= l.MaxStartupsPerSource {
		return deny(ReasonMaxStartupsSource, "client %v has max_startups_per_source %d", k.client, l.MaxStartupsPerSource)
	}
	return g.in.sessionRoom(l)
}

// dropsStartup keeps what a source that logged in lately needs: only a full
// house refuses it.
func (g *Gate) dropsStartup(k source, l Limits, now time.Time) bool {
	if g.known.has(k, now) {
		return g.in.startups >= l.MaxStartups
	}
	return g.random() < dropChance(g.in.startups, l.MaxStartups)
}

// dropChance is the chance that a stranger is refused when n connections are
// not authenticated yet: OpenSSH's MaxStartups start:rate:full with half of
// max as start, 30 % as rate, and as full what is left of max without the
// fifth that is kept for sources that logged in lately.
func dropChance(n, max int) float64 {
	const rate = 0.3
	start, full := (max+1)/2, max-max/5
	switch {
	case n >= full:
		return 1
	case n < start:
		return 0
	}
	return rate + (1-rate)*float64(n-start)/float64(full-start)
}

func (in *occupancy) sessionRoom(l Limits) *Denied {
	if in.sessions >= l.MaxSessions {
		return deny(ReasonMaxSessions, "max_sessions %d are open", l.MaxSessions)
	}
	return nil
}

func (in *occupancy) identityRoom(identity string, l Limits) *Denied {
	if in.byIdentity[identity] >= l.MaxSessionsPerIdentity {
		return deny(ReasonMaxSessionsIdentity, "%s has max_sessions_per_identity %d open", identity, l.MaxSessionsPerIdentity)
	}
	return nil
}

func (in *occupancy) addStartup(k source) {
	in.startups++
	in.bySource[k]++
}

func (in *occupancy) removeStartup(k source) {
	in.startups--
	decrement(in.bySource, k)
}

func (in *occupancy) addSession(identity string) {
	in.sessions++
	in.byIdentity[identity]++
}

func (in *occupancy) removeSession(identity string) {
	in.sessions--
	decrement(in.byIdentity, identity)
}

// decrement drops a key that counts nothing any more, so that the map stays as
// small as what is open.
func decrement[K comparable](m map[K]int, k K) {
	if m[k]--; m[k] == 0 {
		delete(m, k)
	}
}
