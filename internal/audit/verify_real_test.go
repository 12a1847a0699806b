package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// realLogs are logs that a Log wrote, through what happens to one.
func realLogs(t *testing.T) map[string]string {
	dirs := map[string]string{}
	made := func(name string, write func(o Options)) {
		o := Options{Dir: filepath.Join(t.TempDir(), "audit"), SegmentSize: 8 << 10}
		write(o)
		dirs[name] = o.Dir
	}
	made("rotated under eight writers", func(o Options) {
		l := mustOpen(t, o)
		var writers sync.WaitGroup
		for w := range 8 {
			writers.Go(func() {
				for i := range 20 {
					mustAppend(t, l, numbered(100*w+i), Event{Code: ProcStart, Failed: true, Command: "x\x1b\xff"})
				}
			})
		}
		writers.Wait()
		for range 50 {
			l.Refuse(Event{Code: ConnRefused, Reason: "rate"})
		}
		mustClose(t, l)
	})
	made("open, and ahead of its checkpoint", func(o Options) {
		l := mustOpen(t, o)
		mustAppend(t, l, numbered(0), numbered(1))
		mustSign(t, l)
		mustAppend(t, l, numbered(2))
	})
	made("torn and opened again", func(o Options) {
		l := mustOpen(t, o)
		mustAppend(t, l, numbered(0))
		mustClose(t, l)
		appendTo(t, filepath.Join(o.Dir, segmentName(0)), `{"class_uid":4001`)
		mustClose(t, mustOpen(t, o))
	})
	made("with another key", func(o Options) {
		l := mustOpen(t, o)
		mustAppend(t, l, numbered(0))
		mustClose(t, l)
		o.Key, o.OldKey = testKey(2), testKey(1)
		mustClose(t, mustOpen(t, o))
	})
	made("of a second epoch", func(o Options) {
		l := mustOpen(t, o)
		mustAppend(t, l, numbered(0))
		mustClose(t, l)
		o.NewEpoch = "the disk was lost"
		mustClose(t, mustOpen(t, o))
	})
	made("whose oldest segments were removed", func(o Options) {
		o.Retention = 24 * time.Hour
		l := mustOpen(t, o)
		for i := range 40 {
			mustAppend(t, l, numbered(i))
		}
		mustSign(t, l)
		l.expire(t.Context(), time.Now().Add(25*time.Hour))
		if segments, err := listSegments(o.Dir); err != nil || segments[0].first == 0 {
			t.Fatal("nothing was removed", err)
		}
		mustClose(t, l)
	})
	return dirs
}

func TestTwoVerifiersAgreeThatWhatALogWritesIsFine(t *testing.T) {
	o := startOtherVerifier(t)
	for name, dir := range realLogs(t) {
		vkeys, err := os.ReadFile(filepath.Join(dir, keysFile))
		if err != nil {
			t.Fatal(err)
		}
		for vkey := range strings.Lines(string(vkeys)) {
			c := &crafted{dir: dir, vkey: strings.TrimSpace(vkey)}
			if c.key, err = note.NewVerifier(c.vkey); err != nil {
				t.Fatal(err)
			}
			if got := o.mustAgree(t, c, name); got != 0 {
				r, err := Verify(t.Context(), c.options())
				t.Errorf("%s: %d, %v\n%s", name, got, err, findings(r))
			}
		}
	}
}

func TestAnEpochThatWasEndedIsPointedTo(t *testing.T) {
	dir := realLogs(t)["of a second epoch"]
	for _, part := range []struct {
		dir     string
		remarks int
	}{{dir, 2}, {filepath.Join(dir, "epoch-1"), 1}} {
		r, err := Verify(t.Context(), VerifyOptions{Dir: part.dir})
		if err != nil || !r.Fine() || len(r.Remarks) != part.remarks || part.remarks == 2 && r.Remarks[1].Kind != KindEpoch {
			t.Errorf("%s: %v\n%s", part.dir, err, findings(r))
		}
	}
}

func TestALogThatGrowsWhileItIsVerifiedIsFine(t *testing.T) {
	o := Options{Dir: t.TempDir(), SegmentSize: 64 << 10}
	l := mustOpen(t, o)
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			err := l.Append(t.Context(), numbered(i))
			if err == nil && i%10 == 9 {
				_, err = l.ledger.checkpoint()
			}
			if err != nil {
				stopped <- fmt.Errorf("append: %w", err)
				return
			}
		}
	}()
	for l.Size() < 1000 {
		r, err := Verify(t.Context(), VerifyOptions{Dir: o.Dir})
		if err != nil || !r.Fine() {
			t.Fatalf("%v\n%s", err, findings(r))
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}
