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
	runbook  = "../../docs/runbook.md"
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
	name := regexp.MustCompile(`(?:^|[^:\w])(postern_[a-z_]+)\b`) // after a colon it is a recorded one
	for _, file := range []string{docFile, runbook, filepath.Join(rulesDir, "alerts.yml"), filepath.Join(rulesDir, "tests.yml")} {
		for _, n := range firsts(name, read(t, file)) {
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
	tests := read(t, filepath.Join(rulesDir, "tests.yml"))
	alerts := firsts(regexp.MustCompile(`(?m)- alert: (\w+)$`), read(t, filepath.Join(rulesDir, "alerts.yml")))
	if len(alerts) == 0 {
		t.Fatal("no alerts")
	}
	if entries := firsts(regexp.MustCompile(`(?m)^## (\w+)$`), read(t, runbook)); !slices.Equal(entries, alerts) {
		t.Errorf("%s is about\n%q, the alerts are\n%q", runbook, entries, alerts)
	}
	for _, a := range alerts {
		if !strings.Contains(tests, "- alertname: "+a+"\n") {
			t.Errorf("no test case fires %s", a)
		}
	}
}

// firsts returns what the first group of re matches, sorted.
func firsts(re *regexp.Regexp, text string) []string {
	var all []string
	for _, m := range re.FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	slices.Sort(all)
	return all
}

func TestPromtoolTakesTheAlertsAndTheirTests(t *testing.T) {
	tool := promtool(t)
	for _, args := range [][]string{{"check", "rules", "alerts.yml", "rules.yml"}, {"test", "rules", "tests.yml"}} {
		cmd := exec.Command(tool, args...)
		cmd.Dir = rulesDir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
