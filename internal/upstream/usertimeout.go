package upstream

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// userTimeoutControl returns a net.Dialer.Control that sets TCP_USER_TIMEOUT
// (RFC 5482, tcp(7)), or nil for a timeout of zero.
func userTimeoutControl(timeout time.Duration) func(network, address string, c syscall.RawConn) error {
	if timeout <= 0 {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(timeout.Milliseconds()))
		}); cerr != nil {
			return cerr
		}
		if err != nil {
			return fmt.Errorf("set TCP_USER_TIMEOUT: %w", err)
		}
		return nil
	}
}
