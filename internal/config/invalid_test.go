package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what was got into testdata/*.want")

// TestEveryFaultIsReportedAtItsPlace reads testdata/invalid-*.yaml, those that
// begin invalid-policy as policy.yaml, and compares every line of the error,
// and the hints, with the .want file beside it.
func TestEveryFaultIsReportedAtItsPlace(t *testing.T) {
	files, err := filepath.Glob("testdata/invalid-*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no test data", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Setenv("CREDENTIALS_DIRECTORY", "")
			got := reportOf(t, file)
			want := strings.TrimSuffix(file, ".yaml") + ".want"
			if *update {
				if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			data, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(data) {
				t.Errorf("got:\n%s\nwant:\n%s", got, data)
			}
		})
	}
}

// reportOf is what an operator sees of a faulty file, without the folder.
func reportOf(t *testing.T, file string) string {
	t.Helper()
	var err error
	if strings.HasPrefix(filepath.Base(file), "invalid-policy") {
		_, err = LoadPolicy(file)
	} else {
		_, err = Load(file)
	}
	faults, ok := errors.AsType[Errors](err)
	if !ok || len(faults) == 0 {
		t.Fatalf("want Errors, got %T: %v", err, err)
	}
	abs, absErr := filepath.Abs("testdata")
	if absErr != nil {
		t.Fatal(absErr)
	}
	lines := append([]string{err.Error()}, HintFor(err)...)
	return strings.ReplaceAll(strings.Join(lines, "\n"), abs+"/", "") + "\n"
}
