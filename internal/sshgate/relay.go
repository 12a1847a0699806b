package sshgate

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"postern/internal/metrics"
)

// target is what a tunnel leads to: *net.TCPConn or *net.UnixConn.
type target interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

var (
	errPolicyChanged = errors.New(reasonPolicyChanged)
	errIdle          = errors.New(reasonIdle)
)

// Buffers are borrowed only while there are bytes: an idle tunnel holds none.
const (
	bufferSize   = 32 << 10 // one SSH packet's payload
	idleReadSize = 256      // what an idle channel waits with
	bulkRead     = 4 << 10  // a read of more keeps its buffer for the next
)

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// drainPatience is how long bytes that a client has sent before it left may
// take to be delivered.
const drainPatience = 10 * time.Second

// relay carries the bytes of one tunnel between an SSH channel and a target.
type relay struct {
	ch     ssh.Channel
	reqs   <-chan *ssh.Request
	target target
	live   *metrics.Session
	idle   time.Duration // 0 = never

	// Totals; valid after run.
	in, out   atomic.Int64 // to the target, to the client
	firstByte time.Duration
	began     time.Time

	active     atomic.Int64 // unix nanoseconds of the last byte, kept where idle is set
	mu         sync.Mutex   // guards the two below
	clientDone bool         // the target takes no more: what the client sends is dropped
	targetDone bool         // the client gets no more
}

// run returns when both directions have ended and the client has closed the
// channel, or ctx has ended. Each end's half-close reaches the other
// (RFC 4254 §5.3). The result is the reason code of the end.
func (r *relay) run(ctx context.Context) string {
	r.began = time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, r.abort)
	defer stop()

	var directions, helpers sync.WaitGroup
	toTargetDone, done := make(chan struct{}), make(chan struct{})
	helpers.Go(func() { r.watchClose(toTargetDone) })
	if r.idle > 0 {
		r.active.Store(r.began.UnixNano())
		helpers.Go(func() { r.watchIdle(done, cancel) })
	}
	directions.Go(r.toClient)
	r.toTarget()
	close(toTargetDone)
	directions.Wait()
	close(done)
	r.ch.Close()
	helpers.Wait()
	r.target.Close()
	return endReason(ctx)
}

func endReason(ctx context.Context) string {
	switch cause := context.Cause(ctx); {
	case cause == nil:
		return reasonEOF
	case errors.Is(cause, errIdle), errors.Is(cause, errPolicyChanged):
		return cause.Error()
	}
	return reasonKilled
}

func (r *relay) abort() {
	r.target.Close()
	r.ch.Close()
}

// watchIdle ends the relay once nothing has moved for the idle time.
func (r *relay) watchIdle(done <-chan struct{}, cancel context.CancelCauseFunc) {
	timer := time.NewTimer(r.idle)
	defer timer.Stop()
	for {
		select {
		case <-done:
			return
		case <-timer.C:
		}
		left := r.idle - time.Since(time.Unix(0, r.active.Load()))
		if left <= 0 {
			cancel(errIdle)
			return
		}
		timer.Reset(left)
	}
}

// watchClose refuses the channel's requests until the client closes the channel
// or the connection ends, then sees to it that the rest ends too: bytes on
// their way to the target still get there.
func (r *relay) watchClose(toTargetDone <-chan struct{}) {
	for req := range r.reqs {
		if req.WantReply {
			req.Reply(false, nil)
		}
	}
	r.target.SetWriteDeadline(time.Now().Add(drainPatience))
	<-toTargetDone
	r.target.Close()
}

// toTarget copies what the client sends until its EOF.
func (r *relay) toTarget() {
	idle := make([]byte, idleReadSize)
	var held *[bufferSize]byte
	defer func() {
		if held != nil {
			buffers.Put(held)
		}
	}()
	failed := false
	for {
		buf := idle
		if held != nil {
			buf = held[:]
		}
		n, err := r.ch.Read(buf)
		if n > 0 && !failed {
			r.count(&r.in, metrics.ToTarget, n)
			if _, werr := r.target.Write(buf[:n]); werr != nil {
				failed = true
				r.targetClosed()
			}
		}
		if err != nil {
			break
		}
		held = sized(held, n, len(buf))
	}
	if !failed {
		r.target.CloseWrite()
	}
}

// sized decides with which buffer to wait for the next bytes: a large one
// while bulk is moving, none of the pool's otherwise.
func sized(held *[bufferSize]byte, n, had int) *[bufferSize]byte {
	switch {
	case held == nil && n == had:
		return buffers.Get().(*[bufferSize]byte)
	case held != nil && n <= bulkRead:
		buffers.Put(held)
		return nil
	}
	return held
}

// toClient copies what the target sends until its EOF.
func (r *relay) toClient() {
	raw, err := r.target.SyscallConn()
	if err != nil {
		r.ch.Close()
		return
	}
	for {
		buf, n, err := readReady(raw)
		if n > 0 {
			if r.firstByte == 0 {
				r.firstByte = time.Since(r.began)
			}
			r.count(&r.out, metrics.ToClient, n)
			_, err = r.ch.Write(buf[:n])
		}
		if buf != nil {
			buffers.Put(buf)
		}
		if err != nil {
			r.clientEnded(err)
			return
		}
	}
}

// readReady waits until the target has something and only then takes a buffer
// and reads. At EOF it returns io.EOF.
func readReady(raw syscall.RawConn) (buf *[bufferSize]byte, n int, err error) {
	rerr := raw.Read(func(fd uintptr) bool {
		buf = buffers.Get().(*[bufferSize]byte)
		for {
			n, err = syscall.Read(int(fd), buf[:])
			if err != syscall.EINTR {
				break
			}
		}
		if err == syscall.EAGAIN {
			buffers.Put(buf)
			buf = nil
			return false
		}
		return true
	})
	switch {
	case rerr != nil:
		return buf, 0, rerr
	case err != nil:
		return buf, 0, err
	case n == 0:
		return buf, 0, io.EOF
	}
	return buf, n, nil
}

func (r *relay) count(total *atomic.Int64, dir metrics.Direction, n int) {
	total.Add(int64(n))
	r.live.Add(dir, int64(n))
	if r.idle > 0 {
		r.active.Store(time.Now().UnixNano())
	}
}

// targetClosed is called when the target takes no more bytes. What it still
// sends goes on to the client; after that nothing is left to do.
func (r *relay) targetClosed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clientDone = true
	if r.targetDone {
		r.ch.Close()
	}
}

// clientEnded is called when the target sends no more, or the client takes no
// more. A target that was reset can't be written to either.
func (r *relay) clientEnded(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.targetDone = true
	if r.clientDone || !errors.Is(err, io.EOF) {
		r.ch.Close()
		return
	}
	r.ch.CloseWrite()
}
