package admission

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// memConn is the gate's end of a TCP connection in memory: it buffers, so that
// it works inside a synctest bubble. The test plays the network by send and
// finish, and sees what the gate did.
type memConn struct {
	local, remote net.Addr

	mu       sync.Mutex // guards the rest
	cond     *sync.Cond
	in       bytes.Buffer
	end      error // after in was read; nil = more may come
	closed   bool
	closes   int
	written  int
	reads    int
	deadline time.Time
	timer    *time.Timer
}

func newMemConn(remote string) *memConn {
	c := &memConn{local: tcpAddr("10.0.1.9:22"), remote: tcpAddr(remote)}
	c.cond = sync.NewCond(&c.mu)
	return c
}

func tcpAddr(s string) *net.TCPAddr {
	a, err := net.ResolveTCPAddr("tcp", s)
	if err != nil {
		panic(err)
	}
	return a
}

// send gives the gate bytes to read.
func (c *memConn) send(s string) *memConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in.WriteString(s)
	c.cond.Broadcast()
	return c
}

// finish ends what the gate reads with err.
func (c *memConn) finish(err error) *memConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end = err
	c.cond.Broadcast()
	return c
}

func (c *memConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	for {
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case !c.deadline.IsZero() && !time.Now().Before(c.deadline):
			return 0, os.ErrDeadlineExceeded
		case c.in.Len() > 0:
			return c.in.Read(p)
		case c.end != nil:
			return 0, c.end
		}
		c.cond.Wait()
	}
}

func (c *memConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	c.written += len(p)
	return len(p), nil
}

func (c *memConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.closes++
	if c.timer != nil {
		c.timer.Stop()
	}
	c.cond.Broadcast()
	return nil
}

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.deadline = t
	if !t.IsZero() {
		c.timer = time.AfterFunc(time.Until(t), c.wake)
	}
	c.cond.Broadcast()
	return nil
}

func (c *memConn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cond.Broadcast()
}

func (c *memConn) LocalAddr() net.Addr                { return c.local }
func (c *memConn) RemoteAddr() net.Addr               { return c.remote }
func (c *memConn) SetDeadline(t time.Time) error      { return c.SetReadDeadline(t) }
func (c *memConn) SetWriteDeadline(t time.Time) error { return nil }

// seen is what the gate did to the connection.
type seen struct {
	closed                 bool
	closes, reads, written int
	deadline               time.Time
}

func (c *memConn) seen() seen {
	c.mu.Lock()
	defer c.mu.Unlock()
	return seen{c.closed, c.closes, c.reads, c.written, c.deadline}
}

func TestMemConnKeepsDeadlines(t *testing.T) {
	c := newMemConn("10.0.1.25:4000")
	if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err != os.ErrDeadlineExceeded {
		t.Fatalf("got %v", err)
	}
}
