package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// FuzzVerify gives the verifier files that anybody may have written. It must
// say something of each, and never that more is signed than is.
func FuzzVerify(f *testing.F) {
	c := story(f)
	f.Add([]byte(c.read(f, segmentName(0))), []byte(c.read(f, checkpointsFile)), []byte(c.read(f, checkpointFile)), []byte(c.read(f, hashesFile)))
	f.Add([]byte("{}\n"), []byte("\n\n\n\n"), []byte("\n\n"), []byte{})
	f.Add(bytes.Repeat([]byte{'x'}, maxLine+2), []byte(c.origin+"\n\n\n"), []byte{}, make([]byte, 33))
	signed := map[string]bool{}
	for _, text := range c.checkpoints {
		signed[text] = true
	}
	f.Fuzz(func(t *testing.T, segment, checkpoints, checkpoint, hashes []byte) {
		dir := t.TempDir()
		for name, data := range map[string][]byte{segmentName(0): segment, checkpointsFile: checkpoints, checkpointFile: checkpoint, hashesFile: hashes} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o640); err != nil {
				t.Fatal(err)
			}
		}
		r, err := Verify(t.Context(), VerifyOptions{Dir: dir, Keys: []note.Verifier{c.key}, Recordings: dir})
		if err != nil && r == nil {
			t.Fatal("no report")
		}
		if r.Covered > 0 && !anySigned(signed, checkpoints, checkpoint) {
			t.Errorf("%d events are covered by what nobody signed", r.Covered)
		}
		if n := len(r.Findings) + len(r.Remarks); n > 2*maxFindings {
			t.Errorf("%d findings", n)
		}
	})
}

func anySigned(signed map[string]bool, texts ...[]byte) bool {
	for text := range signed {
		for _, data := range texts {
			if bytes.Contains(data, []byte(strings.SplitAfter(text, "\n\n")[0])) {
				return true
			}
		}
	}
	return false
}

// FuzzScanLine holds the scanner to encoding/json.
func FuzzScanLine(f *testing.F) {
	c := story(f)
	for _, line := range c.lines {
		f.Add([]byte(line))
	}
	for _, line := range []string{
		``, `{`, `{}`, `{"a":1,}`, `[1]`, `{"a":[1,{"b":"\u00e9\ud800"}]}`, `{"a":01}`, `{"a":-}`, `{"a":1.}`, `{"a":1e}`, `{"a":.5}`, `{"a":"\x"}`, `{"a":"\u12"}`,
		`{"time":9223372036854775807,"metadata":{"sequence":9223372036854775808}}`, `{"metadata":{"sequence":-1}}`, `{"metadata":{"sequence":1.0}}`,
		`{"metadata":{"sequence":"1"},"unmapped":{"postern":{"channel":"x\"y"}}}`, ` { "metadata" : { "sequence" : 7 } } `, `{"a":tru}`, `{"a":nul}`, "{\"a\":\"\n\"}", "{\"a\":\"\xff\"}", `{"a":1}x`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var got lineFields
		err := scanLine(line, &got)
		valid := json.Valid(line) && utf8.Valid(line) && bytes.HasPrefix(bytes.TrimLeft(line, " \t\r\n"), []byte("{"))
		if (err == nil) != valid && bytes.Count(line, []byte("{"))+bytes.Count(line, []byte("[")) < maxDepth {
			t.Fatalf("%q: %v, and it is valid: %v", line, err, valid)
		}
		var want struct {
			Metadata struct{ Sequence json.Number }
		}
		if err != nil || json.Unmarshal(line, &want) != nil || strings.Count(string(line), "etadata") > 1 || strings.Count(string(line), "equence") > 1 || bytes.ContainsRune(line, '\\') {
			return // encoding/json takes names in any case, and knows escapes in them
		}
		if n, err := want.Metadata.Sequence.Int64(); err == nil && n >= 0 && bytes.Contains(line, []byte(`"sequence"`)) && bytes.Contains(line, []byte(`"metadata"`)) {
			if got.sequence != n && fmt.Sprint(n) == string(want.Metadata.Sequence) && !bytes.Contains(line, []byte(`"sequence":"`)) {
				t.Errorf("%q: sequence %d, want %d", line, got.sequence, n)
			}
		}
	})
}

func FuzzParseProof(f *testing.F) {
	f.Add(Proof{Index: 3, Hashes: tlog.RecordProof{tlog.Hash{1}}, Signed: []byte("a\n1\nb\n\n— a b\n")}.String())
	f.Add(proofHeader + "extra AAAA\nindex 0\n\nx\n\ny\n")
	f.Add(proofHeader + "index 01\n\n")
	f.Add(proofHeader + "index 3\nAQAAAAAAAAAAAAAAAAAAAA\rAAAAAAAAAAAAAAAAAAzAA=\n\na\n1\nb\n\n— a b\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseProof([]byte(text))
		if err != nil || strings.HasPrefix(text, proofHeader+"extra ") {
			return
		}
		if p.String() != text {
			t.Errorf("%q is read as %q", text, p.String())
		}
	})
}
