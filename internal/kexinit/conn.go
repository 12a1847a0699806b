package kexinit

import (
	"fmt"
	"math"
	"net"
	"sync/atomic"
)

// Conn is a client's connection after Accept, to be given to ssh.NewServerConn.
// One goroutine may read while another writes; everything else may be called
// at any time from any goroutine.
type Conn struct {
	net.Conn

	version string
	client  atomic.Pointer[kexinit] // nil if it did not come in time, and once it is forgotten

	replay     []byte // read by Accept and not yet passed on; owned by Read
	opening    bool   // the writes below are not over; owned by Write
	serverLine string // what the first write must repeat, then empty; owned by Write
	tap        []byte // the server's plaintext so far; owned by Write

	server  atomic.Pointer[kexinit] // set once, and nil again once it is forgotten
	budget  atomic.Int64
	read    atomic.Int64
	written atomic.Int64
}

// Hello returns what the client said. The lists are the caller's.
func (c *Conn) Hello() Hello { return c.client.Load().hello(c.version, 6) }

// ServerHello returns what the gate itself said; its lists are empty until
// ssh.NewServerConn has written its KEXINIT. It holds no Version.
func (c *Conn) ServerHello() Hello { return c.server.Load().hello("", 7) }

// Authenticated lifts the byte budget. Call it once ssh.NewServerConn has
// returned without an error.
func (c *Conn) Authenticated() { c.budget.Store(math.MaxInt64) }

// Forget drops the lists that both sides sent, some KiB a connection: from then
// on Hello and ServerHello hold none. Call it once the key exchange is over.
func (c *Conn) Forget() {
	c.client.Store(nil)
	c.server.Store(nil)
}

// BytesRead returns how many bytes came from the client, Accept's included.
func (c *Conn) BytesRead() int64 { return c.read.Load() }

// BytesWritten returns how many bytes went to the client, Accept's included.
func (c *Conn) BytesWritten() int64 { return c.written.Load() }

// Read fails with an *Error of reason preauth.bytes, now and ever after, once
// the client has sent more than the budget without being authenticated. Other
// errors are the connection's own, unchanged.
func (c *Conn) Read(p []byte) (int, error) {
	if c.replay != nil {
		return c.readReplay(p), nil
	}
	n, err := c.Conn.Read(p)
	if c.read.Add(int64(n)) > c.budget.Load() {
		return 0, c.overBudget()
	}
	return n, err
}

func (c *Conn) readReplay(p []byte) int {
	n := copy(p, c.replay)
	c.replay = c.replay[n:]
	if len(c.replay) == 0 {
		c.replay = nil
	}
	return n
}

func (c *Conn) overBudget() error {
	return &Error{ReasonPreAuthBytes, fmt.Errorf("%d bytes read before authentication", c.read.Load())}
}

// Write takes the identification that Accept has written as done, and is the
// connection's own Write from then on.
func (c *Conn) Write(p []byte) (int, error) {
	if c.opening {
		return c.writeOpening(p)
	}
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

func (c *Conn) writeOpening(p []byte) (int, error) {
	if c.serverLine != "" {
		if string(p) != c.serverLine {
			return 0, fmt.Errorf("first write is %.40q, not the identification already sent, %q", p, c.serverLine)
		}
		c.serverLine = ""
		return len(p), nil
	}
	c.tapServer(p)
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// tapServer keeps what the server writes until its first packet is whole.
func (c *Conn) tapServer(p []byte) {
	c.tap = append(c.tap, p[:min(len(p), 4+maxPacket-len(c.tap))]...)
	payload, err := packetPayload(c.tap)
	if payload == nil && err == nil {
		return
	}
	if err == nil {
		if k, err := parseKexinit(payload); err == nil {
			c.server.Store(k)
		}
	}
	c.tap, c.opening = nil, false
}
