package record

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"
)

func TestTheZeroOptionsRecordNothing(t *testing.T) {
	for name, o := range map[string]Options{
		"zero":        {},
		"a name more": {Dir: t.TempDir(), Names: []string{"security"}},
		"a file":      {Dir: os.Args[0]},
		"mixed seals": {Dir: t.TempDir(), Recipients: []age.Recipient{scrypt(t), scrypt(t)}},
	} {
		if s, err := Open(o); err == nil {
			t.Errorf("%s: Open gives %v; want an error", name, s)
		}
	}
}

func scrypt(t *testing.T) age.Recipient {
	r, err := age.NewScryptRecipient("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	r.SetWorkFactor(2)
	return r
}

func TestNoRecordingBeginsWithTooLittleSpace(t *testing.T) {
	s := open(t, Options{MinFree: 1 << 60})
	if err := s.Ready(); !errors.Is(err, ErrSpace) {
		t.Errorf("Ready is %v; want ErrSpace", err)
	}
	if _, err := s.Create(testHeader, Events{}); !errors.Is(err, ErrSpace) {
		t.Errorf("Create gives %v; want ErrSpace", err)
	}
}

func TestNoRecordingBeginsWhereTheDirectoryIsGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "recordings")
	s := open(t, Options{Dir: dir})
	if err := s.Ready(); err != nil {
		t.Errorf("Ready is %v", err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(); err == nil {
		t.Error("a store without a directory is ready")
	}
}

func TestTheFileIsWhereTheFormatSaysAndNobodyElsesToRead(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	h := testHeader
	h.Started = time.Date(2026, 3, 1, 0, 30, 0, 0, time.FixedZone("", 3600))
	for _, want := range []string{"", ".2", ".3"} {
		w, err := s.Create(h, Events{})
		if err != nil {
			t.Fatal(err)
		}
		id := h.Session + "-0" + want
		if path := filepath.Join(dir, "2026/02/28", "rec-"+id+".prec"); w.Path() != path || w.ID() != id {
			t.Errorf("the file of %s is %s; want %s", w.ID(), w.Path(), path)
		}
		info, err := os.Stat(w.Path())
		if err != nil || info.Mode() != 0o640 {
			t.Errorf("mode is %v, %v; want 0640", info.Mode(), err)
		}
		finished(t, w)
		info, err = os.Stat(w.Path())
		if err != nil || info.Mode() != 0o440 {
			t.Errorf("once closed: mode is %v, %v; want 0440", info.Mode(), err)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "2026/02"))
	if err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("the directory's mode is %v, %v; want 0750", info.Mode(), err)
	}
}

func TestAHostileSessionNameMakesNoFile(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	for _, name := range []string{"", "..", "../../etc/x", "a/b", "a\nb", "a.b", strings.Repeat("a", 129)} {
		h := testHeader
		h.Session = name
		if w, err := s.Create(h, Events{}); err == nil {
			t.Errorf("session %q gives %s", name, w.Path())
		}
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 0 {
		t.Errorf("the directory holds %v, %v; want nothing", all, err)
	}
}

func TestTheHeaderIsThereWhenCreateReturns(t *testing.T) {
	h := testHeader
	h.Command = "printf '\xff'"
	w, err := open(t, Options{}).Create(h, Events{})
	if err != nil {
		t.Fatal(err)
	}
	defer finished(t, w)
	e := Stat(w.Path())
	if e.Err != nil || e.Header.Identity != "alice" || string(e.Header.CommandRaw) != h.Command || e.Header.Started.IsZero() {
		t.Errorf("entry is %+v", e)
	}
	if !e.Live || e.Ended {
		t.Errorf("live is %v, ended %v; want a recording that runs", e.Live, e.Ended)
	}
}

// inBubble runs f with a store of its own, whose Run runs, on fake time.
func inBubble(t *testing.T, f func(s *Store)) {
	synctest.Test(t, func(t *testing.T) {
		f(open(t, Options{}))
	})
}

func size(t *testing.T, w *Writer) int64 {
	t.Helper()
	info, err := os.Stat(w.Path())
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestWhatIsWrittenIsInTheFileWithin100Milliseconds(t *testing.T) {
	inBubble(t, func(s *Store) {
		w := create(t, s, Events{})
		for range 5 {
			before := size(t, w)
			write(t, w, Stdout, []byte("$ "))
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			if size(t, w) == before {
				t.Error("100 ms later it is not there")
			}
			if w.pending != nil {
				t.Error("an idle writer holds a buffer")
			}
			time.Sleep(37 * time.Millisecond)
		}
		finished(t, w)
	})
}

func TestABlockIsWrittenWhenItIsFull(t *testing.T) {
	inBubble(t, func(s *Store) {
		w := create(t, s, Events{})
		before := size(t, w)
		write(t, w, Stdout, make([]byte, fullBlock))
		if size(t, w) == before {
			t.Error("64 KiB wait")
		}
		finished(t, w)
	})
}

// chunks collects what a writer states.
type chunks struct {
	mu  sync.Mutex
	all []Chunk
	at  []time.Time
}

func (c *chunks) add(x Chunk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all, c.at = append(c.all, x), append(c.at, time.Now())
}

func (c *chunks) stated() ([]Chunk, []time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all, c.at
}

func TestAChunkIsStatedEachMinuteInWhichSomethingWasWritten(t *testing.T) {
	inBubble(t, func(s *Store) {
		var c chunks
		begin := time.Now()
		w := create(t, s, Events{Chunk: c.add})
		time.Sleep(10 * time.Second)
		write(t, w, Stdout, []byte("once"))
		time.Sleep(10 * time.Minute)
		if all, at := c.stated(); len(all) != 1 || at[0].Sub(begin) > 61*time.Second {
			t.Errorf("stated at %v: %+v; want one chunk after a minute", at, all)
		}
		if len(s.queue.takeUnsynced()) != 0 {
			t.Error("an idle writer is asked each second")
		}
		write(t, w, Stdout, []byte("again"))
		time.Sleep(2 * time.Second)
		if all, _ := c.stated(); len(all) != 2 {
			t.Errorf("%d chunks after ten idle minutes and a write; want 2", len(all))
		}
		finished(t, w)
	})
}

func TestAChunkIsStatedEachMebibyte(t *testing.T) {
	inBubble(t, func(s *Store) {
		var c chunks
		w := create(t, s, Events{Chunk: c.add})
		for range 40 { // 4 s
			for range 16 {
				write(t, w, Stdout, noise(32<<10))
			}
			time.Sleep(100 * time.Millisecond)
		}
		sum := finished(t, w)
		if len(c.all) < 3 || len(c.all) > 4 {
			t.Fatalf("%d chunks in 4 s; want one a second", len(c.all))
		}
		sizes := make([]int64, len(c.all))
		for i, x := range c.all {
			sizes[i] = x.Size
		}
		f, err := os.Open(sum.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got, err := Prefixes(f, sizes...)
		if err != nil {
			t.Fatal(err)
		}
		for i, x := range append(c.all, sum.Chunk) {
			if got[i].Size != x.Size || got[i].SHA256 != x.SHA256 {
				t.Errorf("chunk %d says %+v, the file %+v", i, x, got[i])
			}
		}
	})
}

func TestTwoWritersKeepTheirOwnClocks(t *testing.T) {
	inBubble(t, func(s *Store) {
		first := create(t, s, Events{})
		time.Sleep(time.Hour)
		second := create(t, s, Events{})
		time.Sleep(time.Second)
		write(t, first, Stdout, []byte("1"))
		write(t, second, Stdout, []byte("2"))
		for _, c := range []struct {
			w    *Writer
			want time.Duration
		}{{first, time.Hour + time.Second}, {second, time.Second}} {
			sum := finished(t, c.w)
			r, err := OpenFile(sum.Path)
			if err != nil {
				t.Fatal(err)
			}
			rec, err := r.Next()
			if err != nil || rec.At != c.want || sum.Duration != c.want {
				t.Errorf("record at %v of %v, %v; want %v", rec.At, sum.Duration, err, c.want)
			}
			r.Close()
		}
	})
}

func TestManyWritersAtOnceKeepTheirBytesApart(t *testing.T) {
	s := open(t, Options{})
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			w, err := s.Create(testHeader, Events{})
			if err != nil {
				t.Error(err)
				return
			}
			want := strings.Repeat(fmt.Sprintf("writer %d\n", i), 20_000)
			for at := 0; at < len(want); at += 1000 {
				if err := w.Write(Stdout, []byte(want[at:min(at+1000, len(want))])); err != nil {
					t.Error(err)
				}
			}
			sum, err := w.Close(true)
			if err != nil {
				t.Error(err)
			}
			f, err := os.Open(sum.Path)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			if got, err := readAll(f); err != nil || string(got[Stdout]) != want {
				t.Errorf("writer %d reads back %d bytes, %v", i, len(got[Stdout]), err)
			}
		})
	}
	all.Wait()
}

func TestAFailedRecordingSaysSoOnceAndTakesNoMore(t *testing.T) {
	var failed []error
	w := create(t, open(t, Options{}), Events{Failed: func(err error) { failed = append(failed, err) }})
	write(t, w, Stdout, make([]byte, fullBlock))
	breakFile(w)
	err := w.Write(Stdout, make([]byte, fullBlock))
	if !errors.Is(err, os.ErrClosed) {
		t.Fatalf("the write gives %v; want the file's error", err)
	}
	if again := w.Write(Stdout, nil); again != err {
		t.Errorf("the next write gives %v; want %v again", again, err)
	}
	sum, closeErr := w.Close(true)
	if closeErr != err || sum.Complete || sum.Stdout != fullBlock || sum.SHA256 == "" {
		t.Errorf("Close gives %+v, %v; want what is known and %v", sum, closeErr, err)
	}
	if len(failed) != 1 || failed[0] != err {
		t.Errorf("Failed was called with %v; want %v once", failed, err)
	}
}

func TestAFailureBetweenWritesIsReportedByRun(t *testing.T) {
	inBubble(t, func(s *Store) {
		failed := make(chan error, 2)
		w := create(t, s, Events{Failed: func(err error) { failed <- err }})
		write(t, w, Stdout, []byte("x"))
		breakFile(w)
		if err := <-failed; !errors.Is(err, os.ErrClosed) {
			t.Errorf("Failed was called with %v", err)
		}
		if _, err := w.Close(true); err == nil {
			t.Error("Close of a failed recording succeeds")
		}
		if len(failed) != 0 {
			t.Error("Failed was called twice")
		}
	})
}

func TestASyncThatFailsEndsTheRecordingAndStatesNothing(t *testing.T) {
	s, err := Open(Options{Dir: t.TempDir()}) // without Run: the test syncs
	if err != nil {
		t.Fatal(err)
	}
	var failed []error
	w := create(t, s, Events{
		Chunk:  func(c Chunk) { t.Errorf("a chunk is stated: %+v", c) },
		Failed: func(err error) { failed = append(failed, err) },
	})
	write(t, w, Stdout, noise(2*chunkSize))
	breakFile(w)
	if w.sync() {
		t.Error("a failed recording wants to be synced again")
	}
	if len(failed) != 1 {
		t.Fatalf("Failed was called with %v; want one error", failed)
	}
	if err := w.Write(Stdout, nil); err != failed[0] {
		t.Errorf("the next write gives %v; want %v", err, failed[0])
	}
	if sum, err := w.Close(true); err != failed[0] || sum.Complete || sum.Size < 2*chunkSize {
		t.Errorf("Close gives %+v, %v; want what was written and %v", sum, err, failed[0])
	}
}

func TestAnIdleRecordingHoldsAlmostNoMemory(t *testing.T) {
	const n = 200
	id := identity(t)
	s := open(t, Options{Recipients: []age.Recipient{id.Recipient()}})
	writers := make([]*Writer, 0, n)
	warm := create(t, s, Events{}) // what the store holds once, whatever it writes
	write(t, warm, Stdout, []byte("$ "))
	finished(t, warm)
	before := heap()
	for range n {
		w := create(t, s, Events{})
		write(t, w, Stdout, []byte("$ "))
		w.flushDue()
		writers = append(writers, w)
	}
	if each := (heap() - before) / n; each > 4<<10 {
		t.Errorf("an idle writer holds %d bytes; want 4 KiB at most", each)
	} else {
		t.Logf("an idle writer holds %d bytes", each)
	}
	for _, w := range writers {
		finished(t, w)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
