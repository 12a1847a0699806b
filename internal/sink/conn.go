package sink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// framing is how a reader tells messages from each other.
type framing int

const (
	octetCounting framing = iota // RFC 5425 section 4.3
	lineFeeds                    // RFC 6587 section 3.4.2
	datagrams
)

func (f framing) frame(b, message []byte) []byte {
	if f == octetCounting {
		b = strconv.AppendInt(b, int64(len(message)), 10)
		b = append(b, ' ')
		return append(b, message...)
	}
	b = append(b, message...)
	return append(b, '\n')
}

// conn is a connection to a syslog server.
type conn struct {
	net.Conn
	framing framing
	ended   chan struct{} // closed when the server has ended it; nil = nobody watches
	cause   error         // why; to be read after ended
}

// watch reads from the server until the connection ends, which is how its end is
// known before the next event, and with TLS 1.3 also whether the server took the
// client's certificate. A server of syslog says nothing else. lost is called if
// it was not us who ended it.
func (c *conn) watch(lost func(error)) {
	if c.framing == datagrams {
		return
	}
	c.ended = make(chan struct{})
	go func() { // close and abort wait for it
		defer close(c.ended)
		_, err := io.Copy(io.Discard, c.Conn)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if c.cause = err; err == nil {
			c.cause = io.EOF
		}
		lost(fmt.Errorf("the syslog server ended the connection: %w", c.cause))
	}()
}

func (c *conn) hasEnded() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// settle gives a TLS server time to refuse the client's certificate, which it
// does after the handshake: what is written until then would be lost.
func (c *conn) settle(ctx context.Context) error {
	if _, ok := c.Conn.(*tls.Conn); !ok {
		return nil
	}
	t := time.NewTimer(settleTime)
	defer t.Stop()
	select {
	case <-c.ended:
		return fmt.Errorf("the syslog server ended the connection at once: %w", c.cause)
	case <-t.C:
	case <-ctx.Done():
	}
	return nil
}

// write writes all of b, or breaks the connection. It fails if the server has
// ended it by then.
func (c *conn) write(ctx context.Context, b []byte) error {
	if err := c.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := c.Write(b); err != nil || !c.hasEnded() {
		return err
	}
	return c.cause
}

// close says goodbye where the protocol has a word for it, but not for long.
func (c *conn) close() {
	raw := c.raw()
	late := time.AfterFunc(closeTime, func() { _ = raw.Close() })
	defer late.Stop()
	_ = c.Conn.Close()
	c.join()
}

// abort ends a connection that is broken.
func (c *conn) abort() {
	_ = c.raw().Close()
	c.join()
}

func (c *conn) raw() net.Conn {
	if t, ok := c.Conn.(*tls.Conn); ok {
		return t.NetConn()
	}
	return c.Conn
}

func (c *conn) join() {
	if c.ended != nil {
		<-c.ended
	}
}
