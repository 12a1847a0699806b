// Package metrics holds every Prometheus series of the gate, and the HTTP
// endpoint that serves them. Labels take values from configured or fixed sets
// only, so that no client can make a series; docs/metrics.md lists them all.
package metrics

import (
	"runtime"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/exporter-toolkit/web"
)

// Options configure the metrics and their endpoint.
type Options struct {
	WebConfig         string // exporter-toolkit web config file; "" = plain HTTP
	LiveSessions      int    // sessions with series of their own; 0 = none
	Version, Revision string
}

// Validate reads the web config file, and the certificates that it names.
func (o Options) Validate() error { return web.Validate(o.WebConfig) }

// Values of the label result that this package's documents and alerts name;
// what else a caller passes is one of its own fixed set of reasons.
const (
	ResultOK    = "ok"    // admitted, authenticated, opened, connected
	ResultProbe = "probe" // admission: a load balancer's health check

	resultUnready = "unready" // health checks
)

// Metrics are the series of one process. All methods are safe for concurrent use.
type Metrics struct {
	options   Options
	registry  *prometheus.Registry
	endpoints atomic.Pointer[map[string]bool]
	sessions  *sessions

	admission    *prometheus.CounterVec
	auth         *prometheus.CounterVec
	channelOpens *prometheus.CounterVec
	limits       *prometheus.CounterVec
	auditEvents  *prometheus.CounterVec
	healthChecks *prometheus.CounterVec
	auditErrors  prometheus.Counter

	channels   *prometheus.GaugeVec
	reloadOK   prometheus.Gauge
	reloadAt   prometheus.Gauge
	ready      prometheus.Gauge
	draining   prometheus.Gauge
	checkpoint prometheus.Gauge
	handshake  prometheus.Histogram

	upstreamDial *prometheus.HistogramVec
	firstByte    *prometheus.HistogramVec
	auditAppend  prometheus.Histogram

	inspection inspection
	evidence   evidence

	awsFailures *prometheus.CounterVec
}

// New returns the series, with the Go runtime's and the process's, in a
// registry of their own. It starts nothing.
func New(o Options) *Metrics {
	r := prometheus.NewRegistry()
	m := &Metrics{options: o, registry: r}
	m.endpoints.Store(&map[string]bool{})
	m.register(factory{r})
	m.sessions = newSessions(o.LiveSessions, factory{r})
	r.MustRegister(m.sessions, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// register makes the series that are not of a session.
func (m *Metrics) register(f factory) {
	m.admission = f.counters("admission_total", "Connections accepted on the SSH port, by what came of them before SSH.", "result")
	m.auth = f.counters("auth_total", "Authentication attempts, by method and outcome.", "method", "result")
	m.channelOpens = f.counters("channel_opens_total", "Channels and remote forwards asked for, by type and outcome.", "type", "result")
	m.limits = f.counters("limit_rejects_total", "What was refused because a limit had no room.", "scope")
	m.auditEvents = f.counters("audit_events_total", "Events that are durable in the audit log, by code.", "code")
	m.healthChecks = f.counters("health_checks_total", "Answers of the readiness endpoint.", "result")
	// Silence from the start can only be noticed in a series that is there.
	m.healthChecks.WithLabelValues(ResultOK)
	m.healthChecks.WithLabelValues(resultUnready)
	m.auditErrors = f.counter("audit_errors_total", "Appends to the audit log that failed.")

	m.channels = f.gauges("channels", "Channels open now.", "type")
	m.reloadOK = f.gauge("config_last_reload_successful", "Whether the last attempt to load the configuration succeeded.")
	m.reloadAt = f.gauge("config_last_reload_success_timestamp_seconds", "When the configuration was last loaded.")
	m.ready = f.gauge("ready", "Whether new sessions should come here: what /readyz says.")
	m.draining = f.gauge("draining", "Whether the gate takes no new sessions and lets those it has end.")
	m.checkpoint = f.gauge("audit_checkpoint_size", "Events that the newest signed checkpoint of the audit log covers.")
	f.gauge("start_time_seconds", "When the process started.").Set(seconds(time.Now()))
	f.gauges("build_info", "What runs: always 1.", "version", "revision", "goversion").
		WithLabelValues(m.options.Version, m.options.Revision, runtime.Version()).Set(1)

	m.handshake = f.histogram("handshake_seconds", "From accepting a connection to the end of authentication.", slowBuckets)
	m.upstreamDial = f.histograms("upstream_dial_seconds", "Connecting to a target, by outcome.", fastBuckets, "result")
	m.firstByte = f.histograms("first_byte_seconds", "From a channel's open to the target's first byte.", fastBuckets, "type")
	m.auditAppend = f.histogram("audit_append_seconds", "Making a group of events durable.", diskBuckets)
	m.inspection.register(f)
	m.evidence.register(f)
	m.awsFailures = f.counters("aws_failures_total", "Questions to AWS that got no answer, by what was asked and why.", "what", "reason")
}

// SetEndpoints says which values the label endpoint may take: the configured
// or discovered endpoint IDs. Sessions from any other are counted as "other",
// those from none as "none". It holds for sessions opened afterwards.
func (m *Metrics) SetEndpoints(ids []string) {
	known := make(map[string]bool, len(ids))
	for _, id := range ids {
		known[id] = true
	}
	m.endpoints.Store(&known)
}

// Admitted counts a connection: ResultOK, ResultProbe or the reason of the refusal.
func (m *Metrics) Admitted(result string) { m.admission.WithLabelValues(result).Inc() }

// Handshake observes how long the session took until it was authenticated.
func (m *Metrics) Handshake(d time.Duration, session string) { observe(m.handshake, d, session) }

// Auth counts an authentication attempt: ResultOK or the reason of the
// refusal. Methods that SSH does not know are counted as "other".
func (m *Metrics) Auth(method, result string) {
	m.auth.WithLabelValues(known(authMethods, method), result).Inc()
}

// ChannelOpen counts a channel that was asked for: ResultOK or the reason of
// the refusal.
func (m *Metrics) ChannelOpen(kind, result string) {
	m.channelOpens.WithLabelValues(known(channelTypes, kind), result).Inc()
}

// ChannelOpened counts a channel as open; ChannelClosed must follow.
func (m *Metrics) ChannelOpened(kind string) {
	m.channels.WithLabelValues(known(channelTypes, kind)).Inc()
}

// ChannelClosed takes back one ChannelOpened.
func (m *Metrics) ChannelClosed(kind string) {
	m.channels.WithLabelValues(known(channelTypes, kind)).Dec()
}

// UpstreamDial observes an attempt to connect to a target.
func (m *Metrics) UpstreamDial(result string, d time.Duration, session string) {
	observe(m.upstreamDial.WithLabelValues(result), d, session)
}

// FirstByte observes how long a channel waited for its target to speak.
func (m *Metrics) FirstByte(kind string, d time.Duration, session string) {
	observe(m.firstByte.WithLabelValues(known(channelTypes, kind)), d, session)
}

// AuditAppended observes one append of events with these codes. When err is
// not nil they are not counted as events.
func (m *Metrics) AuditAppended(d time.Duration, codes []string, err error) {
	m.auditAppend.Observe(d.Seconds())
	if err != nil {
		m.auditErrors.Inc()
		return
	}
	for _, c := range codes {
		m.auditEvents.WithLabelValues(c).Inc()
	}
}

// LimitRejected counts what a limit refused; scope is the limit's name.
func (m *Metrics) LimitRejected(scope string) { m.limits.WithLabelValues(scope).Inc() }

// ConfigReloaded says whether loading the configuration succeeded, and when.
func (m *Metrics) ConfigReloaded(ok bool, at time.Time) {
	m.reloadOK.Set(truth(ok))
	if ok {
		m.reloadAt.Set(seconds(at))
	}
}

// HealthChecked counts an answer of /readyz.
func (m *Metrics) HealthChecked(ok bool) {
	result := ResultOK
	if !ok {
		result = resultUnready
	}
	m.healthChecks.WithLabelValues(result).Inc()
}

// SetReady says whether the gate is ready for new sessions.
func (m *Metrics) SetReady(ok bool) { m.ready.Set(truth(ok)) }

// Checkpoint says how many events of the audit log the newest checkpoint signs.
func (m *Metrics) Checkpoint(size int64) { m.checkpoint.Set(float64(size)) }

// SetDraining says whether the gate is draining.
func (m *Metrics) SetDraining(draining bool) { m.draining.Set(truth(draining)) }

// AuditLog is what of the audit log is read at each scrape.
type AuditLog struct {
	Events   uint64 // in the log of this generation
	DiskFree uint64 // bytes that the daemon may still write to the log's file system
}

// WatchAudit registers the series of the audit log's size, whose values come
// from read at each scrape. It is called once; read must be safe for
// concurrent use, and when it returns an error the series are left out.
func (m *Metrics) WatchAudit(read func() (AuditLog, error)) {
	m.registry.MustRegister(&auditLog{
		read:     read,
		size:     desc("audit_log_size", "Events in the audit log of this generation."),
		diskFree: desc("audit_disk_free_bytes", "Free bytes in the file system of the audit log."),
	})
}

type auditLog struct {
	read           func() (AuditLog, error)
	size, diskFree *prometheus.Desc
}

func (a *auditLog) Describe(ch chan<- *prometheus.Desc) { ch <- a.size; ch <- a.diskFree }

func (a *auditLog) Collect(ch chan<- prometheus.Metric) {
	l, err := a.read()
	if err != nil {
		return
	}
	ch <- gaugeOf(a.size, float64(l.Events))
	ch <- gaugeOf(a.diskFree, float64(l.DiskFree))
}

// WatchRecordings registers the free space for recordings, which free reads at
// each scrape. It is called once; free must be safe for concurrent use, and when
// it returns an error the series is left out.
func (m *Metrics) WatchRecordings(free func() (bytes uint64, err error)) {
	m.registry.MustRegister(&recordingDisk{free, desc("recording_disk_free_bytes", "Free bytes in the file system of the recordings.")})
}

type recordingDisk struct {
	read func() (uint64, error)
	free *prometheus.Desc
}

func (r *recordingDisk) Describe(ch chan<- *prometheus.Desc) { ch <- r.free }

func (r *recordingDisk) Collect(ch chan<- prometheus.Metric) {
	if n, err := r.read(); err == nil {
		ch <- gaugeOf(r.free, float64(n))
	}
}

func truth(ok bool) float64 {
	if ok {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }

// observe leaves the session ID as an exemplar, where it may be one: client_golang
// panics at exemplars of more than 128 runes.
func observe(o prometheus.Observer, d time.Duration, session string) {
	observeValue(o, d.Seconds(), session)
}

func observeValue(o prometheus.Observer, v float64, session string) {
	e, ok := o.(prometheus.ExemplarObserver)
	if !ok || session == "" || len(session) > 100 || !utf8.ValidString(session) {
		o.Observe(v)
		return
	}
	e.ObserveWithExemplar(v, prometheus.Labels{"session": session})
}
