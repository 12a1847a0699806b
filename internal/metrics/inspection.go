package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Values of the label result of FileOperation, besides ResultOK.
const (
	ResultDenied = "denied" // by the gate
	ResultFailed = "failed" // by the target, or cut off
)

var (
	fileProtocols = set("sftp", "scp", "rsync")
	fileActions   = set("get", "put", "update", "list", "remove", "rename", "mkdir", "rmdir", "setstat", "symlink", "link")
	fileResults   = set(ResultOK, ResultDenied, ResultFailed)
)

// inspection is the series of inspected sessions.
type inspection struct {
	targetLogin       *prometheus.HistogramVec
	added             prometheus.Histogram
	recordingBytes    prometheus.Counter
	recordingFailures prometheus.Counter
	fileOperations    *prometheus.CounterVec
}

func (i *inspection) register(f factory) {
	i.targetLogin = f.histograms("target_login_seconds", "SSH to a target, from its first byte until the gate is logged in, by outcome.", fastBuckets, "result")
	// A first one must be an increase, and of what is not there nothing can be.
	i.targetLogin.WithLabelValues("host_key_changed")
	i.targetLogin.WithLabelValues("host_key_revoked")
	i.added = f.histogram("inspect_added_seconds", "What decoding and recording add to the way of data through an inspected session, sampled.", inspectBuckets)
	i.recordingBytes = f.counter("recording_bytes_total", "Bytes written to the files of recordings.")
	i.recordingFailures = f.counter("recording_failures_total", "Recordings that could not be begun or went on no further.")
	i.fileOperations = f.counters("file_operations_total", "Operations on files at targets, by protocol, what was done and outcome.", "protocol", "action", "result")
}

// TargetLogin observes an attempt to log in at a target of an inspected
// session, once it is connected: ResultOK or the outcome that upstream names.
func (m *Metrics) TargetLogin(result string, d time.Duration, session string) {
	observe(m.inspection.targetLogin.WithLabelValues(result), d, session)
}

// Inspected observes what the gate added to the way of one piece of data: from
// having read it until it is about to be written to the other side, decoded
// and recorded. The write itself is not in it, since there the other side's
// window is waited for. Sampler says which pieces to observe.
func (m *Metrics) Inspected(added time.Duration) { m.inspection.added.Observe(added.Seconds()) }

// RecordingBytes counts n bytes written to the file of a recording.
func (m *Metrics) RecordingBytes(n int64) { m.inspection.recordingBytes.Add(float64(max(n, 0))) }

// RecordingFailed counts a recording that could not be begun or went on no
// further, whatever becomes of its session.
func (m *Metrics) RecordingFailed() { m.inspection.recordingFailures.Inc() }

// FileOperation counts an operation that has ended; result is ResultOK,
// ResultDenied or ResultFailed. Other values of any of the three are counted
// as "other".
func (m *Metrics) FileOperation(protocol, action, result string) {
	m.inspection.fileOperations.WithLabelValues(known(fileProtocols, protocol), known(fileActions, action), known(fileResults, result)).Inc()
}

// sampleEvery is how many pieces of data there are to one that is timed: the
// clock is then read too seldom to be felt.
const sampleEvery = 64

// Sampler picks which pieces of one direction of a channel are timed for
// Inspected: the first, and of those after it one in 64. The zero value is
// ready; it is not safe for concurrent use.
type Sampler struct{ passed uint8 }

// Pick reports whether the piece that comes now is to be timed.
func (s *Sampler) Pick() bool {
	picked := s.passed == 0
	s.passed = (s.passed + 1) % sampleEvery
	return picked
}
