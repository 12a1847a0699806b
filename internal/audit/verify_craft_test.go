package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// crafted is a log that a test wrote by hand, byte by byte as the document says,
// so that it can be wrong in any way.
type crafted struct {
	dir, anchors, recordings string
	signer                   note.Signer
	key                      note.Verifier
	vkey                     string
	origin                   string
	partial                  bool // some segments only

	tree        tree
	segment     string // name of the current one; "" = the next event begins one
	lines       []string
	clock       int64 // metadata.logged_time of the next event, milliseconds
	checkpoints []string
}

const craftedOrigin = "gate.example/postern/i-1/1"

func craft(t testing.TB) *crafted {
	t.Helper()
	root := t.TempDir()
	c := &crafted{
		dir: filepath.Join(root, "audit"), anchors: filepath.Join(root, "anchors"), recordings: filepath.Join(root, "recordings"),
		origin: craftedOrigin, clock: 1795521600000,
	}
	for _, dir := range []string{c.dir, c.anchors, filepath.Join(c.recordings, "2026/11/24")} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	c.newKey(t)
	c.write(t, keysFile, c.vkey+"\n")
	return c
}

func (c *crafted) newKey(t testing.TB) {
	t.Helper()
	secret, public, err := note.GenerateKey(nil, c.origin)
	if err != nil {
		t.Fatal(err)
	}
	c.vkey = public
	if c.signer, err = note.NewSigner(secret); err != nil {
		t.Fatal(err)
	}
	key, err := note.NewVerifier(public)
	if err != nil {
		t.Fatal(err)
	}
	c.key = &remembering{key, map[string]bool{}}
}

// remembering is a key that verifies a signature once, so that a test can ask
// ten thousand times.
type remembering struct {
	note.Verifier
	answers map[string]bool
}

func (r *remembering) Verify(msg, sig []byte) bool {
	asked := string(msg) + "\x00" + string(sig)
	good, known := r.answers[asked]
	if !known {
		good = r.Verifier.Verify(msg, sig)
		r.answers[asked] = good
	}
	return good
}

// event appends a line. more is what the line has after its metadata.
func (c *crafted) event(t testing.TB, code Code, session, more string) {
	t.Helper()
	if session != "" {
		session = fmt.Sprintf(`,"correlation_uid":%q`, session)
	}
	c.line(t, fmt.Sprintf(`{"time":%d,"metadata":{"event_code":%q,"uid":"u-%d","sequence":%d,"logged_time":%d%s}%s}`,
		c.clock, code, c.tree.size, c.tree.size, c.clock, session, more))
	c.clock += 1000
}

func (c *crafted) line(t testing.TB, line string) {
	t.Helper()
	if c.segment == "" {
		c.segment = segmentName(c.tree.size)
	}
	c.append(t, c.segment, line+"\n")
	c.lines = append(c.lines, line)
	c.append(t, hashesFile, string(c.tree.append(nil, []byte(line))))
}

// sign makes a checkpoint of what is there, and an anchor of it.
func (c *crafted) sign(t testing.TB, signers ...note.Signer) {
	t.Helper()
	if len(signers) == 0 {
		signers = []note.Signer{c.signer}
	}
	text := Checkpoint{Origin: c.origin, Size: c.tree.size, Root: c.tree.root()}.String()
	signed, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		t.Fatal(err)
	}
	c.checkpoints = append(c.checkpoints, string(signed))
	c.append(t, checkpointsFile, string(signed)+"\n")
	c.write(t, checkpointFile, string(signed))
	if err := os.WriteFile(filepath.Join(c.anchors, fmt.Sprintf("%020d", c.tree.size)), signed, 0o640); err != nil {
		t.Fatal(err)
	}
}

const craftedRecording = "2026/11/24/rec-s1-0.prec"

// recorded appends an event of the recording of which data is what is on disk.
func (c *crafted) recorded(t testing.TB, code Code, data string) {
	t.Helper()
	sum := sha256.Sum256([]byte(data))
	file := fmt.Sprintf(`,"file":{"path":"/elsewhere/%s","size":%d,"hashes":[{"value":%q}]}`, craftedRecording, len(data), hex.EncodeToString(sum[:]))
	if code == RecordingStart {
		file = fmt.Sprintf(`,"file":{"path":"/elsewhere/%s"}`, craftedRecording)
	}
	c.event(t, code, "s1", file)
	if err := os.WriteFile(filepath.Join(c.recordings, craftedRecording), []byte(data), 0o640); err != nil {
		t.Fatal(err)
	}
}

func (c *crafted) append(t testing.TB, name, data string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(c.dir, name), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(data); err != nil {
		t.Fatal(err)
	}
}

func (c *crafted) write(t testing.TB, name, data string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(data), 0o640); err != nil {
		t.Fatal(err)
	}
}

func (c *crafted) read(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(c.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func (c *crafted) options() VerifyOptions {
	return VerifyOptions{Dir: c.dir, Keys: []note.Verifier{c.key}, Anchors: c.anchors, Recordings: c.recordings, Partial: c.partial}
}

func (c *crafted) verify(t testing.TB) *Report {
	t.Helper()
	r, err := Verify(t.Context(), c.options())
	if err != nil {
		t.Fatalf("%v\n%s", err, findings(r))
	}
	return r
}

func (c *crafted) mustBeFine(t testing.TB) *Report {
	t.Helper()
	r := c.verify(t)
	if !r.Fine() {
		t.Fatalf("found wrong:\n%s", findings(r))
	}
	return r
}

func findings(r *Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s %s:%d event %d: %s\n", f.Kind, f.File, f.Line, f.Index, f.What)
	}
	for _, f := range r.Remarks {
		fmt.Fprintf(&b, "remark: %s %s:%d event %d: %s\n", f.Kind, f.File, f.Line, f.Index, f.What)
	}
	return b.String()
}

// story is a log of two segments and three checkpoints in which everything
// happens once and ends.
func story(t testing.TB) *crafted {
	t.Helper()
	c := craft(t)
	c.event(t, DaemonStart, "", "")
	c.event(t, ConnOpen, "s1", `,"status_id":1`)
	c.event(t, TargetOpen, "s1", `,"unmapped":{"postern":{"channel":0}}`)
	c.recorded(t, RecordingStart, "")
	c.event(t, ProcStart, "s1", `,"status_id":1,"unmapped":{"postern":{"channel":1}}`)
	c.sign(t)
	c.recorded(t, RecordingChunk, "what was seen, ")
	c.recorded(t, RecordingEnd, "what was seen, and its end")
	c.segment = ""
	c.event(t, LogRotate, "", "")
	c.event(t, ProcStart, "s1", `,"status_id":2,"unmapped":{"postern":{"channel":2}}`)
	c.sign(t)
	c.event(t, ProcEnd, "s1", `,"unmapped":{"postern":{"channel":1}}`)
	c.event(t, TargetClose, "s1", `,"unmapped":{"postern":{"channel":0}}`)
	c.event(t, ConnClose, "s1", "")
	c.event(t, DaemonStop, "", "")
	c.sign(t)
	return c
}
