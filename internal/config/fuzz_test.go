package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/internal/admission"
	"postern/internal/policy"
)

// addFiles seeds a fuzz target with the test data whose names match and with a
// packaged example.
func addFiles(f *testing.F, pattern, packaged string) {
	f.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		f.Fatal("no test data", err)
	}
	for _, file := range append(files, packaged) {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}

// checkFaults checks that an error is what an operator can use.
func checkFaults(t *testing.T, data []byte, err error) {
	t.Helper()
	faults, ok := errors.AsType[Errors](err)
	if !ok || len(faults) == 0 {
		t.Fatalf("want faults, got %T %v", err, err)
	}
	lines := 2 + strings.Count(string(data), "\n") + strings.Count(string(data), "\r") +
		strings.Count(string(data), "\u0085") + strings.Count(string(data), "\u2028") + strings.Count(string(data), "\u2029")
	for _, f := range faults {
		if f.Msg == "" || strings.ContainsAny(f.String(), "\n\r") || f.Line > lines || f.Line < 0 {
			t.Errorf("fault %q in line %d of %d", f.String(), f.Line, lines)
		}
	}
	if !slices.IsSortedFunc(faults, func(a, b Fault) int {
		if a.File != b.File {
			return 0
		}
		return 10_000_000*(a.Line-b.Line) + a.Column - b.Column
	}) {
		t.Errorf("not in the order of the file:\n%v", err)
	}
}

func FuzzPostern(f *testing.F) {
	addFiles(f, "testdata/invalid-[^p]*.yaml", "../../packaging/postern.yaml")
	f.Add([]byte(short))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parsePostern("/etc/postern/postern.yaml", data)
		if err != nil {
			checkFaults(t, data, err)
			return
		}
		if p := c.Admission.ProxyProtocol; p != admission.ProxyRequired && p != admission.ProxyOff {
			t.Errorf("proxy protocol %q", p)
		}
		if c.SSH.LoginGraceTime <= 0 || c.SSH.ClientAliveInterval <= 0 || c.Admission.Limits.MaxSessions <= 0 || len(c.SSH.HostKeys) == 0 {
			t.Errorf("a limit is off: %+v", c)
		}
	})
}

func FuzzPolicyFile(f *testing.F) {
	addFiles(f, "testdata/invalid-policy-*.yaml", "../../packaging/policy.yaml")
	f.Add([]byte("identities:\n  a: { keys: [\"" + skED25519 + "\"], keys_files: [keys] }\nrules:\n" +
		"  - { name: r, identities: [a], targets: [\"10.0.0.0/8:22\"], allow: [forward], until: 2027-03-31 }\nfrozen: [a]\n"))
	read := func(path string, _ int64) ([]byte, error) {
		if filepath.Base(path) == "keys" {
			return []byte(skECDSA), nil
		}
		return nil, fs.ErrNotExist
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parsePolicy("/etc/postern/policy.yaml", data, read)
		if err != nil {
			checkFaults(t, data, err)
			return
		}
		if d := p.Decide(policy.Request{Identity: "nobody at all", Verb: policy.Forward, Host: "10.0.0.1", Port: 22}); d.Allow {
			t.Errorf("an unknown identity is allowed: %+v", d)
		}
		if !slices.Contains(p.Files, p.Path) {
			t.Errorf("files %q", p.Files)
		}
	})
}
