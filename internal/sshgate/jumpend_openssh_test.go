package sshgate

import (
	"strings"
	"testing"
)

// The gate keeps a jump's channel until the client inside has said goodbye, and
// the outer connection until the outer client has: neither finds it gone.
func TestAShellThroughAJumpEndsWithoutAComplaint(t *testing.T) {
	o, _ := newRecorded(t, gateSpec{})
	args := append(o.jump(t, "-tt"), "exit 3")
	for range 4 {
		t.Run("client", func(t *testing.T) {
			t.Parallel()
			for range 3 {
				out, stderr, status := o.run(t, "ssh", args...)
				// Before that the account's own profile may have its say.
				complains := strings.Contains(stderr, "disconnect") || strings.Contains(stderr, "Broken pipe")
				if out != "" || complains || !strings.HasSuffix(stderr, "Connection to 127.0.0.1 closed.\r\n") || status != 3 {
					t.Errorf("%q, %q, %d", out, stderr, status)
				}
			}
		})
	}
}
