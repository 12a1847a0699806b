package main

import (
	"reflect"
	"testing"
	"time"

	"postern/internal/audit"
	"postern/internal/sink"
)

func TestWhatASinkDroppedSinceItWasLastReportedIsOneEvent(t *testing.T) {
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	before := sink.Stats{Dropped: 10, Reasons: map[string]uint64{"queue_full": 10}}
	now := sink.Stats{Dropped: 15, Reasons: map[string]uint64{"queue_full": 13, "too_large": 2}, LastError: "connection refused"}
	got := dropped("syslog", before, now, noon, noon.Add(time.Minute))
	want := audit.Event{
		Code: audit.SinkDropped, Count: 5, Start: noon, End: noon.Add(time.Minute), Detail: "connection refused", Message: "syslog: 5 events dropped",
		Extra: map[string]any{"sink": "syslog", "reasons": map[string]any{"queue_full": int64(3), "too_large": int64(2)}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}
