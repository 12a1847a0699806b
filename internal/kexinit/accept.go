package kexinit

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	firstBuffer = 512 // holds any identification
	maxOpening  = maxIdentification + 4 + maxPacket
)

// Options say how a connection is taken on. The zero value admits nobody.
type Options struct {
	// ServerVersion is the gate's identification without CR LF. It must equal
	// the ServerVersion of the ssh.ServerConfig the connection is given to.
	ServerVersion string
	// Deadline ends everything before authentication. Accept sets it on the
	// connection and leaves it there. It must not be zero.
	Deadline time.Time
	// Patience is how long after its identification a client's KEXINIT is
	// waited for; some clients wait for the server's. It never outlasts
	// Deadline. With 0 only a KEXINIT that came with the identification counts.
	Patience time.Duration
	// Budget is how many bytes the client may send before Authenticated.
	Budget int64
}

// Accept writes the gate's identification to nc and reads the client's and its
// KEXINIT. The connection it returns reads as if Accept had read nothing, and
// takes the first write of the identification, which ssh.NewServerConn makes,
// as done. If no whole KEXINIT came within o.Patience, Hello holds the version
// alone.
//
// A refused client is an *Error; it wraps the error of nc, io.EOF if the client
// closed without a byte and io.ErrUnexpectedEOF if it closed midway. Accept
// starts no goroutine, keeps at most 36 KiB, and never closes nc.
func Accept(nc net.Conn, o Options) (*Conn, error) {
	if o.Deadline.IsZero() {
		return nil, errors.New("kexinit: no deadline")
	}
	if err := nc.SetDeadline(o.Deadline); err != nil {
		return nil, failed(ReasonVersionTimeout, "set the deadline", err)
	}
	c := &Conn{Conn: nc, opening: true, serverLine: o.ServerVersion + "\r\n"}
	c.budget.Store(o.Budget)
	n, err := io.WriteString(nc, c.serverLine)
	c.written.Add(int64(n))
	if err != nil {
		return nil, failed(ReasonVersionTimeout, "write the identification", err)
	}
	if err := c.readOpening(o); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Conn) readOpening(o Options) error {
	c.replay = make([]byte, 0, firstBuffer)
	size, err := c.readIdentification()
	if err != nil {
		return err
	}
	return c.readKexinit(size, o)
}

// readIdentification returns how many bytes of the replay the line takes.
func (c *Conn) readIdentification() (int, error) {
	for {
		line, size, err := identification(c.replay)
		if err != nil {
			return 0, err
		}
		if size > 0 {
			c.version = line
			return size, nil
		}
		if err := c.readMore(); err != nil {
			return 0, failed(ReasonVersionTimeout, "read the identification", err)
		}
	}
}

// readKexinit reads the packet that begins at offset of the replay.
func (c *Conn) readKexinit(offset int, o Options) error {
	until := time.Now().Add(o.Patience)
	patient := until.Before(o.Deadline)
	if patient {
		if err := c.Conn.SetReadDeadline(until); err != nil {
			return failed(ReasonKexTimeout, "set the deadline", err)
		}
	}
	err := c.awaitKexinit(offset)
	if err == nil || patient && isTimeout(err) {
		// Only ever back to what it was: this cannot give the client more time.
		err = c.Conn.SetReadDeadline(o.Deadline)
	}
	if err != nil {
		return failed(ReasonKexTimeout, "read the KEXINIT", err)
	}
	return nil
}

func (c *Conn) awaitKexinit(offset int) error {
	for {
		var said *kexinit
		payload, err := packetPayload(c.replay[offset:])
		if payload != nil {
			said, err = parseKexinit(payload)
		}
		if err != nil {
			return &Error{ReasonKexinitBad, err}
		}
		if said != nil {
			c.client.Store(said)
			return nil
		}
		if err := c.readMore(); err != nil {
			return err
		}
	}
}

// readMore reads once, at the end of the replay. The buffer grows with what
// came, not with what a header announces.
func (c *Conn) readMore() error {
	if len(c.replay) == cap(c.replay) {
		grown := make([]byte, len(c.replay), min(2*cap(c.replay), maxOpening))
		copy(grown, c.replay)
		c.replay = grown
	}
	n, err := c.Conn.Read(c.replay[len(c.replay):cap(c.replay)])
	c.replay = c.replay[:len(c.replay)+n]
	if c.read.Add(int64(n)) > c.budget.Load() {
		return c.overBudget()
	}
	if n > 0 {
		return nil // an error beside bytes comes again at the next read
	}
	if err == io.EOF && len(c.replay) > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

// failed gives an error of the connection its reason; one that has a reason
// keeps it.
func failed(timeout Reason, doing string, err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	reason := ReasonClosed
	if isTimeout(err) {
		reason = timeout
	}
	return &Error{reason, fmt.Errorf("%s: %w", doing, err)}
}

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}
