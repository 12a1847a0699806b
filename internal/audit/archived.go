package audit

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"postern/internal/durable"
)

// Segment is a closed segment: its file does not change any more.
type Segment struct {
	First, End int64 // indexes of its first event and of the one after its last
	Path       string
	Size       int64     // bytes of those events; a failed write may have left more behind them
	Closed     time.Time // when the file was last written to
}

// Segments lists the closed segments of the log in dir that a checkpoint covers,
// oldest first. A checkpoint covers the beginning of the one after each, too, so
// that no crash opens it again, and hashes.bin has its hashes. The log may be
// open. With an error the list has those that are whole; it is empty where
// nothing is signed.
func Segments(dir string) ([]Segment, error) {
	_, covered, err := Origin(dir)
	if err != nil || covered == 0 {
		return nil, err
	}
	stored, err := listSegments(dir)
	if err != nil {
		return nil, err
	}
	var closed []Segment
	var broken error
	for i := 0; i+1 < len(stored) && stored[i+1].first < covered; i++ {
		s, err := closedSegment(stored[i], stored[i+1].first)
		switch {
		case errors.Is(err, fs.ErrNotExist): // Retention was faster
		case err != nil:
			broken = errors.Join(broken, err)
		default:
			closed = append(closed, s)
		}
	}
	return closed, broken
}

// closedSegment looks at a segment that ends before the event end.
func closedSegment(s stored, end int64) (Segment, error) {
	info, err := os.Stat(s.path)
	if err != nil {
		return Segment{}, fmt.Errorf("look at an audit segment: %w", err)
	}
	closed := Segment{First: s.first, End: end, Path: s.path, Size: info.Size(), Closed: info.ModTime()}
	if err := checkEnds(s, end); err == nil {
		return closed, nil
	}
	data, err := os.ReadFile(s.path)
	if err != nil {
		return Segment{}, fmt.Errorf("read audit segment: %w", err)
	}
	good, err := findEnd(s, data, end)
	if err == nil && good.next != end {
		err = damaged(s.path, good.size, fmt.Errorf("it ends before event %d, and the next segment begins with event %d", good.next, end))
	}
	closed.Size = good.size
	return closed, err
}

// HashRange is where in hashes.bin what the events of First <= index < End have
// added begins, and how many bytes it has.
func (s Segment) HashRange() (offset, size int64) {
	offset = tlog.StoredHashCount(s.First) * hashSize
	return offset, tlog.StoredHashCount(s.End)*hashSize - offset
}

// Origin is what the log in dir calls itself, by its newest checkpoint, and how
// many events that covers. Nothing is verified. It is "" if dir has no log, or
// one that is not signed.
func Origin(dir string) (origin string, size int64, err error) {
	path := filepath.Join(dir, checkpointFile)
	signed, err := readBounded(path, maxSigned)
	if errors.Is(err, fs.ErrNotExist) {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, fmt.Errorf("read the newest checkpoint: %w", err)
	}
	c, err := parseSigned(signed)
	if err != nil {
		return "", 0, fmt.Errorf("read %s: %w", path, err)
	}
	return c.Origin, c.Size, nil
}

// parseSigned reads a signed checkpoint and leaves its signatures alone.
func parseSigned(signed []byte) (Checkpoint, error) {
	text, _, found := bytes.Cut(signed, []byte("\n\n"))
	if !found {
		return Checkpoint{}, fmt.Errorf("it is no signed checkpoint: %w", io.ErrUnexpectedEOF)
	}
	return ParseCheckpoint(string(text) + "\n")
}

// WriteCheckpoints makes checkpoints.log and checkpoint in dir of anchors in the
// order of their size, so that dir, with segments, hashes.bin and audit.vkey
// beside them, is a log that Verify and the others read. What is there is
// replaced. Anchors of more events than hashes.bin is of are left out, because
// nothing in dir leads to them: what the gate has signed since goes to the
// archive when its segment is closed. It verifies nothing, but fails where an
// anchor is no signed checkpoint, where they are of more than one log, and where
// none is left.
func WriteCheckpoints(dir string, anchors [][]byte) error {
	list, err := checkpointsOf(anchors)
	if err != nil {
		return fmt.Errorf("write the checkpoints of a log: %w", err)
	}
	info, err := os.Stat(filepath.Join(dir, hashesFile))
	if err != nil {
		return fmt.Errorf("write the checkpoints of a log: %w", err)
	}
	var all, newest []byte
	for _, c := range list {
		if tlog.StoredHashCount(c.Size)*hashSize <= info.Size() {
			newest = c.signed
			all = append(append(all, newest...), '\n')
		}
	}
	if newest == nil {
		return fmt.Errorf("write the checkpoints of a log: none of %d anchors is of events whose hashes are in %s", len(anchors), dir)
	}
	if err := durable.WriteFile(filepath.Join(dir, checkpointsFile), all, 0o640); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, checkpointFile), newest, 0o640)
}

type signedCheckpoint struct {
	Checkpoint
	signed []byte
}

// checkpointsOf reads anchors of one log and puts them in the order of their
// size.
func checkpointsOf(anchors [][]byte) ([]signedCheckpoint, error) {
	var list []signedCheckpoint
	for i, signed := range anchors {
		c, err := parseSigned(signed)
		if whole, rest, _ := CutCheckpoint(append(bytes.Clone(signed), '\n')); err == nil && (len(rest) > 0 || !bytes.Equal(whole, signed)) {
			err = errors.New("it is more or less than one signed checkpoint")
		}
		if err == nil && i > 0 && c.Origin != list[0].Origin {
			err = fmt.Errorf("it is of the log %s, and others are of %s", c.Origin, list[0].Origin)
		}
		if err != nil {
			return nil, fmt.Errorf("anchor %d: %w", i, err)
		}
		list = append(list, signedCheckpoint{c, signed})
	}
	slices.SortStableFunc(list, func(a, b signedCheckpoint) int { return cmp.Compare(a.Size, b.Size) })
	return list, nil
}
