package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
)

// survey is what a directory's segments hold, and what has to be done to them.
// Making it changes nothing.
type survey struct {
	segments []stored
	empty    []string       // segments after them, made by a crash
	good     map[string]end // of those whose end is to be cut off
	last     end            // of the newest segment
}

// surveySegments reads the newest segment whole, and of each older one its
// first and last line.
func surveySegments(dir string) (*survey, error) {
	segments, err := listSegments(dir)
	if err != nil {
		return nil, err
	}
	s := &survey{segments: segments, good: make(map[string]end)}
	// A crash between making a segment and its first event leaves an empty one.
	// Without it the log is as it was, and rotates again.
	for n := len(s.segments); n > 1 && isEmpty(s.segments[n-1].path); n = len(s.segments) {
		s.empty = append(s.empty, s.segments[n-1].path)
		s.segments = s.segments[:n-1]
	}
	for i := range len(s.segments) - 1 {
		if err := s.checkClosed(s.segments[i], s.segments[i+1]); err != nil {
			return nil, err
		}
	}
	return s, s.readNewest()
}

func isEmpty(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() == 0
}

// checkClosed checks that next continues closed.
func (s *survey) checkClosed(closed, next stored) error {
	if err := checkEnds(closed, next.first); err == nil {
		return nil
	}
	// Lines that failed to become durable may have outlived a log.failure.
	head, err := firstRecord(next)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(closed.path)
	if err != nil {
		return fmt.Errorf("read audit segment: %w", err)
	}
	end, err := findEnd(closed, data, next.first)
	if err != nil {
		return err
	}
	if end.next != next.first || head.Code != LogFailure {
		return damaged(closed.path, end.size, fmt.Errorf("it ends before event %d, and %s begins with event %d", end.next, filepath.Base(next.path), next.first))
	}
	s.good[closed.path] = end
	return nil
}

func (s *survey) readNewest() error {
	newest, ok := s.newest()
	if !ok {
		return nil
	}
	var err error
	if s.last, err = readEnd(newest); err != nil {
		return err
	}
	if len(s.last.torn) > 0 {
		s.good[newest.path] = s.last
	}
	return nil
}

func (s *survey) newest() (stored, bool) {
	if len(s.segments) == 0 {
		return stored{}, false
	}
	return s.segments[len(s.segments)-1], true
}

// leaves hashes the events of segments, each on a processor of its own.
func (s *survey) leaves(of []stored) ([]tlog.Hash, error) {
	hashed := make([][]tlog.Hash, len(of))
	errs := make([]error, len(of))
	var all sync.WaitGroup
	for i, segment := range of {
		all.Go(func() {
			var lines []byte
			lines, errs[i] = s.lines(segment)
			for len(lines) > 0 {
				var line []byte
				line, lines, _ = bytes.Cut(lines, []byte("\n"))
				hashed[i] = append(hashed[i], tlog.RecordHash(line))
			}
		})
	}
	all.Wait()
	return slices.Concat(hashed...), errors.Join(errs...)
}

// lines reads the whole events of a segment.
func (s *survey) lines(of stored) ([]byte, error) {
	data, err := os.ReadFile(of.path)
	if err != nil {
		return nil, fmt.Errorf("read audit segment: %w", err)
	}
	if end, ok := s.good[of.path]; ok {
		data = data[:min(end.size, int64(len(data)))]
	}
	return data, nil
}

// grown is the tree over a log's lines. hashes are those that hashes.bin must
// hold from index base on; what is before has proven true.
type grown struct {
	tree   tree
	base   int64
	hashes []byte
}

// grow makes the tree and checks that the newest checkpoint is of it. What
// hashes.bin says of older segments is enough if it leads to the root that was
// signed, and otherwise all segments are read.
func (s *survey) grow(dir string, c *claim) (*grown, error) {
	if s.last.next < c.newest.Size {
		return nil, refuse(ErrTruncated, dir, fmt.Errorf("it holds %d events, and a checkpoint was signed of %d", s.last.next, c.newest.Size))
	}
	if len(s.segments) == 0 {
		return &grown{}, nil
	}
	f, err := os.Open(filepath.Join(dir, hashesFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the hashes of the audit log: %w", err)
	}
	defer f.Close() // of nil does nothing
	// The last segment that begins within what was signed.
	from := sort.Search(len(s.segments), func(i int) bool { return s.segments[i].first > c.newest.Size }) - 1
	g, err := s.growFrom(max(from, 0), f, c)
	if err != nil && from > 0 {
		g, err = s.growFrom(0, f, c)
	}
	if err != nil {
		return nil, refuse(ErrRewritten, dir, err)
	}
	return g, nil
}

// growFrom makes the tree of the lines from segment i on, and of hashes before.
func (s *survey) growFrom(i int, hashes *os.File, c *claim) (*grown, error) {
	t, err := loadTree(s.segments[i].first, hashes)
	if err != nil {
		return nil, fmt.Errorf("what %s says of the events before %d can't be used: %w", hashesFile, s.segments[i].first, err)
	}
	g := &grown{tree: t, base: tlog.StoredHashCount(t.size)}
	proven := g.proves(c)
	for some := range slices.Chunk(s.segments[i:], runtime.GOMAXPROCS(0)) {
		leaves, err := s.leaves(some)
		if err != nil {
			return nil, err
		}
		for _, leaf := range leaves {
			g.hashes = g.tree.appendLeaf(g.hashes, leaf)
			proven = proven || g.proves(c)
		}
	}
	if !proven {
		return nil, fmt.Errorf("the first %d events don't make the root that was signed of them", c.newest.Size)
	}
	return g, nil
}

// proves says whether the tree is the one that was signed last.
func (g *grown) proves(c *claim) bool {
	return g.tree.size == c.newest.Size && (c.origin == "" || g.tree.root() == c.newest.Root)
}

// loadTree reads the edge of the tree of that size from hashes.bin.
func loadTree(size int64, hashes *os.File) (tree, error) {
	t := tree{size: size}
	if size == 0 {
		return t, nil
	}
	if hashes == nil {
		return t, fs.ErrNotExist
	}
	var indexes []int64
	for lo := int64(0); lo < size; {
		level := 0
		for lo+int64(2)<<level <= size {
			level++
		}
		indexes = append(indexes, tlog.StoredHashIndex(level, lo>>level))
		lo += int64(1) << level
	}
	var err error
	t.edge, err = storedHashes{hashes}.ReadHashes(indexes)
	return t, err
}

// write makes hashes.bin hold what the tree says.
func (g *grown) write(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("write the hashes of the audit log: %w", err)
	}
	if err := g.writeTo(f); err != nil {
		return errors.Join(fmt.Errorf("write the hashes of the audit log: %w", err), f.Close())
	}
	return f.Close()
}

func (g *grown) writeTo(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	start := g.base * hashSize
	held := make([]byte, len(g.hashes))
	if n, _ := f.ReadAt(held, start); n == len(held) && bytes.Equal(held, g.hashes) && info.Size() == start+int64(n) {
		return f.Sync()
	}
	if err := f.Truncate(start); err != nil {
		return err
	}
	if _, err := f.WriteAt(g.hashes, start); err != nil {
		return err
	}
	return f.Sync()
}

// apply does to the segments what the survey found necessary.
func (s *survey) apply(l *Log) error {
	for _, path := range s.empty {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove an empty audit segment: %w", err)
		}
	}
	for _, segment := range s.segments {
		end, ok := s.good[segment.path]
		if !ok {
			continue
		}
		if err := l.cutOff(segment.path, end); err != nil {
			return err
		}
	}
	return nil
}
