// Package packages_test builds the packages and looks at what is in them.
package packages_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	root    = "../.."
	version = "1.2.3"
	maxSize = 15 << 20
)

// built is the folder that TestMain had the packages built in.
var built string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	for _, program := range []string{"ar", "xz", "dpkg-deb"} {
		if _, err := exec.LookPath(program); err != nil && os.Getenv("CI") != "true" {
			fmt.Println("skipped, all of it:", program, "is missing")
			return 0
		}
	}
	dir, err := os.MkdirTemp("", "postern-packages-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if out, err := build(dir); err != nil {
		fmt.Fprintf(os.Stderr, "packaging/build: %v\n%s", err, out)
		return 1
	}
	built = dir
	return m.Run()
}

// processors are those that packages are tested for, as Debian and as rpm call
// them. The second takes minutes to compile for the first time, which only CI
// has.
func processors() map[string]string {
	all := map[string]string{"amd64": "x86_64"}
	if os.Getenv("CI") == "true" {
		all["arm64"] = "aarch64"
	}
	return all
}

// build builds the packages into dir. The time is not the last commit's, so
// that a tree without history can be tested.
func build(dir string) ([]byte, error) {
	cmd := exec.Command(filepath.Join(root, "packaging/build"), version, dir)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1795000000", "ARCHITECTURES="+strings.Join(slices.Sorted(maps.Keys(processors())), " "))
	return cmd.CombinedOutput()
}

func TestTheSameTreeGivesTheSameBytes(t *testing.T) {
	again := t.TempDir()
	if out, err := build(again); err != nil {
		t.Fatalf("packaging/build: %v\n%s", err, out)
	}
	first, second := read(t, filepath.Join(built, "SHA256SUMS")), read(t, filepath.Join(again, "SHA256SUMS"))
	if first != second {
		t.Errorf("first:\n%ssecond:\n%s", first, second)
	}
}

func TestThereIsAPackageOfEachKindForEachProcessor(t *testing.T) {
	sums := read(t, filepath.Join(built, "SHA256SUMS"))
	var names []string
	for debian, rpm := range processors() {
		names = append(names, "postern_1.2.3-1_"+debian+".deb", "postern-1.2.3-1."+rpm+".rpm", "postern_1.2.3_"+debian+".cdx.json")
	}
	for _, name := range names {
		info, err := os.Stat(filepath.Join(built, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if info.Size() > maxSize {
			t.Errorf("%s has %d bytes, want at most %d", name, info.Size(), maxSize)
		}
		if !strings.Contains(sums, "  "+name+"\n") {
			t.Errorf("%s is not in SHA256SUMS", name)
		}
	}
	cmd := exec.Command("sha256sum", "--check", "--quiet", "SHA256SUMS")
	cmd.Dir = built
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("sha256sum: %v\n%s", err, out)
	}
}

// shipped is what must be in every package.
var shipped = []string{
	"/usr/sbin/postern",
	"/etc/postern/postern.yaml", "/etc/postern/policy.yaml",
	"/usr/lib/systemd/system/postern.service", "/usr/lib/systemd/system/postern.socket", "/usr/lib/systemd/system/postern.slice",
	"/usr/lib/sysusers.d/postern.conf", "/usr/lib/tmpfiles.d/postern.conf",
	"/usr/share/man/man8/postern.8.gz",
	"/usr/share/bash-completion/completions/postern", "/usr/share/fish/vendor_completions.d/postern.fish",
	"/usr/share/doc/postern/operator.md",
	"/usr/share/postern/prometheus/alerts.yml", "/usr/share/postern/verify/verify.py",
}

func TestPackagesHoldWhatAHostNeeds(t *testing.T) {
	listings := map[string]string{"deb": debListing(t), "rpm": rpmListing(t)}
	for kind, extra := range map[string][]string{
		"deb": {"/usr/share/doc/postern/copyright", "/usr/share/doc/postern/third-party-licenses.gz", "/usr/share/zsh/vendor-completions/_postern"},
		"rpm": {"/usr/share/licenses/postern/LICENSE", "/usr/share/licenses/postern/third-party-licenses", "/usr/share/zsh/site-functions/_postern"},
	} {
		for _, path := range slices.Concat(shipped, extra) {
			if !regexp.MustCompile(`(?m) ` + regexp.QuoteMeta(path) + `$`).MatchString(listings[kind]) {
				t.Errorf("%s: no %s", kind, path)
			}
		}
	}
}

// kits are the folders of packaging that go to /usr/share/postern.
var kits = []string{"prometheus", "grafana", "cloud-init", "cloudformation"}

func TestTheKitsOfTheTreeAreInThePackages(t *testing.T) {
	deb, rpm := debListing(t), rpmListing(t)
	for _, kit := range kits {
		files, err := filepath.Glob(filepath.Join(root, "packaging", kit, "*.[yj]*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			path := "/usr/share/postern/" + kit + "/" + filepath.Base(f) + "\n"
			if !strings.Contains(deb, path) || !strings.Contains(rpm, path) {
				t.Errorf("%s is not in both packages", strings.TrimSpace(path))
			}
		}
	}
}

func TestEverythingBelongsToRootAndNobodyElseMayWriteIt(t *testing.T) {
	for line := range strings.Lines(debListing(t)) {
		f := strings.Fields(line)
		if f[1] != "root/root" && f[1] != "0/0" || f[0][5] == 'w' || f[0][8] == 'w' || strings.ContainsAny(f[0], "sS") {
			t.Errorf("deb: %s", line)
		}
	}
	for line := range strings.Lines(rpmListing(t)) {
		f := strings.Fields(line)
		if f[1] != "root" || f[2] != "root" || f[0][5] == 'w' || f[0][8] == 'w' || strings.ContainsAny(f[0], "sS") {
			t.Errorf("rpm: %s", line)
		}
	}
}

func TestTheConfigurationIsTheAdministrators(t *testing.T) {
	want := "/etc/postern/policy.yaml\n/etc/postern/postern.yaml\n"
	if got := output(t, "dpkg-deb", "--info", deb("amd64"), "conffiles"); got != want {
		t.Errorf("deb: conffiles are %q", got)
	}
	need(t, "rpm")
	if got := output(t, "rpm", "-qpc", rpm("x86_64")); got != want {
		t.Errorf("rpm: configuration files are %q", got)
	}
	flags := output(t, "rpm", "-qp", "--qf", `[%{FILEFLAGS:fflags} %{FILENAMES}\n]`, rpm("x86_64"))
	for path := range strings.Lines(want) {
		if !strings.Contains(flags, "cn "+path) {
			t.Errorf("rpm: %s is not noreplace", path)
		}
	}
}

func TestLintianHasNothingToSay(t *testing.T) {
	need(t, "lintian")
	for arch := range processors() {
		out, err := exec.Command("lintian", "--allow-root", "--fail-on=error,warning", "--tag-display-limit=0", deb(arch)).CombinedOutput()
		if err != nil || len(bytes.TrimSpace(out)) > 0 {
			t.Errorf("lintian %s: %v\n%s", arch, err, out)
		}
	}
}

func TestRpmlintHasNothingToSay(t *testing.T) {
	need(t, "rpmlint")
	for _, arch := range processors() {
		out, err := exec.Command("rpmlint", "-c", filepath.Join(root, "packaging/rpmlint.toml"), rpm(arch)).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte(" 0 errors, 0 warnings")) {
			t.Errorf("rpmlint %s: %v\n%s", arch, err, out)
		}
	}
}

func TestOverridesHaveReasons(t *testing.T) {
	for _, name := range []string{"lintian-overrides", "rpmlint.toml"} {
		commented := false
		for line := range strings.Lines(read(t, filepath.Join(root, "packaging", name))) {
			line = strings.TrimSpace(line)
			switch {
			case strings.HasPrefix(line, "#"):
				commented = true
			case line == "" || line == "]":
				commented = false
			case !commented:
				t.Errorf("%s: %q has no reason above it", name, line)
			}
		}
	}
}

func TestShellcheckHasNothingToSay(t *testing.T) {
	need(t, "shellcheck")
	scripts, err := filepath.Glob(filepath.Join(root, "packaging/scripts/*"))
	if err != nil || len(scripts) != 6 {
		t.Fatalf("scripts %q, %v", scripts, err)
	}
	args := append(scripts, filepath.Join(root, "packaging/build"), filepath.Join(root, "packaging/version"))
	if out, err := exec.Command("shellcheck", args...).CombinedOutput(); err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
}

func TestTheBillOfMaterialsNamesEveryModuleOfTheBinary(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("dpkg-deb", "-x", deb("amd64"), dir).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
	modules := regexp.MustCompile(`(?m)^\tdep\t(\S+)\t(\S+)`).FindAllStringSubmatch(output(t, "go", "version", "-m", filepath.Join(dir, "usr/sbin/postern")), -1)
	var bom struct {
		BOMFormat, SpecVersion string
		Components             []struct{ Name, Version, PURL string }
	}
	if err := json.Unmarshal([]byte(read(t, filepath.Join(built, "postern_1.2.3_amd64.cdx.json"))), &bom); err != nil {
		t.Fatal(err)
	}
	if bom.BOMFormat != "CycloneDX" || len(modules) < 20 || len(bom.Components) != len(modules)+1 {
		t.Fatalf("%s with %d components for %d modules", bom.BOMFormat, len(bom.Components), len(modules))
	}
	for i, m := range modules {
		if c := bom.Components[i+1]; c.Name != m[1] || c.Version != m[2] || c.PURL != "pkg:golang/"+m[1]+"@"+m[2] {
			t.Errorf("module %s %s is %+v", m[1], m[2], c)
		}
	}
}

func TestVersionsCompareAsTheyFollowEachOther(t *testing.T) {
	last := ""
	for _, v := range []struct{ described, want string }{
		{"v1.0.0-rc.1", "1.0.0~rc.1"},
		{"v1.0.0", "1.0.0"},
		{"v1.0.0-7-gabcdef1", "1.0.0+7.gabcdef1"},
		{"v1.0.0-12-gabcdef1-dirty", "1.0.0+12.gabcdef1.dirty"},
		{"1.0.1", "1.0.1"},
		{"v1.0.1-dirty", "1.0.1+dirty"},
	} {
		got := strings.TrimSpace(output(t, filepath.Join(root, "packaging/version"), v.described))
		if got != v.want {
			t.Errorf("%s is %s, want %s", v.described, got, v.want)
		}
		if last != "" && exec.Command("dpkg", "--compare-versions", last, "lt", got).Run() != nil {
			t.Errorf("dpkg does not take %s for older than %s", last, got)
		}
		last = got
	}
	if got := output(t, filepath.Join(root, "packaging/version"), "abcdef1"); !regexp.MustCompile(`^0\.0\.0\+\d+\.gabcdef1\n$`).MatchString(got) {
		t.Errorf("a tree without tags is %q", got)
	}
}

func deb(arch string) string { return filepath.Join(built, "postern_"+version+"-1_"+arch+".deb") }
func rpm(arch string) string { return filepath.Join(built, "postern-"+version+"-1."+arch+".rpm") }

// debListing has a line a file: mode, owner/group, size, date, time, path.
func debListing(t *testing.T) string {
	t.Helper()
	return strings.ReplaceAll(output(t, "dpkg-deb", "--contents", deb("amd64")), " ./", " /")
}

// rpmListing has a line a file: mode, owner, group, path.
func rpmListing(t *testing.T) string {
	t.Helper()
	need(t, "rpm")
	return output(t, "rpm", "-qp", "--qf", `[%{FILEMODES:perms} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILENAMES}\n]`, rpm("x86_64"))
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	need(t, name)
	var stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, stderr.String())
	}
	return string(out)
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(program + " is missing")
	}
	t.Skip(program + " is missing")
}
