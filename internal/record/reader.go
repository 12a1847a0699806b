package record

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Record is one thing that happened in a session.
type Record struct {
	At   time.Duration // since the header's Started
	Kind Kind
	Data []byte // valid until the reader goes on
}

// Reader reads one recording. It holds at most a few MiB, whatever the file
// says. It is not safe for concurrent use.
type Reader struct {
	in     io.Reader
	header Header
	prefix [32]byte
	sealer *sealer
	zstd   *zstd.Decoder
	closer io.Closer

	offset int64 // in the file, of what is read next
	begin  int64 // offset of the first block after the header
	index  uint64
	last   time.Duration // of the block before
	seen   Totals
	end    *Totals
	err    error // that ended the reading

	stored []byte // a block as it is in the file
	plain  []byte // decompressed
	block  blockHeader
	rest   []byte // records of the block that were not returned yet
	left   uint32 // how many
	at     time.Duration
	from   time.Duration // records before it are passed over
}

// Read reads the header of a recording. A sealed one needs an identity that
// opens it: the error wraps ErrSealed when none was given and ErrIdentity when
// none of them fits. ErrNotRecording, ErrVersion, ErrTorn and ErrCorrupt say
// what else is wrong.
func Read(in io.Reader, identities ...age.Identity) (*Reader, error) {
	r := &Reader{in: in}
	if err := r.readHeader(); err != nil {
		return nil, err
	}
	if !r.header.Sealed {
		return r, nil
	}
	key, err := unwrapKey(r.header.SealedKey, identities)
	if err != nil {
		return nil, err
	}
	r.sealer, err = newSealer(key, r.prefix)
	return r, err
}

// ReadHeader reads the header of a recording alone; it needs no identity.
func ReadHeader(in io.Reader) (Header, error) {
	r := &Reader{in: in}
	err := r.readHeader()
	return r.header, err
}

func (r *Reader) readHeader() error {
	start := make([]byte, len(magic)+blockHeaderLen)
	n, err := io.ReadFull(r.in, start)
	m := min(n, len(magic)-1)
	if string(start[:m]) != magic[:m] || n == 0 && torn(err) {
		return ErrNotRecording
	}
	if n >= len(magic) && start[len(magic)-1] != magic[len(magic)-1] {
		return fmt.Errorf("%w: %d", ErrVersion, start[len(magic)-1])
	}
	if err != nil {
		return tornAt(0, err)
	}
	h, err := parseBlockHeader(start[len(magic):])
	if err != nil {
		return err
	}
	if h.kind != headerBlock || h.length > maxHeader || h.length != h.raw || h.codec != codecStored {
		return fmt.Errorf("%w: no header", ErrCorrupt)
	}
	text := make([]byte, h.length)
	if _, err := io.ReadFull(r.in, text); err != nil {
		return tornAt(0, err)
	}
	if crc32.Checksum(text, castagnoli()) != h.crc {
		return fmt.Errorf("%w: header checksum", ErrCorrupt)
	}
	if err := json.Unmarshal(text, &r.header); err != nil {
		return fmt.Errorf("%w: header: %w", ErrCorrupt, err)
	}
	r.prefix = sha256.Sum256(append(start, text...))
	r.offset = int64(len(start) + len(text))
	r.begin = r.offset
	return nil
}

// Header says whose recording it is.
func (r *Reader) Header() Header { return r.header }

// End returns what the end block says; ok is false until Next returned io.EOF.
func (r *Reader) End() (t Totals, ok bool) {
	if r.end == nil {
		return Totals{}, false
	}
	return *r.end, true
}

// Close frees what the reader holds, and closes the file where Open or Follow
// opened it.
func (r *Reader) Close() error {
	if r.zstd != nil {
		r.zstd.Close()
		r.zstd = nil
	}
	if r.closer == nil {
		return nil
	}
	return r.closer.Close()
}

// Records returns what Next does, up to the end of the recording, which is no
// error.
func (r *Reader) Records() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for {
			rec, err := r.Next()
			if err == io.EOF || !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

// Next returns the next record, and io.EOF after the end block. Where a
// recording breaks off, all that is whole comes before an error that wraps
// ErrTorn; damage is ErrCorrupt. After an error it returns that error again.
func (r *Reader) Next() (Record, error) {
	for r.err == nil {
		for r.left > 0 {
			rec, err := r.cut()
			if err != nil {
				r.err = fmt.Errorf("block before byte %d: %w", r.offset, err)
				return Record{}, r.err
			}
			if rec.At >= r.from {
				return rec, nil
			}
		}
		r.err = r.nextBlock()
	}
	return Record{}, r.err
}

// cut takes the next record off the block.
func (r *Reader) cut() (Record, error) {
	k, since, data, rest, err := cutRecord(r.rest)
	if err != nil {
		return Record{}, err
	}
	if since > r.block.last-r.at {
		return Record{}, fmt.Errorf("%w: record time", ErrCorrupt)
	}
	r.at += since
	r.rest = rest
	r.left--
	if r.left == 0 && len(rest) > 0 {
		return Record{}, fmt.Errorf("%w: %d bytes after the last record", ErrCorrupt, len(rest))
	}
	return Record{At: r.at, Kind: k, Data: data}, nil
}

// nextBlock reads, checks and opens the next block.
func (r *Reader) nextBlock() error {
	at := r.offset
	var head [blockHeaderLen]byte
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		return tornAt(at, err)
	}
	h, err := parseBlockHeader(head[:])
	if err != nil {
		return fmt.Errorf("byte %d: %w", at, err)
	}
	if r.stored, err = readBytes(r.in, r.stored, int(h.length)); err != nil {
		return tornAt(at, err)
	}
	r.offset += int64(blockHeaderLen) + int64(h.length)
	if err := r.openBlock(h, head[:]); err != nil {
		if err == io.EOF {
			return err
		}
		return fmt.Errorf("block at byte %d: %w", at, err)
	}
	return nil
}

// openBlock checks a block that was read and makes its records the next ones;
// of the end block it returns io.EOF.
func (r *Reader) openBlock(h blockHeader, head []byte) error {
	if crc32.Checksum(r.stored, castagnoli()) != h.crc {
		return fmt.Errorf("%w: checksum", ErrCorrupt)
	}
	if h.first < r.last {
		return fmt.Errorf("%w: time goes back", ErrCorrupt)
	}
	r.last = h.last
	switch h.kind {
	case dataBlock:
		return r.openData(h, head)
	case endBlock:
		return r.openEnd(h, head)
	}
	return fmt.Errorf("%w: a second header", ErrCorrupt)
}

func (r *Reader) openData(h blockHeader, head []byte) error {
	payload := r.stored
	if r.sealer != nil {
		var err error
		if payload, err = r.sealer.open(head, payload, r.index); err != nil {
			return err
		}
	}
	plain, err := r.decompress(h, payload)
	if err != nil {
		return err
	}
	if len(plain) != int(h.raw) {
		return fmt.Errorf("%w: %d bytes where %d were said", ErrCorrupt, len(plain), h.raw)
	}
	r.block, r.rest, r.left, r.at = h, plain, h.records, h.first
	r.index++
	r.seen.Blocks++
	r.seen.Records += int64(h.records)
	if h.records == 0 && len(plain) > 0 {
		return fmt.Errorf("%w: bytes without a record", ErrCorrupt)
	}
	return nil
}

// openEnd reads the end block. Its totals show blocks that were taken out.
func (r *Reader) openEnd(h blockHeader, head []byte) error {
	payload, err := openTotals(r.sealer, head, r.stored, r.index)
	if err != nil {
		return err
	}
	t, err := parseTotals(payload, h, r.prefix)
	if err != nil {
		return err
	}
	if t.Blocks != r.seen.Blocks || t.Records != r.seen.Records {
		return fmt.Errorf("%w: %d blocks are there, %d were written", ErrCorrupt, r.seen.Blocks, t.Blocks)
	}
	r.end = &t
	return io.EOF
}

// openTotals takes the tag off a sealed end block's payload and checks it.
func openTotals(s *sealer, head, payload []byte, index uint64) ([]byte, error) {
	if s == nil {
		return payload, nil
	}
	if len(payload) != endPayloadLen+tagLen {
		return nil, fmt.Errorf("%w: end block", ErrCorrupt)
	}
	payload, tag := payload[:endPayloadLen], payload[endPayloadLen:]
	if !s.signed(head, payload, tag, index) {
		return nil, fmt.Errorf("%w: end block does not authenticate", ErrCorrupt)
	}
	return payload, nil
}

// decompress returns what payload holds, which is not more than the header
// said, and that is bounded.
func (r *Reader) decompress(h blockHeader, payload []byte) (plain []byte, err error) {
	switch h.codec {
	case codecStored:
		return payload, nil
	case codecSnappy:
		n, err := s2.DecodedLen(payload)
		if err != nil || n != int(h.raw) {
			return nil, fmt.Errorf("%w: snappy length", ErrCorrupt)
		}
		plain, err = s2.Decode(r.room(n), payload)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return plain, nil
	}
	if r.zstd == nil {
		r.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(maxPayload), zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
	}
	plain, err = r.zstd.DecodeAll(payload, r.room(int(h.raw))[:0])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return plain, nil
}

// room returns n bytes that hold a decompressed block; their capacity is n.
func (r *Reader) room(n int) []byte {
	if cap(r.plain) < n {
		r.plain = make([]byte, n)
	}
	return r.plain[:n:n]
}

// readBytes reads n bytes into b, which grows as they come: a length that lies
// costs no more memory than the file has bytes.
func readBytes(in io.Reader, b []byte, n int) ([]byte, error) {
	const step = 128 << 10
	b = b[:0]
	for len(b) < n {
		more := min(step, n-len(b))
		if cap(b)-len(b) < more {
			b = append(make([]byte, 0, min(n, max(2*cap(b), len(b)+more))), b...)
		}
		m, err := io.ReadFull(in, b[len(b):len(b)+more])
		b = b[:len(b)+m]
		if err != nil {
			return b, err
		}
	}
	return b, nil
}

func torn(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func tornAt(offset int64, err error) error {
	if torn(err) {
		return fmt.Errorf("%w at byte %d", ErrTorn, offset)
	}
	return fmt.Errorf("read recording: %w", err)
}
