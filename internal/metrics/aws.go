package metrics

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The label values that the gate's questions to AWS have; other ones become
// "other".
var (
	awsQuestions = set("addresses", "endpoints", "acceptance", "policy")
	awsReasons   = set("denied", "credentials", "throttled", "unreachable", "garbled", "not_found")
)

// AWSFailed counts a question to AWS that got no answer, by what was asked and
// why.
func (m *Metrics) AWSFailed(what, reason string) {
	m.awsFailures.WithLabelValues(known(awsQuestions, what), known(awsReasons, reason)).Inc()
}

// AWS is what AWS has said of the way in at a scrape.
type AWS struct {
	Ages      map[string]time.Duration // of the last answers, by what was asked
	Addresses int                      // of the load balancer
	Endpoints int                      // that may connect
	Pending   int                      // endpoints that wait to be accepted
}

// WatchAWS registers what AWS has said, which read says at each scrape. It is
// called once, where AWS is asked; read must be safe for concurrent use.
func (m *Metrics) WatchAWS(read func() AWS) {
	m.registry.MustRegister(&awsSeries{
		read:       read,
		age:        desc("aws_answer_age_seconds", "How old AWS's last answer is, by what was asked; where there was none, how old this gate is.", "what"),
		discovered: desc("aws_discovered", "What AWS says of the way in: addresses of the load balancer, endpoints that may connect, endpoints that wait to be accepted.", "what"),
	})
}

type awsSeries struct {
	read            func() AWS
	age, discovered *prometheus.Desc
}

func (a *awsSeries) Describe(ch chan<- *prometheus.Desc) {
	ch <- a.age
	ch <- a.discovered
}

func (a *awsSeries) Collect(ch chan<- prometheus.Metric) {
	now := a.read()
	for _, what := range slices.Sorted(maps.Keys(now.Ages)) {
		ch <- gaugeOf(a.age, now.Ages[what].Seconds(), known(awsQuestions, what))
	}
	ch <- gaugeOf(a.discovered, float64(now.Addresses), "addresses")
	ch <- gaugeOf(a.discovered, float64(now.Endpoints), "endpoints")
	ch <- gaugeOf(a.discovered, float64(now.Pending), "pending")
}
