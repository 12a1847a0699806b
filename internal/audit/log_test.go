package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("POSTERN_TEST_APPEND_TO"); dir != "" {
		appendForever(dir)
	}
	os.Exit(m.Run())
}

func mustOpen(t testing.TB, o Options) *Log {
	t.Helper()
	if o.MinFree == 0 {
		o.MinFree = 1
	}
	if o.Key == nil {
		o.Key = testKey(1)
	}
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// testKey is always the same key for the same number.
func testKey(n byte) crypto.Signer {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func mustAppend(t testing.TB, l *Log, events ...Event) {
	t.Helper()
	if err := l.Append(t.Context(), events...); err != nil {
		t.Fatal(err)
	}
}

func mustClose(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// numbered is an event that a test can find again.
func numbered(n int) Event { return Event{Code: ForwardOpen, Session: "s", Message: strconv.Itoa(n)} }

// all reads the log whole, which also checks that the sequence has no gap.
func all(t testing.TB, dir string) []Record {
	t.Helper()
	var records []Record
	for r, err := range Read(dir, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Index != int64(len(records)) {
			t.Fatalf("event %d follows event %d", r.Index, len(records)-1)
		}
		r.Line = append([]byte(nil), r.Line...)
		records = append(records, r)
	}
	return records
}

func messages(t testing.TB, dir string, code Code) []string {
	t.Helper()
	var found []string
	for _, r := range all(t, dir) {
		if r.Code == code {
			found = append(found, at(decode(t, append(r.Line, '\n')), "message").(string))
		}
	}
	return found
}

func TestAnAcknowledgedEventIsOnDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log", "audit")
	var told []Code
	l := mustOpen(t, Options{Dir: dir, Host: inAWS, Appended: func(d time.Duration, codes []Code, err error) {
		if d <= 0 || err != nil {
			t.Errorf("Appended(%v, %v)", d, err)
		}
		told = append(told, codes...)
	}})
	mustAppend(t, l, Event{Code: ConnOpen, Session: "a"}, Event{Code: AuthSuccess, Session: "a", User: "u"})
	records := all(t, dir) // before Close
	if len(records) != 2 || records[0].Code != ConnOpen || records[1].Code != AuthSuccess || records[1].Session != "a" || l.Size() != 2 {
		t.Errorf("the log holds %v", records)
	}
	if len(told) != 2 || told[1] != AuthSuccess {
		t.Errorf("Appended was told of %v", told)
	}
	if time.Since(records[0].Time) > time.Minute {
		t.Errorf("the event is of %v", records[0].Time)
	}
	for path, want := range map[string]fs.FileMode{"": 0o750, segmentName(0): 0o640, "lock": 0o640, "reserve": 0o640} {
		if info, err := os.Stat(filepath.Join(dir, path)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%q has mode %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
}

func TestALogGoesOnWhereItEnded(t *testing.T) {
	dir := t.TempDir()
	for n := range 3 {
		l := mustOpen(t, Options{Dir: dir})
		mustAppend(t, l, numbered(n))
		mustClose(t, l)
	}
	if got := messages(t, dir, ForwardOpen); strings.Join(got, " ") != "0 1 2" {
		t.Errorf("the log holds %q", got)
	}
}

func TestASecondOpenerIsToldWhoHoldsTheLog(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir})
	_, err := Open(Options{Dir: dir})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("process %d ", os.Getpid())) {
		t.Errorf("a second Open returned %v", err)
	}
	mustClose(t, l)
	mustClose(t, mustOpen(t, Options{Dir: dir}))
}

func TestTheZeroOptionsOpenNothing(t *testing.T) {
	if _, err := Open(Options{}); err == nil {
		t.Error("a log without a directory was opened")
	}
}

func TestAClosedLogRefuses(t *testing.T) {
	dir := t.TempDir()
	var lost []Code
	l := mustOpen(t, Options{Dir: dir, Appended: func(_ time.Duration, codes []Code, err error) {
		if errors.Is(err, ErrClosed) {
			lost = append(lost, codes...)
		}
	}})
	l.Note(numbered(0))
	mustClose(t, l)
	mustClose(t, l)
	if err := l.Append(t.Context(), numbered(1)); !errors.Is(err, ErrClosed) {
		t.Errorf("Append returned %v", err)
	}
	l.Note(numbered(2))
	if err := l.Ready(); !errors.Is(err, ErrClosed) || len(lost) != 1 {
		t.Errorf("Ready is %v; lost %v", err, lost)
	}
	if got := messages(t, dir, ForwardOpen); len(got) != 1 || got[0] != "0" {
		t.Errorf("the log holds %q, want what was noted before Close", got)
	}
}

func TestEventsOfOneAppendStandTogetherAmongSixtyFourWriters(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir, SegmentSize: 200_000})
	const writers, rounds = 64, 12
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for r := range rounds {
				if err := l.Append(context.Background(), triple(w, r)...); err != nil {
					t.Error(err)
				}
				l.Note(Event{Code: ConnClose, Message: "noise"})
			}
		})
	}
	group.Wait()
	mustClose(t, l)

	next := make(map[string]int)
	got := messages(t, dir, ForwardOpen)
	for i := 0; i < len(got); i += 3 {
		writer, round, _ := strings.Cut(strings.TrimSuffix(got[i], "/0"), "/")
		for part := range 3 {
			if want := fmt.Sprintf("%s/%s/%d", writer, round, part); got[i+part] != want {
				t.Fatalf("%s stands where %s should", got[i+part], want)
			}
		}
		if round != strconv.Itoa(next[writer]) {
			t.Fatalf("writer %s: round %s comes when %d should", writer, round, next[writer])
		}
		next[writer]++
	}
	if len(got) != 3*writers*rounds || len(messages(t, dir, ConnClose)) != writers*rounds {
		t.Errorf("%d events, %d notes", len(got), len(messages(t, dir, ConnClose)))
	}
}

func triple(writer, round int) []Event {
	events := make([]Event, 3)
	for part := range events {
		events[part] = Event{Code: ForwardOpen, Message: fmt.Sprintf("%d/%d/%d", writer, round, part)}
	}
	return events
}

func TestAnAppendLongerThanABatchIsOneBatch(t *testing.T) {
	dir := t.TempDir()
	var batches []int
	l := mustOpen(t, Options{Dir: dir, Appended: func(_ time.Duration, codes []Code, _ error) { batches = append(batches, len(codes)) }})
	for range maxBatchEvents {
		l.Note(Event{Code: ConnClose})
	}
	events := make([]Event, 2*maxBatchEvents)
	for i := range events {
		events[i] = numbered(i)
	}
	mustAppend(t, l, events...)
	if len(batches) != 2 || batches[0] != maxBatchEvents || batches[1] != len(events) {
		t.Errorf("batches of %v events", batches)
	}
}

func TestAnAppendThatGivesUpInTheQueueIsTakenBack(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir})
	synctest.Test(t, func(t *testing.T) {
		l := mustOpen(t, Options{Dir: filepath.Join(dir, "bubble")})
		l.turn <- struct{}{} // a write that takes its time
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := l.Append(ctx, numbered(1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Append returned %v", err)
		}
		<-l.turn
		mustAppend(t, l, numbered(2))
		if got := messages(t, l.opts.Dir, ForwardOpen); len(got) != 1 || got[0] != "2" {
			t.Errorf("the log holds %q", got)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Append(ctx, numbered(3)); !errors.Is(err, context.Canceled) || l.Size() != 0 {
		t.Errorf("Append with an ended context returned %v, the log has %d events", err, l.Size())
	}
}

func TestNoteWaitsWhenTheQueueIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := mustOpen(t, Options{Dir: t.TempDir()})
		l.turn <- struct{}{} // the disk hangs
		noted := 0
		done := make(chan struct{})
		go func() {
			for range maxQueued + 10 {
				l.Note(Event{Code: ConnClose})
				noted++
			}
			close(done)
		}()
		synctest.Wait()
		if noted != maxQueued {
			t.Errorf("%d notes were taken while nothing was written", noted)
		}
		<-l.turn
		<-done
	})
}

func TestRunWritesNotesWithinASecondAndAHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := mustOpen(t, Options{Dir: t.TempDir()})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- l.Run(ctx) }()
		l.Note(numbered(0))
		time.Sleep(time.Second)
		synctest.Wait()
		if l.Size() != 1 {
			t.Errorf("after a second the log has %d events", l.Size())
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		beats := 0
		for _, r := range all(t, l.opts.Dir) {
			if r.Code == DaemonHeartbeat {
				beats++
			}
		}
		if beats != 2 {
			t.Errorf("%d heartbeats in ten minutes", beats)
		}
		l.Note(numbered(1))
		cancel()
		if err := <-ended; err != nil || len(messages(t, l.opts.Dir, ForwardOpen)) != 2 {
			t.Errorf("Run returned %v and left a note behind", err)
		}
		mustAppend(t, l, numbered(2)) // a drain goes on writing
	})
}

func TestASegmentIsClosedByItsAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := mustOpen(t, Options{Dir: t.TempDir()})
		mustAppend(t, l, numbered(0))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- l.Run(ctx) }()
		time.Sleep(24*time.Hour + time.Second)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if segments, err := listSegments(l.opts.Dir); err != nil || len(segments) != 2 {
			t.Errorf("after a day there are %v, %v", segments, err)
		}
	})
}

func TestAClosedSegmentIsNamedWithItsHash(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir, Host: inAWS, SegmentSize: 4000})
	for n := range 20 {
		mustAppend(t, l, numbered(n))
		if n == 10 { // the hash goes on over a restart
			mustClose(t, l)
			l = mustOpen(t, Options{Dir: dir, Host: inAWS, SegmentSize: 4000})
		}
	}
	mustClose(t, l)
	segments, err := listSegments(dir)
	if err != nil || len(segments) < 3 {
		t.Fatalf("there are %v, %v", segments, err)
	}
	for i, s := range segments[1:] {
		closed := segments[i]
		head, err := firstRecord(s)
		if err != nil || head.Code != LogRotate {
			t.Fatalf("%s begins with %v, %v", s.path, head.Code, err)
		}
		e := decode(t, append(head.Line, '\n'))
		data, err := os.ReadFile(closed.path)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		if at(e, "file", "hashes", "value") != hex.EncodeToString(sum[:]) || at(e, "file", "size") != float64(len(data)) ||
			at(e, "unmapped", "postern", "first_index") != float64(closed.first) || at(e, "unmapped", "postern", "records") != float64(s.first-closed.first) {
			t.Errorf("%s is announced as %s", closed.path, head.Line)
		}
		if info, err := os.Stat(closed.path); err != nil || info.Mode().Perm() != 0o440 {
			t.Errorf("%s has mode %v, %v", closed.path, info.Mode(), err)
		}
	}
	if got := messages(t, dir, ForwardOpen); len(got) != 20 {
		t.Errorf("%d events", len(got))
	}
}

func TestEverythingALogWritesByItselfPassesTheValidator(t *testing.T) {
	dir := t.TempDir()
	disk := &faultyDisk{}
	l := mustOpen(t, Options{Dir: dir, Host: inAWS, SegmentSize: 3000, open: disk.open})
	for n := range 5 {
		mustAppend(t, l, numbered(n))
		l.Refuse(Event{Code: ConnRefused, Reason: "endpoint", Endpoint: "vpce-1"})
	}
	disk.failSyncs(1)
	mustAppend(t, l, numbered(5))
	l.Note(l.heartbeat())
	for range 40 {
		l.Refuse(Event{Code: ConnRefused, Reason: "endpoint", Endpoint: "vpce-1"})
	}
	mustClose(t, l)
	segments, _ := listSegments(dir)
	appendTo(t, segments[len(segments)-1].path, `{"torn`)
	mustClose(t, mustOpen(t, Options{Dir: dir, Host: inAWS}))

	seen := make(map[Code]bool)
	var lines []byte
	for _, r := range all(t, dir) {
		seen[r.Code] = true
		lines = append(append(lines, r.Line...), '\n')
	}
	for _, code := range []Code{LogRotate, LogFailure, LogRecovered, DaemonHeartbeat, ConnRefused} {
		if !seen[code] {
			t.Errorf("there is no %s", code)
		}
	}
	if out, err := validate(t, lines); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// appendForever is the child of the kill test: it prints what Append has
// acknowledged until it is killed.
func appendForever(dir string) {
	l, err := Open(Options{Dir: dir, MinFree: 1, SegmentSize: 20_000, Key: testKey(1)})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	go l.Run(context.Background())
	go func() { // or hardly any child would live to see a checkpoint
		for err == nil {
			_, err = l.Checkpoint()
		}
		fmt.Println("error", err)
		os.Exit(1)
	}()
	for w := range 8 {
		go func() {
			for n := 0; ; n++ {
				id := fmt.Sprintf("%d.%d.%d", os.Getpid(), w, n)
				if err := l.Append(context.Background(), Event{Code: ForwardOpen, Message: id}); err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				fmt.Println(id) // one write, so lines of several writers don't mix
			}
		}()
	}
	select {}
}

func TestEveryAcknowledgedEventOutlivesKill9(t *testing.T) {
	dir := t.TempDir()
	acknowledged := make(map[string]bool)
	for range 15 {
		killed(t, dir, 1+rand.IntN(300), acknowledged)
	}
	reopened(t, dir)
	for _, id := range messages(t, dir, ForwardOpen) {
		delete(acknowledged, id)
	}
	if len(acknowledged) > 0 {
		t.Errorf("%d acknowledged events are lost: %v", len(acknowledged), acknowledged)
	}
}

// killed runs a child that appends to dir, kills it after some events, and adds
// what it printed to acknowledged.
func killed(t *testing.T, dir string, after int, acknowledged map[string]bool) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "POSTERN_TEST_APPEND_TO="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); n++ {
		if strings.HasPrefix(lines.Text(), "error") {
			t.Fatal(lines.Text())
		}
		acknowledged[lines.Text()] = true
		if n == after {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	var exit *exec.ExitError
	if err := child.Wait(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Fatalf("the child was not killed: %v", err)
	}
}
