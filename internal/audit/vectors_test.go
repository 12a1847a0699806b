package audit

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// vectors is the part of docs/audit-format.md that a verifier is tried with.
func vectors(t *testing.T) string {
	t.Helper()
	const origin = "gate1.example.com/postern/0123456789abcdef/1"
	lines := []string{`{"metadata":{"sequence":0},"message":"first"}`, `{"metadata":{"sequence":1},"message":"Grüße"}`, `{"metadata":{"sequence":2},"message":"last"}`}
	signer, err := newKeySigner(origin, testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	var hashes []byte
	tr := tree{}
	fmt.Fprintf(&b, "Segment `%s`, three lines, each ended by one newline:\n\n```\n%s\n```\n\n", segmentName(0), strings.Join(lines, "\n"))
	roots := fmt.Sprintf("| 0 | `%s` |\n", base64.StdEncoding.EncodeToString(emptyRoot[:]))
	for _, line := range lines {
		hashes = tr.append(hashes, []byte(line))
		root := tr.root()
		roots += fmt.Sprintf("| %d | `%s` |\n", tr.size, base64.StdEncoding.EncodeToString(root[:]))
	}
	b.WriteString("`hashes.bin`, 32 bytes a row: the leaf 0, the leaf 1, the node over both, the leaf 2:\n\n```\n")
	for i := 0; i < len(hashes); i += hashSize {
		b.WriteString(hex.EncodeToString(hashes[i:i+hashSize]) + "\n")
	}
	b.WriteString("```\n\n| size | root |\n|---|---|\n" + roots)
	fmt.Fprintf(&b, "\nKey: the Ed25519 seed is 32 bytes 0x01. `audit.vkey`:\n\n```\n%s\n```\n\n", signer.vkey)
	c := Checkpoint{Origin: origin, Size: tr.size, Root: tr.root()}
	signed, err := note.Sign(&note.Note{Text: c.String()}, signer)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "`checkpoint`; the same and an empty line are an entry of `checkpoints.log`:\n\n```\n%s```\n\n", signed)
	path := filepath.Join(t.TempDir(), hashesFile)
	if err := os.WriteFile(path, hashes, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	proof, err := tlog.ProveRecord(c.Size, 1, storedHashes{f})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "The proof of event 1:\n\n```\n%s```\n", Proof{Index: 1, Hashes: proof, Signed: signed})
	return b.String()
}

func TestTheDocumentsVectorsAreWhatIsWritten(t *testing.T) {
	text, err := os.ReadFile(format)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- begin vectors -->\n", "<!-- end vectors -->"
	head, rest, found := strings.Cut(string(text), begin)
	held, tail, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no place for the vectors", format)
	}
	want := vectors(t)
	if *update {
		if err := os.WriteFile(format, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if held != want {
		t.Errorf("%s is not what the code does; go test ./internal/audit -run Vectors -update", format)
	}
}

// TestTheVectorsStandByThemselves reads them as a stranger would.
func TestTheVectorsStandByThemselves(t *testing.T) {
	text, err := os.ReadFile(format)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "<!-- begin vectors -->\n")
	held, _, _ := strings.Cut(rest, "<!-- end vectors -->")
	var blocks []string
	for i, part := range strings.Split(held, "```\n") {
		if i%2 == 1 {
			blocks = append(blocks, part)
		}
	}
	if len(blocks) != 5 {
		t.Fatalf("%d blocks", len(blocks))
	}
	lines := strings.Split(strings.TrimSuffix(blocks[0], "\n"), "\n")
	keys, err := ParseKeys([]byte(blocks[2]))
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := OpenCheckpoint([]byte(blocks[3]), note.VerifierList(keys...))
	if err != nil || c.Size != 3 {
		t.Fatalf("%+v, %v", c, err)
	}
	leaf := func(i int) tlog.Hash { return tlog.RecordHash([]byte(lines[i])) }
	if root := tlog.NodeHash(tlog.NodeHash(leaf(0), leaf(1)), leaf(2)); root != c.Root {
		t.Errorf("the root is %s, want %s", c.Root, root)
	}
	if _, err := VerifyProof([]byte(blocks[4]), []byte(lines[1]), keys); err != nil {
		t.Error(err)
	}
}
