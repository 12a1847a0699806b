package audit

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// collected is what Options.Written was told.
type collected struct {
	t     *testing.T
	next  int64
	lines []byte
}

func (c *collected) written(first int64, lines []byte) {
	if first != c.next || !bytes.HasSuffix(lines, []byte("\n")) {
		c.t.Errorf("lines from event %d on were handed on where %d comes next: %.80q", first, c.next, lines)
	}
	c.next = first + int64(bytes.Count(lines, []byte("\n")))
	c.lines = append(c.lines, lines...)
}

// mustHaveAll holds what was handed on to what the log in dir holds.
func (c *collected) mustHaveAll(dir string) {
	c.t.Helper()
	var want []byte
	for _, r := range all(c.t, dir) {
		want = append(append(want, r.Line...), '\n')
	}
	if !bytes.Equal(c.lines, want) {
		c.t.Errorf("%d bytes were handed on, the log has %d", len(c.lines), len(want))
	}
}

func TestEachLineIsHandedOnOnceAndInOrder(t *testing.T) {
	dir := t.TempDir()
	c := &collected{t: t}
	o := Options{Dir: dir, SegmentSize: 6000, Written: c.written}
	l := mustOpen(t, o)
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for i := range 20 {
				mustAppend(t, l, numbered(100*w+i), numbered(100*w+i+50))
			}
		})
	}
	writers.Wait()
	l.Note(numbered(1000))
	mustClose(t, l)
	c.mustHaveAll(dir)
	put(t, dir, "x", nil)
	segments, err := listSegments(dir)
	if err != nil {
		t.Fatal(err)
	}
	appendTo(t, segments[len(segments)-1].path, `{"torn`)
	l = mustOpen(t, o) // writes down what it cut off
	mustClose(t, l)
	c.mustHaveAll(dir)
	if !bytes.Contains(c.lines, []byte(`"event_code":"log.recovered"`)) || !bytes.Contains(c.lines, []byte(`"event_code":"log.rotate"`)) {
		t.Error("the log's own events were not handed on")
	}
}

func TestOnlyLinesThatAreDurableAreHandedOn(t *testing.T) {
	for _, failing := range []int32{1, 2} { // syncs: one is rescued, two are for good
		dir := t.TempDir()
		c := &collected{t: t}
		disk := &faultyDisk{}
		l := mustOpen(t, Options{Dir: dir, open: disk.open, Written: c.written})
		mustAppend(t, l, numbered(0), numbered(1))
		disk.failSyncs(failing)
		if err := l.Append(t.Context(), numbered(2)); (err == nil) != (failing == 1) {
			t.Fatalf("%d syncs fail: %v", failing, err)
		}
		if failing == 2 {
			if bytes.Contains(c.lines, []byte(`"message":"2"`)) || c.next != 2 {
				t.Errorf("%d lines were handed on", c.next)
			}
			continue
		}
		mustAppend(t, l, numbered(3))
		mustClose(t, l)
		c.mustHaveAll(dir)
		if got := bytes.Count(c.lines, []byte(`"message":"2"`)); got != 1 {
			t.Errorf("the line that was rescued was handed on %d times", got)
		}
	}
}

func TestWhatIsNotArchivedIsNotRemoved(t *testing.T) {
	dir := t.TempDir()
	archived := map[int64]bool{}
	l := mustOpen(t, Options{Dir: dir, SegmentSize: 3000, Retention: 24 * time.Hour, Archived: func(first int64) bool { return archived[first] }})
	for n := range 20 {
		mustAppend(t, l, numbered(n))
	}
	mustSign(t, l)
	before, err := Segments(dir)
	if err != nil || len(before) < 4 {
		t.Fatalf("%d segments, %v", len(before), err)
	}
	expired := func() int {
		l.expire(t.Context(), time.Now().Add(25*time.Hour))
		after, err := listSegments(dir)
		if err != nil {
			t.Fatal(err)
		}
		return int(slices.IndexFunc(before, func(s Segment) bool { return s.First == after[0].first }))
	}
	if n := expired(); n != 0 {
		t.Errorf("%d were removed, none is archived", n)
	}
	archived[before[1].First], archived[before[2].First] = true, true
	if n := expired(); n != 0 {
		t.Errorf("%d were removed, the oldest is not archived", n)
	}
	archived[before[0].First] = true
	if n := expired(); n != 3 {
		t.Errorf("%d were removed, three are archived", n)
	}
	mustClose(t, l)
}

func TestTheClosedSegmentsAreWhatTheLogHolds(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir, SegmentSize: 3000, Origin: anchoredHost})
	if origin, size, err := Origin(dir); origin != l.Origin() || size != 0 || err != nil {
		t.Errorf("the log is %s with %d events, %v", origin, size, err)
	}
	for n := range 12 {
		mustAppend(t, l, numbered(n))
	}
	if closed, err := Segments(dir); len(closed) != 0 || err != nil {
		t.Errorf("%v are signed, %v", closed, err)
	}
	c := mustSign(t, l)
	closed, err := Segments(dir)
	if err != nil || len(closed) < 3 {
		t.Fatalf("%v, %v", closed, err)
	}
	if origin, size, err := Origin(dir); origin != c.Origin || size != c.Size || err != nil {
		t.Errorf("the log is %s with %d events, %v", origin, size, err)
	}
	hashes := snapshot(t, dir)[hashesFile]
	next, at := int64(0), int64(0)
	for _, s := range closed {
		data, err := os.ReadFile(s.Path)
		if err != nil || int64(len(data)) != s.Size || s.First != next || time.Since(s.Closed) > time.Minute {
			t.Errorf("%+v: %d bytes, %v", s, len(data), err)
		}
		var made []byte
		tree, err := loadTree(s.First, openFileOf(t, dir, hashesFile))
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(data) {
			made = tree.append(made, bytes.TrimSuffix(line, []byte("\n")))
			next++
		}
		offset, size := s.HashRange()
		if next != s.End || offset != at || !bytes.Equal(hashes[offset:offset+size], made) {
			t.Errorf("%+v has hashes from %d on, %d bytes", s, offset, size)
		}
		at += size
	}
	if l.current.first < next || next >= c.Size {
		t.Errorf("the segments end before event %d; that of %d is open, and %d are signed", next, l.current.first, c.Size)
	}
	mustClose(t, l)
}

func openFileOf(t *testing.T, dir, name string) *os.File {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestAFolderWithoutALogHasNoSegments(t *testing.T) {
	dir := t.TempDir()
	closed, err := Segments(dir)
	origin, size, err2 := Origin(dir)
	if closed != nil || origin != "" || size != 0 || errors.Join(err, err2) != nil {
		t.Errorf("%v, %v, %s, %d, %v", closed, err, origin, size, err2)
	}
	put(t, dir, checkpointFile, []byte("no checkpoint"))
	if _, _, err := Origin(dir); err == nil {
		t.Error("any text is a checkpoint")
	}
	if _, err := Segments(dir); err == nil {
		t.Error("there are segments under no checkpoint")
	}
}

func TestWhatAFailedWriteLeftIsNotOfASegment(t *testing.T) {
	dir := t.TempDir()
	disk := &faultyDisk{}
	l := mustOpen(t, Options{Dir: dir, open: disk.open})
	mustAppend(t, l, numbered(0), numbered(1))
	disk.truncates.Store(true)
	disk.failSyncs(1)
	mustAppend(t, l, numbered(2))
	mustSign(t, l)
	closed, err := Segments(dir)
	if err != nil || len(closed) != 1 || closed[0].End != 2 {
		t.Fatalf("%+v, %v", closed, err)
	}
	data, err := os.ReadFile(closed[0].Path)
	if err != nil || int64(len(data)) <= closed[0].Size || bytes.Count(data[:closed[0].Size], []byte("\n")) != 2 {
		t.Errorf("%d of %d bytes, %v", closed[0].Size, len(data), err)
	}
	mustClose(t, l)
}

func TestASegmentThatIsNotWholeIsLeftOut(t *testing.T) {
	dir, _ := anchoredLog(t)
	whole, err := Segments(dir)
	if err != nil || len(whole) < 3 {
		t.Fatalf("%d, %v", len(whole), err)
	}
	if err := os.Chmod(whole[1].Path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(whole[1].Path, whole[1].Size-7); err != nil {
		t.Fatal(err)
	}
	rest, err := Segments(dir)
	if !errors.Is(err, ErrDamaged) || len(rest) != len(whole)-1 || rest[0] != whole[0] || rest[1] != whole[2] {
		t.Errorf("%+v, %v", rest, err)
	}
}

func TestSegmentsThatCannotBeReadAreAnError(t *testing.T) {
	dir, _ := anchoredLog(t)
	if err := os.Remove(filepath.Join(dir, segmentName(0))); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, segmentName(0)), 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := Segments(dir); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("Segments returned %v", err)
	}
}

// restored is what an archive gives back of a log: the segments from first on
// and before last, hashes, keys and anchors.
func restored(t *testing.T, from string, anchors [][]byte, first, last int) *crafted {
	t.Helper()
	closed, err := Segments(from)
	if err != nil || len(closed) < 4 {
		t.Fatalf("%d segments, %v", len(closed), err)
	}
	disk := snapshot(t, from)
	back := files{keysFile: disk[keysFile]}
	for i, s := range closed {
		offset, size := s.HashRange()
		back[hashesFile] = append(back[hashesFile], disk[hashesFile][offset:offset+size]...)
		if first <= i && i < last {
			back[filepath.Base(s.Path)] = disk[filepath.Base(s.Path)]
		}
	}
	c := &crafted{dir: filepath.Join(quickDir(t), "audit"), vkey: strings.TrimSpace(string(disk[keysFile])), partial: true}
	keys, err := ParseKeys(disk[keysFile])
	if err != nil {
		t.Fatal(err)
	}
	c.key = keys[0]
	back.put(t, c.dir)
	if err := WriteCheckpoints(c.dir, anchors); err != nil {
		t.Fatal(err)
	}
	return c
}

// everySigned is a log of many segments, and an anchor after each event.
func everySigned(t *testing.T) (dir string, anchors [][]byte) {
	t.Helper()
	dir = filepath.Join(quickDir(t), "log")
	l := mustOpen(t, Options{Dir: dir, Origin: anchoredHost, SegmentSize: 3000})
	for n := range 16 {
		mustAppend(t, l, numbered(n))
		mustSign(t, l)
		anchors = append(anchors, snapshot(t, dir)[checkpointFile])
	}
	mustClose(t, l)
	slices.Reverse(anchors) // whatever the order
	return dir, anchors
}

func TestALogThatComesBackFromTheArchiveIsOne(t *testing.T) {
	dir, anchors := everySigned(t)
	other := startOtherVerifier(t)
	closed, err := Segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := len(closed)
	for name, part := range map[string]struct{ first, last int }{"all": {0, n}, "the end": {2, n}, "the middle": {1, 3}, "the beginning": {0, 2}} {
		t.Run(name, func(t *testing.T) {
			c := restored(t, dir, anchors, part.first, part.last)
			r := c.mustBeFine(t)
			if got := other.mustAgree(t, c, name); got != 0 {
				t.Errorf("the other verifier says %d", got)
			}
			if r.First != closed[part.first].First || r.Events != closed[part.last-1].End-r.First {
				t.Errorf("%+v", r)
			}
			if part.first == 0 && part.last == n {
				c.partial = false // it is a log like any other
				if r := c.mustBeFine(t); r.Covered > closed[n-1].End || r.Covered < closed[n-1].End-1 {
					t.Errorf("%d events are covered of %d", r.Covered, closed[n-1].End)
				}
			}
			index := closed[part.first].First + 1
			p, line, err := Prove(c.dir, index)
			if err != nil || line == nil {
				t.Fatal(err)
			}
			if proven, err := VerifyProof([]byte(p.String()), line, c.options().Keys); err != nil || proven.Record.Index != index {
				t.Errorf("the proof of event %d: %v", index, err)
			}
			if found := strings.Count(searched(t, c.dir, Search{}), "\n"); int64(found) != r.Events {
				t.Errorf("a query finds %d of %d events", found, r.Events)
			}
		})
	}
}

func TestAnEditOfWhatCameBackIsFound(t *testing.T) {
	dir, anchors := everySigned(t)
	c := restored(t, dir, anchors, 1, 3)
	closed, err := Segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	disk := snapshot(t, c.dir)
	name := filepath.Base(closed[1].Path)
	for _, edit := range []struct {
		file string
		at   int
		kind string
	}{{name, 40, KindEvent}, {hashesFile, 5, KindHashes}, {hashesFile, len(disk[hashesFile]) - 5, KindHashes}, {checkpointsFile, 200, KindCheckpoint}} {
		data := bytes.Clone(disk[edit.file])
		data[edit.at] ^= 1
		disk.with(files{edit.file: data}).put(t, c.dir)
		if r := c.verify(t); r.Fine() {
			t.Errorf("byte %d of %s was changed, and nothing is wrong", edit.at, edit.file)
		}
	}
	disk.put(t, c.dir)
	c.partial = false
	if r := c.verify(t); r.Fine() || r.Findings[0].Kind != KindMissing {
		t.Errorf("segments are missing from a log that should be whole, found\n%s", findings(r))
	}
}

func TestWithoutTheHashesOfWhatIsMissingNothingIsDecided(t *testing.T) {
	dir, anchors := everySigned(t)
	other := startOtherVerifier(t)
	c := restored(t, dir, anchors, 2, 4)
	disk := snapshot(t, c.dir)
	hole := bytes.Clone(disk[hashesFile])
	copy(hole[3*hashSize:6*hashSize], make([]byte, 3*hashSize))
	for name, hashes := range map[string][]byte{"none": nil, "empty": {}, "short": disk[hashesFile][:5*hashSize+3], "with a hole": hole} {
		disk.with(files{hashesFile: hashes}).put(t, c.dir)
		r, err := Verify(t.Context(), c.options())
		if !errors.Is(err, ErrUndecided) || !r.Fine() || !strings.Contains(err.Error(), "no hash of event") {
			t.Errorf("%s: %v\n%s", name, err, findings(r))
		}
		if got := other.mustAgree(t, c, name); got != 2 {
			t.Errorf("%s: %d", name, got)
		}
		if p, line, err := Prove(c.dir, r.First); err == nil { // its hashes may be there
			if _, err := VerifyProof([]byte(p.String()), line, c.options().Keys); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestWhatIsNoAnchorMakesNoCheckpoints(t *testing.T) {
	dir, anchors := everySigned(t)
	other := anchorOf(t, Checkpoint{Origin: originOf("gate2", "ab", 1), Root: emptyRoot}, testKey(1))
	late := anchorOf(t, Checkpoint{Origin: strings.SplitN(string(anchors[0]), "\n", 2)[0], Size: 1000}, testKey(1))
	for name, list := range map[string][][]byte{
		"nothing":       nil,
		"no text":       {[]byte("x")},
		"two in one":    {slices.Concat(anchors[0], []byte("\n"), anchors[1])},
		"two logs":      {anchors[0], other},
		"a torn one":    {anchors[0][:len(anchors[0])-1]},
		"all too large": {late},
	} {
		to := filepath.Join(t.TempDir(), "log")
		snapshot(t, dir).with(files{checkpointFile: nil, checkpointsFile: nil}).put(t, to)
		if err := WriteCheckpoints(to, list); err == nil || len(snapshot(t, to)[checkpointFile]) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := WriteCheckpoints(t.TempDir(), anchors); err == nil {
		t.Error("checkpoints were written beside no hashes")
	}
}
