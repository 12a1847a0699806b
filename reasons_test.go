package postern_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// reasonName is what a constant is called that ends up in status_code.
var reasonName = regexp.MustCompile(`^([rR]eason|Outcome)[A-Z]`)

// TestTheDocumentHasEveryReasonAndNoOther holds the table of reasons in
// docs/audit-format.md to the constants in the code.
func TestTheDocumentHasEveryReasonAndNoOther(t *testing.T) {
	given := reasonsGiven(t)
	if len(given) < 80 {
		t.Fatalf("only %d reasons found: are they called otherwise now?", len(given))
	}
	documented := reasonsDocumented(t)
	for _, reason := range slices.Sorted(maps.Keys(given)) {
		if !documented[reason] {
			t.Errorf("%s, of %s, is not in docs/audit-format.md", reason, given[reason])
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(documented)) {
		if given[reason] == "" {
			t.Errorf("docs/audit-format.md has %s, which nothing gives", reason)
		}
	}
}

// reasonsGiven returns the reasons in the code, with the file that has each.
func reasonsGiven(t *testing.T) map[string]string {
	t.Helper()
	given := map[string]string{}
	for name, b := range files(t) {
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "test/") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, b, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			for _, reason := range reasonsIn(n) {
				given[reason] = name
			}
			return true
		})
	}
	delete(given, "ok") // an outcome that is no failure
	return given
}

// reasonsIn finds constants by their name, and what is put into a field reason
// without one.
func reasonsIn(n ast.Node) []string {
	var reasons []string
	switch n := n.(type) {
	case *ast.ValueSpec:
		for i, name := range n.Names {
			if reasonName.MatchString(name.Name) && i < len(n.Values) {
				reasons = append(reasons, literal(n.Values[i])...)
			}
		}
	case *ast.KeyValueExpr:
		if key, ok := n.Key.(*ast.Ident); ok && strings.EqualFold(key.Name, "reason") {
			reasons = literal(n.Value)
		}
	}
	return reasons
}

func literal(e ast.Expr) []string {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return nil
	}
	s, err := strconv.Unquote(lit.Value)
	if err != nil {
		return nil
	}
	return []string{s}
}

// reasonsDocumented returns the codes in the second column of the table.
func reasonsDocumented(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("docs/audit-format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## Reasons\n")
	if !found {
		t.Fatal("docs/audit-format.md has lost its reasons")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	documented := map[string]bool{}
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || strings.HasPrefix(cells[2], "---") {
			continue
		}
		for _, m := range regexp.MustCompile("`([a-z0-9_.]+)`").FindAllStringSubmatch(cells[2], -1) {
			documented[m[1]] = true
		}
	}
	return documented
}
