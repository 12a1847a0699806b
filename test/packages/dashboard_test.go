package packages_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

type panel struct {
	ID      int
	Type    string
	Title   string
	GridPos struct{ X, Y, W, H int }
	Targets []struct{ Expr string }
}

func dashboard(t *testing.T) (panels []panel, text string) {
	t.Helper()
	text = read(t, filepath.Join(root, "packaging/grafana/postern.json"))
	var d struct {
		UID    string
		Panels []panel
	}
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	if d.UID != "postern" || len(d.Panels) < 20 {
		t.Fatalf("dashboard %q has %d panels", d.UID, len(d.Panels))
	}
	return d.Panels, text
}

// TestPrometheusUnderstandsEveryPanel hands each query to promtool as the
// expression of a rule.
func TestPrometheusUnderstandsEveryPanel(t *testing.T) {
	need(t, "promtool")
	panels, _ := dashboard(t)
	rules := "groups:\n  - name: panels\n    rules:\n"
	variables := strings.NewReplacer("$instance", ".*", "$__rate_interval", "1m")
	for _, p := range panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q asks nothing", p.Title)
		}
		for i, target := range p.Targets {
			expr := variables.Replace(target.Expr)
			if strings.Contains(expr, "$") {
				t.Errorf("panel %q: a variable is not known: %s", p.Title, expr)
			}
			quoted, err := json.Marshal(expr)
			if err != nil {
				t.Fatal(err)
			}
			rules += fmt.Sprintf("      - {record: 'panel_%d_%d', expr: %s}\n", p.ID, i, quoted)
		}
	}
	path := filepath.Join(t.TempDir(), "panels.yml")
	if err := os.WriteFile(path, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("promtool", "check", "rules", path).CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// TestEveryPanelAsksForSeriesThatExist holds the queries against the document
// of metrics, which a test of package metrics holds against the program.
func TestEveryPanelAsksForSeriesThatExist(t *testing.T) {
	panels, _ := dashboard(t)
	doc := read(t, filepath.Join(root, "docs/metrics.md"))
	suffix := regexp.MustCompile(`_(bucket|count|sum)$`)
	labels := regexp.MustCompile(`by \(([^)]*)\)`)
	asked := 0
	for _, p := range panels {
		for _, target := range p.Targets {
			for _, name := range regexp.MustCompile(`postern_[a-z_]+`).FindAllString(target.Expr, -1) {
				asked++
				row := regexp.MustCompile("(?m)^\\| `(" + name + "|" + suffix.ReplaceAllString(name, "") + ")` \\| ([^|]*)\\|").FindStringSubmatch(doc)
				if row == nil {
					t.Errorf("panel %q: docs/metrics.md has no %s", p.Title, name)
					continue
				}
				for _, m := range labels.FindAllStringSubmatch(target.Expr, -1) {
					for _, label := range regexp.MustCompile(`\w+`).FindAllString(m[1], -1) {
						if label != "le" && label != "instance" && !strings.Contains(row[2], label) {
							t.Errorf("panel %q: %s has no label %s", p.Title, name, label)
						}
					}
				}
			}
		}
	}
	if asked < 30 {
		t.Errorf("only %d series are asked for", asked)
	}
}

func TestPanelsHaveTheirPlaceAndNumber(t *testing.T) {
	panels, text := dashboard(t)
	taken := map[[2]int]string{}
	numbers := map[int]bool{}
	for _, p := range panels {
		if numbers[p.ID] {
			t.Errorf("panel %q: number %d is taken", p.Title, p.ID)
		}
		numbers[p.ID] = true
		g := p.GridPos
		if g.X+g.W > 24 {
			t.Errorf("panel %q leaves the screen", p.Title)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("panel %q lies on %q", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
	for _, m := range regexp.MustCompile(`"uid": "([^"]*)"`).FindAllStringSubmatch(text, -1) {
		if m[1] != "${datasource}" && m[1] != "postern" {
			t.Errorf("the dashboard is tied to the data source %q", m[1])
		}
	}
}
