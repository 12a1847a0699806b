package archive

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheLedgerSavesAskingAgain(t *testing.T) {
	s := newStore(t)
	s.anchors(3)
	s.file(t, "recordings/large", 9<<20)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.server.Wire.Requests()
	s.reopen(t, s.o)
	if err := s.Flush(t.Context()); err != nil || !s.Holds(anchorKey(2)) {
		t.Errorf("got %v", err)
	}
	if got := s.server.Wire.Requests(); len(got) != 0 {
		t.Errorf("with the ledger: got %q", got)
	}

	if err := os.Remove(s.o.Ledger); err != nil {
		t.Fatal(err)
	}
	s.reopen(t, s.o)
	if s.Holds(anchorKey(2)) {
		t.Error("a lost ledger says yes")
	}
	if err := s.Flush(t.Context()); err != nil || !s.Holds(anchorKey(2)) || !s.Holds("recordings/large") {
		t.Errorf("got %v", err)
	}
	for _, o := range s.objects(t, "", "") {
		if o.Versions != 1 {
			t.Errorf("without the ledger: got %+v", o)
		}
	}
	for _, r := range s.server.Wire.Requests() {
		if strings.Contains(r, "uploads") {
			t.Errorf("a large object was put again: %s", r)
		}
	}
}

func TestAnObjectOfAnotherSizeThanTheLedgersIsAConflict(t *testing.T) {
	s := newStore(t)
	s.file(t, "recordings/a", 100)
	s.items[0].Size = 90
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.items[0].Size = 100
	s.wantReason(t, s.Flush(t.Context()), "conflict")
}

func newLedger(t *testing.T, content string) (*ledger, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := openLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l, path
}

func TestATornLedgerIsCutAnywhereAndGoesOn(t *testing.T) {
	whole := formatLine("checkpoints/1", 12, "sum") + formatLine("a key with spaces", 0, "sum-3")
	for cut := range len(whole) + 1 {
		l, path := newLedger(t, whole[:cut])
		if err := l.add("new", 7, "sum"); err != nil {
			t.Fatal(err)
		}
		again, err := openLedger(path)
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Count(whole[:cut], "\n") + 1
		if size, ok := again.size("new"); !ok || size != 7 || len(again.held) != want {
			t.Errorf("cut at %d: got %v", cut, again.held)
		}
	}
}

func TestLinesThatMakeNoSenseArePassedOver(t *testing.T) {
	l, _ := newLedger(t, "\x00\x00\x00\n\nsum 12\nsum -1 key\nsum x key\n 3 key\nsum 3 \nsum 3 /key\nsum 3 a\x1bkey\nsum 3 good\n")
	if len(l.held) != 1 {
		t.Errorf("got %v", l.held)
	}
}

func TestTheLedgerForgetsWhatNobodyAsksFor(t *testing.T) {
	l, path := newLedger(t, "")
	for i := range int64(spare + 10) {
		l.held[anchorKey(i)] = 1
	}
	for i := range int64(3) {
		if err := l.add(anchorKey(i), 1, "sum"); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.prune(map[string]bool{anchorKey(1): true, "not there": true}); err != nil {
		t.Fatal(err)
	}
	if err := l.add("after", 5, "sum"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	want := formatLine(anchorKey(1), 1, "sum") + formatLine("after", 5, "sum")
	if err != nil || string(got) != want || len(l.held) != 2 {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if err := l.prune(nil); err != nil || len(l.held) != 2 {
		t.Errorf("two keys are no reason to rewrite: %v", err)
	}
}

func TestNothingIsHeldThatTheLedgerCouldNotWrite(t *testing.T) {
	s := newStore(t)
	s.anchors(1)
	if err := os.Mkdir(s.o.Ledger, 0o700); err != nil { // a folder in its place
		t.Fatal(err)
	}
	s.wantReason(t, s.Flush(t.Context()), "file")
	if s.Holds(anchorKey(0)) || s.last().Files != 1 {
		t.Errorf("got %+v", s.last())
	}
	if err := os.Remove(s.o.Ledger); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(t.Context()); err != nil || !s.Holds(anchorKey(0)) {
		t.Errorf("got %v", err)
	}
	if got := s.objects(t, "", ""); len(got) != 1 || got[0].Versions != 1 {
		t.Errorf("got %+v", got)
	}
}

func FuzzLedgerLine(f *testing.F) {
	f.Add("checkpoints/gate/1", int64(12), "sum")
	f.Add("a\nb", int64(-1), "")
	f.Fuzz(func(t *testing.T, key string, size int64, checksum string) {
		if !validKey(key) || size < 0 || checksum == "" || strings.ContainsAny(checksum, " \n") {
			return // is never written
		}
		got, n, ok := parseLine(formatLine(key, size, checksum))
		if !ok || got != key || n != size {
			t.Errorf("got %q, %d, %v", got, n, ok)
		}
	})
}
