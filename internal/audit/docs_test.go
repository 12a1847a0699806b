package audit

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of events into docs/audit-format.md")

const format = "../../docs/audit-format.md"

// codeTable is the table of events as the docs have it.
func codeTable() string {
	var b strings.Builder
	b.WriteString("| event_code | class | activity | type_uid | status | severity | disposition | says |\n|---|---|---|---|---|---|---|---|\n")
	for _, code := range Codes() {
		s := shapes[code]
		status, severity := "either", s.good.caption()+" / "+s.bad.caption()
		disposition := "–"
		if s.decision {
			disposition = allowed.name + " / " + s.refusal.name
		}
		if s.always {
			status, severity = "Failure", "– / "+s.bad.caption()
			disposition = strings.Replace(disposition, allowed.name, "–", 1)
		}
		fmt.Fprintf(&b, "| `%s` | %d | %s | %d | %s | %s | %s | %s |\n", code, s.class, s.name, s.class*100+s.activity, status, severity, disposition, s.means)
	}
	return b.String()
}

func TestEveryCodeOfTheContractHasAShape(t *testing.T) {
	text, err := os.ReadFile("event.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^\t\w+ +Code = "([a-z.]+)"`).FindAllSubmatch(text, -1)
	if len(found) != len(Codes()) {
		t.Errorf("event.go names %d codes, the table has %d", len(found), len(Codes()))
	}
	for _, f := range found {
		if _, ok := shapes[Code(f[1])]; !ok {
			t.Errorf("%s has no shape", f[1])
		}
	}
}

func TestTheDocsListEveryEventAsItIsWritten(t *testing.T) {
	text, err := os.ReadFile(format)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- begin codes -->\n", "<!-- end codes -->"
	head, rest, found := strings.Cut(string(text), begin)
	table, tail, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no place for the table", format)
	}
	if *update {
		if err := os.WriteFile(format, []byte(head+begin+codeTable()+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if table != codeTable() {
		t.Errorf("%s is not what the code does; go test ./internal/audit -run Docs -update", format)
	}
}
