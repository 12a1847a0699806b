package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"
)

// hourly makes a recording of one record each minute for some hours.
func hourly(t *testing.T, s *Store, minutes int) Summary {
	w := create(t, s, Events{})
	for i := range minutes {
		time.Sleep(time.Minute)
		write(t, w, Stdout, fmt.Appendf(nil, "minute %d", i+1))
	}
	return finished(t, w)
}

func TestSeekGoesToTheRecordOfATime(t *testing.T) {
	bothWays(t, func(t *testing.T, o Options, ids ...age.Identity) {
		synctest.Test(t, func(t *testing.T) {
			sum := hourly(t, open(t, o), 200)
			r, err := OpenFile(sum.Path, ids...)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			for _, c := range []struct {
				to   time.Duration
				want string
			}{{100 * time.Minute, "minute 100"}, {0, "minute 1"}, {199*time.Minute + 1, "minute 200"}, {-time.Hour, "minute 1"}, {150*time.Minute - 1, "minute 150"}} {
				if err := r.Seek(c.to); err != nil {
					t.Fatal(err)
				}
				if rec, err := r.Next(); err != nil || string(rec.Data) != c.want {
					t.Errorf("at %v the record is %q, %v; want %q", c.to, rec.Data, err, c.want)
				}
			}
			for err == nil {
				_, err = r.Next()
			}
			if end, ok := r.End(); err != io.EOF || !ok || end.Records != 200 {
				t.Errorf("after a seek the end is %+v, %v, %v; want 200 records", end, ok, err)
			}
			if err := r.Seek(1000 * time.Hour); err != nil {
				t.Fatal(err)
			}
			if rec, err := r.Next(); err != io.EOF {
				t.Errorf("after the end is %q, %v; want io.EOF", rec.Data, err)
			}
		})
	})
}

func TestAStreamCannotSeek(t *testing.T) {
	file, _ := small(t, Options{})
	r, err := Read(io.MultiReader(bytes.NewReader(file)))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Seek(0); err == nil {
		t.Error("Seek in a stream succeeds")
	}
}

func TestAListTellsWholeBrokenRunningAndForeignFilesApart(t *testing.T) {
	bothWays(t, func(t *testing.T, o Options, ids ...age.Identity) {
		o.Dir = t.TempDir()
		s := open(t, o)
		entry := func(path string) Entry {
			t.Helper()
			all, err := List(o.Dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range all {
				if e.Path == path {
					return e
				}
			}
			t.Fatalf("%s is not in the list", path)
			return Entry{}
		}
		w := create(t, s, Events{})
		write(t, w, Stdout, []byte("hello"))
		w.flushDue()
		e := entry(w.Path())
		if e.Err != nil || !e.Live || e.Ended || e.Complete || e.Records != 1 || e.Sealed != (ids != nil) || e.Header.Login != "hadoop" {
			t.Errorf("running: %+v", e)
		}
		sum := finished(t, w)
		e = entry(w.Path())
		if e.Err != nil || e.Live || !e.Ended || !e.Complete || e.Stdout != 5 || e.Size != sum.Size || e.Duration != sum.Duration || e.ID != sum.ID {
			t.Errorf("whole: %+v; the summary was %+v", e, sum)
		}
		if err := os.Truncate(w.Path(), sum.Size-1); err != nil {
			t.Fatal(err)
		}
		e = entry(w.Path())
		if e.Err != nil || e.Live || e.Ended || e.Complete || e.Records != 1 || e.Blocks != 1 {
			t.Errorf("broken off: %+v", e)
		}
		cut := create(t, s, Events{})
		if _, err := cut.Close(false); err != nil {
			t.Fatal(err)
		}
		if e = entry(cut.Path()); e.Err != nil || !e.Ended || e.Complete {
			t.Errorf("cut session: %+v", e)
		}
		foreign := filepath.Join(o.Dir, "rec-x-0.prec")
		if err := os.WriteFile(foreign, []byte("not ours"), 0o600); err != nil {
			t.Fatal(err)
		}
		if e = entry(foreign); !errors.Is(e.Err, ErrNotRecording) || e.ID != "x-0" {
			t.Errorf("foreign: %+v", e)
		}
	})
}

func TestOutputThatLooksLikeAnEndDoesNotEndATornRecording(t *testing.T) {
	other, _ := small(t, Options{})
	w := create(t, open(t, Options{}), Events{})
	forged := other[len(other)-blockHeaderLen-endPayloadLen:]
	write(t, w, Stdout, append(noise(1000), forged...))
	sum := finished(t, w)
	if err := os.Truncate(sum.Path, sum.Size-blockHeaderLen-endPayloadLen); err != nil {
		t.Fatal(err)
	}
	if file := fileBytes(t, sum.Path); !bytes.HasSuffix(file, forged) {
		t.Fatal("the forged end is not at the end")
	}
	if e := Stat(sum.Path); e.Ended || e.Complete || e.Err != nil {
		t.Errorf("entry is %+v; want one without an end", e)
	}
}

func TestAnIndexOfManySmallBlocksIsWhole(t *testing.T) {
	w := create(t, open(t, Options{}), Events{})
	for i := range 3000 {
		write(t, w, Stdout, noise(i%97*(1+i%3*150)))
		w.flushDue()
	}
	sum := finished(t, w)
	f, err := os.Open(sum.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	blocks, err := Index(f)
	if err != nil || len(blocks) != 3000 {
		t.Fatalf("%d blocks, %v; want 3000", len(blocks), err)
	}
	r, err := OpenFile(sum.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i, b := range blocks {
		if r.offset != b.Offset || int64(i) != b.Number {
			t.Fatalf("block %d is at %d; the index says %d at %d", i, r.offset, b.Number, b.Offset)
		}
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFollowerSeesAllOfARunningRecordingWithoutAGap(t *testing.T) {
	bothWays(t, func(t *testing.T, o Options, ids ...age.Identity) {
		synctest.Test(t, func(t *testing.T) {
			w := create(t, open(t, o), Events{})
			write(t, w, Stdout, []byte("line 0\n"))
			r, err := Follow(t.Context(), w.Path(), ids...)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			var want strings.Builder
			want.WriteString("line 0\n")
			done := make(chan struct{})
			var got bytes.Buffer
			go func() {
				defer close(done)
				for rec, err := range r.Records() {
					if err != nil {
						t.Errorf("follow: %v", err)
						return
					}
					got.Write(rec.Data)
					if late := time.Since(w.began) - rec.At; late > 150*time.Millisecond {
						t.Errorf("a record is shown %v late", late)
					}
				}
			}()
			for i := range 300 {
				line := fmt.Sprintf("line %d %s\n", i+1, strings.Repeat("x", i*i%5000))
				write(t, w, Stdout, []byte(line))
				want.WriteString(line)
				time.Sleep(time.Duration(i*7%90) * time.Millisecond)
			}
			finished(t, w)
			<-done
			if got.String() != want.String() {
				t.Errorf("%d bytes were followed, %d written", got.Len(), want.Len())
			}
		})
	})
}

func TestAFollowerCanBeginAtATime(t *testing.T) {
	inBubble(t, func(s *Store) {
		w := create(t, s, Events{})
		for i := range 10 {
			time.Sleep(time.Minute)
			write(t, w, Stdout, fmt.Appendf(nil, "minute %d", i+1))
		}
		time.Sleep(time.Second)
		r, err := Follow(context.Background(), w.Path())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := r.Seek(9 * time.Minute); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Minute, func() { w.Write(Stdout, []byte("more")) })
		for _, want := range []string{"minute 9", "minute 10", "more"} {
			if rec, err := r.Next(); err != nil || string(rec.Data) != want {
				t.Errorf("the record is %q, %v; want %q", rec.Data, err, want)
			}
		}
		finished(t, w)
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("at the end Next gives %v; want io.EOF", err)
		}
	})
}

func TestAFollowerStopsWithItsContext(t *testing.T) {
	inBubble(t, func(s *Store) {
		w := create(t, s, Events{})
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		r, err := Follow(ctx, w.Path())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := r.Next(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Next gives %v; want the context's error", err)
		}
		finished(t, w)
	})
}

func TestAFollowerOfARecordingWhoseWriterIsGoneStops(t *testing.T) {
	w := create(t, open(t, Options{}), Events{})
	write(t, w, Stdout, []byte("last words"))
	w.flushDue()
	breakFile(w) // as the kernel does when the process dies
	r, err := Follow(t.Context(), w.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if rec, err := r.Next(); err != nil || string(rec.Data) != "last words" {
		t.Errorf("the first record is %q, %v", rec.Data, err)
	}
	if _, err := r.Next(); !errors.Is(err, ErrTorn) {
		t.Errorf("then Next gives %v; want ErrTorn", err)
	}
}

func TestASealedRecordingHoldsNothingInClear(t *testing.T) {
	id := identity(t)
	w := create(t, open(t, Options{Recipients: []age.Recipient{id.Recipient()}, Names: []string{"security"}}), Events{})
	secret := []byte("correct horse battery staple")
	write(t, w, Stdout, secret)
	write(t, w, Stdin, secret)
	w.flushDue()
	write(t, w, Request, secret)
	sum := finished(t, w)
	file := fileBytes(t, sum.Path)
	for at := range len(secret) - 8 {
		if bytes.Contains(file, secret[at:at+8]) {
			t.Fatalf("the file holds %q", secret[at:at+8])
		}
	}
	h, err := ReadHeader(bytes.NewReader(file))
	if err != nil || !h.Sealed || len(h.Recipients) != 1 || h.Recipients[0] != "security" {
		t.Errorf("the header is %+v, %v", h, err)
	}
}

func TestASealedRecordingOpensForItsRecipientsAlone(t *testing.T) {
	first, second := identity(t), identity(t)
	file, _ := small(t, Options{Recipients: []age.Recipient{first.Recipient(), second.Recipient()}})
	for name, c := range map[string]struct {
		ids  []age.Identity
		want error
	}{
		"none":       {nil, ErrSealed},
		"another's":  {[]age.Identity{identity(t)}, ErrIdentity},
		"the first":  {[]age.Identity{first}, nil},
		"the second": {[]age.Identity{identity(t), second}, nil},
	} {
		if _, err := readAll(bytes.NewReader(file), c.ids...); !errors.Is(err, c.want) {
			t.Errorf("identity %s: error is %v; want %v", name, err, c.want)
		}
	}
	h, err := ReadHeader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	h.SealedKey = h.SealedKey[:len(h.SealedKey)-1]
	b, err := prefix(h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Read(bytes.NewReader(b), first); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a key that is cut: error is %v; want ErrCorrupt", err)
	}
}

func TestAPrefixBeyondTheFileIsTorn(t *testing.T) {
	got, err := Prefixes(strings.NewReader("abc"), 1, 5)
	if !errors.Is(err, ErrTorn) || len(got) != 2 || got[1].Size != 3 {
		t.Errorf("hashes are %+v, %v; want those of 1 and 3 bytes and ErrTorn", got, err)
	}
}
