package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// maxBinary is what the daemon may weigh, stripped.
const maxBinary = 35_000_000

// TestTheBinaryHoldsOnlyWhatItCalls finds the SDK client that became an
// interface: EC2's alone brings 37 MB along (internal/privatelink says why).
func TestTheBinaryHoldsOnlyWhatItCalls(t *testing.T) {
	if testing.Short() {
		t.Skip("it links the daemon")
	}
	path := filepath.Join(t.TempDir(), "postern")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > maxBinary {
		t.Errorf("the stripped daemon has %d bytes, more than %d", info.Size(), maxBinary)
	}
}
