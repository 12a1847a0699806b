package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

const greeting = "SSH-2.0-target\r\n"

// target serves each connection with a function. Close waits for all of them
// and returns what they failed with.
type target struct {
	net.Listener
	serving sync.WaitGroup
	mu      sync.Mutex // guards the rest
	failed  error
}

func listen(serve func(net.Conn) error) (*target, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &target{Listener: l}
	t.serving.Go(func() { t.accept(serve) })
	return t, nil
}

func (t *target) accept(serve func(net.Conn) error) {
	for {
		c, err := t.Accept()
		if err != nil {
			return // closed
		}
		t.serving.Go(func() {
			defer c.Close()
			if err := serve(c); err != nil {
				t.mu.Lock()
				t.failed = errors.Join(t.failed, err)
				t.mu.Unlock()
			}
		})
	}
}

// Close stops listening and waits for the connections, whose clients have
// ended by then.
func (t *target) Close() error {
	t.Listener.Close()
	t.serving.Wait()
	return t.failed
}

// greet speaks first, then stays until the client goes.
func greet(c net.Conn) error {
	if _, err := io.WriteString(c, greeting); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, c)
	return err
}

// discard returns when all bytes of a bulk transfer have come.
func discard(r io.Reader) error {
	n, err := io.CopyN(io.Discard, r, bulkBytes)
	if err != nil {
		return fmt.Errorf("after %d bytes: %w", n, err)
	}
	return nil
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
