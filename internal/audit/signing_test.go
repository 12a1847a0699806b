package audit

import (
	"crypto"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// remoteKey is a key behind a service, as KMS is, that may be down or slow.
type remoteKey struct {
	crypto.Signer
	down  atomic.Bool
	takes atomic.Int64 // nanoseconds
}

var errKeyDown = errors.New("the key service does not answer")

func (k *remoteKey) Sign(random io.Reader, text []byte, o crypto.SignerOpts) ([]byte, error) {
	time.Sleep(time.Duration(k.takes.Load()))
	if k.down.Load() {
		return nil, errKeyDown
	}
	return k.Signer.Sign(random, text, o)
}

func TestWhileTheKeyIsOutOfReachEventsGoOnAndAreSignedLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	synctest.Test(t, func(t *testing.T) {
		key := &remoteKey{Signer: testKey(1)}
		var told atomic.Pointer[error]
		l := mustOpen(t, Options{Dir: dir, Key: key, OnFailure: func(_ State, err error) { told.Store(&err) }})
		ended := run(t, l)
		mustAppend(t, l, numbered(0))
		mustSign(t, l)
		key.down.Store(true)
		for n := range 12 {
			mustAppend(t, l, numbered(n))
			time.Sleep(5 * time.Second)
		}
		if err := l.Ready(); err != nil || l.State() != StateOpen {
			t.Errorf("within the first minute Ready is %v", err)
		}
		if err := told.Load(); err == nil || !errors.Is(*err, errKeyDown) {
			t.Errorf("the operator was told %v", err)
		}
		time.Sleep(30 * time.Second)
		if err := l.Ready(); err == nil || !strings.Contains(err.Error(), "no checkpoint") {
			t.Errorf("after a minute Ready is %v", err)
		}
		mustAppend(t, l, numbered(99))
		if c, err := claimed(dir); err != nil || c.Size != 1 {
			t.Errorf("%+v was signed without a key, %v", c, err)
		}
		key.down.Store(false)
		time.Sleep(checkpointInterval + time.Second)
		if c, err := claimed(dir); err != nil || c.Size != l.Size() {
			t.Errorf("%+v is signed of %d, %v", c, l.Size(), err)
		}
		if err := l.Ready(); err != nil {
			t.Errorf("when the key is back Ready is %v", err)
		}
		ended()
		mustClose(t, l)
	})
	mustProve(t, dir)
}

func TestAKeyThatHangsHoldsUpNoEvent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	synctest.Test(t, func(t *testing.T) {
		key := &remoteKey{Signer: testKey(1)}
		l := mustOpen(t, Options{Dir: dir, Key: key})
		ended := run(t, l)
		key.takes.Store(int64(3 * time.Minute))
		mustAppend(t, l, numbered(0))
		time.Sleep(checkpointInterval + time.Second) // now it hangs
		for n := range 20 {
			before := time.Now()
			mustAppend(t, l, numbered(n))
			if d := time.Since(before); d > 0 {
				t.Errorf("an event waited %v", d)
			}
			l.Note(numbered(100 + n))
			time.Sleep(time.Second)
			if size := l.Size(); size != int64(3+2*n) {
				t.Errorf("%d events are written a second after a note, of %d", size, 3+2*n)
			}
		}
		if err := l.Ready(); err != nil {
			t.Errorf("Ready is %v within a minute", err)
		}
		time.Sleep(time.Minute)
		if err := l.Ready(); err == nil {
			t.Error("a key that hangs is not noticed")
		}
		key.takes.Store(0)
		time.Sleep(3 * time.Minute)
		if err := l.Ready(); err != nil {
			t.Errorf("when it answers Ready is %v", err)
		}
		ended()
		mustClose(t, l)
	})
	mustProve(t, dir)
}

func TestANewLogNeedsItsKeyAtOnce(t *testing.T) {
	key := &remoteKey{Signer: testKey(1)}
	key.down.Store(true)
	dir := t.TempDir()
	if l, err := Open(Options{Dir: dir, MinFree: 1, Key: key}); !errors.Is(err, errKeyDown) {
		l.Close()
		t.Errorf("Open returned %v", err)
	}
	key.down.Store(false)
	mustClose(t, mustOpen(t, Options{Dir: dir, Key: key}))
	key.down.Store(true) // and one that was begun does not
	l := mustOpen(t, Options{Dir: dir, Key: key})
	mustAppend(t, l, numbered(0))
	if err := l.Close(); !errors.Is(err, errKeyDown) {
		t.Errorf("Close returned %v", err)
	}
	if c := reopened(t, dir); c.Size != 1 {
		t.Errorf("%+v", c)
	}
}
