package record

import (
	"fmt"
	"io"
	"os"
	"sort"
	"time"

	"filippo.io/age"
)

// OpenFile opens the recording at path, as Read does. Close it.
func OpenFile(path string, identities ...age.Identity) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return readFrom(f, f, identities)
}

// readFrom reads in, and closes c when that fails or with the Reader.
func readFrom(in io.Reader, c io.Closer, identities []age.Identity) (*Reader, error) {
	r, err := Read(in, identities...)
	if err != nil {
		c.Close()
		return nil, err
	}
	r.closer = c
	return r, nil
}

// Block is where in a file some records are.
type Block struct {
	Offset      int64 // of the block in the file
	Number      int64 // of the blocks before it
	First, Last time.Duration
	Records     int
}

// Index lists the blocks of a recording from their headers alone; it needs no
// identity and decodes nothing. Where the recording breaks off or is damaged
// it returns the blocks before that, and an error.
func Index(f io.ReaderAt) ([]Block, error) {
	var blocks []Block
	s, err := newScan(f)
	if err != nil {
		return nil, err
	}
	for {
		h, offset, err := s.next()
		if err == io.EOF {
			return blocks, nil
		}
		if err != nil {
			return blocks, err
		}
		blocks = append(blocks, Block{Offset: offset, Number: int64(len(blocks)), First: h.first, Last: h.last, Records: int(h.records)})
	}
}

// Seek makes the record at or after the time the next one. The reader must
// read from a file or another io.ReadSeeker that is an io.ReaderAt. It reads
// block headers, and one block.
func (r *Reader) Seek(at time.Duration) error {
	f, ok := r.in.(interface {
		io.ReaderAt
		io.Seeker
	})
	if !ok {
		return fmt.Errorf("seek in a recording: %T does not seek", r.in)
	}
	blocks, err := Index(f)
	if err != nil && len(blocks) == 0 {
		return err // else the reader meets it where it is
	}
	to := Block{Offset: r.begin}
	if n := sort.Search(len(blocks), func(i int) bool { return blocks[i].Last >= at }); n < len(blocks) {
		to = blocks[n]
	} else if n > 0 {
		to = blocks[n-1]
	}
	if _, err := f.Seek(to.Offset, io.SeekStart); err != nil {
		return fmt.Errorf("seek in a recording: %w", err)
	}
	r.offset, r.index, r.last = to.Offset, uint64(to.Number), 0
	r.seen = Totals{Blocks: to.Number}
	for _, b := range blocks[:to.Number] {
		r.seen.Records += int64(b.Records)
	}
	r.rest, r.left, r.err, r.end, r.from = nil, 0, nil, nil, at
	return nil
}

// scan walks over the block headers of a file. It reads ahead, so that a file
// of many small blocks costs few calls.
type scan struct {
	f      io.ReaderAt
	header Header
	prefix [32]byte

	offset int64 // of the next block
	blocks int64
	last   time.Duration
	buf    []byte
	base   int64 // offset of buf
	total  Totals
	ended  bool
}

const readAhead = 64 << 10

func newScan(f io.ReaderAt) (*scan, error) {
	r := &Reader{in: io.NewSectionReader(f, 0, 1<<62)}
	if err := r.readHeader(); err != nil {
		return nil, err
	}
	return &scan{f: f, header: r.header, prefix: r.prefix, offset: r.begin}, nil
}

// next returns the header of the next block of records, and io.EOF at the end
// block.
func (s *scan) next() (h blockHeader, offset int64, err error) {
	offset = s.offset
	b, err := s.bytes(offset, blockHeaderLen, readAhead)
	if err != nil {
		return h, offset, tornAt(offset, err)
	}
	if h, err = parseBlockHeader(b); err == nil && (h.first < s.last || h.kind == headerBlock) {
		err = fmt.Errorf("%w: block order", ErrCorrupt)
	}
	if err != nil {
		return h, offset, fmt.Errorf("byte %d: %w", offset, err)
	}
	if h.kind == endBlock {
		return h, offset, s.end(h, offset)
	}
	s.offset += blockHeaderLen + int64(h.length)
	// The block's last byte tells whether all of it is there.
	if h.length > 0 {
		want := readAhead
		if h.length > readAhead/4 {
			want = 1 + blockHeaderLen // the next block's: more is not worth it
		}
		if _, err := s.bytes(s.offset-1, 1, want); err != nil {
			s.offset = offset
			return h, offset, tornAt(offset, err)
		}
	}
	s.last = h.last
	s.blocks++
	s.total.Records += int64(h.records)
	return h, offset, nil
}

// end reads the totals of the end block.
func (s *scan) end(h blockHeader, offset int64) error {
	b, err := s.bytes(offset, blockHeaderLen+int(min(h.length, 1024)), readAhead)
	if err != nil {
		return tornAt(offset, err)
	}
	t, err := endOf(b, h, s.prefix, s.header.Sealed)
	if err != nil {
		return fmt.Errorf("byte %d: %w", offset, err)
	}
	s.total, s.ended = t, true
	s.offset += blockHeaderLen + int64(h.length)
	return io.EOF
}

// bytes returns n bytes at an offset; they are valid until the next call. It
// reads want bytes where it has to read.
func (s *scan) bytes(at int64, n, want int) ([]byte, error) {
	if from := at - s.base; from >= 0 && from+int64(n) <= int64(len(s.buf)) {
		return s.buf[from : from+int64(n)], nil
	}
	if s.buf == nil {
		s.buf = make([]byte, readAhead)
	}
	s.buf = s.buf[:want]
	m, err := s.f.ReadAt(s.buf, at)
	s.buf, s.base = s.buf[:m], at
	if m >= n {
		return s.buf[:n], nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return nil, err
}
