package privatelink

import (
	"strings"
	"testing"
)

func FuzzParseObject(f *testing.F) {
	for _, s := range []string{"s3://gate/policy.yaml", "s3://gate//policy.yaml", "s3://", "s3:///x", "https://gate/x", "s3://gate/a b?versionId=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := ParseObject(s)
		if ok && (n.Bucket == "" || n.Key == "" || strings.Contains(n.Bucket, "/") || n.String() != s) {
			t.Errorf("%q is read as %+v", s, n)
		}
	})
}

func FuzzWhatMetadataSaysOfTheEnd(f *testing.F) {
	for _, s := range []string{`{"action":"terminate","time":"2026-11-24T12:00:00Z"}`, `{"time":1}`, "Terminated", "", "{", "<html>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, ok := readSpotAction(s); !ok || n.Kind != ReasonSpot {
			t.Errorf("%q is no notice", s)
		}
		if _, ok := readLifecycleState(s); ok && s != "Terminated" && s != "Warmed:Terminated" {
			t.Errorf("%q ends the gate", s)
		}
	})
}
