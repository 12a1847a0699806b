package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

func TestALogThatNobodyTouchedIsFine(t *testing.T) {
	c := story(t)
	r := c.mustBeFine(t)
	if len(r.Remarks) > 0 || r.Events != 13 || r.Covered != 13 || r.Checkpoints != 3 || r.Anchors != 3 || r.Recordings != 1 || r.Running != 0 || r.Origin != craftedOrigin {
		t.Errorf("%+v", r)
	}
}

// change is one thing done to a file of the log.
type change struct {
	path string // relative to the directory above the log's
	make func(data []byte) []byte
}

// apply makes the change, verifies, and undoes it.
func (c *crafted) apply(t *testing.T, ch change) (*Report, error) {
	t.Helper()
	path := filepath.Join(filepath.Dir(c.dir), ch.path)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := ch.make(append([]byte(nil), data...))
	if changed == nil {
		err = os.Remove(path)
	} else {
		err = os.WriteFile(path, changed, 0o640)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(path, data, 0o640)
	return Verify(context.Background(), c.options())
}

// files are those whose every byte counts.
func (c *crafted) files(t *testing.T) []string {
	t.Helper()
	var names []string
	root := filepath.Dir(c.dir)
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != keysFile {
			name, _ := filepath.Rel(root, path)
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// located reports whether the first finding names the file that was changed,
// and the event if it is one of a line.
func located(r *Report, path string, line int) bool {
	if r.Fine() {
		return false
	}
	_, name, _ := strings.Cut(path, "/")
	for _, f := range r.Findings {
		if f.File == name && (line == 0 || f.Line == int64(line)) {
			return true
		}
	}
	return false
}

func TestEveryEditOfAByteIsFoundWhereItIs(t *testing.T) {
	c := story(t)
	for _, path := range c.files(t) {
		data, err := os.ReadFile(filepath.Join(filepath.Dir(c.dir), path))
		if err != nil {
			t.Fatal(err)
		}
		line := 1
		for at := range data {
			bit := byte(1) << (at % 8)
			r, err := c.apply(t, change{path: path, make: func(b []byte) []byte { b[at] ^= bit; return b }})
			if err != nil {
				t.Fatalf("%s byte %d: %v", path, at, err)
			}
			want := 0
			if strings.HasSuffix(path, segmentSuffix) {
				want = line
			}
			if !located(r, path, want) && (want > 0 || !found(r, path)) {
				t.Fatalf("%s byte %d (line %d) ^ %#x: found\n%s", path, at, line, bit, findings(r))
			}
			if data[at] == '\n' {
				line++
			}
		}
	}
}

func TestEveryTruncationIsFound(t *testing.T) {
	c := story(t)
	for _, path := range c.files(t) {
		data, err := os.ReadFile(filepath.Join(filepath.Dir(c.dir), path))
		if err != nil {
			t.Fatal(err)
		}
		for size := range data {
			r, err := c.apply(t, change{path: path, make: func(b []byte) []byte { return b[:size] }})
			if err != nil {
				t.Fatalf("%s cut to %d: %v", path, size, err)
			}
			if !found(r, path) {
				t.Fatalf("%s cut to %d bytes: found\n%s", path, size, findings(r))
			}
		}
	}
}

// found is located, where the end of one file may also be missed by the next or
// by what is compared with it.
func found(r *Report, path string) bool {
	_, name, _ := strings.Cut(path, "/")
	if name == checkpointsFile {
		return located(r, path, 0) || located(r, "audit/"+checkpointFile, 0)
	}
	return located(r, path, 0)
}

func TestEveryDeletionAndSwapOfLinesIsFound(t *testing.T) {
	c := story(t)
	for _, path := range c.files(t) {
		data, err := os.ReadFile(filepath.Join(filepath.Dir(c.dir), path))
		if err != nil {
			t.Fatal(err)
		}
		units := strings.SplitAfter(string(data), "\n")
		if filepath.Base(path) == hashesFile {
			units = nil
			for i := 0; i < len(data); i += hashSize {
				units = append(units, string(data[i:i+hashSize]))
			}
		}
		for i := range units {
			if units[i] == "" {
				continue
			}
			without := strings.Join(append(append([]string(nil), units[:i]...), units[i+1:]...), "")
			c.mustNotice(t, path, fmt.Sprintf("without line %d", i+1), without)
			for j := i + 1; j < len(units); j++ {
				swapped := append([]string(nil), units...)
				swapped[i], swapped[j] = swapped[j], swapped[i]
				if text := strings.Join(swapped, ""); text != string(data) {
					c.mustNotice(t, path, fmt.Sprintf("lines %d and %d swapped", i+1, j+1), text)
				}
			}
		}
	}
}

func (c *crafted) mustNotice(t *testing.T, path, what, text string) {
	t.Helper()
	r, err := c.apply(t, change{path: path, make: func([]byte) []byte { return []byte(text) }})
	if err != nil {
		t.Fatalf("%s %s: %v", path, what, err)
	}
	if !found(r, path) {
		t.Fatalf("%s %s: found\n%s", path, what, findings(r))
	}
}

func TestAFileThatIsGoneIsMissed(t *testing.T) {
	c := story(t)
	for _, path := range c.files(t) {
		if strings.HasPrefix(path, "anchors/") {
			continue // one anchor fewer contradicts nothing
		}
		r, err := c.apply(t, change{path: path, make: func([]byte) []byte { return nil }})
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if r.Fine() {
			t.Errorf("%s: found nothing\n%s", path, findings(r))
		}
	}
}

// rewritten is the story with another past, signed by the same key.
func TestAHistoryWrittenAnewContradictsItsAnchors(t *testing.T) {
	c := story(t)
	other := craft(t)
	other.signer, other.key = c.signer, c.key
	other.anchors = filepath.Join(t.TempDir(), "none")
	if err := os.Mkdir(other.anchors, 0o750); err != nil {
		t.Fatal(err)
	}
	for i, line := range c.lines {
		if i == 8 {
			line = strings.Replace(line, "s1", "s2", 1)
		}
		other.line(t, line)
	}
	other.sign(t)
	o := other.options()
	o.Recordings = ""
	o.Anchors = ""
	if r, err := Verify(t.Context(), o); err != nil || !r.Fine() {
		t.Fatalf("without anchors: %v\n%s", err, findings(r))
	}
	o.Anchors = c.anchors
	r, err := Verify(t.Context(), o)
	if err != nil || len(r.Findings) == 0 || r.Findings[0].Kind != KindAnchor || r.Findings[0].File != "00000000000000000009" || r.Findings[0].Index != 5 {
		t.Errorf("%v\n%s", err, findings(r))
	}
}

func TestALogThatWasSetBackIsOlderThanItsAnchor(t *testing.T) {
	c := story(t)
	old := craft(t)
	old.signer, old.key = c.signer, c.key
	for _, line := range c.lines[:5] {
		old.line(t, line)
	}
	old.sign(t)
	o := old.options()
	o.Anchors, o.Recordings = c.anchors, ""
	r, err := Verify(t.Context(), o)
	if err != nil || len(r.Findings) != 2 || r.Findings[0].Kind != KindAnchor || !strings.Contains(r.Findings[0].What, "it was set back") {
		t.Errorf("%v\n%s", err, findings(r))
	}
}

func TestWhatIsNotSignedYetIsSaidAndGuardedByItsHashes(t *testing.T) {
	c := story(t)
	c.event(t, DaemonStart, "", "")
	c.event(t, DaemonHeartbeat, "", "")
	r := c.mustBeFine(t)
	if r.Covered != 13 || r.Events != 15 || len(r.Remarks) != 1 || r.Remarks[0].Kind != KindUncovered {
		t.Errorf("%+v", r)
	}
	segment := segmentName(7)
	text := c.read(t, segment)
	c.write(t, segment, strings.TrimSuffix(text, c.lines[14]+"\n"))
	if r := c.verify(t); r.Fine() || r.Findings[0].Kind != KindMissing || r.Findings[0].Index != 14 {
		t.Errorf("the last is gone: found\n%s", findings(r))
	}
	c.write(t, segment, strings.Replace(text, "u-14", "u-41", 1))
	if r := c.verify(t); r.Fine() || r.Findings[0].Index != 14 {
		t.Errorf("the last was changed: found\n%s", findings(r))
	}
}

func TestALineThatIsBeingWrittenIsNoHarm(t *testing.T) {
	c := story(t)
	c.append(t, c.segment, `{"time":17955`)
	c.append(t, hashesFile, "half")
	c.append(t, checkpointsFile, "gate.exam")
	r := c.mustBeFine(t)
	if len(r.Remarks) != 3 {
		t.Errorf("found\n%s", findings(r))
	}
	for _, f := range r.Remarks {
		if f.Kind != KindUnfinished {
			t.Errorf("found\n%s", findings(r))
		}
	}
}

func TestACrashBetweenTwoFilesIsNoHarm(t *testing.T) {
	c := story(t)
	c.write(t, checkpointFile, c.checkpoints[1])
	if r := c.mustBeFine(t); len(r.Remarks) != 1 || r.Remarks[0].Kind != KindUnfinished || r.Covered != 13 {
		t.Errorf("found\n%s", findings(r))
	}
	c.write(t, checkpointFile, c.checkpoints[0])
	if r := c.verify(t); r.Fine() {
		t.Error("a checkpoint that is two behind passes")
	}
}

func TestOlderSegmentsMayBeGone(t *testing.T) {
	c := story(t)
	if err := os.Remove(filepath.Join(c.dir, segmentName(0))); err != nil {
		t.Fatal(err)
	}
	if r := c.verify(t); r.Fine() || r.Findings[0].Kind != KindMissing || !strings.Contains(r.Findings[0].What, "log.delete") {
		t.Errorf("removed by nobody: found\n%s", findings(r))
	}
	c.event(t, LogDelete, "", `,"unmapped":{"postern":{"first_index":0,"records":7}}`)
	c.sign(t)
	r := c.mustBeFine(t)
	if r.First != 7 || r.Events != 7 || r.Covered != 14 || r.Checkpoints != 4 {
		t.Errorf("%+v", r)
	}
	hashes := []byte(c.read(t, hashesFile))
	hashes[0] ^= 1 // of an event that is gone
	c.write(t, hashesFile, string(hashes))
	if r := c.verify(t); r.Fine() || r.Findings[0].Kind != KindHashes {
		t.Errorf("found\n%s", findings(r))
	}
}

// rekeyed is a log that another key signs from its third event on.
func rekeyed(t testing.TB) (c *crafted, first note.Signer, firstKey note.Verifier) {
	t.Helper()
	c = craft(t)
	c.event(t, DaemonStart, "", "")
	c.sign(t)
	first, firstKey = c.signer, c.key
	c.newKey(t)
	c.append(t, keysFile, c.vkey+"\n")
	c.event(t, LogKey, "", fmt.Sprintf(`,"unmapped":{"postern":{"new_vkey":%q}}`, c.vkey))
	return c, first, firstKey
}

func TestAKeyCountsIfOneThatCountsSignedTheEventThatNamesIt(t *testing.T) {
	for _, givenFirst := range []bool{true, false} {
		c, first, firstKey := rekeyed(t)
		c.sign(t, c.signer, first)
		c.event(t, DaemonStop, "", "")
		c.sign(t)
		if givenFirst {
			c.key = firstKey
		}
		c.mustBeFine(t)
	}
	c, _, firstKey := rekeyed(t)
	c.sign(t) // by the new key alone
	c.mustBeFine(t)
	c.key = firstKey
	if r := c.verify(t); r.Fine() || !strings.Contains(r.Findings[0].What, "did not vouch for") {
		t.Errorf("found\n%s", findings(r))
	}
}

func TestASignatureAddedToACheckpointMakesNoKeyCount(t *testing.T) {
	c := craft(t)
	c.event(t, DaemonStart, "", "")
	first, firstKey := c.signer, c.key
	c.newKey(t) // of whoever took the host, and not the first key
	c.append(t, keysFile, c.vkey+"\n")
	c.sign(t, first, c.signer)
	c.event(t, DaemonHeartbeat, "", "")
	c.sign(t)
	c.key = firstKey
	if r := c.verify(t); r.Fine() || !strings.Contains(r.Findings[0].What, "did not vouch for") {
		t.Errorf("found\n%s", findings(r))
	}
}

func TestACheckpointOfAnotherSizeOrLogIsRefused(t *testing.T) {
	c := story(t)
	all := c.read(t, checkpointsFile)
	for name, text := range map[string]string{
		"an older one at the end": all + c.checkpoints[0] + "\n",
		"of another log": func() string {
			other := *c
			other.origin = "other.example/postern/i-1/1"
			other.newKey(t)
			other.origin, other.dir, other.anchors = c.origin, t.TempDir(), t.TempDir()
			other.checkpoints = nil
			other.sign(t)
			return all + other.checkpoints[0] + "\n"
		}(),
	} {
		c.write(t, checkpointsFile, text)
		if r := c.verify(t); !located(r, "audit/"+checkpointsFile, 0) {
			t.Errorf("%s: found\n%s", name, findings(r))
		}
	}
}

func TestWhatCanNotBeDecidedIsSaidToBe(t *testing.T) {
	undecided := func(name string, o VerifyOptions) {
		t.Helper()
		if r, err := Verify(t.Context(), o); !errors.Is(err, ErrUndecided) {
			t.Errorf("%s: %v\n%s", name, err, findings(r))
		}
	}
	c := story(t)
	undecided("no log", VerifyOptions{Dir: t.TempDir(), Keys: c.options().Keys})
	undecided("no directory", VerifyOptions{Dir: c.dir + "x", Keys: c.options().Keys})
	undecided("no anchors", VerifyOptions{Dir: c.dir, Anchors: t.TempDir()})
	undecided("no directory of recordings", VerifyOptions{Dir: c.dir, Recordings: c.dir + "x"})
	c.write(t, keysFile, "")
	undecided("no key", VerifyOptions{Dir: c.dir})
	unsigned := craft(t)
	unsigned.event(t, DaemonStart, "", "")
	undecided("no checkpoint", unsigned.options())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Verify(ctx, story(t).options()); !errors.Is(err, context.Canceled) {
		t.Errorf("ended early: %v", err)
	}
}

func TestTheKeyBesideTheLogIsTakenWithARemark(t *testing.T) {
	c := story(t)
	o := c.options()
	o.Keys = nil
	r, err := Verify(t.Context(), o)
	if err != nil || !r.Fine() || len(r.Remarks) != 1 || r.Remarks[0].Kind != KindKey {
		t.Errorf("%v\n%s", err, findings(r))
	}
}

func TestVerifyingTellsHowFarItIs(t *testing.T) {
	c := craft(t)
	for range 40 {
		c.event(t, DaemonHeartbeat, "", `,"message":"`+strings.Repeat("x", 100<<10)+`"`)
	}
	c.sign(t)
	var done, total int64
	o := c.options()
	o.Progress = func(d, all int64) { done, total = d, all }
	if r, err := Verify(t.Context(), o); err != nil || !r.Fine() {
		t.Fatal(err, findings(r))
	}
	if size := int64(len(c.read(t, c.segment))); total != size || done < size-1<<20 || done > size {
		t.Errorf("%d of %d, the segment has %d", done, total, size)
	}
}
