package record

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"testing"

	"filippo.io/age"
)

// small returns the file of a recording of three blocks, and where its blocks
// begin.
func small(t testing.TB, o Options) (file []byte, blocks []Block) {
	t.Helper()
	w := create(t, open(t, o), Events{})
	for _, text := range []string{"first", "second second second second second", "third"} {
		write(t, w, Stdout, []byte(text))
		write(t, w, Stderr, []byte("!"))
		w.flushDue()
	}
	file = fileBytes(t, finished(t, w).Path)
	blocks, err := Index(bytes.NewReader(file))
	if err != nil || len(blocks) != 3 {
		t.Fatalf("the index has %d blocks, %v; want 3", len(blocks), err)
	}
	return file, blocks
}

// bothWays runs f for a recording in clear and a sealed one.
func bothWays(t *testing.T, f func(t *testing.T, o Options, ids ...age.Identity)) {
	t.Run("plain", func(t *testing.T) { f(t, Options{}) })
	t.Run("sealed", func(t *testing.T) {
		id := identity(t)
		f(t, Options{Recipients: []age.Recipient{id.Recipient()}, Names: []string{"security"}}, id)
	})
}

func TestARecordingThatIsCutAnywhereGivesAllItsWholeBlocks(t *testing.T) {
	bothWays(t, func(t *testing.T, o Options, ids ...age.Identity) {
		file, blocks := small(t, o)
		for cut := range len(file) {
			got, err := readAll(bytes.NewReader(file[:cut]), ids...)
			if err == nil || cut > 0 && !errors.Is(err, ErrTorn) {
				t.Fatalf("cut at %d: error is %v; want ErrTorn", cut, err)
			}
			whole := 0
			for i := range blocks {
				if i+1 < len(blocks) && int64(cut) >= blocks[i+1].Offset {
					whole = i + 1
				}
			}
			if cut >= len(file)-endSize(o) {
				whole = 3
			}
			if len(got[Stderr]) != whole {
				t.Fatalf("cut at %d: %d blocks were delivered; %d are whole", cut, len(got[Stderr]), whole)
			}
		}
	})
}

func endSize(o Options) int {
	n := blockHeaderLen + endPayloadLen
	if len(o.Recipients) > 0 {
		n += tagLen
	}
	return n
}

func TestAByteThatChangedIsDetected(t *testing.T) {
	bothWays(t, func(t *testing.T, o Options, ids ...age.Identity) {
		file, _ := small(t, o)
		for i := range file {
			bad := bytes.Clone(file)
			bad[i] ^= 0x20
			_, err := readAll(bytes.NewReader(bad), ids...)
			if err == nil || errors.Is(err, ErrTorn) {
				t.Errorf("byte %d changed: error is %v", i, err)
			}
		}
	})
}

// forge makes the checksums of the block at an offset right again.
func forge(file []byte, at int64) {
	b := file[at:]
	finish(b[:blockHeaderLen+int(binary.LittleEndian.Uint32(b[4:]))])
}

func TestWhoMendsTheChecksumsStillCannotChangeASealedRecording(t *testing.T) {
	id := identity(t)
	file, blocks := small(t, Options{Recipients: []age.Recipient{id.Recipient()}})
	end := int64(len(file) - blockHeaderLen - endPayloadLen - tagLen)
	second, third := blocks[1].Offset, blocks[2].Offset
	attacks := map[string][]byte{
		"a block is dropped":      append(bytes.Clone(file[:second]), file[third:]...),
		"blocks are swapped":      append(append(append(bytes.Clone(file[:second]), file[third:end]...), file[second:third]...), file[end:]...),
		"the last block is gone":  append(bytes.Clone(file[:third]), file[end:]...),
		"a block is played twice": append(bytes.Clone(file[:third]), file[second:]...),
	}
	for what, at := range map[string]int64{"a payload byte": second + blockHeaderLen + 3, "a time": third + 24, "a record count": second + 12, "the totals": end + blockHeaderLen + 40} {
		bad := bytes.Clone(file)
		bad[at]++
		for _, b := range []int64{second, third, end} {
			forge(bad, b)
		}
		attacks[what+" is changed"] = bad
	}
	for what, bad := range attacks {
		if _, err := readAll(bytes.NewReader(bad), id); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error is %v; want ErrCorrupt", what, err)
		}
	}
}

func TestASealedRecordingIsTiedToItsHeader(t *testing.T) {
	id := identity(t)
	file, blocks := small(t, Options{Recipients: []age.Recipient{id.Recipient()}})
	begin := blocks[0].Offset
	bad := bytes.Replace(bytes.Clone(file[:begin]), []byte(`"alice"`), []byte(`"mallo"`), 1)
	finish(bad[len(magic):])
	if _, err := readAll(bytes.NewReader(append(bad, file[begin:]...)), id); !errors.Is(err, ErrCorrupt) {
		t.Errorf("another identity in the header: error is %v; want ErrCorrupt", err)
	}
}

func TestABlockThatIsMissingShowsInTheTotals(t *testing.T) {
	file, blocks := small(t, Options{})
	bad := append(bytes.Clone(file[:blocks[1].Offset]), file[blocks[2].Offset:]...)
	if _, err := readAll(bytes.NewReader(bad)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("error is %v; want ErrCorrupt", err)
	}
}

func TestWhatIsNoRecordingIsToldApart(t *testing.T) {
	newer := []byte(magic)
	newer[len(newer)-1]++
	for name, c := range map[string]struct {
		file []byte
		want error
	}{
		"empty":         {nil, ErrNotRecording},
		"text":          {[]byte("{\"version\": 2, \"width\": 80}\n"), ErrNotRecording},
		"newer":         {append(newer, make([]byte, 100)...), ErrVersion},
		"nothing after": {[]byte(magic), ErrTorn},
		"zeros after":   {append([]byte(magic), make([]byte, 100)...), ErrCorrupt},
	} {
		if _, err := Read(bytes.NewReader(c.file)); !errors.Is(err, c.want) {
			t.Errorf("%s: error is %v; want %v", name, err, c.want)
		}
	}
}

// FuzzRead reads whatever it is given. Checksums are mended first, so that the
// fuzzer gets past them.
func FuzzRead(f *testing.F) {
	s, err := Open(Options{Dir: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	w, err := s.Create(testHeader, Events{})
	if err != nil {
		f.Fatal(err)
	}
	for range 3 {
		write(f, w, Stdout, bytes.Repeat([]byte("all work and no play"), 100))
		w.flushDue()
	}
	write(f, w, Resize, AppendSize(nil, 1, math.MaxUint32))
	file := fileBytes(f, finished(f, w).Path)
	f.Add(file, true)
	f.Add(file[:len(file)-1], false)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		if mend {
			mendAll(b)
		}
		r, err := Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		defer r.Close()
		var last Record
		for rec, err := range r.Records() {
			if err != nil {
				break
			}
			if rec.At < last.At || len(rec.Data) > maxRecord {
				t.Fatalf("record of %d bytes at %v after %v", len(rec.Data), rec.At, last.At)
			}
			last = rec
		}
		if _, err := r.Next(); err == nil || cap(r.stored)+cap(r.plain) > 2*(maxStored+maxPayload) {
			t.Fatalf("after the end Next gives %v; the reader holds %d bytes", err, cap(r.stored)+cap(r.plain))
		}
		blocks, _ := Index(bytes.NewReader(b))
		if len(blocks) > len(b)/blockHeaderLen {
			t.Fatalf("%d blocks in %d bytes", len(blocks), len(b))
		}
	})
}

func mendAll(b []byte) {
	for at := len(magic); at+blockHeaderLen <= len(b); {
		n := int(binary.LittleEndian.Uint32(b[at+4:]))
		if n > len(b)-at-blockHeaderLen {
			return
		}
		finish(b[at : at+blockHeaderLen+n])
		at += blockHeaderLen + n
	}
}

// forever gives a valid start, and then endless zeros.
type forever struct{ in io.Reader }

func (f forever) Read(p []byte) (int, error) {
	n, err := f.in.Read(p)
	if errors.Is(err, io.EOF) {
		clear(p)
		return len(p), nil
	}
	return n, err
}

func TestAFileThatLiesAboutALengthIsRefusedBeforeItIsRead(t *testing.T) {
	file, blocks := small(t, Options{})
	bad := bytes.Clone(file[:blocks[1].Offset+blockHeaderLen])
	for _, field := range []int64{4, 8} {
		binary.LittleEndian.PutUint32(bad[blocks[1].Offset+field:], math.MaxUint32)
		finish(bad[blocks[1].Offset:])
		if _, err := readAll(forever{bytes.NewReader(bad)}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("error is %v; want ErrCorrupt", err)
		}
	}
}

func TestReadingStopsWhereItsCallerStops(t *testing.T) {
	file, _ := small(t, Options{})
	r, err := Read(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	for range r.Records() {
		break
	}
	if rec, err := r.Next(); err != nil || rec.Kind != Stderr {
		t.Errorf("the next record is %+v, %v; want the second", rec, err)
	}
	if _, ok := r.End(); ok {
		t.Error("the end is known before it was read")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Follow(ctx, "no such file"); err == nil {
		t.Error("a file that is not there can be followed")
	}
}
