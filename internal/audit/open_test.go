package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// written makes a log of n events and returns its only segment.
func written(t *testing.T, dir string, n int) []byte {
	t.Helper()
	l := mustOpen(t, Options{Dir: dir})
	for i := range n {
		mustAppend(t, l, numbered(i))
	}
	mustClose(t, l)
	data, err := os.ReadFile(filepath.Join(dir, segmentName(0)))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func put(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o640); err != nil {
		t.Fatal(err)
	}
}

func TestALogCutAnywhereInItsLastEventsOpensAgain(t *testing.T) {
	whole := written(t, t.TempDir(), 4)
	lines := bytes.SplitAfter(whole, []byte("\n"))
	for size := len(lines[0]) + len(lines[1]); size <= len(whole); size++ {
		dir := quickDir(t)
		put(t, dir, segmentName(0), whole[:size])
		l := mustOpen(t, Options{Dir: dir})
		mustAppend(t, l, Event{Code: ConnOpen})
		mustClose(t, l)
		kept := bytes.Count(whole[:size], []byte("\n"))
		torn := whole[bytes.LastIndexByte(whole[:size], '\n')+1 : size]
		records := all(t, dir)
		if len(torn) == 0 {
			if len(records) != kept+1 {
				t.Fatalf("cut at %d: %d events of %d", size, len(records), kept+1)
			}
			continue
		}
		saved := tornFiles(t, dir)
		if len(records) != kept+2 || records[kept].Code != LogRecovered || len(saved) != 1 || !bytes.Equal(saved[0], torn) {
			t.Fatalf("cut at %d: %d events of %d, %d torn files", size, len(records), kept+2, len(saved))
		}
	}
}

func TestAWriteThatAPowerCutLeftWithHolesIsCutOff(t *testing.T) {
	whole := written(t, t.TempDir(), 4)
	lines := bytes.SplitAfter(whole, []byte("\n"))
	hole := bytes.Clone(lines[2])
	clear(hole[10:200])
	dir := t.TempDir()
	put(t, dir, segmentName(0), bytes.Join([][]byte{lines[0], lines[1], hole, lines[3]}, nil))
	mustClose(t, mustOpen(t, Options{Dir: dir}))
	records := all(t, dir)
	if saved := tornFiles(t, dir); len(records) != 3 || records[2].Code != LogRecovered || len(saved) != 1 || len(saved[0]) != len(hole)+len(lines[3]) {
		t.Errorf("%d events, %d torn files", len(records), len(saved))
	}
}

func TestADamagedLogIsNotOpened(t *testing.T) {
	whole := written(t, t.TempDir(), 4)
	lines := bytes.SplitAfter(whole, []byte("\n"))
	join := func(l ...[]byte) []byte { return bytes.Join(l, nil) }
	first, third := segmentName(0), segmentName(2)
	for name, files := range map[string]map[string][]byte{
		"garbage in the middle":       {first: join(lines[0], []byte("garbage\n"), lines[2])},
		"garbage at the end":          {first: join(whole, []byte("{}\n"))},
		"an event removed":            {first: join(lines[0], lines[2], lines[3])},
		"events swapped":              {first: join(lines[1], lines[0])},
		"an event twice":              {first: join(lines[0], lines[0])},
		"a wrong first index":         {segmentName(7): whole},
		"an empty line":               {first: join(lines[0], []byte("\n"), lines[1])},
		"a segment between missing":   {first: lines[0], third: join(lines[2], lines[3])},
		"an old segment cut":          {first: join(lines[0], lines[1][:50]), third: lines[2]},
		"an old segment too long":     {first: join(lines[0], lines[1], lines[2]), third: lines[2]},
		"an old segment's head wrong": {first: join([]byte("{}\n"), lines[1]), third: lines[2]},
		"an old segment empty":        {first: nil, third: lines[2]},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, data := range files {
				put(t, dir, file, data)
			}
			_, err := Open(Options{Dir: dir})
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "with a new epoch") {
				t.Errorf("Open returned %v", err)
			}
			for file, data := range files {
				if now, err := os.ReadFile(filepath.Join(dir, file)); err != nil || !bytes.Equal(now, data) {
					t.Errorf("%s was changed", file)
				}
			}
		})
	}
}

func TestACrashWhileRotatingLosesNothing(t *testing.T) {
	dir := t.TempDir()
	whole := written(t, dir, 4)
	if err := os.Chmod(filepath.Join(dir, segmentName(0)), 0o440); err != nil {
		t.Fatal(err)
	}
	put(t, dir, segmentName(4), nil)
	l := mustOpen(t, Options{Dir: dir, SegmentSize: int64(len(whole))})
	mustAppend(t, l, numbered(4))
	mustClose(t, l)
	records := all(t, dir)
	if len(records) != 6 || records[4].Code != LogRotate {
		t.Errorf("%d events", len(records))
	}
}

func TestReadBeginsWhereItIsToldAndAfterWhatWasRemoved(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir, SegmentSize: 3000})
	for n := range 30 {
		mustAppend(t, l, numbered(n))
	}
	size := l.Size()
	segments, err := listSegments(dir)
	if err != nil || len(segments) < 3 {
		t.Fatalf("%v, %v", segments, err)
	}
	if err := os.Remove(segments[0].path); err != nil {
		t.Fatal(err)
	}
	oldest := segments[1].first
	for _, from := range []int64{0, oldest, oldest + 1, segments[2].first, size - 1, size, size + 5} {
		want := max(from, oldest)
		for r, err := range Read(dir, from) {
			if err != nil || r.Index != want {
				t.Fatalf("from %d: event %d, %v; want %d", from, r.Index, err, want)
			}
			want++
		}
		if want != max(size, from) {
			t.Errorf("from %d: ended before event %d of %d", from, want, size)
		}
	}
	for range Read(dir, 0) {
		break // and nothing is left open
	}
}

func TestReadStopsAtTheFirstBadLine(t *testing.T) {
	whole := written(t, t.TempDir(), 4)
	lines := bytes.SplitAfter(whole, []byte("\n"))
	dir := t.TempDir()
	put(t, dir, segmentName(0), bytes.Join([][]byte{lines[0], bytes.Replace(lines[1], []byte(`"sequence":1`), []byte(`"sequence":9`), 1), lines[2]}, nil))
	var got []int64
	var last error
	for r, err := range Read(dir, 0) {
		if last = err; err == nil {
			got = append(got, r.Index)
		}
	}
	if len(got) != 1 || !errors.Is(last, ErrDamaged) || !strings.Contains(last.Error(), fmt.Sprintf("byte %d", len(lines[0]))) {
		t.Errorf("read %v and %v", got, last)
	}
	for _, err := range Read(filepath.Join(dir, "gone"), 0) {
		if err == nil {
			t.Error("a missing directory was read")
		}
	}
}

func TestTailFollowsOverRotationsAndFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		disk := &faultyDisk{}
		l := mustOpen(t, Options{Dir: dir, SegmentSize: 3000, open: disk.open})
		mustAppend(t, l, numbered(0))
		for _, from := range []int64{0, -1} {
			ctx, cancel := context.WithCancel(t.Context())
			var got []Record
			ended := make(chan error)
			begin := l.Size()
			if from == 0 {
				begin = 0
			}
			go func() {
				ended <- Tail(ctx, dir, from, func(r Record) error { got = append(got, r); return nil })
			}()
			synctest.Wait()
			for n := range 20 {
				if n == 10 {
					disk.failSyncs(1)
				}
				mustAppend(t, l, numbered(n))
				time.Sleep(tailInterval / 2)
			}
			time.Sleep(tailInterval)
			synctest.Wait()
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			next := begin
			for _, r := range got {
				if r.Index != next && !(r.Index < next && r.Code == LogFailure) {
					t.Fatalf("event %d came when %d should", r.Index, next)
				}
				next = r.Index + 1
			}
			if next != l.Size() {
				t.Errorf("from %d: ended before event %d of %d", from, next, l.Size())
			}
		}
		stop := errors.New("enough")
		if err := Tail(t.Context(), dir, 0, func(Record) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("Tail returned %v", err)
		}
	})
}

func TestTailTakesAHalfWrittenLineWhenItIsWhole(t *testing.T) {
	whole := written(t, t.TempDir(), 2)
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		var got []int64
		go func() {
			ended <- Tail(ctx, dir, 0, func(r Record) error { got = append(got, r.Index); return nil })
		}()
		for size := range len(whole) {
			if size%100 == 0 {
				put(t, dir, segmentName(0), whole[:size])
				time.Sleep(tailInterval)
			}
		}
		put(t, dir, segmentName(0), whole)
		time.Sleep(2 * tailInterval)
		cancel()
		if err := <-ended; err != nil || len(got) != 2 {
			t.Errorf("got %v, %v", got, err)
		}
	})
}
