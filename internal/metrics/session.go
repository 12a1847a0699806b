package metrics

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Direction of bytes.
type Direction string

// The two directions.
const (
	ToTarget Direction = "to_target"
	ToClient Direction = "to_client"
)

// Session counts one authenticated session. Its methods are safe for
// concurrent use.
type Session struct {
	id     string
	opened time.Time
	owner  *sessions
	group  *group

	// Add touches nothing else; they are summed up at each scrape.
	toTarget, toClient, rtt atomic.Int64

	shown shown // guarded by owner.mu
}

// OpenSession counts a session as open; its Close must follow. identity is a
// name of the policy, id the session ID, once in the life of the process.
// Session series of its own it gets while fewer than Options.LiveSessions
// sessions have them, and keeps until the first scrape after Close.
func (m *Metrics) OpenSession(id, identity, endpoint string) *Session {
	if endpoint == "" {
		endpoint = "none"
	} else {
		endpoint = known(*m.endpoints.Load(), endpoint)
	}
	s := &Session{id: id, opened: time.Now(), owner: m.sessions}
	m.sessions.open(s, groupKey{identity, endpoint})
	return s
}

// Add counts n bytes of payload that went in direction dir.
func (s *Session) Add(dir Direction, n int64) { s.counter(dir).Add(n) }

// Total returns the bytes counted so far.
func (s *Session) Total(dir Direction) int64 { return s.counter(dir).Load() }

func (s *Session) counter(dir Direction) *atomic.Int64 {
	if dir == ToTarget {
		return &s.toTarget
	}
	return &s.toClient
}

// RTT takes one measured round trip to the client.
func (s *Session) RTT(d time.Duration) {
	s.rtt.Store(int64(d))
	observe(s.owner.rttSeconds, d, s.id)
}

// LastRTT returns the round trip measured last, 0 before the first.
func (s *Session) LastRTT() time.Duration { return time.Duration(s.rtt.Load()) }

// Close counts the session as closed. It is called after the last Add: bytes
// that come later are in Total and in no series. A second Close does nothing.
func (s *Session) Close() {
	now := time.Now()
	if !s.owner.close(s, now) {
		return
	}
	took := now.Sub(s.opened)
	observe(s.owner.duration, took, s.id)
	for _, dir := range []Direction{ToTarget, ToClient} {
		if took > 0 {
			observeValue(s.owner.throughput.WithLabelValues(string(dir)), float64(s.Total(dir))/took.Seconds(), s.id)
		}
	}
}

// groupKey is what sessions are added up by.
type groupKey struct{ identity, endpoint string }

// group are the sessions of one identity through one endpoint. It stays when
// they are gone, since a counter must not vanish; identities and endpoints are
// configured, so there are not many.
type group struct {
	key                groupKey
	open               map[*Session]struct{}
	toTarget, toClient int64 // of sessions that are closed
}

func (g *group) totals() (toTarget, toClient int64) {
	toTarget, toClient = g.toTarget, g.toClient
	for s := range g.open {
		toTarget += s.Total(ToTarget)
		toClient += s.Total(ToClient)
	}
	return toTarget, toClient
}

// sessions collects what is known of all sessions.
type sessions struct {
	duration   prometheus.Histogram
	rttSeconds prometheus.Histogram
	throughput *prometheus.HistogramVec
	leftOut    prometheus.Counter

	openDesc, bytesDesc *prometheus.Desc
	live                liveDescs

	mu     sync.Mutex // guards what follows and the shown of each Session
	groups map[groupKey]*group
	max    int
	list   []*Session // those with series of their own, as they came
}

func newSessions(max int, f factory) *sessions {
	return &sessions{
		duration:   f.histogram("session_duration_seconds", "From a session's authentication to its end.", durationBuckets),
		rttSeconds: f.histogram("session_rtt_seconds", "Round trip of SSH keepalives to the client.", fastBuckets),
		throughput: f.histograms("session_throughput_bytes_per_second", "Mean throughput of a session, observed at its end.", throughputBuckets, "direction"),
		leftOut:    f.counter("live_sessions_left_out_total", "Sessions without live_session series, because metrics.live_sessions others had them."),
		openDesc:   desc("sessions", "Sessions open now.", "identity", "endpoint"),
		bytesDesc:  desc("session_bytes_total", "Payload bytes passed.", "identity", "endpoint", "direction"),
		live:       newLiveDescs(),
		groups:     map[groupKey]*group{},
		max:        max,
	}
}

func (c *sessions) open(s *Session, key groupKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.groups[key]
	if g == nil {
		g = &group{key: key, open: map[*Session]struct{}{}}
		c.groups[key] = g
	}
	g.open[s], s.group = struct{}{}, g
	c.show(s)
}

// close reports whether s was open.
func (c *sessions) close(s *Session, at time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := s.group
	if _, open := g.open[s]; !open {
		return false
	}
	delete(g.open, s)
	g.toTarget += s.Total(ToTarget)
	g.toClient += s.Total(ToClient)
	s.shown.closed = at
	return true
}

// Describe implements prometheus.Collector.
func (c *sessions) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.openDesc
	ch <- c.bytesDesc
	c.live.describe(ch)
}

// Collect implements prometheus.Collector.
func (c *sessions) Collect(ch chan<- prometheus.Metric) {
	for _, m := range c.scrape(time.Now()) {
		ch <- m
	}
}

// scrape makes the metrics of one scrape and forgets the closed sessions in it.
func (c *sessions) scrape(now time.Time) []prometheus.Metric {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ms []prometheus.Metric
	for k, g := range c.groups {
		toTarget, toClient := g.totals()
		ms = append(ms,
			gaugeOf(c.openDesc, float64(len(g.open)), k.identity, k.endpoint),
			counterOf(c.bytesDesc, float64(toTarget), k.identity, k.endpoint, string(ToTarget)),
			counterOf(c.bytesDesc, float64(toClient), k.identity, k.endpoint, string(ToClient)))
	}
	return append(ms, c.scrapeLive(now)...)
}
