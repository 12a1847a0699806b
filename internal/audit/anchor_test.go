package audit

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// anchorOf signs a checkpoint as the archive would hold it.
func anchorOf(t testing.TB, c Checkpoint, key crypto.Signer) []byte {
	t.Helper()
	signer, err := newKeySigner(c.Origin, key)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: c.String()}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func events(t testing.TB, signed []byte) int64 {
	t.Helper()
	c, err := parseSigned(signed)
	if err != nil {
		t.Fatal(err)
	}
	return c.Size
}

const anchoredHost = "gate1.example.com"

// anchoredLog is a closed log in several segments, and the three anchors that
// were made on the way.
func anchoredLog(t testing.TB) (dir string, anchors [][]byte) {
	t.Helper()
	dir = filepath.Join(quickDir(t), "log")
	l := mustOpen(t, Options{Dir: dir, Origin: anchoredHost, SegmentSize: 3000})
	for n := range 12 {
		mustAppend(t, l, numbered(n))
		if n%4 == 3 {
			mustSign(t, l)
			anchors = append(anchors, snapshot(t, dir)[checkpointFile])
		}
	}
	mustClose(t, l)
	return dir, anchors
}

func opened(dir string, anchors ...[]byte) error {
	l, err := Open(Options{Dir: dir, MinFree: 1, Key: testKey(1), Origin: anchoredHost, Anchors: anchors})
	if err == nil {
		err = l.Close()
	}
	return err
}

// mustBeRolledBack holds Open to refusing dir, changing nothing, and saying what
// it found.
func mustBeRolledBack(t *testing.T, dir string, anchor []byte, says ...string) {
	t.Helper()
	before := snapshot(t, dir)
	err := opened(dir, anchor)
	if !errors.Is(err, ErrRolledBack) || !errors.Is(err, ErrDamaged) {
		t.Fatalf("Open returned %v", err)
	}
	for _, say := range append(says, dir, "serve --new-epoch --reason") {
		if !strings.Contains(err.Error(), say) {
			t.Errorf("%v does not say %s", err, say)
		}
	}
	after := snapshot(t, dir)
	if len(after) != len(before) {
		t.Errorf("there are %d files, were %d", len(after), len(before))
	}
	for name := range before {
		if !bytes.Equal(after[name], before[name]) {
			t.Errorf("%s was changed", name)
		}
	}
}

func TestALogThatMakesItsAnchorsIsOpened(t *testing.T) {
	dir, anchors := anchoredLog(t)
	if err := opened(dir, anchors...); err != nil {
		t.Error(err)
	}
	mustProve(t, dir)
}

func TestAnOlderCopyIsRefused(t *testing.T) {
	dir := filepath.Join(quickDir(t), "log")
	l := mustOpen(t, Options{Dir: dir, Origin: anchoredHost})
	mustAppend(t, l, numbered(0), numbered(1))
	mustSign(t, l)
	old := snapshot(t, dir)
	mustAppend(t, l, numbered(2))
	mustSign(t, l)
	anchor := snapshot(t, dir)[checkpointFile]
	mustClose(t, l)
	old.put(t, dir)
	mustBeRolledBack(t, dir, anchor, "has 2 events", "is of 3", "older copy")
	// One event more, but another one: as long as the anchor, and not it.
	l = mustOpen(t, Options{Dir: dir, Origin: anchoredHost})
	mustAppend(t, l, numbered(7))
	mustClose(t, l)
	mustBeRolledBack(t, dir, anchor, "has 3 events", "first 3 of them")
}

func TestAnAnchorInTheMiddleMustBeMade(t *testing.T) {
	dir, anchors := anchoredLog(t)
	c, err := parseSigned(anchors[1])
	if err != nil {
		t.Fatal(err)
	}
	c.Root[0] ^= 1
	mustBeRolledBack(t, dir, anchorOf(t, c, testKey(1)), fmt.Sprintf("has %d events", events(t, anchors[2])), fmt.Sprintf("first %d of them", c.Size))
}

func TestAnAnchorIsComparedWithLinesWhereHashesAreWrong(t *testing.T) {
	dir, anchors := anchoredLog(t)
	hashes := snapshot(t, dir)[hashesFile]
	hashes[6*hashSize] ^= 1 // the node over the first four
	put(t, dir, hashesFile, hashes)
	l := mustOpen(t, Options{Dir: dir, Origin: anchoredHost})
	if err := l.CheckAnchor(anchors[0]); err != nil {
		t.Errorf("of a log that is open: %v", err)
	}
	mustClose(t, l)
	if err := opened(dir, anchors...); err != nil {
		t.Error(err)
	}
	mustProve(t, dir) // they were made again
}

func TestAnEmptyDirectoryIsNotTheLogThatWasAnchored(t *testing.T) {
	_, anchors := anchoredLog(t)
	dir := t.TempDir()
	mustBeRolledBack(t, dir, anchors[1], "no log of it", fmt.Sprintf("%d events", events(t, anchors[1])))
	unsigned, err := Open(Options{Dir: dir, MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, unsigned, numbered(0))
	mustClose(t, unsigned)
	mustBeRolledBack(t, dir, anchors[1], "no log of it")
}

func TestAnchorsOfOtherEpochsInstancesAndHosts(t *testing.T) {
	dir := filepath.Join(quickDir(t), "log")
	mustClose(t, mustOpen(t, Options{Dir: dir, Origin: anchoredHost}))
	l := mustOpen(t, Options{Dir: dir, Origin: anchoredHost, NewEpoch: "second"})
	_, instance, epoch, err := splitOrigin(l.Origin())
	if err != nil || epoch != 2 {
		t.Fatalf("%s, %v", l.Origin(), err)
	}
	mustClose(t, l)
	const other = "00112233aabbccdd"
	for _, c := range []struct {
		origin string
		key    crypto.Signer
		bad    bool
	}{
		{originOf(anchoredHost, instance, 1), testKey(1), false},
		{originOf(anchoredHost, instance, 3), testKey(1), true},
		{originOf(anchoredHost, instance, 3), testKey(2), false}, // of a stranger
		{originOf(anchoredHost, other, 1), testKey(1), false},    // an operator has begun an epoch since
		{originOf(anchoredHost, other, 2), testKey(1), true},
		{originOf("gate2.example.com", other, 9), testKey(1), false}, // another host with the key
		{originOf("gate2.example.com", instance, 3), testKey(1), true},
		{"something/else", testKey(1), false},
	} {
		signed := anchorOf(t, Checkpoint{Origin: c.origin, Size: 500}, c.key)
		if c.bad {
			mustBeRolledBack(t, dir, signed, "500 events")
		} else if err := opened(dir, signed); err != nil {
			t.Errorf("%s: %v", c.origin, err)
		}
		l := mustOpen(t, Options{Dir: dir, Origin: anchoredHost})
		if err := l.CheckAnchor(signed); errors.Is(err, ErrRolledBack) != c.bad {
			t.Errorf("%s: CheckAnchor returned %v", c.origin, err)
		}
		mustClose(t, l)
	}
	for _, junk := range []string{"", "x", "a\n1\nAA==\n\n"} {
		if err := opened(dir, []byte(junk)); err != nil {
			t.Errorf("%q: %v", junk, err)
		}
	}
}

func TestAnchorsByEveryKeyOfTheLogCount(t *testing.T) {
	dir, anchors := anchoredLog(t)
	ahead := anchorOf(t, Checkpoint{Origin: strings.SplitN(string(anchors[0]), "\n", 2)[0], Size: 99}, testKey(1))
	changed := Options{Dir: dir, MinFree: 1, Key: testKey(2), Origin: anchoredHost}
	mustClose(t, mustOpen(t, changed)) // the key changes, and audit.vkey lists both
	changed.Anchors = [][]byte{ahead}
	if l, err := Open(changed); !errors.Is(err, ErrRolledBack) {
		l.Close()
		t.Errorf("Open returned %v", err)
	}
	fresh := Options{Dir: t.TempDir(), MinFree: 1, Key: testKey(2), OldKey: testKey(1), Origin: anchoredHost, Anchors: [][]byte{ahead}}
	if l, err := Open(fresh); !errors.Is(err, ErrRolledBack) {
		l.Close()
		t.Errorf("with OldKey alone: Open returned %v", err)
	}
}

func TestAnOpenLogIsComparedWithAnAnchor(t *testing.T) {
	dir, anchors := anchoredLog(t)
	l := mustOpen(t, Options{Dir: dir, Origin: anchoredHost})
	mustAppend(t, l, numbered(12), numbered(13)) // not signed yet
	for _, a := range anchors {
		if err := l.CheckAnchor(a); err != nil {
			t.Error(err)
		}
	}
	copied := filepath.Join(quickDir(t), "log") // a second host that goes on from the same disk
	snapshot(t, dir).put(t, copied)
	second := mustOpen(t, Options{Dir: copied, Origin: anchoredHost})
	mustAppend(t, second, numbered(77))
	mustSign(t, second)
	theirs := snapshot(t, copied)[checkpointFile]
	if err := l.CheckAnchor(theirs); !errors.Is(err, ErrRolledBack) || !strings.Contains(err.Error(), fmt.Sprintf("is of %d", events(t, theirs))) {
		t.Errorf("an anchor that is ahead: %v", err)
	}
	mustAppend(t, l, numbered(14))
	if err := l.CheckAnchor(theirs); !errors.Is(err, ErrRolledBack) || !strings.Contains(err.Error(), fmt.Sprintf("first %d of them", events(t, theirs))) {
		t.Errorf("an anchor of other events: %v", err)
	}
	mustAppend(t, l, numbered(15)) // it goes on
	if err := os.Remove(filepath.Join(dir, hashesFile)); err != nil {
		t.Fatal(err)
	}
	if err := l.CheckAnchor(anchors[0]); err == nil || errors.Is(err, ErrRolledBack) {
		t.Errorf("without hashes: %v", err)
	}
	unsigned, err := Open(Options{Dir: t.TempDir(), MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer unsigned.Close()
	if err := unsigned.CheckAnchor(anchors[0]); err != nil {
		t.Errorf("of a log that is not signed: %v", err)
	}
}

func TestANewEpochGoesOnFromTheNewestAnchor(t *testing.T) {
	whole, anchors := anchoredLog(t)
	_, instance, _, err := splitOrigin(strings.SplitN(string(anchors[0]), "\n", 2)[0])
	if err != nil {
		t.Fatal(err)
	}
	later := anchorOf(t, Checkpoint{Origin: originOf(anchoredHost, instance, 4), Size: 70}, testKey(1))
	older := func(dir string) {
		l := mustOpen(t, Options{Dir: dir, Origin: anchoredHost})
		mustAppend(t, l, numbered(0))
		mustClose(t, l)
	}
	same := func(dir string) { snapshot(t, whole).put(t, dir) }
	nothing := func(string) {}
	for name, c := range map[string]struct {
		make    func(dir string)
		anchors [][]byte
		epoch   int64  // of the new log
		ended   []byte // nil = what was put aside
	}{
		"nothing is here":              {nothing, anchors, 2, anchors[2]},
		"another instance is here":     {older, anchors, 2, anchors[2]},
		"the anchors are behind":       {same, anchors[:2], 2, nil},
		"the anchors are up to it":     {same, anchors, 2, nil},
		"a later epoch is anchored":    {same, [][]byte{later, anchors[0]}, 5, later},
		"a stranger's anchor is ahead": {same, [][]byte{anchorOf(t, Checkpoint{Origin: originOf(anchoredHost, instance, 9), Size: 7}, testKey(3))}, 2, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(quickDir(t), "log")
			c.make(dir)
			l := mustOpen(t, Options{Dir: dir, Origin: anchoredHost, Anchors: c.anchors, NewEpoch: "the disk was lost"})
			if want := originOf(anchoredHost, instance, c.epoch); l.Origin() != want {
				t.Errorf("the epoch is %s, want %s", l.Origin(), want)
			}
			mustClose(t, l)
			if err := opened(dir, c.anchors...); err != nil {
				t.Errorf("the next start: %v", err)
			}
			if c.ended == nil {
				c.ended = snapshot(t, filepath.Join(dir, epochPrefix+"1"))[checkpointFile]
			}
			mustProve(t, dir)
			e := decode(t, append(all(t, dir)[0].Line, '\n'))
			if at(e, "metadata", "event_code") != string(LogEpoch) || at(e, "unmapped", "postern", "ended_checkpoint") != string(c.ended) {
				t.Errorf("the first event is %v", e)
			}
			if again := mustOpen(t, Options{Dir: dir, Origin: anchoredHost, Anchors: c.anchors, NewEpoch: "again"}); again.Origin() != originOf(anchoredHost, instance, c.epoch+1) {
				t.Errorf("the epoch after it is %s", again.Origin())
			}
		})
	}
}
