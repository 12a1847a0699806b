// Package postern_test holds the rules of the house, those that a compiler
// does not know: who may import whom, and what nobody may.
package postern_test

import (
	"bytes"
	"errors"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// imports says which packages of the module each package may import, tests
// left out. A leaf imports none; sshgate is where they meet, and only cmd
// imports it. A package that is not in the table has not been thought about.
var imports = map[string][]string{
	"internal/admin":       {},
	"internal/admission":   {},
	"internal/archive":     {"internal/durable"},
	"internal/audit":       {"internal/durable"},
	"internal/config":      {"internal/admission", "internal/archive", "internal/audit", "internal/kms", "internal/krl", "internal/metrics", "internal/policy", "internal/privatelink", "internal/sink", "internal/upstream"},
	"internal/doctor":      {},
	"internal/durable":     {},
	"internal/health":      {},
	"internal/kexinit":     {},
	"internal/files":       {},
	"internal/kms":         {},
	"internal/krl":         {},
	"internal/metrics":     {},
	"internal/nlb":         {},
	"internal/policy":      {},
	"internal/privatelink": {},
	"internal/record":      {"internal/durable"},
	"internal/review":      {"internal/record"},
	"internal/sink":        {},
	"internal/sshgate": {"internal/admission", "internal/audit", "internal/durable", "internal/files", "internal/kexinit", "internal/krl",
		"internal/metrics", "internal/policy", "internal/record", "internal/upstream"},
	"internal/upstream": {},

	"cmd/agent": {"internal/admin", "internal/admission", "internal/archive", "internal/audit", "internal/config", "internal/doctor", "internal/durable", "internal/health",
		"internal/kms", "internal/krl", "internal/metrics", "internal/nlb", "internal/policy", "internal/privatelink", "internal/record", "internal/review",
		"internal/sink", "internal/sshgate", "internal/upstream"},

	"packaging/contents": {},

	"test/awsfake":        {},
	"test/bench":          {"internal/nlb", "test/gateclient"},
	"test/gateclient":     {"internal/nlb"},
	"test/s3server":       {},
	"test/tools/attack":   {"internal/nlb", "test/gateclient"},
	"test/tools/manyssh":  {"test/gateclient"},
	"test/tools/nlbdial":  {"internal/nlb"},
	"test/tools/nlbfront": {"internal/nlb"},
	"test/tools/report":   {},
	"test/tools/target":   {},
}

// banned are imports that only the packages named may have; "" is nobody.
var banned = []struct {
	imported string // and what is under it
	where    string // the rule is for packages under it
	but      []string
	why      string
}{
	{"os/exec", "internal", nil, "the daemon starts no programs: its unit forbids it too"},
	// exporter-toolkit and net/http want the standard library's loggers; metrics hands them to zap.
	{"log", "", []string{"internal/metrics"}, "zap writes the operator's log, audit the other"},
	{"log/slog", "", []string{"internal/metrics"}, "zap writes the operator's log, audit the other"},
	{"math/rand", "", nil, "math/rand/v2 for what may be guessed, crypto/rand for what may not"},
	{"github.com/aws", "", []string{"internal/doctor", "internal/privatelink", "internal/archive", "internal/kms", "internal/sink", "test/s3server"}, "AWS is remote; only these know of it"},
	{"unsafe", "", nil, "no memory tricks in a gate"},
	{"testing", "internal", nil, "testing code does not ship"},
}

const maxLines = 600

func TestPackagesImportWhatTheTableSays(t *testing.T) {
	for dir, pkg := range packages(t) {
		if len(pkg.GoFiles) == 0 {
			continue // nothing but tests
		}
		allowed, ok := imports[dir]
		if !ok {
			t.Errorf("%s is not in the import table", dir)
		}
		for _, imported := range pkg.Imports {
			name, ours := strings.CutPrefix(imported, "postern/")
			if ours && ok && !slices.Contains(allowed, name) {
				t.Errorf("%s imports %s, which the table does not allow", dir, name)
			}
		}
	}
	for dir := range imports {
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("the import table names %s: %v", dir, err)
		}
	}
}

func TestNobodyImportsWhatIsBanned(t *testing.T) {
	for dir, pkg := range packages(t) {
		for _, imported := range pkg.Imports {
			for _, b := range banned {
				if under(imported, b.imported, b.imported == "github.com/aws") && under(dir, b.where, true) && !slices.Contains(b.but, dir) {
					t.Errorf("%s imports %s: %s", dir, imported, b.why)
				}
			}
		}
	}
}

// under says whether name is root, or below it where below counts.
func under(name, root string, below bool) bool {
	return root == "" || name == root || below && strings.HasPrefix(name, root+"/")
}

func TestEachPackageHasOneDocComment(t *testing.T) {
	for dir, pkg := range packages(t) {
		files := pkg.GoFiles
		if len(files) == 0 {
			files = slices.Concat(pkg.TestGoFiles, pkg.XTestGoFiles)
		}
		var documented []string
		for _, name := range files {
			if parse(t, filepath.Join(dir, name)).Doc != nil {
				documented = append(documented, name)
			}
		}
		if len(documented) != 1 {
			t.Errorf("%s: want one file with a package comment, got %q", dir, documented)
		}
	}
}

// TestPackageVariablesAreConstants shows that package variables are set where
// they are declared and by nobody else, so that they are no state. sync.Pool
// passes: it holds nothing that anybody could read twice.
func TestPackageVariablesAreConstants(t *testing.T) {
	for dir, pkg := range packages(t) {
		if !under(dir, "internal", true) && !under(dir, "cmd", true) {
			continue
		}
		for _, found := range writes(t, dir, pkg.GoFiles) {
			t.Error(found)
		}
	}
}

// writes lists where files write to a variable of their package, take its
// address, or declare one of a type that is there to be written to.
func writes(t *testing.T, dir string, files []string) []string {
	fset := token.NewFileSet()
	var parsed []*ast.File
	for _, name := range files {
		f, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, f)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	// What other packages have is unknown here and does not matter: only names
	// of this package are looked up.
	conf := types.Config{Importer: nothing{}, Error: func(error) {}}
	pkg, _ := conf.Check(dir, fset, parsed, info)

	var found []string
	report := func(at ast.Node, what string) {
		found = append(found, fset.Position(at.Pos()).String()+": "+what)
	}
	global := func(e ast.Expr) bool {
		v, ok := info.Uses[base(e)].(*types.Var)
		return ok && v.Parent() == pkg.Scope()
	}
	for _, f := range parsed {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for _, left := range n.Lhs {
					if n.Tok != token.DEFINE && global(left) {
						report(left, "writes to a package variable")
					}
				}
			case *ast.IncDecStmt:
				if global(n.X) {
					report(n, "writes to a package variable")
				}
			case *ast.UnaryExpr:
				if n.Op == token.AND && global(n.X) {
					report(n, "takes the address of a package variable")
				}
			}
			return true
		})
		for _, decl := range f.Decls {
			if stateful(decl) {
				report(decl, "declares a package variable that is there to be written to")
			}
		}
	}
	return found
}

// base is the identifier at the root of x.y[z].
func base(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// stateful says whether decl has a variable of a type of sync or sync/atomic.
func stateful(decl ast.Decl) bool {
	gen, ok := decl.(*ast.GenDecl)
	if !ok || gen.Tok != token.VAR {
		return false
	}
	return slices.ContainsFunc(gen.Specs, func(spec ast.Spec) bool {
		sel, ok := spec.(*ast.ValueSpec).Type.(*ast.SelectorExpr)
		return ok && slices.Contains([]string{"sync", "atomic"}, base(sel.X).Name)
	})
}

// nothing imports an empty package for every path.
type nothing struct{}

func (nothing) Import(p string) (*types.Package, error) {
	pkg := types.NewPackage(p, path.Base(p))
	pkg.MarkComplete()
	return pkg, nil
}

func TestNobodySleepsOrPrints(t *testing.T) {
	inspect(t, func(dir string, n ast.Node) string {
		call, ok := n.(*ast.CallExpr)
		switch {
		case !ok || !under(dir, "internal", true):
		case isCall(call.Fun, "time", "Sleep"):
			return "sleeps; wait for what is waited for"
		case isCall(call.Fun, "fmt", "Print", "Printf", "Println"):
			return "prints to standard output"
		}
		return ""
	})
}

func isCall(e ast.Expr, pkg string, names ...string) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == pkg && slices.Contains(names, sel.Sel.Name)
}

// inspect shows every node of the daemon's code to see, and reports what it
// says of one.
func inspect(t *testing.T, see func(dir string, n ast.Node) string) {
	for dir, pkg := range packages(t) {
		if !under(dir, "internal", true) && !under(dir, "cmd", true) {
			continue
		}
		for _, name := range pkg.GoFiles {
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if what := see(dir, n); what != "" {
					t.Errorf("%s: %s", fset.Position(n.Pos()), what)
				}
				return true
			})
		}
	}
}

func TestFilesAreShort(t *testing.T) {
	for name, b := range files(t) {
		if lines := bytes.Count(b, []byte("\n")); strings.HasSuffix(name, ".go") && lines > maxLines {
			t.Errorf("%s has %d lines; past %d it is two files", name, lines, maxLines)
		}
	}
}

// TestNothingIsLeftBehind looks for what was only true where it was written.
func TestNothingIsLeftBehind(t *testing.T) {
	for name, b := range files(t) {
		for _, left := range []string{"/" + "work/", "/" + "root/", "/" + "home/", "TO" + "DO", "FIX" + "ME", "XX" + "X "} {
			if i := bytes.Index(b, []byte(left)); i >= 0 && name != "LICENSE" {
				t.Errorf("%s:%d: has %q", name, 1+bytes.Count(b[:i], []byte("\n")), left)
			}
		}
	}
}

func TestModuleStandsAlone(t *testing.T) {
	b, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for n, line := range strings.Split(string(b), "\n") {
		word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if slices.Contains([]string{"replace", "exclude", "toolchain", "retract"}, word) {
			t.Errorf("go.mod:%d: %s is not for a module that others build", n+1, word)
		}
	}
}

// packages are the packages of the module by folder.
func packages(t *testing.T) map[string]*build.Package {
	t.Helper()
	found := map[string]*build.Package{}
	walk(t, func(name string, d fs.DirEntry) {
		if !d.IsDir() {
			return
		}
		pkg, err := build.ImportDir(name, 0)
		var none *build.NoGoError
		if errors.As(err, &none) && len(none.Dir) > 0 && len(pkg.XTestGoFiles)+len(pkg.TestGoFiles) == 0 {
			return
		}
		if err != nil && !errors.As(err, &none) {
			t.Fatal(err)
		}
		found[name] = pkg
	})
	if len(found) < len(imports) {
		t.Fatalf("found %d packages, fewer than the import table has", len(found))
	}
	return found
}

// files are all the files of the tree that people write.
func files(t *testing.T) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	walk(t, func(name string, d fs.DirEntry) {
		if !d.Type().IsRegular() {
			return
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		found[name] = b
	})
	return found
}

func walk(t *testing.T, see func(name string, d fs.DirEntry)) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{".git", ".tools", "bin", "dist", "testdata"}, d.Name()) {
			return filepath.SkipDir
		}
		see(filepath.ToSlash(name), d)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func parse(t *testing.T, name string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
