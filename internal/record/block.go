package record

import (
	"errors"
	"fmt"
	"os"

	"github.com/klauspost/compress/s2"
	"golang.org/x/sys/unix"
)

const (
	// reserveEnd is kept free beyond the file's end: a block that was
	// acknowledged and the end block fit in, when the disk is full.
	reserveEnd = fullBlock + maxPiece + 16<<10
	// reserveStep is asked for beyond that, so that most blocks ask for none.
	reserveStep = 16 << 10
	// reserveBulk is asked for by a recording that fills whole blocks.
	reserveBulk = 2 << 20
)

// streams counts bytes by stream.
type streams struct{ stdout, stderr, stdin int64 }

func (s *streams) add(k Kind, n int) {
	switch k {
	case Stdout:
		s.stdout += int64(n)
	case Stderr:
		s.stderr += int64(n)
	case Stdin:
		s.stdin += int64(n)
	}
}

// flush writes what is pending as one block; mu is held. full says that the
// block filled up before its time: bulk, for which speed matters most.
func (w *Writer) flush(full bool) error {
	if w.count == 0 {
		w.dropPending()
		return nil
	}
	raw := w.pending.b
	out := w.store.buffers.get(blockHeaderLen + s2.MaxEncodedLen(len(raw)) + tagLen)
	defer w.store.buffers.give(out)
	head := blockHeader{kind: dataBlock, raw: uint32(len(raw)), records: uint32(w.count), first: w.first, last: w.last}
	out.b = out.b[:blockHeaderLen]
	out.b, head.codec = w.store.compress(out.b, raw, full)
	out.b = w.frame(head, out.b, uint64(w.totals.Blocks))
	step := int64(reserveStep)
	if full {
		step = reserveBulk
	}
	if err := w.put(out.b, step); err != nil {
		return err
	}
	w.countBlock()
	w.pending.b = raw[:0]
	if !full {
		w.dropPending()
	}
	return w.failure // the block is in the file, but there may be no more
}

// countBlock adds what was pending to the totals.
func (w *Writer) countBlock() {
	w.totals.Blocks++
	w.totals.Records += w.count
	w.totals.Stdout += w.held.stdout
	w.totals.Stderr += w.held.stderr
	w.totals.Stdin += w.held.stdin
	w.count, w.held = 0, streams{}
}

// compress appends raw to b in the form that suits it. Bulk gets snappy, which
// costs a quarter of zstd's time; both find out quickly what won't shrink.
func (s *Store) compress(b, raw []byte, bulk bool) ([]byte, byte) {
	head := len(b)
	codec := byte(codecZstd)
	if bulk {
		codec = codecSnappy
		b = b[:head+len(s2.EncodeSnappy(b[head:cap(b)], raw))]
	} else {
		b = s.zstd.EncodeAll(raw, b)
	}
	if len(b)-head < len(raw) {
		return b, codec
	}
	return append(b[:head], raw...), codecStored
}

// frame makes a block of b, which is room for a header and then a payload.
func (w *Writer) frame(head blockHeader, b []byte, index uint64) []byte {
	head.length = uint32(len(b) - blockHeaderLen)
	if w.sealer != nil {
		head.length += tagLen
	}
	head.put(b)
	if w.sealer != nil {
		b = b[:blockHeaderLen+len(w.sealer.seal(b[:blockHeaderLen], b[blockHeaderLen:], index))]
	}
	finish(b)
	return b
}

// putEnd writes the end block; mu is held.
func (w *Writer) putEnd() error {
	b := make([]byte, blockHeaderLen, blockHeaderLen+endPayloadLen+tagLen)
	b = appendTotals(b, w.prefix, w.totals)
	head := blockHeader{kind: endBlock, length: endPayloadLen, raw: endPayloadLen, first: w.last, last: w.last}
	if w.sealer != nil {
		head.length += tagLen
	}
	head.put(b)
	if w.sealer != nil {
		b = append(b, w.sealer.sign(b[:blockHeaderLen], b[blockHeaderLen:], uint64(w.totals.Blocks))...)
	}
	finish(b)
	return w.write(b)
}

// put writes b at the file's end and keeps space reserved beyond it. When there
// is none to reserve, b still goes into what was, and the recording fails; put
// returns an error only where b is not in the file.
func (w *Writer) put(b []byte, step int64) error {
	space := w.reserve(w.size+int64(len(b)), step)
	if err := w.write(b); err != nil {
		return w.fail(err)
	}
	if space != nil {
		w.fail(space)
	}
	return nil
}

func (w *Writer) write(b []byte) error {
	// At its place, not at the end: what a failed write left is written over.
	if _, err := w.file.WriteAt(b, w.size); err != nil {
		return spaceError(err)
	}
	w.sum.Write(b)
	w.size += int64(len(b))
	if !w.dirty {
		w.dirty = true
		w.store.queue.syncLater(w)
	}
	return nil
}

// reserve sees that the file has room up to end and reserveEnd beyond it. A
// file system that reserves nothing is no error: there a full disk is found by
// the write.
func (w *Writer) reserve(end, step int64) error {
	if w.reserved >= end+reserveEnd {
		return nil
	}
	err := w.reserveTo(end + reserveEnd + step)
	if errors.Is(err, ErrSpace) {
		err = w.reserveTo(end + reserveEnd) // what must be
	}
	return err
}

func (w *Writer) reserveTo(upTo int64) error {
	err := spaceError(fallocate(int(w.file.Fd()), w.size, upTo-w.size))
	if errors.Is(err, ErrSpace) {
		return err
	}
	w.reserved = upTo // or a file system that can't: then it is not asked again so soon
	return nil
}

// spaceError marks an error that says that no space is left.
func spaceError(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
		return fmt.Errorf("%w: %w", ErrSpace, err)
	}
	return err
}

func fallocate(fd int, from, n int64) error {
	for {
		err := unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, from, n)
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("fallocate", err)
		}
	}
}
