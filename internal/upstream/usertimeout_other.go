//go:build !linux

package upstream

import (
	"syscall"
	"time"
)

// userTimeoutControl has nothing to set: TCP_USER_TIMEOUT is Linux's.
func userTimeoutControl(time.Duration) func(network, address string, c syscall.RawConn) error {
	return nil
}
