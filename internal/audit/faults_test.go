package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// faultyDisk opens real files whose syncs and truncates fail when told to.
type faultyDisk struct {
	syncs     atomic.Int32 // that will fail
	truncates atomic.Bool
}

type faultyFile struct {
	file
	disk *faultyDisk
}

func (d *faultyDisk) failSyncs(n int32) { d.syncs.Store(n) }

func (d *faultyDisk) open(path string, flag int, perm os.FileMode) (file, error) {
	f, err := openOSFile(path, flag, perm)
	return faultyFile{f, d}, err
}

func (f faultyFile) Sync() error {
	if f.disk.syncs.Add(-1) >= 0 {
		return syscall.EIO
	}
	return f.file.Sync()
}

func (f faultyFile) Truncate(size int64) error {
	if f.disk.truncates.Load() {
		return syscall.EIO
	}
	return f.file.Truncate(size)
}

func TestAfterAFailedSyncTheLogGoesOnInANewSegment(t *testing.T) {
	for _, before := range []int{0, 3} { // an empty segment gives its name away
		t.Run(fmt.Sprintf("%d events before", before), func(t *testing.T) {
			dir := t.TempDir()
			disk := &faultyDisk{}
			var told []string
			l := mustOpen(t, Options{Dir: dir, open: disk.open, OnFailure: func(s State, err error) { told = append(told, fmt.Sprint(s, ": ", err)) }})
			for n := range before {
				mustAppend(t, l, numbered(n))
			}
			disk.failSyncs(1)
			mustAppend(t, l, numbered(before))
			mustAppend(t, l, numbered(before+1))
			if err := l.Ready(); err != nil || l.State() != StateOpen {
				t.Errorf("Ready is %v", err)
			}
			if len(told) != 1 || !strings.HasPrefix(told[0], "open: ") || !strings.Contains(told[0], syscall.EIO.Error()) {
				t.Errorf("OnFailure was told %q", told)
			}
			mustClose(t, l)
			mustClose(t, mustOpen(t, Options{Dir: dir}))
			if got := messages(t, dir, ForwardOpen); len(got) != before+2 {
				t.Errorf("the log holds %q", got)
			}
			if records := all(t, dir); records[before].Code != LogFailure {
				t.Errorf("event %d is %s", before, records[before].Code)
			}
		})
	}
}

func TestLinesThatOutliveAFailedWriteAreCutOffAtOpen(t *testing.T) {
	for _, before := range []int{0, 3} {
		t.Run(fmt.Sprintf("%d events before", before), func(t *testing.T) {
			dir := t.TempDir()
			disk := &faultyDisk{}
			l := mustOpen(t, Options{Dir: dir, open: disk.open})
			for n := range before {
				mustAppend(t, l, numbered(n))
			}
			disk.truncates.Store(true)
			disk.failSyncs(1)
			mustAppend(t, l, numbered(before))
			mustClose(t, l)
			mustClose(t, mustOpen(t, Options{Dir: dir}))
			mustClose(t, mustOpen(t, Options{Dir: dir}))
			if got := messages(t, dir, ForwardOpen); len(got) != before+1 {
				t.Errorf("the log holds %q", got)
			}
			if torn := tornFiles(t, dir); len(torn) != 1 || !bytes.Contains(torn[0], fmt.Appendf(nil, `"message":"%d"`, before)) {
				t.Errorf("%d torn files", len(torn))
			}
		})
	}
}

func tornFiles(t *testing.T, dir string) [][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "torn-*.bin"))
	if err != nil {
		t.Fatal(err)
	}
	var found [][]byte
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, data)
	}
	return found
}

func TestASecondFailureInARowIsForGood(t *testing.T) {
	dir := t.TempDir()
	disk := &faultyDisk{}
	var states []State
	var lost atomic.Int32
	l := mustOpen(t, Options{Dir: dir, open: disk.open,
		OnFailure: func(s State, err error) { states = append(states, s) },
		Appended: func(_ time.Duration, codes []Code, err error) {
			if err != nil {
				lost.Add(int32(len(codes)))
			}
		}})
	mustAppend(t, l, numbered(0))
	disk.failSyncs(2)
	var group sync.WaitGroup
	for n := range 64 {
		group.Go(func() {
			if err := l.Append(context.Background(), numbered(n)); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
				t.Errorf("Append returned %v", err)
			}
		})
	}
	group.Wait()
	select {
	case <-l.Failed():
	default:
		t.Error("Failed is still open")
	}
	if err := l.Ready(); !errors.Is(err, ErrFailed) || len(states) != 1 || states[0] != StateFailed {
		t.Errorf("Ready is %v, OnFailure was told %v", err, states)
	}
	before := lost.Load()
	l.Note(numbered(1))
	if lost.Load() != before+1 {
		t.Error("nobody was told of a note that could not be written")
	}
	if err := l.Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Close returned %v", err)
	}
}

func TestALogWhoseFilesAreTouchedByAnotherHandFailsClosed(t *testing.T) {
	for name, touch := range map[string]func(t *testing.T, dir, segment string) error{
		"directory removed": func(t *testing.T, dir, segment string) error { return os.RemoveAll(dir) },
		"directory moved":   func(t *testing.T, dir, segment string) error { return os.Rename(dir, dir+".old") },
		"segment removed":   func(t *testing.T, dir, segment string) error { return os.Remove(segment) },
		"segment replaced": func(t *testing.T, dir, segment string) error {
			data, err := os.ReadFile(segment)
			if err != nil {
				return err
			}
			return errors.Join(os.Remove(segment), os.WriteFile(segment, data, 0o640))
		},
		"segment appended to": func(t *testing.T, dir, segment string) error { appendTo(t, segment, "{}\n"); return nil },
		"segment cut":         func(t *testing.T, dir, segment string) error { return os.Truncate(segment, 10) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "audit")
			l := mustOpen(t, Options{Dir: dir})
			mustAppend(t, l, numbered(0))
			if err := touch(t, dir, filepath.Join(dir, segmentName(0))); err != nil {
				t.Fatal(err)
			}
			inPlace := strings.HasSuffix(name, "to") || strings.HasSuffix(name, "cut")
			if err := l.Ready(); err == nil && !inPlace {
				t.Error("the log is ready")
			}
			if err := l.Append(t.Context(), numbered(1)); !errors.Is(err, ErrFailed) || !errors.Is(err, errTampered) {
				t.Errorf("Append returned %v", err)
			}
			if err := l.Ready(); err == nil || l.State() != StateFailed {
				t.Error("the log is ready after that")
			}
		})
	}
}

func TestLittleRoomIsNotReady(t *testing.T) {
	l := mustOpen(t, Options{Dir: t.TempDir(), MinFree: 1 << 60})
	if err := l.Ready(); err == nil || !strings.Contains(err.Error(), "min_free") {
		t.Errorf("Ready is %v", err)
	}
	mustAppend(t, l, numbered(0)) // running sessions go on
}

func TestAHangingDiskIsNotReady(t *testing.T) {
	l := mustOpen(t, Options{Dir: t.TempDir()})
	l.since.Store(time.Now().Add(-time.Minute).UnixNano())
	if err := l.Ready(); err == nil || !strings.Contains(err.Error(), "hangs") {
		t.Errorf("Ready is %v", err)
	}
}

// smallDisk mounts a file system of so many MiB.
func smallDisk(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mounting a small disk needs root: %v", err)
		}
		t.Skipf("mounting a small disk needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill leaves so many bytes free beside a file it returns the path of.
func fill(t *testing.T, disk string, leave uint64) string {
	t.Helper()
	free, err := freeBytes(disk)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(disk, "filler")
	if err := os.WriteFile(path, make([]byte, free-leave), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOnAFullDiskNothingNewBeginsAndEndingsAreStillWritten(t *testing.T) {
	disk := smallDisk(t, 16)
	dir := filepath.Join(disk, "audit")
	var states []State
	l := mustOpen(t, Options{Dir: dir, Host: inAWS, OnFailure: func(s State, err error) { states = append(states, s) }})
	filler := fill(t, disk, 100<<10)

	acknowledged := 0
	var err error
	for err == nil {
		if err = l.Append(t.Context(), numbered(acknowledged)); err == nil {
			acknowledged++
		}
	}
	if !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.ENOSPC) || l.State() != StateDegraded || l.Ready() == nil {
		t.Errorf("Append returned %v in state %v", err, l.State())
	}
	select {
	case <-l.Failed():
		t.Error("a full disk was taken for the end")
	default:
	}
	for n := range 500 { // sessions end, while refused ones knock
		l.Note(Event{Code: ConnClose, Message: fmt.Sprint(n)})
		l.Refuse(Event{Code: ConnRefused, Reason: "audit_unavailable"})
	}
	l.flush()
	l.heal()
	if l.State() != StateDegraded {
		t.Error("the log healed without room")
	}
	if got := len(messages(t, dir, ConnClose)); got != 500 {
		t.Errorf("%d of 500 endings are written", got)
	}
	if got := len(messages(t, dir, ConnRefused)); got != 0 {
		t.Errorf("%d refusals took the room for endings", got)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	l.heal()
	mustAppend(t, l, numbered(acknowledged))
	mustClose(t, l)
	if got := messages(t, dir, ForwardOpen); len(got) != acknowledged+1 {
		t.Errorf("%d events were acknowledged, %d are there", acknowledged+1, len(got))
	}
	mustProve(t, dir)
	if fmt.Sprint(states) != "[degraded open]" {
		t.Errorf("OnFailure was told %v", states)
	}
	if got := messages(t, dir, LogFailure); len(got) != 1 {
		t.Errorf("log.failure: %q", got)
	}
	if got := messages(t, dir, ConnRefused); len(got) != 1 {
		t.Errorf("refusals while the disk was full: %q", got)
	}
}

func TestWhenTheReserveIsUsedUpTheLogHasFailed(t *testing.T) {
	disk := smallDisk(t, 12)
	dir := filepath.Join(disk, "audit")
	l := mustOpen(t, Options{Dir: dir})
	fill(t, disk, 50<<10)
	written := 0
	for l.State() != StateFailed {
		l.Note(Event{Code: ConnClose, Command: "x", Message: strings.Repeat("m", 4000)})
		l.flush()
		written++
	}
	<-l.Failed()
	if got := len(messages(t, dir, ConnClose)); got < 500 || got > written {
		t.Errorf("%d of %d endings are there", got, written)
	}
	if err := l.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Close returned %v", err)
	}
}

func TestAStartOnAFullDiskMakesHashesGoodInTheReserve(t *testing.T) {
	disk := smallDisk(t, 16)
	dir := filepath.Join(disk, "audit")
	l := mustOpen(t, Options{Dir: dir})
	for range 40 {
		mustAppend(t, l, make([]Event, 50)...)
	}
	mustClose(t, l)
	if err := os.Remove(filepath.Join(dir, hashesFile)); err != nil {
		t.Fatal(err)
	}
	filler := fill(t, disk, 20<<10)
	l = mustOpen(t, Options{Dir: dir})
	if l.State() != StateDegraded {
		t.Errorf("the log is %v", l.State())
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	l.heal()
	mustAppend(t, l, numbered(0))
	mustClose(t, l)
	mustProve(t, dir)
}

func TestAFileSystemThatTurnsReadOnlyIsTheEndOfTheLog(t *testing.T) {
	disk := smallDisk(t, 16)
	dir := filepath.Join(disk, "audit")
	l := mustOpen(t, Options{Dir: dir})
	mustAppend(t, l, numbered(0))
	mustSign(t, l)
	mustAppend(t, l, numbered(1))
	// A file system with a fault does this to itself; done by hand it waits for
	// files that are open to write.
	if err := l.current.file.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.ledger.close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(l.lock.Fd()), syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	l.lock.Close()
	if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(t.Context(), numbered(2)); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EROFS) {
		t.Errorf("Append returned %v", err)
	}
	select {
	case <-l.Failed():
	default:
		t.Error("the log goes on")
	}
	if err := l.Ready(); !errors.Is(err, ErrFailed) {
		t.Errorf("Ready is %v", err)
	}
	if again, err := Open(Options{Dir: dir, MinFree: 1, Key: testKey(1)}); !errors.Is(err, syscall.EROFS) || errors.Is(err, ErrDamaged) {
		again.Close()
		t.Errorf("a start returned %v", err)
	}
	if got := messages(t, dir, ForwardOpen); len(got) != 2 {
		t.Errorf("the log holds %q", got)
	}
	if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	if c := reopened(t, dir); c.Size != 2 {
		t.Errorf("%+v", c)
	}
}
