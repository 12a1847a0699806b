package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

// attemptDelay is how long one address may stay silent before the next is
// tried beside it: RFC 8305 §5 recommends 250 ms.
const attemptDelay = 250 * time.Millisecond

var (
	errNoAddrs    = errors.New("no address to dial")
	errUndialable = errors.New("not an address that can be dialled")
	errPath       = errors.New("not an absolute path without NUL")
)

// DialTCP connects to the first of addrs that answers. It tries them as RFC
// 8305 says: IPv6 and IPv4 in turns, beginning with the family of the first
// and keeping the order within each; the next one 250 ms after the last, or at
// once when that one has failed. It dials nothing but addrs.
//
// The connection has TCP_NODELAY, and keepalives after 30 s of silence. When
// DialTCP returns, every other attempt is closed and every goroutine it
// started has ended. ctx is not used by the connection afterwards. The error
// names each address with what went wrong there: it is for the operator, the
// client gets the Outcome.
func (d *Dialer) DialTCP(ctx context.Context, addrs []netip.Addr, port uint16) (*net.TCPConn, error) {
	if err := dialable(addrs, port); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	return race(ctx, interleave(addrs), func(ctx context.Context, a netip.Addr) (*net.TCPConn, error) {
		c, err := d.dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(a.Unmap(), port).String())
		if err != nil {
			return nil, err
		}
		return c.(*net.TCPConn), nil
	})
}

// dialable refuses what the system would send elsewhere than it says: it
// takes the unspecified address for the loopback one.
func dialable(addrs []netip.Addr, port uint16) error {
	if len(addrs) == 0 {
		return fmt.Errorf("dial port %d: %w", port, errNoAddrs)
	}
	for _, a := range addrs {
		if !a.IsValid() || a.Unmap().IsUnspecified() || a.Zone() != "" || port == 0 {
			return fmt.Errorf("dial %v port %d: %w", a, port, errUndialable)
		}
	}
	return nil
}

// interleave orders addrs for dialling (RFC 8305 §4).
func interleave(addrs []netip.Addr) []netip.Addr {
	first := addrs[0].Unmap().Is4()
	var same, other []netip.Addr
	for _, a := range addrs {
		if a.Unmap().Is4() == first {
			same = append(same, a)
		} else {
			other = append(other, a)
		}
	}
	var order []netip.Addr
	for len(same) > 0 && len(other) > 0 {
		order = append(order, same[0], other[0])
		same, other = same[1:], other[1:]
	}
	return append(append(order, same...), other...)
}

// attempt is what came of dialling one address.
type attempt[C io.Closer] struct {
	conn C
	err  error
}

// race dials addrs, one more every attemptDelay or failure, until one answers.
// When it returns, the losers are closed and all calls of dial have returned.
func race[C io.Closer](ctx context.Context, addrs []netip.Addr, dial func(context.Context, netip.Addr) (C, error)) (conn C, err error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan attempt[C])
	running := 0
	defer func() {
		cancel()
		closeLosers(done, running)
	}()
	next := time.NewTimer(0)
	defer next.Stop()
	var failed []error
	for running > 0 || len(addrs) > 0 && ctx.Err() == nil {
		select {
		case <-next.C:
			if len(addrs) == 0 || ctx.Err() != nil {
				continue
			}
			a := addrs[0]
			addrs, running = addrs[1:], running+1
			next.Reset(attemptDelay)
			go func() {
				conn, err := dial(ctx, a)
				done <- attempt[C]{conn, err}
			}()
		case a := <-done:
			running--
			if a.err == nil {
				return a.conn, nil
			}
			failed = append(failed, a.err)
			next.Reset(0)
		}
	}
	if len(addrs) > 0 {
		failed = append(failed, fmt.Errorf("dial %v: not tried: %w", addrs, ctx.Err()))
	}
	return conn, attemptErrors(failed)
}

// closeLosers takes what running cancelled attempts still send.
func closeLosers[C io.Closer](done <-chan attempt[C], running int) {
	for ; running > 0; running-- {
		if l := <-done; l.err == nil {
			l.conn.Close()
		}
	}
}

// attemptErrors are the failures of one dial, in the order they came.
type attemptErrors []error

func (e attemptErrors) Error() string {
	var texts []string
	for _, err := range e {
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "; ")
}

func (e attemptErrors) Unwrap() []error { return e }

// DialUnix connects to the stream socket at an absolute path. Abstract sockets
// are not dialled, and neither is a path with a NUL, where the kernel would
// stop reading before a policy did. Symbolic links are followed.
func (d *Dialer) DialUnix(ctx context.Context, path string) (*net.UnixConn, error) {
	if !strings.HasPrefix(path, "/") || strings.ContainsRune(path, 0) {
		return nil, fmt.Errorf("dial unix %q: %w", path, errPath)
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	var nd net.Dialer
	return nd.DialUnix(ctx, "unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
}
