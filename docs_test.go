package postern_test

import (
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

var (
	link     = regexp.MustCompile(`\]\(([^)#]*)(#[^)]*)?\)`)
	heading  = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notWord  = regexp.MustCompile(`[^a-z0-9 -]`)
	code     = regexp.MustCompile(`\b([a-z]+_[a-z_]+)\b`)
	tableRow = regexp.MustCompile(`(?m)^\| .*\|$`)
)

// TestLinksLeadSomewhere follows every relative link of the documents, and the
// heading that it names.
func TestLinksLeadSomewhere(t *testing.T) {
	followed := 0
	for name, b := range files(t) {
		if !strings.HasSuffix(name, ".md") {
			continue
		}
		for _, m := range link.FindAllStringSubmatch(string(b), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			followed++
			target := name
			if m[1] != "" {
				target = path.Join(path.Dir(name), m[1])
			}
			if !leads(target, m[2]) {
				t.Errorf("%s links to %s%s, which is not there", name, m[1], m[2])
			}
		}
	}
	if followed == 0 {
		t.Error("there are no links")
	}
}

func leads(name, anchor string) bool {
	b, err := os.ReadFile(name)
	if err != nil || anchor == "" {
		_, err = os.Stat(name)
		return err == nil
	}
	for _, m := range heading.FindAllStringSubmatch(string(b), -1) {
		slug := strings.ReplaceAll(notWord.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")
		if "#"+slug == anchor {
			return true
		}
	}
	return false
}

// TestReasonsInTheGuideExist holds the reason codes that the vendor's guide
// explains against the list of them.
func TestReasonsInTheGuideExist(t *testing.T) {
	guide, err := os.ReadFile("docs/vendor.md")
	if err != nil {
		t.Fatal(err)
	}
	format, err := os.ReadFile("docs/audit-format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, reasons, _ := strings.Cut(string(format), "\n## Reasons")
	_, guided, ok := strings.Cut(string(guide), "## When it says no")
	rows := tableRow.FindAllString(guided, -1)
	if !ok || len(rows) < 10 || reasons == "" {
		t.Fatal("the documents have lost the sections that this test reads")
	}
	for _, m := range code.FindAllStringSubmatch(strings.Join(rows, "\n"), -1) {
		if !strings.Contains(reasons, "`"+m[1]+"`") {
			t.Errorf("docs/vendor.md explains %s, which docs/audit-format.md does not know", m[1])
		}
	}
}
