package record

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Entry is what a list says of one recording.
type Entry struct {
	ID     string
	Path   string
	Header Header
	Size   int64 // bytes of the file
	Sealed bool
	Live   bool  // it is being written
	Ended  bool  // it has its end block; then Totals are what that says
	Totals       // of one without end: Records, Blocks and Duration of what is whole
	Err    error // why the file could not be read; then only ID, Path and Size hold
}

// List returns the recordings under dir in the order of their paths, so by
// day. It reads headers and ends, and of recordings without an end the block
// headers; it needs no identity. A file that is no recording is an Entry with
// an Err. The error is about directories that could not be read; what is in
// others is listed all the same.
func List(dir string) ([]Entry, error) {
	var all []Entry
	var unread []error
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			unread = append(unread, err)
			return nil
		}
		if d.Type().IsRegular() && isRecording(d.Name()) {
			all = append(all, Stat(path))
		}
		return nil
	})
	if err = errors.Join(append(unread, err)...); err != nil {
		return all, fmt.Errorf("list recordings: %w", err)
	}
	return all, nil
}

func isRecording(name string) bool {
	return strings.HasPrefix(name, "rec-") && strings.HasSuffix(name, suffix)
}

// Stat returns what List says of the recording at path.
func Stat(path string) Entry {
	e := Entry{Path: path, ID: strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "rec-"), suffix)}
	f, err := os.Open(path)
	if err != nil {
		e.Err = err
		return e
	}
	defer f.Close()
	e.Err = e.read(f)
	return e
}

func (e *Entry) read(f *os.File) error {
	// Before the size is read: a recording that ended in between has its end.
	e.Live = isLocked(f)
	info, err := f.Stat()
	if err != nil {
		return err
	}
	e.Size = info.Size()
	s, err := newScan(f)
	if err != nil {
		return err
	}
	e.Header, e.Sealed = s.header, s.header.Sealed
	if e.Totals, e.Ended = s.tail(e.Size); e.Ended {
		e.Live = false
		return nil
	}
	for err == nil {
		_, _, err = s.next()
	}
	e.Totals, e.Ended = s.total, s.ended
	if !s.ended {
		e.Blocks, e.Duration = s.blocks, s.last
	}
	if err == io.EOF || errors.Is(err, ErrTorn) {
		return nil
	}
	return err
}

// tail reads the end block from the end of a file of a known size.
func (s *scan) tail(size int64) (Totals, bool) {
	n := blockHeaderLen + endPayloadLen
	if s.header.Sealed {
		n += tagLen
	}
	b := make([]byte, n)
	if size-int64(n) < s.offset {
		return Totals{}, false
	}
	if _, err := s.f.ReadAt(b, size-int64(n)); err != nil {
		return Totals{}, false
	}
	h, err := parseBlockHeader(b)
	if err != nil || h.kind != endBlock {
		return Totals{}, false
	}
	t, err := endOf(b, h, s.prefix, s.header.Sealed)
	return t, err == nil
}

// endOf checks a whole end block, but not its tag: that needs an identity.
func endOf(b []byte, h blockHeader, prefix [32]byte, sealed bool) (Totals, error) {
	payload := b[blockHeaderLen:]
	if int(h.length) != len(payload) || crc32.Checksum(payload, castagnoli()) != h.crc {
		return Totals{}, fmt.Errorf("%w: end block", ErrCorrupt)
	}
	if sealed && len(payload) == endPayloadLen+tagLen {
		payload = payload[:endPayloadLen]
	}
	return parseTotals(payload, h, prefix)
}

// isLocked tells whether another has f locked, as the writer of a recording
// does until it closes.
func isLocked(f *os.File) bool {
	err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		unix.Flock(int(f.Fd()), unix.LOCK_UN)
	}
	return err == unix.EWOULDBLOCK
}

// Prefixes returns the SHA-256 of a file's first sizes bytes, in hexadecimal,
// one for each of sizes, which must not fall, and that of the whole file with
// its size last. Where the file is shorter than a size, the error wraps
// ErrTorn and the hashes of what is there come with it.
func Prefixes(f io.Reader, sizes ...int64) ([]Chunk, error) {
	h := sha256.New()
	var chunks []Chunk
	var at int64
	for _, size := range sizes {
		n, err := io.CopyN(h, f, size-at)
		at += n
		if err == io.EOF {
			return append(chunks, chunkOf(h, at)), fmt.Errorf("%w: it has %d bytes, not %d", ErrTorn, at, size)
		}
		if err != nil {
			return chunks, fmt.Errorf("hash recording: %w", err)
		}
		chunks = append(chunks, chunkOf(h, at))
	}
	n, err := io.Copy(h, f)
	if err != nil {
		return chunks, fmt.Errorf("hash recording: %w", err)
	}
	return append(chunks, chunkOf(h, at+n)), nil
}

func chunkOf(h hash.Hash, size int64) Chunk {
	return Chunk{Size: size, SHA256: hex.EncodeToString(h.Sum(nil))}
}
