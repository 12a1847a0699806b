package files

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
)

// What is held of data that came before its turn. 64 requests of 32 KiB, the
// depth of OpenSSH's clients, fit.
const (
	maxHeld   = 2<<20 + 64*pieceCost // bytes, all files of a stream together
	maxPieces = 128                  // of one file
	pieceCost = 64                   // bytes that a piece takes beside its data
)

// window is what all files of a stream may hold together.
type window struct{ used int }

// ordered hashes data by offset: what comes in its turn at once, what comes a
// little early once its turn has come. After a gap that did not close within
// the window, or data that came twice, it stops: the hash is then of what moved
// in order up to there.
type ordered struct {
	sum    hash.Hash // nil until the first byte in order
	next   uint64    // offset of the first byte that is not hashed
	pieces []piece
	broken bool
	window *window
}

// piece is data that came early.
type piece struct {
	offset uint64
	data   []byte
}

// flow is the data of one packet as it passes.
type flow struct {
	to   *ordered // nil: nobody wants it
	left int64
	held bool // it is early, and copied to the last of to's pieces
}

// begin starts n bytes of data at an offset.
func (o *ordered) begin(offset uint64, n int64) flow {
	switch {
	case n == 0 || o.broken:
		return flow{left: n}
	case offset == o.next:
		return flow{to: o, left: n}
	case offset < o.next || len(o.pieces) == maxPieces || int64(o.window.used)+n+pieceCost > maxHeld:
		o.stop()
		return flow{left: n}
	}
	o.window.used += int(n) + pieceCost
	o.pieces = append(o.pieces, piece{offset: offset, data: make([]byte, 0, n)})
	return flow{to: o, left: n, held: true}
}

// take takes the data's bytes out of p, and returns how many they were.
func (f *flow) take(p []byte) int {
	p = p[:min(int64(len(p)), f.left)]
	f.left -= int64(len(p))
	if f.to == nil || f.to.broken || len(p) == 0 {
		return len(p) // broken: its file was closed, or its size changed, while the packet passed
	}
	if f.held {
		last := &f.to.pieces[len(f.to.pieces)-1]
		last.data = append(last.data, p...)
		return len(p)
	}
	f.to.add(p)
	if f.left == 0 {
		f.to.catchUp()
	}
	return len(p)
}

func (o *ordered) add(p []byte) {
	if o.sum == nil {
		o.sum = sha256.New()
	}
	o.sum.Write(p)
	o.next += uint64(len(p))
}

// catchUp hashes the pieces whose turn has come.
func (o *ordered) catchUp() {
	for i := 0; i < len(o.pieces); {
		at := o.pieces[i]
		if at.offset > o.next {
			i++
			continue
		}
		if at.offset < o.next {
			o.stop()
			return
		}
		o.add(at.data)
		o.window.used -= cap(at.data) + pieceCost
		last := len(o.pieces) - 1
		o.pieces[i] = o.pieces[last]
		o.pieces[last] = piece{}
		o.pieces = o.pieces[:last]
		i = 0
	}
}

// stop ends the hashing.
func (o *ordered) stop() {
	o.broken = true
	for _, p := range o.pieces {
		o.window.used -= cap(p.data) + pieceCost
	}
	o.pieces = nil
}

// hex is the hash so far; of no bytes it is "" unless nothing was all there was.
func (o *ordered) hex(empty bool) string {
	if o.sum != nil {
		return hex.EncodeToString(o.sum.Sum(nil))
	}
	if !empty {
		return ""
	}
	none := sha256.Sum256(nil)
	return hex.EncodeToString(none[:])
}
