package files

import (
	"crypto/sha256"
	"strings"
	"testing"
)

const (
	benchPacket = 32 << 10
	benchDepth  = 64
)

// BenchmarkSFTP is the decoder's part in 64 packets of 32 KiB each, as a
// channel hands them over: the cost for each byte of data, all included.
// Its sha256 is what hashing alone costs, its unhashed what decoding alone does:
// of a transfer that begins in the middle nothing is hashed.
func BenchmarkSFTP(b *testing.B) {
	block := strings.Repeat("d", benchPacket)
	b.Run("sha256", func(b *testing.B) {
		sum, p := sha256.New(), []byte(block)
		b.SetBytes(benchPacket)
		for b.Loop() {
			sum.Write(p)
		}
	})
	for name, r := range map[string]Rights{"passive": both, "filtered": {Read: true}} {
		b.Run("down/"+name, func(b *testing.B) { benchDown(b, r, block, 0) })
	}
	b.Run("down/unhashed", func(b *testing.B) { benchDown(b, both, block, 1<<40) })
	for name, r := range map[string]Rights{"passive": both, "filtered": {Write: true}} {
		b.Run("up/"+name, func(b *testing.B) { benchUp(b, r, block) })
	}
}

func benchStart(r Rights, flags uint32) *SFTP {
	s := NewSFTP(r, func(Operation) {})
	for _, p := range script(opened("/a", flags, "hhhh")) {
		if p.client {
			s.Client(p.bytes)
			continue
		}
		s.Server(p.bytes)
	}
	return s
}

func benchDown(b *testing.B, r Rights, block string, offset uint64) {
	s := benchStart(r, fxfRead)
	var requests, answers [benchDepth][]byte
	for i := range benchDepth {
		requests[i] = read(uint32(i), "hhhh", 0, benchPacket).bytes
		answers[i] = data(uint32(i), block).bytes
	}
	b.SetBytes(benchPacket * benchDepth)
	b.ReportAllocs()
	for b.Loop() {
		for i := range benchDepth {
			setOffset(requests[i], offset)
			offset += benchPacket
			s.Client(requests[i])
		}
		for i := range benchDepth {
			s.Server(answers[i])
		}
	}
	if s.Err() != nil {
		b.Fatal(s.Err())
	}
}

func benchUp(b *testing.B, r Rights, block string) {
	s := benchStart(r, fxfWrite|fxfTrunc)
	var requests, answers [benchDepth][]byte
	for i := range benchDepth {
		requests[i] = write(uint32(i), "hhhh", 0, block).bytes
		answers[i] = status(uint32(i), fxOK).bytes
	}
	b.SetBytes(benchPacket * benchDepth)
	b.ReportAllocs()
	offset := uint64(0)
	for b.Loop() {
		for i := range benchDepth {
			setOffset(requests[i], offset)
			offset += benchPacket
			s.Client(requests[i])
		}
		for i := range benchDepth {
			s.Server(answers[i])
		}
	}
	if s.Err() != nil {
		b.Fatal(s.Err())
	}
}

// setOffset sets the offset of a READ or WRITE whose handle has four bytes.
func setOffset(p []byte, offset uint64) {
	for i := range 8 {
		p[4+1+4+4+4+i] = byte(offset >> (56 - 8*i))
	}
}
