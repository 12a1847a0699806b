package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"postern/internal/audit"
	"postern/internal/record"
)

func TestASessionIsWatchedWhileItRuns(t *testing.T) {
	r := newRecorder(t)
	g := newTestGate(t)
	g.start()
	other := session("1")
	other.Channel, other.Kind, other.Command = "1", "exec", "sleep 60"
	other.Started = other.Started.Add(time.Minute)
	w, second := r.begin(session("1"), "before\r\n"), r.begin(other)
	defer second.Close(true)

	out, errs := &lockedBuffer{}, &lockedBuffer{}
	ended := make(chan int, 1)
	go func() {
		ended <- command([]string{"sessions", "watch", session("1").Session[:30], "--dir", r.dir, "--socket", g.path("admin.sock")}, &env{out, errs})
	}()
	g.eventually("shown from its beginning", func() bool { return strings.Contains(out.String(), "before\r\n") })
	for i := range 20 {
		if err := w.Write(record.Stdout, fmt.Appendf(nil, "line %d\x1b]0;x\a\r\n", i)); err != nil {
			t.Fatal(err)
		}
		g.eventually("followed", func() bool { return strings.Contains(out.String(), fmt.Sprintf("line %d\r\n", i)) })
	}
	if _, err := w.Close(true); err != nil {
		t.Fatal(err)
	}
	if status := <-ended; status != 0 || !strings.Contains(errs.String(), "the channel has ended") || !strings.Contains(errs.String(), "1 (exec sleep 60)") {
		t.Errorf("status %d: %s", status, errs)
	}
	if e := g.events(audit.LogAccess); len(e) != 1 || !has(e, `sessions\.watch`) || !has(e, session("1").Session) {
		t.Errorf("events: %q", e)
	}
}

func TestOnlyWhatRunsIsWatched(t *testing.T) {
	r := newRecorder(t)
	r.record(session("1"), "x")
	w, second := r.begin(session("2")), r.begin(session("3"))
	defer w.Close(true)
	defer second.Close(true)
	for _, args := range [][]string{{session("1").Session}, {"01998e4c"}, {session("2").Session, "--channel", "7"}, {""}} {
		out, errs := &lockedBuffer{}, &lockedBuffer{}
		args = append([]string{"sessions", "watch", "--dir", r.dir, "--socket", r.dir + "/none.sock"}, args...)
		if status := command(args, &env{out, errs}); status != exitWrong || !strings.Contains(errs.String(), "hint: ") {
			t.Errorf("%q: status %d: %s", args, status, errs)
		}
	}
}

func TestFollowingEndsInAnErrorWhereTheGateDies(t *testing.T) {
	r := newRecorder(t)
	s := r.record(session("1"), "last words\r\n")
	b, err := os.ReadFile(s.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Path, b[:len(b)-4], 0o600); err != nil { // as a kill -9 leaves it: nobody holds it
		t.Fatal(err)
	}
	if status, out, errs := r.postern("play", "--follow", s.ID); status != exitWrong || !strings.Contains(out, "last words") || !strings.Contains(errs, "breaks off") {
		t.Errorf("status %d: %q %s", status, out, errs)
	}
	for _, args := range [][]string{{"--follow", "--from", "1s"}, {"--speed", "0"}, {"--idle", "-1s"}} {
		if status, _, errs := r.postern(append([]string{"play", s.ID}, args...)...); status != exitUsage {
			t.Errorf("%q: status %d: %s", args, status, errs)
		}
	}
}

// openPTY returns both ends of a terminal of 60 by 10.
func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 10, Col: 60})
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

func TestKeysWorkInATerminalAndItIsPutBack(t *testing.T) {
	r := newRecorder(t)
	h := session("1")
	h.Columns = 132
	w := r.begin(h, "shown\r\n") // runs: only a key ends the play
	defer w.Close(true)
	master, slave := openPTY(t)
	stdin := os.Stdin
	os.Stdin = slave
	defer func() { os.Stdin = stdin }()
	before, err := term.GetState(int(slave.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	errs := &lockedBuffer{}
	ended := make(chan int, 1)
	go func() {
		ended <- command([]string{"recordings", "play", "--follow", "01998e4c", "--offline", "--dir", r.dir, "--socket", r.dir + "/none.sock"}, &env{slave, errs})
	}()
	seen := readUntil(t, master, "shown")
	if _, err := master.Write([]byte("q")); err != nil {
		t.Fatal(err)
	}
	if status := <-ended; status != 0 || !strings.Contains(errs.String(), "132x24, this one is 60x10") {
		t.Errorf("status %d: %s\n%q", status, errs, seen)
	}
	after, err := term.GetState(int(slave.Fd()))
	if err != nil || *after != *before {
		t.Errorf("the terminal is not as it was: %v", err)
	}
}

// readUntil reads a terminal until it has shown text.
func readUntil(t *testing.T, f *os.File, text string) string {
	t.Helper()
	var seen strings.Builder
	b := make([]byte, 1024)
	for !strings.Contains(seen.String(), text) {
		n, err := f.Read(b)
		if err != nil {
			t.Fatalf("%v: %q", err, seen.String())
		}
		seen.Write(b[:n])
	}
	return seen.String()
}
