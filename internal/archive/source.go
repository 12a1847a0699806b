package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"io"
	"os"
	"strconv"
	"syscall"
)

// Parts of an upload. S3 takes at most 10,000 of at least 5 MiB.
const (
	smallestPart = 8 << 20
	mostParts    = 10_000
)

// partSize is the size of the parts, but the last, in which an object of size
// bytes is uploaded. Who reads it back must come to the same: its checksum is
// one of the checksums of its parts.
func partSize(size int64) int64 {
	n := int64(smallestPart)
	for n*mostParts < size {
		n *= 2
	}
	return n
}

// source is where the bytes of an item come from.
type source struct {
	io.ReaderAt
	file   *os.File // nil = they are in memory
	offset int64
	size   int64
	toEnd  bool // it is all of the file from offset on
}

// open finds the item's bytes. Its error is a *failure.
func (it Item) open() (*source, error) {
	if it.Path == "" {
		return &source{ReaderAt: bytes.NewReader(it.Data), size: int64(len(it.Data))}, nil
	}
	// A FIFO in its place must not hold up the others.
	f, err := os.OpenFile(it.Path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, &failure{reasonFile, err}
	}
	size, err := it.sizeIn(f)
	if err != nil {
		f.Close() // only read
		return nil, &failure{reasonFile, err}
	}
	return &source{ReaderAt: f, file: f, offset: it.Offset, size: size, toEnd: it.Size < 0}, nil
}

// sizeIn is how many bytes of f the item has.
func (it Item) sizeIn(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	rest := info.Size() - it.Offset
	switch {
	case !info.Mode().IsRegular():
		return 0, fmt.Errorf("%s is no regular file", it.Path)
	case it.Offset < 0 || rest < 0 || rest < it.Size:
		return 0, fmt.Errorf("%s has only %d bytes: it was cut short", it.Path, info.Size())
	case it.Size >= 0:
		return it.Size, nil
	}
	return rest, nil
}

func (s *source) close() {
	if s.file != nil {
		s.file.Close() // only read
	}
}

// part fills buf with the bytes from off on, as many as there are.
func (s *source) part(buf []byte, off int64) ([]byte, error) {
	buf = buf[:min(int64(len(buf)), s.size-off)]
	if n, err := s.ReadAt(buf, s.offset+off); n < len(buf) {
		return nil, &failure{reasonFile, fmt.Errorf("read from %d on: %w", s.offset+off, err)}
	}
	if s.toEnd && off+int64(len(buf)) == s.size {
		return buf, s.unchanged()
	}
	return buf, nil
}

// unchanged is an error if the file has got another size since open.
func (s *source) unchanged() error {
	info, err := s.file.Stat()
	if err != nil {
		return &failure{reasonFile, err}
	}
	if info.Size() != s.offset+s.size {
		return &failure{reasonFile, fmt.Errorf("%s has grown to %d bytes while it was read: it was not ready", s.file.Name(), info.Size())}
	}
	return nil
}

// digest makes the checksum that S3 has of an object of size bytes: base64 of
// its SHA-256, or where it comes in parts, of the SHA-256 of those of the parts,
// with "-" and their number.
type digest struct {
	part   hash.Hash // of the part that is not whole yet
	left   int64     // bytes that it lacks
	size   int64     // of a part
	whole  hash.Hash // of the checksums of the parts
	parts  int
	single bool
}

func newDigest(size int64) *digest {
	n := partSize(size)
	return &digest{part: sha256.New(), left: n, size: n, whole: sha256.New(), single: size <= n}
}

// Write takes the next bytes. It never fails.
func (d *digest) Write(p []byte) (int, error) {
	written := len(p)
	for !d.single && int64(len(p)) >= d.left {
		d.part.Write(p[:d.left])
		p = p[d.left:]
		d.endPart()
	}
	d.part.Write(p)
	d.left -= int64(len(p))
	return written, nil
}

func (d *digest) endPart() {
	d.whole.Write(d.part.Sum(nil))
	d.part.Reset()
	d.left = d.size
	d.parts++
}

// String is the checksum of all that was written. Nothing may follow it.
func (d *digest) String() string {
	if d.single {
		return encode(d.part.Sum(nil))
	}
	if d.left < d.size {
		d.endPart()
	}
	return encode(d.whole.Sum(nil)) + "-" + strconv.Itoa(d.parts)
}

func encode(sum []byte) string { return base64.StdEncoding.EncodeToString(sum) }
