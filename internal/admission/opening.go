package admission

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
)

// opening holds the first bytes of a connection until it is known what they
// are, and then gives back those that belong to the reader. The zero value is
// ready.
type opening struct {
	done atomic.Bool // decided and nothing left to give back

	mu      sync.Mutex // guards the rest; held while the first bytes are read
	decided bool
	buf     []byte
	err     error // what judge said
}

// decide reads from r until needs asks for no more and lets judge say which
// bytes the reader gets, or that it gets an error, now and ever after. When r
// ends first, judge sees what there is. A deadline that passes decides
// nothing: the next call goes on where this one stopped.
func (o *opening) decide(r io.Reader, needs func([]byte) int, judge func([]byte) ([]byte, error)) error {
	if o.done.Load() {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.decided {
		return o.err
	}
	var err error
	o.buf, err = fill(r, o.buf, needs)
	if err != nil && (len(o.buf) == 0 || errors.Is(err, os.ErrDeadlineExceeded)) {
		return err
	}
	o.decided = true
	o.buf, o.err = judge(o.buf)
	return o.err
}

// read gives back the held bytes, then those of r. Call it after decide.
func (o *opening) read(p []byte, r io.Reader) (int, error) {
	if o.done.Load() {
		return r.Read(p)
	}
	if n := o.replay(p); n > 0 || len(p) == 0 {
		return n, nil
	}
	return r.Read(p)
}

func (o *opening) replay(p []byte) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := copy(p, o.buf)
	o.buf = o.buf[n:]
	if len(o.buf) == 0 {
		o.buf = nil
		o.done.Store(true)
	}
	return n
}
