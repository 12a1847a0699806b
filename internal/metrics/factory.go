package metrics

import "github.com/prometheus/client_golang/prometheus"

const namespace = "postern"

// Upper bounds of the histograms, in seconds but for throughputBuckets.
var (
	fastBuckets       = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	slowBuckets       = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	diskBuckets       = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}
	inspectBuckets    = []float64{1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, .001, .0025, .01, .1, 1}
	durationBuckets   = []float64{1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 8 * 3600, 24 * 3600}
	throughputBuckets = []float64{1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9} // bytes per second
)

// channelTypes are what the label type may say: the channel types of RFC 4254
// and OpenSSH's PROTOCOL, and the requests for remote forwards.
var channelTypes = set(
	"session", "x11", "direct-tcpip", "forwarded-tcpip", "tcpip-forward",
	"direct-streamlocal@openssh.com", "forwarded-streamlocal@openssh.com", "streamlocal-forward@openssh.com",
	"auth-agent@openssh.com", "tun@openssh.com",
)

// authMethods are the methods of RFC 4252, 4256 and 4462.
var authMethods = set("none", "publickey", "password", "hostbased", "keyboard-interactive", "gssapi-with-mic")

func set(values ...string) map[string]bool {
	s := make(map[string]bool, len(values))
	for _, v := range values {
		s[v] = true
	}
	return s
}

// known returns value when it is of the set, else "other".
func known(set map[string]bool, value string) string {
	if set[value] {
		return value
	}
	return "other"
}

// factory makes series and registers them.
type factory struct{ r *prometheus.Registry }

func (f factory) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	f.r.MustRegister(c)
	return c
}

func (f factory) counters(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	f.r.MustRegister(c)
	return c
}

func (f factory) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
	f.r.MustRegister(g)
	return g
}

func (f factory) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
	f.r.MustRegister(g)
	return g
}

func (f factory) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets})
	f.r.MustRegister(h)
	return h
}

func (f factory) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
	f.r.MustRegister(h)
	return h
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(namespace+"_"+name, help, labels, nil)
}

func gaugeOf(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return constant(d, prometheus.GaugeValue, v, labels)
}

func counterOf(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return constant(d, prometheus.CounterValue, v, labels)
}

// constant is a metric made for one scrape; one that cannot be made spoils
// nothing but itself.
func constant(d *prometheus.Desc, t prometheus.ValueType, v float64, labels []string) prometheus.Metric {
	m, err := prometheus.NewConstMetric(d, t, v, labels...)
	if err != nil {
		return prometheus.NewInvalidMetric(d, err)
	}
	return m
}
