package files

import (
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
)

// need returns the path of a program, and skips the test where it is missing.
func need(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing", names[0])
	}
	t.Skipf("%s is missing", names[0])
	return ""
}

func sftpServerProgram(t *testing.T) string {
	t.Helper()
	return need(t, "/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/libexec/sftp-server", "/usr/lib/ssh/sftp-server")
}

// seen collects operations.
type seen struct {
	mu  sync.Mutex
	ops []Operation
}

func (s *seen) report(o Operation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops = append(s.ops, o)
}

func (s *seen) all() []Operation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ops)
}
