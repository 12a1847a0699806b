package audit

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func contextOf(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

// refused is a log that no start takes.
func refused(t *testing.T) (dir string, damaged files) {
	t.Helper()
	first, _, second := moments(t)
	dir = filepath.Join(quickDir(t), "log")
	damaged = second.with(files{segmentName(0): first[segmentName(0)]})
	damaged.put(t, dir)
	mustRefuse(t, dir, ErrTruncated)
	return dir, damaged
}

func TestANewEpochBeginsWithWhatWasKnownOfTheOld(t *testing.T) {
	dir, damaged := refused(t)
	oldOrigin, _, _ := strings.Cut(string(damaged[checkpointFile]), "\n")
	l := mustOpen(t, Options{Dir: dir, NewEpoch: "restored from Monday's snapshot"})
	mustAppend(t, l, numbered(0))
	if want := strings.TrimSuffix(oldOrigin, "/1") + "/2"; l.Origin() != want {
		t.Errorf("the origin is %s, want %s", l.Origin(), want)
	}
	mustClose(t, l)
	if c := reopened(t, dir); c.Size != 2 || c.Origin != l.Origin() {
		t.Errorf("%+v", c)
	}
	e := decode(t, append(all(t, dir)[0].Line, '\n'))
	if at(e, "metadata", "event_code") != string(LogEpoch) || at(e, "status_detail") != "restored from Monday's snapshot" ||
		at(e, "unmapped", "postern", "ended_checkpoint") != string(damaged[checkpointFile]) {
		t.Errorf("the first event is %v", e)
	}
	kept := snapshot(t, filepath.Join(dir, epochPrefix+"1"))
	for name, data := range damaged {
		if !bytes.Equal(kept[name], data) {
			t.Errorf("%s is not as it was put aside", name)
		}
	}
	again := mustOpen(t, Options{Dir: dir, NewEpoch: "on purpose"})
	if !strings.HasSuffix(again.Origin(), "/3") || again.Size() != 1 {
		t.Errorf("the next epoch is %s with %d events", again.Origin(), again.Size())
	}
}

func TestAnInterruptedNewEpochIsTakenUpAgain(t *testing.T) {
	whole, damaged := refused(t)
	names, err := logFiles(whole)
	if err != nil || names[len(names)-1] != checkpointFile {
		t.Fatalf("%v, %v", names, err)
	}
	for moved := range len(names) + 1 {
		dir := filepath.Join(quickDir(t), "log")
		damaged.put(t, dir)
		if err := os.Mkdir(filepath.Join(dir, epochPrefix+"1"), 0o750); err != nil {
			t.Fatal(err)
		}
		for _, name := range names[:moved] {
			if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, epochPrefix+"1", name)); err != nil {
				t.Fatal(err)
			}
		}
		if moved > 0 { // a start that was not told to doesn't go on as if nothing had been
			if l, err := Open(Options{Dir: dir, MinFree: 1, Key: testKey(1)}); !errors.Is(err, ErrDamaged) {
				l.Close()
				t.Fatalf("after %d files: %v", moved, err)
			}
		}
		mustClose(t, mustOpen(t, Options{Dir: dir, NewEpoch: "again"}))
		if c := reopened(t, dir); c.Size != 1 || !strings.HasSuffix(c.Origin, "/2") {
			t.Errorf("after %d files: %+v", moved, c)
		}
		if kept := snapshot(t, filepath.Join(dir, epochPrefix+"1")); len(kept) != len(damaged) {
			t.Errorf("after %d files: %d of %d were kept", moved, len(kept), len(damaged))
		}
	}
}

func TestAnEpochWithoutItsFirstEventIsNotTakenForALog(t *testing.T) {
	dir, _ := refused(t)
	mustClose(t, mustOpen(t, Options{Dir: dir, NewEpoch: "once"}))
	begun := snapshot(t, dir)
	if err := os.WriteFile(filepath.Join(dir, segmentName(0)), nil, 0o640); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{checkpointFile, checkpointsFile} { // of before the first event
		first, _, _ := CutCheckpoint(begun[checkpointsFile])
		if name == checkpointsFile {
			first = append(bytes.Clone(first), '\n')
		}
		if err := os.WriteFile(filepath.Join(dir, name), first, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	mustRefuse(t, dir, ErrEpoch)
	mustClose(t, mustOpen(t, Options{Dir: dir, NewEpoch: "twice"}))
	if c := reopened(t, dir); c.Size != 1 || !strings.HasSuffix(c.Origin, "/2") {
		t.Errorf("%+v", c)
	}
}

func TestANewEpochNeedsAKey(t *testing.T) {
	if _, err := Open(Options{Dir: t.TempDir(), MinFree: 1, NewEpoch: "x"}); err == nil {
		t.Error("an unsigned epoch was begun")
	}
}

func TestOldSegmentsAreRemovedWithAnEventAndTheirHashesStay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	synctest.Test(t, func(t *testing.T) {
		l := mustOpen(t, Options{Dir: dir, SegmentSize: 4000, Retention: 24 * time.Hour})
		ended := run(t, l)
		for n := range 12 {
			mustAppend(t, l, numbered(n))
			time.Sleep(2 * time.Hour)
		}
		time.Sleep(12 * time.Hour)
		ended()
		mustClose(t, l)
	})
	segments, err := listSegments(dir)
	if err != nil || len(segments) == 0 || segments[0].first == 0 {
		t.Fatalf("%v, %v", segments, err)
	}
	disk := snapshot(t, dir)
	var removed int
	for name, data := range disk {
		if strings.HasPrefix(name, segmentPrefix) {
			removed += bytes.Count(data, []byte(`"event_code":"log.delete"`))
		}
	}
	if removed == 0 {
		t.Error("no event says what was removed")
	}
	t.Run("and the log goes on", func(t *testing.T) {
		l := mustOpen(t, Options{Dir: dir})
		mustAppend(t, l, numbered(0))
		mustClose(t, l)
	})
	disk.with(files{hashesFile: nil}).put(t, dir) // nobody can make these anew
	mustRefuse(t, dir, ErrRewritten)
}

func TestAClockThatIsSetIsAnEvent(t *testing.T) {
	for name, c := range map[string]struct {
		step time.Duration
		seen bool
		says string
	}{
		"back an hour":     {-time.Hour, true, "back by 1h0m0s"},
		"back":             {-1001 * time.Millisecond, true, "back by 1.001s"},
		"back a little":    {-999 * time.Millisecond, false, ""},
		"forward":          {61 * time.Second, true, "forward by 1m1s"},
		"forward a little": {59 * time.Second, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(quickDir(t), "log")
			synctest.Test(t, func(t *testing.T) {
				var offset atomic.Int64
				l := mustOpen(t, Options{Dir: dir, wallClock: func() time.Time { return time.Now().Round(0).Add(time.Duration(offset.Load())) }})
				ended := run(t, l)
				time.Sleep(time.Hour + time.Second/4)
				synctest.Wait()
				offset.Store(int64(c.step))
				time.Sleep(time.Hour)
				ended()
				mustClose(t, l)
			})
			got := messages(t, dir, ClockStep)
			if !c.seen && len(got) > 0 || c.seen && (len(got) != 1 || !strings.Contains(got[0], c.says)) {
				t.Errorf("noted %q", got)
			}
		})
	}
}

func TestAClockThatWentBackBetweenTwoStartsIsAnEvent(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir})
	tomorrow := record{code: ConnOpen, body: bytes.Clone(encode(numbered(0), &Host{}, time.Now().Add(time.Hour)).body)}
	tomorrow.at = bytes.Index(tomorrow.body, []byte(`"sequence":`)) + len(`"sequence":`)
	l.queue, l.queued = append(l.queue, &entry{records: []record{tomorrow}}), 1
	mustClose(t, l)
	mustClose(t, mustOpen(t, Options{Dir: dir}))
	if got := messages(t, dir, ClockStep); len(got) != 1 || !strings.Contains(got[0], "back by") {
		t.Errorf("noted %q", got)
	}
}

func TestNothingIsRemovedAfterTheClockWasSet(t *testing.T) {
	l := mustOpen(t, Options{Dir: t.TempDir(), SegmentSize: 4000, Retention: 24 * time.Hour})
	for n := range 12 {
		mustAppend(t, l, numbered(n))
	}
	mustSign(t, l)
	before, err := listSegments(l.opts.Dir)
	if err != nil || len(before) < 3 {
		t.Fatal(before, err)
	}
	l.clockSet = true
	l.expire(t.Context(), time.Now().Add(1000*time.Hour))
	if after, err := listSegments(l.opts.Dir); err != nil || len(after) != len(before) {
		t.Errorf("%d segments of %d are left, %v", len(after), len(before), err)
	}
	l.clockSet = false
	l.expire(t.Context(), time.Now().Add(1000*time.Hour))
	if after, err := listSegments(l.opts.Dir); err != nil || len(after) >= len(before) {
		t.Errorf("%d segments of %d are left, %v", len(after), len(before), err)
	}
}
