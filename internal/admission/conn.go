package admission

import (
	"errors"
	"net"
	"time"
)

// Conn is an admitted connection. Its reader sees what the client sent, its
// RemoteAddr is the client. The owner must Close it, which frees its place.
// Methods are safe for concurrent use.
type Conn struct {
	net.Conn

	gate    *Gate
	origin  Origin
	proxied bool // a header was read
	opening opening

	state    connState // guarded by gate.mu
	identity string    // the same; set when state is stateSession
}

type connState int

const (
	stateStartup connState = iota // counts as a startup
	stateSession                  // counts as a session
	stateClosed                   // counts as nothing
)

// Origin returns where the connection comes from.
func (c *Conn) Origin() Origin { return c.origin }

// RemoteAddr returns the client's address, a *net.TCPAddr: that of the PROXY
// header, or of the peer where the protocol is off.
func (c *Conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.origin.Client) }

// TCP returns the connection below for socket options, nil when it is not TCP.
// Reading from it would pass by the check that Read makes.
func (c *Conn) TCP() *net.TCPConn {
	tcp, _ := c.Conn.(*net.TCPConn)
	return tcp
}

// Read reads what follows the header. A second PROXY header, which the client
// itself must have sent because load balancers prepend theirs and remove none,
// is a *Denied with ReasonHeaderDuplicate, now and at every later Read; the
// caller closes. Its bytes are not returned.
func (c *Conn) Read(p []byte) (int, error) {
	if err := c.opening.decide(c.Conn, duplicateNeeds, c.refuseHeader); err != nil {
		return 0, err
	}
	return c.opening.read(p, c.Conn)
}

// duplicateNeeds asks for bytes as long as buf may still become the start of a
// header. SSH's first byte decides, so a usual client is not held up.
func duplicateNeeds(buf []byte) int {
	if len(buf) < len(signatureV2) && mayBecome(buf, signatureV2) {
		return len(signatureV2) - len(buf)
	}
	return v1Needs(buf)
}

func (c *Conn) refuseHeader(buf []byte) ([]byte, error) {
	if !startsWith(buf, signatureV2) && !startsWith(buf, signatureV1) {
		return buf, nil
	}
	text := "a second PROXY header follows the load balancer's"
	if !c.proxied {
		text = "a PROXY header came with proxy_protocol: off"
	}
	return nil, &Denied{Reason: ReasonHeaderDuplicate, Origin: c.origin, Err: errors.New(text)}
}

// Authenticated moves the connection from the startups to the sessions of
// identity; its source counts as known for an hour. A *Denied says which
// session limit is full: the connection is still a startup then, and the
// caller closes it. It is called once, with the verified identity.
func (c *Conn) Authenticated(identity string) error {
	if identity == "" {
		return errors.New("admission: authenticated without an identity")
	}
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	switch c.state {
	case stateSession:
		return errors.New("admission: authenticated twice")
	case stateClosed:
		return net.ErrClosed
	}
	if denied := c.gate.sessionRoom(identity); denied != nil {
		denied.Origin = c.origin
		return denied
	}
	c.gate.in.removeStartup(c.source())
	c.gate.in.addSession(identity)
	c.gate.known.add(c.source(), time.Now())
	c.state, c.identity = stateSession, identity
	return nil
}

// sessionRoom is for the caller that holds g.mu.
func (g *Gate) sessionRoom(identity string) *Denied {
	l := g.rules.Load().limits
	if denied := g.in.sessionRoom(l); denied != nil {
		return denied
	}
	return g.in.identityRoom(identity, l)
}

// Penalize adds p to what the connection's endpoint and client address have
// run up together. Running connections are not touched; new ones of the same
// pair are refused once more than 15 s have accrued, until they have passed,
// at most 10 minutes. It does nothing when Limits.Penalties is false.
func (c *Conn) Penalize(p Penalty) {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	if c.gate.rules.Load().limits.Penalties {
		c.gate.penalties.add(c.source(), p.duration(), time.Now())
	}
}

// Close closes the connection and frees its place. Later calls do nothing.
func (c *Conn) Close() error {
	if !c.leave() {
		return nil
	}
	return c.Conn.Close()
}

// leave reports whether this call is the first.
func (c *Conn) leave() bool {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	switch c.state {
	case stateClosed:
		return false
	case stateStartup:
		c.gate.in.removeStartup(c.source())
	case stateSession:
		c.gate.in.removeSession(c.identity)
	}
	c.state = stateClosed
	return true
}

func (c *Conn) source() source { return sourceOf(c.origin) }
