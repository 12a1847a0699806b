package metrics

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// minWindow is the shortest time over which throughput is taken: a second
// scraper that comes right after the first sees the same value.
const minWindow = time.Second

// shown is what the live series of a session need from scrape to scrape.
type shown struct {
	closed             time.Time // zero while the session is open
	at                 time.Time // of the counts below
	toTarget, toClient int64
	rates              [2]float64 // bytes per second to target, to client
}

// liveDescs describe the series that a session has for itself.
type liveDescs struct{ bytes, throughput, rtt *prometheus.Desc }

func newLiveDescs() liveDescs {
	return liveDescs{
		bytes:      desc("live_session_bytes_total", "Payload bytes passed by a session that is open, or was at the last scrape.", "session", "identity", "endpoint", "direction"),
		throughput: desc("live_session_throughput_bytes_per_second", "Throughput of a session since the last scrape.", "session", "identity", "endpoint", "direction"),
		rtt:        desc("live_session_rtt_seconds", "Last round trip of an SSH keepalive of a session.", "session", "identity", "endpoint"),
	}
}

func (d liveDescs) describe(ch chan<- *prometheus.Desc) {
	ch <- d.bytes
	ch <- d.throughput
	ch <- d.rtt
}

// show gives s series of its own if there is room. A session that is closed
// and not scraped since gives way, so that a gate nobody scrapes holds no more
// of them than one that is. Callers hold c.mu.
func (c *sessions) show(s *Session) {
	if c.max <= 0 {
		return
	}
	if len(c.list) >= c.max {
		i := slices.IndexFunc(c.list, func(s *Session) bool { return !s.shown.closed.IsZero() })
		if i < 0 {
			c.leftOut.Inc()
			return
		}
		c.list = slices.Delete(c.list, i, i+1)
	}
	s.shown.at = s.opened
	c.list = append(c.list, s)
}

// scrapeLive makes the series of single sessions, and drops the sessions that
// are closed: they have had their last scrape. Callers hold c.mu.
func (c *sessions) scrapeLive(now time.Time) []prometheus.Metric {
	var ms []prometheus.Metric
	for _, s := range c.list {
		s.measure(now)
		ms = append(ms, c.live.of(s)...)
	}
	c.list = slices.DeleteFunc(c.list, func(s *Session) bool { return !s.shown.closed.IsZero() })
	return ms
}

// measure brings the rates up to date.
func (s *Session) measure(now time.Time) {
	w := &s.shown
	if !w.closed.IsZero() {
		now = w.closed
	}
	window := now.Sub(w.at)
	if window < minWindow {
		return
	}
	toTarget, toClient := s.Total(ToTarget), s.Total(ToClient)
	w.rates = [2]float64{
		float64(toTarget-w.toTarget) / window.Seconds(),
		float64(toClient-w.toClient) / window.Seconds(),
	}
	w.at, w.toTarget, w.toClient = now, toTarget, toClient
}

func (d liveDescs) of(s *Session) []prometheus.Metric {
	k := s.group.key
	var ms []prometheus.Metric
	for i, dir := range []Direction{ToTarget, ToClient} {
		ms = append(ms,
			counterOf(d.bytes, float64(s.Total(dir)), s.id, k.identity, k.endpoint, string(dir)),
			gaugeOf(d.throughput, s.shown.rates[i], s.id, k.identity, k.endpoint, string(dir)))
	}
	if rtt := s.LastRTT(); rtt > 0 {
		ms = append(ms, gaugeOf(d.rtt, rtt.Seconds(), s.id, k.identity, k.endpoint))
	}
	return ms
}
