package packages_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// userData is what the examples for cloud-init have in common.
type userData struct {
	WriteFiles []struct{ Path, Permissions, Content string } `yaml:"write_files"`
	RunCmd     []string                                      `yaml:"runcmd"`
}

// examples returns the user-data that ships, by file name.
func examples(t *testing.T) map[string]userData {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "packaging/cloud-init/*.yaml"))
	if err != nil || len(files) != 2 {
		t.Fatalf("examples %q, %v", files, err)
	}
	all := map[string]userData{}
	for _, f := range files {
		var u userData
		if err := yaml.Unmarshal([]byte(read(t, f)), &u); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		all[f] = u
	}
	return all
}

func TestCloudInitTakesTheExamples(t *testing.T) {
	need(t, "cloud-init")
	for f := range examples(t) {
		out, err := exec.Command("cloud-init", "schema", "--config-file", f).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Valid") {
			t.Errorf("cloud-init schema: %v\n%s", err, out)
		}
	}
}

func TestTheFilesOfTheExamplesAreGood(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "postern")
	if out, err := exec.Command("go", "build", "-o", gate, root+"/cmd/agent").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for f, u := range examples(t) {
		dir := t.TempDir()
		for _, w := range u.WriteFiles {
			text := strings.ReplaceAll(w.Content, "/etc/postern", dir)
			if filepath.Base(w.Path) == "postern.yaml" {
				text += "policy: " + dir + "/policy.yaml\n"
			}
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(w.Path)), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := exec.Command(gate, "check", "--config", dir+"/postern.yaml").CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", f, err, out)
		}
	}
}

// TestTheExamplesMoveSSHDBeforeTheyStartTheGate reads the steps in their order,
// and has shellcheck read them too.
func TestTheExamplesMoveSSHDBeforeTheyStartTheGate(t *testing.T) {
	need(t, "shellcheck")
	for f, u := range examples(t) {
		if len(u.RunCmd) != 1 {
			t.Fatalf("%s runs %d scripts", f, len(u.RunCmd))
		}
		script := u.RunCmd[0]
		last := -1
		for _, step := range []string{"set -eu", "sha256sum --check", "install", "postern check", "postern take-port-22", "systemctl enable --now", "readyz"} {
			at := strings.LastIndex(script, step)
			if at <= last {
				t.Errorf("%s: %q is missing or too early", f, step)
			}
			last = at
		}
		cmd := exec.Command("shellcheck", "--shell=sh", "-")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: shellcheck: %v\n%s", f, err, out)
		}
	}
}
