package sshgate

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
)

// bytesChannel is an ssh.Channel over an in-memory pipe.
type bytesChannel struct {
	ssh.Channel // nil: everything used is below
	end         net.Conn
}

func (c bytesChannel) Read(b []byte) (int, error)  { return c.end.Read(b) }
func (c bytesChannel) Write(b []byte) (int, error) { return c.end.Write(b) }

// Close is what the channel's reader sees of it: an EOF.
func (c bytesChannel) Close() error { return c.end.Close() }

func newTestPipe() (*pipe, net.Conn) {
	near, far := net.Pipe()
	return newPipe(bytesChannel{end: near}, nil, nil), far
}

func TestAReadThatOutlivesItsDeadlineLosesNoByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, far := newTestPipe()
		defer p.Close()
		p.SetReadDeadline(time.Now().Add(2 * time.Second))
		began := time.Now()
		if n, err := p.Read(make([]byte, 8)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 2*time.Second {
			t.Errorf("after %s: %d, %v", time.Since(began), n, err)
		}
		go func() {
			far.Write([]byte("SSH-2.0-late\r\n"))
			far.Write([]byte("and more"))
			far.Close()
		}()
		p.SetReadDeadline(time.Time{})
		var got []byte
		for buf := make([]byte, 5); ; {
			n, err := p.Read(buf)
			got = append(got, buf[:n]...)
			if err != nil {
				break
			}
		}
		if string(got) != "SSH-2.0-late\r\nand more" {
			t.Errorf("read %q", got)
		}
	})
}

func TestTheDeadlineOfAPipeClosesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, far := newTestPipe()
		defer far.Close()
		p.SetDeadline(time.Now().Add(time.Minute))
		began := time.Now()
		_, err := p.Read(make([]byte, 8))
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
}

func TestAPipeLivesOnceItsDeadlineIsLifted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, far := newTestPipe()
		p.SetDeadline(time.Now().Add(time.Minute))
		p.SetDeadline(time.Time{})
		go func() {
			time.Sleep(time.Hour)
			far.Write([]byte("x"))
			far.Close()
		}()
		if got, err := io.ReadAll(p); string(got) != "x" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
	})
}
