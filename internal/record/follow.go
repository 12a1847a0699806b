package record

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"filippo.io/age"
)

const pollPeriod = 50 * time.Millisecond

// Follow opens a recording that may still be written, as OpenFile does. Next
// waits for what is to come: nothing is left out, each record is returned
// within about 50 ms of its block being in the file. It returns io.EOF after the
// end block, an error that wraps ErrTorn when the writer is gone without one,
// and that of ctx when ctx ends.
func Follow(ctx context.Context, path string, identities ...age.Identity) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	t := &tail{f: f, wait: func() error { return sleep(ctx, pollPeriod) }}
	return readFrom(t, f, identities)
}

// tail reads a file that grows.
type tail struct {
	f    *os.File
	wait func() error
}

// Seek and ReadAt are for Reader.Seek; they don't wait.
func (t *tail) Seek(offset int64, whence int) (int64, error) { return t.f.Seek(offset, whence) }
func (t *tail) ReadAt(p []byte, at int64) (int, error)       { return t.f.ReadAt(p, at) }

// Read waits where the file ends, while somebody writes it.
func (t *tail) Read(p []byte) (int, error) {
	for {
		n, err := t.f.Read(p)
		if n > 0 || !errors.Is(err, io.EOF) {
			return n, err
		}
		// What was written before the lock was given up is read once more.
		if !isLocked(t.f) {
			return t.f.Read(p)
		}
		if err := t.wait(); err != nil {
			return 0, err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
