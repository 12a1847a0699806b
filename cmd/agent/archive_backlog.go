package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"postern/internal/archive"
	"postern/internal/audit"
)

// Where things are in the archive, below the name of the log they belong to;
// recordings are below that of its instance, whatever the epoch.
const (
	checkpointsFolder = "/checkpoints/"
	segmentsFolder    = "/segments/"
	hashesFolder      = "/hashes/"
	keysFolder        = "/keys/"
	recordingsFolder  = "/recordings/"

	hashesFile = "hashes.bin"
	keysFile   = "audit.vkey"
)

func checkpointKey(origin string, size int64) string {
	return fmt.Sprintf("%s%s%020d", origin, checkpointsFolder, size)
}

func segmentKey(origin string, first int64) string {
	return fmt.Sprintf("%s%saudit-%020d.jsonl", origin, segmentsFolder, first)
}

func hashesKey(origin string, first int64) string {
	return fmt.Sprintf("%s%s%020d", origin, hashesFolder, first)
}

func vkeyKey(origin string, content []byte) string {
	sum := sha256.Sum256(content)
	return origin + keysFolder + keysFile + "-" + hex.EncodeToString(sum[:8])
}

// instanceOf cuts the epoch off the name of a log.
func instanceOf(origin string) string { return origin[:max(0, strings.LastIndexByte(origin, '/'))] }

// backlog lists what ought to be in the archive. It is used by one pass over it
// at a time.
type backlog struct {
	dir, recordings string
	holds           func(key string) bool // the archive has it
	log             *zap.Logger

	origin string // of the log at the last look
	newest int64  // events that its newest checkpoint covers
	held   int64  // events that the newest checkpoint in the archive covers
	told   string // what could not be read at the last look
}

// items lists everything, the most urgent first: checkpoints, which pin down
// all the rest, then recordings, then segments, so that what a segment in the
// archive tells of is there too. What can't be read holds up nothing else.
func (b *backlog) items() []archive.Item {
	var pins, segments, recordings []archive.Item
	var failed error
	for i, dir := range b.epochs() {
		pin, closed, err := b.epoch(dir, i == 0)
		pins, segments = append(pins, pin...), append(segments, closed...)
		failed = errors.Join(failed, err)
	}
	// After the segments: a recording whose end is in one of them has ended.
	recordings, err := b.recorded()
	b.tell(errors.Join(failed, err))
	return slices.Concat(pins, recordings, segments)
}

// tell logs what could not be read, once.
func (b *backlog) tell(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != b.told {
		b.log.Error("archive: something that is to be copied can't be read", zap.Error(err))
	}
	b.told = text
}

// epochs are the folders of the log and of the epochs that were put aside, the
// newest first.
func (b *backlog) epochs() []string {
	aside, _ := filepath.Glob(filepath.Join(b.dir, "epoch-*")) // its only error is about the pattern
	number := func(path string) int64 {
		n, _ := strconv.ParseInt(strings.TrimPrefix(filepath.Base(path), "epoch-"), 10, 64)
		return n
	}
	slices.SortFunc(aside, func(x, y string) int { return cmp.Compare(number(y), number(x)) })
	return append([]string{b.dir}, aside...)
}

// epoch lists what is to be copied of one epoch. The current one still grows.
func (b *backlog) epoch(dir string, current bool) (pins, segments []archive.Item, err error) {
	signed, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil // nothing is signed yet
	}
	if err != nil {
		return nil, nil, err
	}
	text, _, _ := bytes.Cut(signed, []byte("\n\n"))
	c, err := audit.ParseCheckpoint(string(text) + "\n")
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", filepath.Join(dir, "checkpoint"), err)
	}
	if current {
		b.seen(c.Origin, c.Size)
	}
	if c.Size == 0 {
		return nil, nil, nil
	}
	pins = []archive.Item{{Key: checkpointKey(c.Origin, c.Size), Data: signed, Since: modTime(filepath.Join(dir, "checkpoint"))}}
	keys := filepath.Join(dir, keysFile)
	vkeys, keysErr := os.ReadFile(keys)
	if keysErr == nil {
		pins = append(pins, archive.Item{Key: vkeyKey(c.Origin, vkeys), Data: vkeys, Since: modTime(keys)})
	}
	segments, err = closedSegments(dir, c.Origin, current)
	more, pinErr := b.pinsOf(dir, c.Origin)
	return append(pins, more...), segments, errors.Join(keysErr, err, pinErr)
}

// pinsOf are the checkpoints that cover the most of the closed segments which
// the archive has not got: later ones cover events that it may not have either,
// and nothing there can prove them.
func (b *backlog) pinsOf(dir, origin string) ([]archive.Item, error) {
	closed, _ := audit.Segments(dir) // its error is told of the segments
	closed = slices.DeleteFunc(closed, func(s audit.Segment) bool { return b.holds(segmentKey(origin, s.First)) })
	if len(closed) == 0 {
		return nil, nil
	}
	checkpoints, err := lastCheckpoints(filepath.Join(dir, "checkpoints.log"), origin)
	var pins []archive.Item
	for _, s := range closed {
		i, found := slices.BinarySearchFunc(checkpoints, s.End, func(c pin, end int64) int { return cmp.Compare(c.size, end) })
		if !found {
			i--
		}
		if i >= 0 && checkpoints[i].size > s.First {
			pins = append(pins, archive.Item{Key: checkpointKey(origin, checkpoints[i].size), Data: checkpoints[i].signed, Since: s.Closed})
		}
	}
	return pins, err
}

// seen takes the newest checkpoint of the log.
func (b *backlog) seen(origin string, size int64) {
	if origin != b.origin {
		b.origin, b.held = origin, 0
	}
	b.newest = size
}

// anchored is how many events of the log the archive has a checkpoint of, and
// when the first after those was written. It does not know yet what was never
// offered to the archive.
func (b *backlog) anchored() (size int64, next time.Time) {
	if b.origin != "" && b.holds(checkpointKey(b.origin, b.newest)) {
		b.held = max(b.held, b.newest)
	}
	return b.held, writtenAt(b.dir, b.held)
}

// writtenAt is when the event of an index was written; zero = there is none.
func writtenAt(dir string, index int64) time.Time {
	for r, err := range audit.Read(dir, index) {
		if err != nil {
			break
		}
		return r.Logged
	}
	return time.Time{}
}

// archived reports whether a segment of the log and its hashes are in the
// archive.
func (b *backlog) archived(origin string, first int64) bool {
	return b.holds(segmentKey(origin, first)) && b.holds(hashesKey(origin, first))
}

// closedSegments lists the segments of an epoch that do not change any more,
// and their hashes. Of one that was put aside that is true of the last one too.
func closedSegments(dir, origin string, current bool) ([]archive.Item, error) {
	closed, err := audit.Segments(dir)
	var items []archive.Item
	next := int64(0)
	for _, s := range closed {
		offset, size := s.HashRange()
		items = append(items,
			archive.Item{Key: hashesKey(origin, s.First), Path: filepath.Join(dir, hashesFile), Offset: offset, Size: size, Since: s.Closed},
			archive.Item{Key: segmentKey(origin, s.First), Path: s.Path, Size: s.Size, Since: s.Closed})
		next = s.End
	}
	if current || err != nil {
		return items, err
	}
	return append(items, lastSegment(dir, origin, next)...), nil
}

// lastSegment is the one with which an epoch ended, which begins with the event
// first or, where Retention took all before it, with a later one.
func lastSegment(dir, origin string, first int64) []archive.Item {
	paths, _ := filepath.Glob(filepath.Join(dir, "audit-*.jsonl")) // its only error is about the pattern
	if len(paths) == 0 {
		return nil
	}
	path := paths[len(paths)-1] // the names sort as the numbers do
	digits := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "audit-"), ".jsonl")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < first {
		return nil
	}
	offset, _ := audit.Segment{First: n, End: n}.HashRange()
	since := modTime(path)
	return []archive.Item{
		{Key: hashesKey(origin, n), Path: filepath.Join(dir, hashesFile), Offset: offset, Size: -1, Since: since},
		{Key: segmentKey(origin, n), Path: path, Size: -1, Since: since},
	}
}

// recorded lists the recordings that do not change any more.
func (b *backlog) recorded() ([]archive.Item, error) {
	if b.origin == "" {
		return nil, nil
	}
	var items []archive.Item
	var unread []error
	err := filepath.WalkDir(b.recordings, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			unread = append(unread, err)
		case err == nil && d.Type().IsRegular() && strings.HasPrefix(d.Name(), "rec-") && strings.HasSuffix(d.Name(), ".prec"):
			items = append(items, b.recording(path, d)...)
		}
		return nil
	})
	return items, errors.Join(append(unread, err)...)
}

// recording is one recording, if it does not change any more: package record
// makes it read-only when it has ended, or when it broke off and the log says so.
func (b *backlog) recording(path string, d fs.DirEntry) []archive.Item {
	name, err := filepath.Rel(b.recordings, path)
	if err != nil {
		return nil
	}
	it := archive.Item{Key: instanceOf(b.origin) + recordingsFolder + filepath.ToSlash(name), Path: path, Size: -1}
	if b.holds(it.Key) {
		return []archive.Item{it} // so that the archive does not forget it
	}
	info, err := d.Info()
	if err != nil || info.Mode().Perm()&0o222 != 0 {
		return nil
	}
	it.Since = info.ModTime()
	return []archive.Item{it}
}

// modTime is when a file was written; now where nobody knows.
func modTime(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Now()
	}
	return info.ModTime()
}
