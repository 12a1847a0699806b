package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"
)

// What a reader may find wrong. Errors wrap these.
var (
	ErrNotRecording = errors.New("not a recording")
	ErrVersion      = errors.New("a version of the format that is not known")
	ErrTorn         = errors.New("the recording breaks off")
	ErrCorrupt      = errors.New("the recording is damaged")
	ErrSealed       = errors.New("the recording is sealed and no identity was given")
	ErrIdentity     = errors.New("the recording is sealed to other identities")
)

// magic begins each file; its last byte is the version. The line ends in it
// break when a transfer changes line ends.
const magic = "PREC\r\n\x1a\x01"

const (
	blockHeaderLen = 40
	authenticated  = 32 // of a block header's bytes: those before the checksums
	endPayloadLen  = 80
	tagLen         = 16 // of AES-GCM

	maxRecord  = 1 << 20                     // bytes of one record's data
	maxPayload = maxRecord + 128*1024        // of a block, before it is compressed
	maxHeader  = 1 << 20                     // bytes of the JSON header
	maxStored  = maxPayload + 64*1024        // of a block in the file
	recordHead = 1 + 2*binary.MaxVarintLen64 // kind, time, length
)

// The types of blocks.
const (
	headerBlock = 'H'
	dataBlock   = 'D'
	endBlock    = 'E'
)

// How a block's payload is stored.
const (
	codecStored = 0
	codecZstd   = 1
	codecSnappy = 2
)

// blockHeader stands before each block's payload.
type blockHeader struct {
	kind    byte
	codec   byte
	length  uint32 // of the payload in the file
	raw     uint32 // of the payload once it is decrypted and decompressed
	records uint32
	first   time.Duration // of the block's records, since the start
	last    time.Duration
	crc     uint32 // of the payload in the file
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// put writes h without its checksums to b, which has room for a block header.
func (h *blockHeader) put(b []byte) {
	b[0], b[1], b[2], b[3] = h.kind, h.codec, 0, 0
	binary.LittleEndian.PutUint32(b[4:], h.length)
	binary.LittleEndian.PutUint32(b[8:], h.raw)
	binary.LittleEndian.PutUint32(b[12:], h.records)
	binary.LittleEndian.PutUint64(b[16:], uint64(h.first))
	binary.LittleEndian.PutUint64(b[24:], uint64(h.last))
}

// finish writes the checksums of a whole block: header, then payload.
func finish(block []byte) {
	table := castagnoli()
	binary.LittleEndian.PutUint32(block[32:], crc32.Checksum(block[blockHeaderLen:], table))
	binary.LittleEndian.PutUint32(block[36:], crc32.Checksum(block[:36], table))
}

// parseBlockHeader reads a block header and checks it, so that what follows
// may trust its lengths to be bounded.
func parseBlockHeader(b []byte) (blockHeader, error) {
	if crc32.Checksum(b[:36], castagnoli()) != binary.LittleEndian.Uint32(b[36:]) {
		return blockHeader{}, fmt.Errorf("%w: block header checksum", ErrCorrupt)
	}
	h := blockHeader{
		kind:    b[0],
		codec:   b[1],
		length:  binary.LittleEndian.Uint32(b[4:]),
		raw:     binary.LittleEndian.Uint32(b[8:]),
		records: binary.LittleEndian.Uint32(b[12:]),
		first:   time.Duration(binary.LittleEndian.Uint64(b[16:])),
		last:    time.Duration(binary.LittleEndian.Uint64(b[24:])),
		crc:     binary.LittleEndian.Uint32(b[32:]),
	}
	return h, h.check(b[2:4])
}

// check refuses what no writer writes.
func (h *blockHeader) check(reserved []byte) error {
	limit := uint32(maxStored)
	switch {
	case h.kind != headerBlock && h.kind != dataBlock && h.kind != endBlock:
		return fmt.Errorf("%w: block of type %#x", ErrCorrupt, h.kind)
	case h.codec > codecSnappy || !bytes.Equal(reserved, []byte{0, 0}):
		return fmt.Errorf("%w: block flags", ErrCorrupt)
	case h.length > limit || h.raw > maxPayload:
		return fmt.Errorf("%w: block of %d bytes", ErrCorrupt, max(h.length, h.raw))
	case h.first < 0 || h.last < h.first:
		return fmt.Errorf("%w: block times", ErrCorrupt)
	}
	return nil
}

// appendRecord appends one record; since is the time since the record before
// it in the block, or since the block's first.
func appendRecord(b []byte, k Kind, since time.Duration, p []byte) []byte {
	b = append(b, byte(k))
	b = binary.AppendUvarint(b, uint64(since))
	b = binary.AppendUvarint(b, uint64(len(p)))
	return append(b, p...)
}

// cutRecord takes one record off b. Its data is part of b.
func cutRecord(b []byte) (k Kind, since time.Duration, data, rest []byte, err error) {
	if len(b) == 0 {
		return 0, 0, nil, nil, fmt.Errorf("%w: a record is missing", ErrCorrupt)
	}
	k, b = Kind(b[0]), b[1:]
	d, n := binary.Uvarint(b)
	if n <= 0 || d > math.MaxInt64 {
		return 0, 0, nil, nil, fmt.Errorf("%w: record time", ErrCorrupt)
	}
	b = b[n:]
	size, n := binary.Uvarint(b)
	if n <= 0 || size > maxRecord || size > uint64(len(b)-n) {
		return 0, 0, nil, nil, fmt.Errorf("%w: record length", ErrCorrupt)
	}
	end := n + int(size)
	return k, time.Duration(d), b[n:end:end], b[end:], nil
}

// appendTotals appends the payload of an end block.
func appendTotals(b []byte, prefix [32]byte, t Totals) []byte {
	b = append(b, prefix[:]...)
	var complete uint64
	if t.Complete {
		complete = 1
	}
	for _, v := range []uint64{complete, uint64(t.Stdout), uint64(t.Stderr), uint64(t.Stdin), uint64(t.Records), uint64(t.Blocks)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// parseTotals reads the payload of an end block. prefix is the hash of the
// file up to its first block; without it, output that looks like an end block
// could pass for one where a file was cut off.
func parseTotals(b []byte, h blockHeader, prefix [32]byte) (Totals, error) {
	if len(b) != endPayloadLen || !bytes.Equal(b[:32], prefix[:]) {
		return Totals{}, fmt.Errorf("%w: end block of another recording", ErrCorrupt)
	}
	at := func(i int) int64 { return int64(binary.LittleEndian.Uint64(b[32+8*i:])) }
	t := Totals{Complete: at(0) == 1, Stdout: at(1), Stderr: at(2), Stdin: at(3), Records: at(4), Blocks: at(5), Duration: h.last}
	if at(0)>>1 != 0 || min(t.Stdout, t.Stderr, t.Stdin, t.Records, t.Blocks) < 0 {
		return Totals{}, fmt.Errorf("%w: end block", ErrCorrupt)
	}
	return t, nil
}
