package main

import (
	"bytes"
	"strings"
	"testing"
)

const passing = `{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN TestA\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}
`

func TestReport(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		strict   bool
		ok       bool
		want     string // in the output
	}{
		{"all pass", passing, true, true, "ok  \tp\t0.1s\n1 passed, 0 skipped, 0 failed\n"},
		{"nothing ran", "", false, false, "0 passed"},
		{"one fails", passing + `{"Action":"output","Package":"p","Test":"TestB","Output":"why\n"}
{"Action":"fail","Package":"p","Test":"TestB"}`, false, false, "why\nfailed: p TestB\n"},
		{"one is skipped", passing + `{"Action":"skip","Package":"p","Test":"TestB"}`, false, true, "skipped: p TestB\n"},
		{"one is skipped in CI", passing + `{"Action":"skip","Package":"p","Test":"TestB"}`, true, false, "a skipped test is a failure"},
		{"does not build", passing + `{"ImportPath":"q","Action":"build-output","Output":"q.go:1: bad\n"}
{"ImportPath":"q","Action":"build-fail"}`, false, false, "q.go:1: bad\nfailed: q\n"},
		{"a package fails outside a test", passing + `{"Action":"fail","Package":"q"}`, false, false, "failed: q\n"},
		{"a test never ends", passing + `{"Action":"output","Package":"p","Test":"TestB","Output":"goroutine 1\n"}`, false, false, "did not end: p TestB\ngoroutine 1\n"},
		{"a line that is no JSON", "go: no such package\n" + passing, false, true, "go: no such package\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			r := &report{out: &out, strict: tc.strict, output: map[string]*bytes.Buffer{}}
			if err := r.read(strings.NewReader(tc.in)); err != nil {
				t.Fatal(err)
			}
			if ok := r.summary(); ok != tc.ok {
				t.Errorf("ok = %v, want %v", ok, tc.ok)
			}
			if !strings.Contains(out.String(), tc.want) {
				t.Errorf("printed\n%s\nwant\n%s", &out, tc.want)
			}
		})
	}
}
