package record

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// child has this test binary run one test in a process of its own, where it
// calls what the test calls in a child.
func child(t *testing.T, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), append(env, "RECORD_CHILD=1")...)
	return cmd
}

func inChild() bool { return os.Getenv("RECORD_CHILD") == "1" }

// A block is in the file after 100 ms, as synctest shows; here a loaded machine
// has its delays too.
const loaded = 500 * time.Millisecond

func TestAKillLosesOnlyWhatWasJustWritten(t *testing.T) {
	if inChild() {
		writeUntilKilled(t)
		return
	}
	dir := t.TempDir()
	cmd := child(t, "RECORD_DIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := sayings(t, out, 400)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	all, err := List(dir)
	if err != nil || len(all) != 1 || all[0].Err != nil || all[0].Live || all[0].Ended {
		t.Fatalf("the list is %+v, %v; want one recording that broke off", all, err)
	}
	f, err := os.Open(all[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := readAll(f)
	if !errors.Is(err, ErrTorn) {
		t.Errorf("reading ends with %v; want ErrTorn", err)
	}
	if have := len(got[Stdout]) / 8; have < said {
		t.Errorf("%d records are there; %d had been written %v before", have, said, loaded)
	}
}

// sayings reads from a child how many records it had written a while before
// it said so, until it says enough.
func sayings(t *testing.T, out io.Reader, enough int) (said int) {
	t.Helper()
	for said < enough {
		var line string
		if _, err := fmt.Fscanln(out, &line); err != nil {
			if errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			continue // what the testing package prints
		}
		fmt.Sscanf(line, "kept=%d", &said)
	}
	return said
}

func writeUntilKilled(t *testing.T) {
	s := open(t, Options{Dir: os.Getenv("RECORD_DIR")})
	w := create(t, s, Events{})
	var times []time.Time
	for i, kept := 0, 0; ; i++ {
		write(t, w, Stdout, binary.LittleEndian.AppendUint64(nil, uint64(i)))
		times = append(times, time.Now())
		for kept < i && time.Since(times[kept]) > loaded {
			kept++
		}
		fmt.Printf("kept=%d\n", kept)
		<-time.After(time.Millisecond)
	}
}

// fill writes noise until the recording fails, and returns what was taken.
func fill(t *testing.T, w *Writer) (taken int64, err error) {
	t.Helper()
	piece := noise(32 << 10)
	for range 1000 {
		if err := w.Write(Stdout, piece); err != nil {
			return taken, err
		}
		taken += int64(len(piece))
	}
	t.Fatal("32 MiB fit in a disk of 1 MiB")
	return 0, nil
}

func TestAFullDiskEndsARecordingCleanly(t *testing.T) {
	if inChild() {
		fillDisk(t)
		return
	}
	cmd := child(t)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	runChild(t, cmd)
}

// runChild fails the test where the child's fails.
func runChild(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if os.IsPermission(err) || strings.Contains(string(out), "cannot mount") {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no mount namespace: %v\n%s", err, out)
		}
		t.Skipf("no mount namespace: %v", err)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// fillDisk runs in a mount namespace of its own.
func fillDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatalf("cannot mount: %v", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatalf("cannot mount: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	var failures int
	w := create(t, open(t, Options{Dir: dir}), Events{Failed: func(error) { failures++ }})
	unwatched, err := Open(Options{Dir: dir}) // Run would flush too soon
	if err != nil {
		t.Fatal(err)
	}
	idle := create(t, unwatched, Events{})
	taken, err := fill(t, w)
	if !errors.Is(err, ErrSpace) || failures != 1 {
		t.Errorf("the write fails with %v, said %d times; want ErrSpace, once", err, failures)
	}
	// A disk that is full is full: not a byte is free.
	if err := os.WriteFile(dir+"/rest", make([]byte, 4<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("filling the rest: %v", err)
	}
	sum, err := w.Close(true)
	if !errors.Is(err, ErrSpace) || sum.Complete {
		t.Errorf("Close gives %+v, %v; want an incomplete recording and ErrSpace", sum, err)
	}
	checkEnded(t, sum, taken)
	last := noise(50_000)
	write(t, idle, Stdout, last)
	sum, err = idle.Close(true)
	if err != nil || !sum.Complete {
		t.Errorf("closing a recording that had reserved its space: %+v, %v", sum, err)
	}
	checkEnded(t, sum, int64(len(last)))
	if err := w.store.Ready(); err != nil {
		t.Errorf("Ready: %v", err) // MinFree is 0
	}
}

// checkEnded sees that a recording has its end block and at least the bytes
// whose writes succeeded.
func checkEnded(t *testing.T, sum Summary, taken int64) {
	t.Helper()
	file := fileBytes(t, sum.Path)
	got, err := readAll(bytes.NewReader(file))
	if err != nil {
		t.Errorf("reading %s: %v", sum.Path, err)
	}
	if int64(len(got[Stdout])) < taken || sum.Stdout != int64(len(got[Stdout])) {
		t.Errorf("%d bytes were taken, %d are there, the summary says %d", taken, len(got[Stdout]), sum.Stdout)
	}
	if whole, err := Prefixes(bytes.NewReader(file)); err != nil || whole[0].SHA256 != sum.SHA256 || whole[0].Size != sum.Size {
		t.Errorf("the file's hash is %+v, %v; the summary says %+v", whole, err, sum.Chunk)
	}
}

func TestAFileSizeLimitEndsARecordingCleanly(t *testing.T) {
	if !inChild() {
		runChild(t, child(t))
		return
	}
	signal.Ignore(unix.SIGXFSZ)
	const limit = 1 << 20
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		t.Fatal(err)
	}
	w := create(t, open(t, Options{}), Events{})
	taken, err := fill(t, w)
	if !errors.Is(err, ErrSpace) {
		t.Errorf("the write fails with %v; want ErrSpace", err)
	}
	sum, err := w.Close(true)
	if !errors.Is(err, ErrSpace) || sum.Complete {
		t.Errorf("Close gives %+v, %v; want an incomplete recording and ErrSpace", sum, err)
	}
	// Space was reserved, but the limit is on the file's size: the block that
	// met it is lost.
	checkEnded(t, sum, taken-fullBlock)
}

func TestSpaceThatWasReservedIsGivenBack(t *testing.T) {
	w := create(t, open(t, Options{}), Events{})
	var running, closed unix.Stat_t
	if err := unix.Stat(w.Path(), &running); err != nil {
		t.Fatal(err)
	}
	if running.Blocks*512 < reserveEnd {
		t.Errorf("%d bytes are reserved; want %d", running.Blocks*512, reserveEnd)
	}
	sum := finished(t, w)
	if err := unix.Stat(w.Path(), &closed); err != nil {
		t.Fatal(err)
	}
	if closed.Blocks*512 > sum.Size+8192 {
		t.Errorf("the file of %d bytes takes %d", sum.Size, closed.Blocks*512)
	}
}

func TestRunEndsWithWhatIsPendingWrittenAndSynced(t *testing.T) {
	s, err := Open(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	w := create(t, s, Events{})
	write(t, w, Stdout, []byte("before the end"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
	if w.count != 0 || w.dirty {
		t.Errorf("%d records are pending, unsynced is %v", w.count, w.dirty)
	}
	finished(t, w)
}
