package main

import (
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"postern/internal/review"
)

// terminal is where a recording is played. If standard input is one as well,
// its keys are read while it is in raw mode.
type terminal struct {
	keys <-chan review.Key // nil without keys

	out     *os.File // nil = not a terminal
	before  *term.State
	wake    *os.File // closed to end the reading of keys
	reading sync.WaitGroup
	once    sync.Once
}

// openTerminal puts the terminal into raw mode, if there is one; restore puts
// it back.
func openTerminal(out io.Writer) (*terminal, error) {
	t := &terminal{}
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return t, nil
	}
	t.out = f
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return t, nil
	}
	ended, wake, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	if t.before, err = term.MakeRaw(int(os.Stdin.Fd())); err != nil {
		ended.Close()
		wake.Close()
		return nil, fmt.Errorf("put the terminal into raw mode: %w", err)
	}
	keys := make(chan review.Key, 16)
	t.keys, t.wake = keys, wake
	t.reading.Go(func() {
		defer ended.Close()
		readKeys(os.Stdin, ended, keys)
	})
	return t, nil
}

// readKeys sends what is pressed until ended is closed at its other end. Keys
// that nobody takes are forgotten.
func readKeys(in, ended *os.File, keys chan<- review.Key) {
	var parser review.Keys
	fds := []unix.PollFd{{Fd: int32(in.Fd()), Events: unix.POLLIN}, {Fd: int32(ended.Fd())}}
	var b [32]byte
	for {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR || fds[1].Revents != 0 {
			return
		}
		if fds[0].Revents == 0 {
			continue
		}
		n, err := in.Read(b[:])
		if err != nil {
			return
		}
		for _, c := range b[:n] {
			if k := parser.Next(c); k != 0 {
				select {
				case keys <- k:
				default:
				}
			}
		}
	}
}

// raw says whether a line feed alone would not go to the margin.
func (t *terminal) raw() bool { return t.before != nil }

// restore puts the terminal back and ends the reading of keys; it may be
// called more than once.
func (t *terminal) restore() {
	t.once.Do(func() {
		if t.before == nil {
			return
		}
		t.wake.Close()
		t.reading.Wait()
		term.Restore(int(os.Stdin.Fd()), t.before)
	})
}

// fits returns what is to be said where the recorded terminal was bigger than
// this one; "" if nothing is.
func (t *terminal) fits(columns, rows int) string {
	if t.out == nil {
		return ""
	}
	width, height, err := term.GetSize(int(t.out.Fd()))
	if err != nil || columns <= width && rows <= height {
		return ""
	}
	return fmt.Sprintf("the recorded terminal was %dx%d, this one is %dx%d: lines wrap where they did not", columns, rows, width, height)
}
