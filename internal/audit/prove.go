package audit

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

var (
	// ErrNoEvent is what FindEvent's and Prove's errors wrap when the log has no
	// such event.
	ErrNoEvent = errors.New("the audit log has no such event")
	// ErrUncovered is what Prove's error wraps when no checkpoint covers the
	// event yet; the next one does, within seconds while the daemon runs.
	ErrUncovered = errors.New("the event is not signed yet")
	// ErrUnproven is what VerifyProof's error wraps when the proof is not one of
	// that line in a log of those keys.
	ErrUnproven = errors.New("the event is not proven")
)

// proofHeader is the first line of a proof (C2SP tlog-proof).
const proofHeader = "c2sp.org/tlog-proof@v1\n"

// Proof shows that a log holds one line: its index, the hashes of RFC 6962,
// section 2.1.1, and the checkpoint, as it was signed, that they lead to.
type Proof struct {
	Index  int64
	Hashes tlog.RecordProof
	Signed []byte
}

// String is the proof as text, C2SP tlog-proof without extra data.
func (p Proof) String() string {
	var b strings.Builder
	b.WriteString(proofHeader)
	fmt.Fprintf(&b, "index %d\n", p.Index)
	for _, h := range p.Hashes {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	b.WriteByte('\n')
	b.Write(p.Signed)
	return b.String()
}

// ParseProof reads a proof. Extra data, which nothing authenticates, is passed
// over.
func ParseProof(text []byte) (Proof, error) {
	rest, ok := bytes.CutPrefix(text, []byte(proofHeader))
	head, signed, ok2 := bytes.Cut(rest, []byte("\n\n"))
	if !ok || !ok2 {
		return Proof{}, errors.New("it is no C2SP tlog-proof")
	}
	lines := strings.Split(string(head), "\n")
	if strings.HasPrefix(lines[0], "extra ") {
		lines = lines[1:]
	}
	if len(lines) == 0 {
		return Proof{}, errors.New("it has no index")
	}
	digits, ok := strings.CutPrefix(lines[0], "index ")
	index, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || index < 0 || strconv.FormatInt(index, 10) != digits {
		return Proof{}, fmt.Errorf("%.60q is no index", lines[0])
	}
	p := Proof{Index: index, Signed: signed}
	for _, line := range lines[1:] {
		h, err := decodeBase64(line)
		if err != nil || len(h) != hashSize || len(p.Hashes) == 63 {
			return Proof{}, fmt.Errorf("%.60q is no hash of a proof", line)
		}
		p.Hashes = append(p.Hashes, tlog.Hash(h))
	}
	return p, nil
}

// Proven is what a proof has shown.
type Proven struct {
	Record     Record
	Checkpoint Checkpoint
	Keys       []string // that signed it: name+hash
}

// VerifyProof checks that line, without its newline, is the event of that index
// in the log whose checkpoint one of keys signed. Nothing else is needed. The
// error wraps ErrUnproven.
func VerifyProof(text, line []byte, keys []note.Verifier) (Proven, error) {
	p, err := ParseProof(text)
	if err != nil {
		return Proven{}, fmt.Errorf("%w: %w", ErrUnproven, err)
	}
	ring := newKeyring(keys, nil)
	c, sigs, err := ring.open(p.Signed)
	if err != nil {
		return Proven{}, fmt.Errorf("%w: its checkpoint: %w", ErrUnproven, err)
	}
	if p.Index >= c.Size {
		return Proven{}, fmt.Errorf("%w: its checkpoint covers %d events, and this is event %d", ErrUnproven, c.Size, p.Index)
	}
	if err := tlog.CheckRecord(p.Hashes, c.Size, c.Root, p.Index, tlog.RecordHash(line)); err != nil {
		return Proven{}, fmt.Errorf("%w: the line and the proof don't lead to what was signed: one of them was changed, or they don't belong together", ErrUnproven)
	}
	r, err := parse(line, p.Index)
	if err != nil {
		return Proven{}, fmt.Errorf("%w: %w", ErrUnproven, err)
	}
	proven := Proven{Record: r, Checkpoint: c}
	for _, s := range sigs {
		proven.Keys = append(proven.Keys, keyID{s.Name, s.Hash}.String())
	}
	return proven, nil
}

// Prove makes the proof of the event index against the newest checkpoint of the
// log in dir, which may be open. The line is nil if its segment is gone.
func Prove(dir string, index int64) (p Proof, line []byte, err error) {
	signed, err := readBounded(filepath.Join(dir, checkpointFile), maxSigned)
	if err != nil {
		return Proof{}, nil, fmt.Errorf("read the newest checkpoint: %w", err)
	}
	text, _, _ := bytes.Cut(signed, []byte("\n\n"))
	c, err := ParseCheckpoint(string(text) + "\n")
	if err != nil {
		return Proof{}, nil, damaged(filepath.Join(dir, checkpointFile), 0, err)
	}
	line, err = readLine(dir, index)
	if err != nil {
		return Proof{}, nil, err
	}
	switch {
	case index >= c.Size && line == nil:
		return Proof{}, nil, fmt.Errorf("%w: event %d", ErrNoEvent, index)
	case index >= c.Size:
		return Proof{}, nil, fmt.Errorf("%w: event %d, and the newest checkpoint covers %d", ErrUncovered, index, c.Size)
	}
	hashes, err := proveRecord(dir, c, index, line)
	return Proof{Index: index, Hashes: hashes, Signed: signed}, line, err
}

// proveRecord makes the hashes of a proof out of hashes.bin, and checks that
// they prove it.
func proveRecord(dir string, c Checkpoint, index int64, line []byte) (tlog.RecordProof, error) {
	path := filepath.Join(dir, hashesFile)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the hashes of the audit log: %w", err)
	}
	defer f.Close()
	stored := storedHashes{f}
	hashes, err := tlog.ProveRecord(c.Size, index, stored)
	if err != nil {
		return nil, damaged(path, 0, err)
	}
	leaf := tlog.RecordHash(line)
	if line == nil {
		leaves, err := stored.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
		if err != nil {
			return nil, damaged(path, 0, err)
		}
		leaf = leaves[0]
	}
	if err := tlog.CheckRecord(hashes, c.Size, c.Root, index, leaf); err != nil {
		return nil, damaged(path, 0, fmt.Errorf("the hashes don't lead from event %d to the newest checkpoint", index))
	}
	return hashes, nil
}

// readLine returns nil for an event whose segment is gone, and for one that is
// not written yet.
func readLine(dir string, index int64) ([]byte, error) {
	segments, err := listSegments(dir)
	if err != nil {
		return nil, err
	}
	if len(segments) == 0 || index < segments[0].first {
		return nil, nil
	}
	from := segments[0].first
	for _, s := range segments {
		if s.first <= index {
			from = s.first
		}
	}
	for r, err := range Read(dir, from) {
		if err != nil {
			return nil, err
		}
		if r.Index == index {
			return bytes.Clone(r.Line), nil
		}
	}
	return nil, nil
}

// FindEvent returns the index of the event with that metadata.uid.
func FindEvent(ctx context.Context, dir, uid string) (int64, error) {
	segments, err := listSegments(dir)
	if err != nil {
		return 0, err
	}
	if len(segments) == 0 {
		return 0, fmt.Errorf("%s holds no audit log: %w", dir, fs.ErrNotExist)
	}
	for _, s := range segments {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		data, err := os.ReadFile(s.path)
		if err != nil {
			return 0, fmt.Errorf("read audit segment: %w", err)
		}
		if index := findUID(data, uid); index >= 0 {
			return index, nil
		}
	}
	return 0, fmt.Errorf("%w: none in %s has the uid %q", ErrNoEvent, dir, uid)
}

func findUID(data []byte, uid string) int64 {
	quoted := strconv.AppendQuote(nil, uid)
	for line := range bytes.Lines(data) {
		var f lineFields
		if bytes.Contains(line, quoted) && scanLine(line, &f) == nil && string(f.uid) == uid {
			return f.sequence
		}
	}
	return -1
}
