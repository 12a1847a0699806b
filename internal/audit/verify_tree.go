package audit

import (
	"bufio"
	"errors"
	"io"
	"math/bits"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// tree is the right edge of an RFC 6962 tree: enough to add leaves and to know
// the root after each.
type tree struct {
	size  int64
	edge  []tlog.Hash // of the full subtrees, the largest first: one for each bit of size
	fresh []tlog.Hash // what the last leaf added to hashes.bin: itself and the nodes it completed
}

func (t *tree) add(leaf tlog.Hash) {
	t.fresh = append(t.fresh[:0], leaf)
	h := leaf
	for range bits.TrailingZeros64(^uint64(t.size)) {
		last := len(t.edge) - 1
		h = tlog.NodeHash(t.edge[last], h)
		t.edge = t.edge[:last]
		t.fresh = append(t.fresh, h)
	}
	t.edge = append(t.edge, h)
	t.size++
}

func (t *tree) root() tlog.Hash {
	if t.size == 0 {
		return emptyRoot
	}
	h := t.edge[len(t.edge)-1]
	for i := len(t.edge) - 2; i >= 0; i-- {
		h = tlog.NodeHash(t.edge[i], h)
	}
	return h
}

func (t *tree) clone() tree {
	return tree{size: t.size, edge: slices.Clone(t.edge)}
}

// hashStream reads hashes.bin in its order, which is that in which the tree
// makes the hashes.
type hashStream struct {
	file  *os.File
	in    *bufio.Reader
	count int64 // whole hashes that were there when it was opened
	torn  int64 // bytes after them
	next  int64 // index of the hash to read
}

// openHashes returns nil where there is no hashes.bin.
func openHashes(dir string) (*hashStream, error) {
	f, err := os.Open(filepath.Join(dir, hashesFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &hashStream{file: f, in: bufio.NewReaderSize(f, 64<<10), count: info.Size() / hashSize, torn: info.Size() % hashSize}, nil
}

// read returns false when there are no more, or the next one was never written.
func (s *hashStream) read() (h tlog.Hash, ok bool, err error) {
	if s == nil || s.next >= s.count {
		return h, false, nil
	}
	if _, err := io.ReadFull(s.in, h[:]); err != nil {
		return h, false, err
	}
	if h == (tlog.Hash{}) { // a hole in the file
		s.count = s.next
		return h, false, nil
	}
	s.next++
	return h, true, nil
}

func (s *hashStream) close() {
	if s != nil {
		s.file.Close()
	}
}
