package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func TestEachEventIsProvenByItsLineAndProofAlone(t *testing.T) {
	c := story(t)
	for i, want := range c.lines {
		p, line, err := Prove(c.dir, int64(i))
		if err != nil || string(line) != want {
			t.Fatalf("event %d: %v, %q", i, err, line)
		}
		proven, err := VerifyProof([]byte(p.String()), line, []note.Verifier{c.key})
		if err != nil || proven.Record.Index != int64(i) || proven.Checkpoint.Size != 13 || proven.Checkpoint.Origin != craftedOrigin || len(proven.Keys) != 1 {
			t.Fatalf("event %d: %+v, %v", i, proven, err)
		}
		for j, other := range c.lines {
			if _, err := VerifyProof([]byte(p.String()), []byte(other), []note.Verifier{c.key}); i != j && !errors.Is(err, ErrUnproven) {
				t.Fatalf("the proof of %d proves %d: %v", i, j, err)
			}
		}
	}
}

func TestEveryEditOfAProofOrItsLineIsFound(t *testing.T) {
	c := story(t)
	p, line, err := Prove(c.dir, 6)
	if err != nil {
		t.Fatal(err)
	}
	keys := []note.Verifier{c.key}
	text := p.String()
	for at := range text {
		edited := []byte(text)
		edited[at] ^= 1 << (at % 8)
		if _, err := VerifyProof(edited, line, keys); !errors.Is(err, ErrUnproven) {
			t.Errorf("byte %d of the proof: %v", at, err)
		}
		if _, err := VerifyProof([]byte(text[:at]), line, keys); !errors.Is(err, ErrUnproven) {
			t.Errorf("the first %d bytes of the proof: %v", at, err)
		}
	}
	for at := range line {
		edited := append([]byte(nil), line...)
		edited[at] ^= 1 << (at % 8)
		if _, err := VerifyProof([]byte(text), edited, keys); !errors.Is(err, ErrUnproven) {
			t.Errorf("byte %d of the line: %v", at, err)
		}
	}
	stranger := craft(t)
	if _, err := VerifyProof([]byte(text), line, []note.Verifier{stranger.key}); !errors.Is(err, ErrUnproven) {
		t.Errorf("with another key: %v", err)
	}
}

func TestExtraDataOfAProofIsPassedOver(t *testing.T) {
	c := story(t)
	p, line, err := Prove(c.dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(p.String(), "index", "extra AAAA\nindex", 1)
	if _, err := VerifyProof([]byte(text), line, []note.Verifier{c.key}); err != nil {
		t.Error(err)
	}
}

func TestAnEventWhoseSegmentIsGoneIsStillProven(t *testing.T) {
	c := story(t)
	if err := os.Remove(filepath.Join(c.dir, segmentName(0))); err != nil {
		t.Fatal(err)
	}
	p, line, err := Prove(c.dir, 2)
	if err != nil || line != nil {
		t.Fatalf("%v, %q", err, line)
	}
	if _, err := VerifyProof([]byte(p.String()), []byte(c.lines[2]), []note.Verifier{c.key}); err != nil {
		t.Error(err)
	}
}

func TestWhatCanNotBeProvenIsSaidToBe(t *testing.T) {
	c := unsignedEnd(t)
	if _, _, err := Prove(c.dir, 13); !errors.Is(err, ErrUncovered) {
		t.Errorf("not signed yet: %v", err)
	}
	if _, _, err := Prove(c.dir, 99); !errors.Is(err, ErrNoEvent) {
		t.Errorf("not there: %v", err)
	}
	hashes := []byte(c.read(t, hashesFile))
	hashes[tlog.StoredHashIndex(0, 1)*hashSize] ^= 1
	c.write(t, hashesFile, string(hashes))
	if _, _, err := Prove(c.dir, 0); !errors.Is(err, ErrDamaged) {
		t.Errorf("hashes.bin was changed: %v", err)
	}
	c.write(t, hashesFile, "")
	if _, _, err := Prove(c.dir, 0); !errors.Is(err, ErrDamaged) {
		t.Errorf("hashes.bin is empty: %v", err)
	}
	c.write(t, checkpointFile, "")
	if _, _, err := Prove(c.dir, 0); !errors.Is(err, ErrDamaged) {
		t.Errorf("checkpoint is empty: %v", err)
	}
	if err := os.Remove(filepath.Join(c.dir, checkpointFile)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Prove(c.dir, 0); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no checkpoint: %v", err)
	}
}

func TestAnEventIsFoundByItsUID(t *testing.T) {
	c := story(t)
	for _, want := range []int64{0, 6, 7, 12} {
		got, err := FindEvent(t.Context(), c.dir, fmt.Sprintf("u-%d", want))
		if err != nil || got != want {
			t.Errorf("event %d is found at %d: %v", want, got, err)
		}
	}
	for _, none := range []string{"", "u-", "s1", "u-13"} {
		if got, err := FindEvent(t.Context(), c.dir, none); !errors.Is(err, ErrNoEvent) {
			t.Errorf("%q is found at %d: %v", none, got, err)
		}
	}
}
