package metrics

import (
	"testing"
	"time"
)

func TestTheArchivesLagIsReadAtEachScrape(t *testing.T) {
	m := New(Options{})
	now := Archive{AnchorAge: 90 * time.Second, Files: 3, Bytes: 4096, BacklogAge: 2 * time.Hour}
	m.WatchArchive(func() Archive { return now })
	want := "postern_archive_backlog_age_seconds 7200\npostern_archive_backlog_bytes 4096\npostern_archive_backlog_files 3"
	if got := series(scrape(t, m, false), "postern_archive_backlog"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	now = Archive{}
	if got := series(scrape(t, m, false), "postern_audit_anchor_age"); got != "postern_audit_anchor_age_seconds 0" {
		t.Errorf("when all is anchored: %s", got)
	}
}

func TestWithoutAnArchiveNothingClaimsThatItIsUpToDate(t *testing.T) {
	if got := series(scrape(t, New(Options{}), false), "postern_audit_anchor"); got != "" {
		t.Errorf("got %s", got)
	}
}

func TestArchiveFailuresHaveReasonsOfAFixedSet(t *testing.T) {
	m := New(Options{})
	m.ArchivePass(2, "")
	m.ArchivePass(3, "throttled")
	m.ArchivePass(-1, "dial tcp 10.0.0.1: refused")
	want := "postern_archive_copied_total 5\npostern_archive_failures_total{reason=\"other\"} 1\npostern_archive_failures_total{reason=\"throttled\"} 1"
	if got := series(scrape(t, m, false), "postern_archive"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestEachSinkHasItsSeries(t *testing.T) {
	m := New(Options{})
	m.WatchSinks(func() []Sink {
		return []Sink{{Name: "syslog", Sent: 7, Dropped: 2, QueuedBytes: 512, Connected: true}, {Name: "cloudwatch"}}
	})
	want := `postern_sink_connected{sink="cloudwatch"} 0
postern_sink_connected{sink="syslog"} 1
postern_sink_events_total{result="dropped",sink="cloudwatch"} 0
postern_sink_events_total{result="dropped",sink="syslog"} 2
postern_sink_events_total{result="sent",sink="cloudwatch"} 0
postern_sink_events_total{result="sent",sink="syslog"} 7
postern_sink_queue_bytes{sink="cloudwatch"} 0
postern_sink_queue_bytes{sink="syslog"} 512`
	if got := series(scrape(t, m, false), "postern_sink"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
