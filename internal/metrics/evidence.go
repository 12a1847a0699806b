package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Values of the label result of sink_events_total.
const (
	ResultSent    = "sent"
	ResultDropped = "dropped"
)

var archiveReasons = set("throttled", "denied", "unreachable", "conflict", "clock_skew", "missing_bucket", "no_lock", "file")

// evidence is the series of what copies the audit log elsewhere.
type evidence struct {
	copied   prometheus.Counter
	failures *prometheus.CounterVec
}

func (e *evidence) register(f factory) {
	e.copied = f.counter("archive_copied_total", "Objects copied to the archive.")
	e.failures = f.counters("archive_failures_total", "Passes over the archive's backlog that failed, by why.", "reason")
}

// ArchivePass counts what a pass over the archive's backlog has copied, and the
// reason of its failure, "" = there was none. Reasons that the package archive
// does not name are counted as "other".
func (m *Metrics) ArchivePass(copied int, reason string) {
	m.evidence.copied.Add(float64(max(copied, 0)))
	if reason != "" {
		m.evidence.failures.WithLabelValues(known(archiveReasons, reason)).Inc()
	}
}

// Archive is how the archive stands at a scrape.
type Archive struct {
	AnchorAge  time.Duration // of the oldest event that no checkpoint in the archive covers; 0 = all are covered
	Files      int           // that wait
	Bytes      int64         // that wait
	BacklogAge time.Duration // of what waits longest
}

// WatchArchive registers how far the archive is behind, which read says at each
// scrape. It is called once, where there is an archive; read must be safe for
// concurrent use.
func (m *Metrics) WatchArchive(read func() Archive) {
	m.registry.MustRegister(&archive{
		read:   read,
		anchor: desc("audit_anchor_age_seconds", "Age of the oldest event that no checkpoint in the archive covers."),
		files:  desc("archive_backlog_files", "Objects that wait to be copied to the archive."),
		bytes:  desc("archive_backlog_bytes", "Bytes that wait to be copied to the archive."),
		age:    desc("archive_backlog_age_seconds", "How long the oldest object has waited to be copied to the archive."),
	})
}

type archive struct {
	read                      func() Archive
	anchor, files, bytes, age *prometheus.Desc
}

func (a *archive) Describe(ch chan<- *prometheus.Desc) {
	ch <- a.anchor
	ch <- a.files
	ch <- a.bytes
	ch <- a.age
}

func (a *archive) Collect(ch chan<- prometheus.Metric) {
	now := a.read()
	ch <- gaugeOf(a.anchor, now.AnchorAge.Seconds())
	ch <- gaugeOf(a.files, float64(now.Files))
	ch <- gaugeOf(a.bytes, float64(now.Bytes))
	ch <- gaugeOf(a.age, now.BacklogAge.Seconds())
}

// Sink is how a sink stands at a scrape.
type Sink struct {
	Name          string // syslog or cloudwatch
	Sent, Dropped uint64 // events
	QueuedBytes   int64
	Connected     bool
}

// WatchSinks registers the series of the sinks, which read lists at each scrape.
// It is called once; read must be safe for concurrent use.
func (m *Metrics) WatchSinks(read func() []Sink) {
	m.registry.MustRegister(&sinks{
		read:      read,
		events:    desc("sink_events_total", "Audit events for a sink, by what became of them.", "sink", "result"),
		queue:     desc("sink_queue_bytes", "Bytes of audit events that wait for a sink.", "sink"),
		connected: desc("sink_connected", "Whether the last attempt to reach the sink succeeded.", "sink"),
	})
}

type sinks struct {
	read                     func() []Sink
	events, queue, connected *prometheus.Desc
}

func (s *sinks) Describe(ch chan<- *prometheus.Desc) {
	ch <- s.events
	ch <- s.queue
	ch <- s.connected
}

func (s *sinks) Collect(ch chan<- prometheus.Metric) {
	for _, sink := range s.read() {
		ch <- counterOf(s.events, float64(sink.Sent), sink.Name, ResultSent)
		ch <- counterOf(s.events, float64(sink.Dropped), sink.Name, ResultDropped)
		ch <- gaugeOf(s.queue, float64(sink.QueuedBytes), sink.Name)
		ch <- gaugeOf(s.connected, truth(sink.Connected), sink.Name)
	}
}
