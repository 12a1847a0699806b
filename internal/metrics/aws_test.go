package metrics

import (
	"testing"
	"time"
)

func TestWhatAWSSaidIsReadAtEachScrape(t *testing.T) {
	m := New(Options{})
	now := AWS{Ages: map[string]time.Duration{"addresses": time.Minute, "endpoints": time.Hour}, Addresses: 4, Endpoints: 2, Pending: 1}
	m.WatchAWS(func() AWS { return now })
	want := `postern_aws_answer_age_seconds{what="addresses"} 60
postern_aws_answer_age_seconds{what="endpoints"} 3600
postern_aws_discovered{what="addresses"} 4
postern_aws_discovered{what="endpoints"} 2
postern_aws_discovered{what="pending"} 1`
	if got := series(scrape(t, m, false), "postern_aws"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestQuestionsToAWSFailForReasonsOfAFixedSet(t *testing.T) {
	m := New(Options{})
	m.AWSFailed("endpoints", "denied")
	m.AWSFailed("vpce-0a", "dial tcp 10.0.0.1: refused")
	want := `postern_aws_failures_total{reason="denied",what="endpoints"} 1
postern_aws_failures_total{reason="other",what="other"} 1`
	if got := series(scrape(t, m, false), "postern_aws"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
