package metrics

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	docFile  = "../../docs/metrics.md"
	rulesDir = "../../packaging/prometheus"
)

// registered returns the gate's own series with their labels.
func registered(t *testing.T) map[string][]string {
	t.Helper()
	m := New(Options{})
	m.WatchAudit(func() (AuditLog, error) { return AuditLog{}, nil })
	m.WatchRecordings(func() (uint64, error) { return 0, nil })
	m.WatchArchive(func() Archive { return Archive{} })
	m.WatchSinks(func() []Sink { return nil })
	m.WatchAWS(func() AWS { return AWS{} })
	ch := make(chan *prometheus.Desc)
	go func() { m.registry.Describe(ch); close(ch) }()
	form := regexp.MustCompile(`fqName: "(postern_\w+)".*variableLabels: \{([\w,]*)\}`)
	series := map[string][]string{}
	for d := range ch {
		if f := form.FindStringSubmatch(d.String()); f != nil {
			series[f[1]] = sorted(f[2])
		}
	}
	if len(series) < 25 {
		t.Fatalf("only %d series: has Desc another form now?", len(series))
	}
	return series
}

// sorted returns the words of a list with commas.
func sorted(list string) []string {
	words := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
	slices.Sort(words)
	return words
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEverySeriesIsInTheDocumentWithItsLabels(t *testing.T) {
	documented := map[string][]string{}
	row := regexp.MustCompile("(?m)^\\| `(postern_\\w+)` \\| ([\\w, ]*)\\|")
	for _, r := range row.FindAllStringSubmatch(read(t, docFile), -1) {
		documented[r[1]] = sorted(r[2])
	}
	series := registered(t)
	for _, name := range slices.Sorted(maps.Keys(series)) {
		if labels, ok := documented[name]; !ok || !slices.Equal(labels, series[name]) {
			t.Errorf("%s{%v} is documented with %v, %v", name, series[name], labels, ok)
		}
	}
	for name := range documented {
		if _, ok := series[name]; !ok {
			t.Errorf("%s is documented and does not exist", name)
		}
	}
}

func TestEverySeriesThatAnAlertOrQueryNamesExists(t *testing.T) {
	series := registered(t)
	name := regexp.MustCompile(`postern_[a-z_]+\b`)
	for _, file := range []string{docFile, filepath.Join(rulesDir, "alerts.yml"), filepath.Join(rulesDir, "tests.yml")} {
		for _, n := range name.FindAllString(read(t, file), -1) {
			if _, ok := series[n]; ok || n == "postern_live_session_" {
				continue
			}
			base := n
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				base = strings.TrimSuffix(base, suffix)
			}
			if _, ok := series[base]; !ok {
				t.Errorf("%s: there is no %s", file, n)
			}
		}
	}
}

func TestEveryAlertHasARunbookAndATestThatFiresIt(t *testing.T) {
	doc, tests := read(t, docFile), read(t, filepath.Join(rulesDir, "tests.yml"))
	alerts := regexp.MustCompile(`(?m)- alert: (\w+)$`).FindAllStringSubmatch(read(t, filepath.Join(rulesDir, "alerts.yml")), -1)
	if len(alerts) == 0 {
		t.Fatal("no alerts")
	}
	for _, a := range alerts {
		if !strings.Contains(doc, "\n### "+a[1]+"\n") {
			t.Errorf("%s has no runbook in %s", a[1], docFile)
		}
		if !strings.Contains(tests, "- alertname: "+a[1]+"\n") {
			t.Errorf("no test case fires %s", a[1])
		}
	}
}

func TestPromtoolTakesTheAlertsAndTheirTests(t *testing.T) {
	tool := promtool(t)
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "tests.yml"}} {
		cmd := exec.Command(tool, args...)
		cmd.Dir = rulesDir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
