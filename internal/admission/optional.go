package admission

import (
	"net"
	"sync"
	"time"
)

// Optional returns ln with connections that skip one PROXY v2 header, LOCAL or
// PROXY, if they start with one: a load balancer with proxy_protocol_v2.enabled
// sends it to every port, its health checks to the health port too, while a
// scraper or a person does not. Nothing is read before the first Read, so
// Accept never waits for a client. A malformed header is an error of that
// Read, and from its start the header must be whole within timeout (0 = 5 s).
//
// What the header says is not believed: addresses stay those of TCP. Never use
// it where an address decides anything.
func Optional(ln net.Listener, timeout time.Duration) net.Listener {
	if timeout <= 0 {
		timeout = defaultHeaderTimeout
	}
	return &optionalListener{Listener: ln, timeout: timeout}
}

type optionalListener struct {
	net.Listener
	timeout time.Duration
}

func (l *optionalListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &optionalConn{Conn: nc, timeout: l.timeout}, nil
}

// optionalConn keeps two read deadlines apart: the one its user sets, and that
// of the header while it is awaited. The earlier one holds.
type optionalConn struct {
	net.Conn
	timeout time.Duration
	opening opening

	mu     sync.Mutex // guards asked and header
	asked  time.Time  // what the user set; zero = none
	header time.Time  // zero = no header is awaited
}

func (c *optionalConn) Read(p []byte) (int, error) {
	if err := c.skipHeader(); err != nil {
		return 0, err
	}
	return c.opening.read(p, c.Conn)
}

func (c *optionalConn) skipHeader() error {
	if c.opening.done.Load() {
		return nil
	}
	if err := c.awaitHeader(); err != nil {
		return err
	}
	if err := c.opening.decide(c.Conn, headerNeeds, dropHeader); err != nil {
		return err
	}
	return c.headerPassed()
}

// dropHeader returns what is not a header and drops what is one.
func dropHeader(buf []byte) ([]byte, error) {
	if !startsWith(buf, signatureV2) && !startsWith(buf, signatureV1) {
		return buf, nil
	}
	_, err := parseHeader(buf)
	return nil, err
}

// awaitHeader starts the header's time at the first Read; a Read that goes on
// after a deadline of the user gets no new one.
func (c *optionalConn) awaitHeader() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.header.IsZero() {
		c.header = time.Now().Add(c.timeout)
	}
	return c.apply()
}

func (c *optionalConn) headerPassed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.header = time.Time{}
	return c.apply()
}

// SetReadDeadline sets the deadline of Reads, see net.Conn.
func (c *optionalConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = t
	return c.apply()
}

// SetDeadline sets the deadlines of Reads and Writes, see net.Conn.
func (c *optionalConn) SetDeadline(t time.Time) error {
	if err := c.Conn.SetWriteDeadline(t); err != nil {
		return err
	}
	return c.SetReadDeadline(t)
}

// apply is for the caller that holds c.mu.
func (c *optionalConn) apply() error {
	t := c.asked
	if !c.header.IsZero() && (t.IsZero() || c.header.Before(t)) {
		t = c.header
	}
	return c.Conn.SetReadDeadline(t)
}
