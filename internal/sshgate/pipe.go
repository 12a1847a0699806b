package sshgate

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// pipe is an SSH channel as the network connection of another SSH inside it.
// A channel has no deadlines, so a timer closes it at the deadline, and Read
// tells that from an EOF of the client. One goroutine may read while another
// writes.
type pipe struct {
	ssh.Channel
	local, remote net.Addr

	expiry  *time.Timer // closes the channel; nil without a deadline
	expired atomic.Bool

	// Of SetReadDeadline; owned by whoever reads.
	until   time.Time
	pending chan chunk // a read that outlived its deadline
	rest    []byte     // of its bytes, what the next Read takes
}

type chunk struct {
	data []byte
	err  error
}

func newPipe(ch ssh.Channel, local, remote net.Addr) *pipe {
	return &pipe{Channel: ch, local: local, remote: remote}
}

func (p *pipe) LocalAddr() net.Addr  { return p.local }
func (p *pipe) RemoteAddr() net.Addr { return p.remote }

// SetDeadline closes the channel at t; the zero time lets it live. It must not
// be called by two goroutines at once.
func (p *pipe) SetDeadline(t time.Time) error {
	if p.expiry != nil {
		p.expiry.Stop()
		p.expiry = nil
	}
	if t.IsZero() {
		return nil
	}
	p.expiry = time.AfterFunc(time.Until(t), func() {
		p.expired.Store(true)
		p.Channel.Close()
	})
	return nil
}

// SetReadDeadline ends reads at t; the zero time lets them wait. Only the
// goroutine that reads may call it.
func (p *pipe) SetReadDeadline(t time.Time) error {
	p.until = t
	return nil
}

// SetWriteDeadline is not supported.
func (p *pipe) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

// Read reads from the channel. Until SetReadDeadline has cleared the deadline,
// bytes come through a goroutine, which ends when the channel does.
func (p *pipe) Read(b []byte) (int, error) {
	if len(p.rest) > 0 {
		n := copy(b, p.rest)
		p.rest = p.rest[n:]
		return n, nil
	}
	if p.pending == nil && p.until.IsZero() {
		n, err := p.Channel.Read(b)
		return n, p.readError(err)
	}
	return p.readPending(b)
}

// maxPending is the longest read that may outlive its deadline.
const maxPending = 4 << 10

func (p *pipe) readPending(b []byte) (int, error) {
	if p.pending == nil {
		p.pending = make(chan chunk, 1)
		go readInto(p.pending, p.Channel) // ends with the channel; its result needs no reader
	}
	var timeout <-chan time.Time
	if !p.until.IsZero() {
		timer := time.NewTimer(time.Until(p.until))
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case c := <-p.pending:
		p.pending = nil
		n := copy(b, c.data)
		p.rest = c.data[n:]
		return n, p.readError(c.err)
	case <-timeout:
		return 0, os.ErrDeadlineExceeded
	}
}

func readInto(done chan<- chunk, r io.Reader) {
	buf := make([]byte, maxPending)
	n, err := r.Read(buf)
	done <- chunk{buf[:n], err}
}

func (p *pipe) readError(err error) error {
	if err != nil && p.expired.Load() {
		return os.ErrDeadlineExceeded
	}
	return err
}
