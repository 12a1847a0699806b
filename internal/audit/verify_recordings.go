package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// recorded is what the events say of one recording.
type recorded struct {
	path   string
	at     spot    // of its newest event
	chunks []chunk // sizes grow
	ended  bool    // the last chunk is the whole file
}

// chunk is a prefix of a recording's file.
type chunk struct {
	at   spot
	size int64
	hash string // SHA-256 in hex
}

func (h *history) recording(f *lineFields, at spot) {
	if len(f.path) == 0 {
		return // it could not even be begun
	}
	path := unescaped(f.path)
	r := h.recordings[path]
	if r == nil {
		r = &recorded{path: path}
		if h.recordings == nil {
			h.recordings = map[string]*recorded{}
		}
		h.recordings[path] = r
	}
	r.at = at
	code := Code(f.code)
	foundBroken := code == RecordingFailed && len(f.hash) > 0 // at a start, and nobody writes it any more
	if code == RecordingChunk || code == RecordingEnd || foundBroken {
		r.chunks = append(r.chunks, chunk{at, max(f.size, 0), string(f.hash)})
		r.ended = code == RecordingEnd || foundBroken
	}
}

// checkRecordings compares each recording that the events name with its file.
func (v *verifier) checkRecordings() error {
	root, err := os.OpenRoot(v.opts.Recordings)
	if err != nil {
		return fmt.Errorf("read the recordings: %w", err)
	}
	defer root.Close()
	for _, r := range v.history.inOrder() {
		if err := v.ctx.Err(); err != nil {
			return err
		}
		if err := v.checkRecording(root, r); err != nil {
			return fmt.Errorf("read the recordings: %w", err)
		}
		v.report.Recordings++
	}
	return nil
}

func (h *history) inOrder() []*recorded {
	var list []*recorded
	for _, r := range h.recordings {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b *recorded) int { return int(min(max(a.at.index-b.at.index, -1), 1)) })
	return list
}

// recordingName is where a recording is in the directory of recordings, wherever
// that was when it was made: year/month/day/file.
func recordingName(path string) string {
	parts := strings.Split(filepath.ToSlash(path), "/")
	return strings.Join(parts[max(0, len(parts)-4):], "/")
}

func (v *verifier) checkRecording(root *os.Root, r *recorded) error {
	name := recordingName(r.path)
	wrong := func(at spot, format string, args ...any) {
		v.wrongAt(KindRecording, spot{name, 0, at.index}, format, args...)
	}
	f, err := openRecording(root, name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && v.opts.Copied && !r.ended:
		v.remark(KindUnfinished, name, r.at.index, "the recording is not here; it had not ended where the log ends")
		return nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errNoFile):
		wrong(r.at, "the recording is missing")
		return nil
	case err != nil:
		return err
	}
	defer f.Close()
	sum, from := sha256.New(), int64(0)
	for _, c := range r.chunks {
		switch why, err := c.differs(f, sum, from); {
		case err != nil:
			return err
		case why != "":
			wrong(c.at, "%s", why)
			return nil
		}
		from = max(from, c.size)
	}
	info, err := f.Stat()
	if err == nil && r.ended && info.Size() > from {
		wrong(r.at, "the recording has %d bytes, and had %d at its end", info.Size(), from)
	}
	return err
}

// errNoFile says that a name in the log can't be one of a recording.
var errNoFile = errors.New("no regular file")

func openRecording(root *os.Root, name string) (*os.File, error) {
	if !filepath.IsLocal(name) {
		return nil, errNoFile
	}
	info, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errNoFile
	}
	return root.Open(name)
}

// differs says why the first bytes of a recording are not those of c, given the
// hash of the first from bytes. "" = they are.
func (c chunk) differs(f io.Reader, sum hash.Hash, from int64) (why string, err error) {
	if c.size < from {
		return fmt.Sprintf("event %d says that it got shorter", c.at.index), nil
	}
	n, err := io.CopyN(sum, f, c.size-from)
	if errors.Is(err, io.EOF) {
		return fmt.Sprintf("the recording has %d bytes, and had %d at event %d", from+n, c.size, c.at.index), nil
	}
	if err != nil {
		return "", err
	}
	if hex.EncodeToString(sum.Sum(nil)) != c.hash {
		return fmt.Sprintf("the recording was changed between bytes %d and %d", from, c.size), nil
	}
	return "", nil
}
