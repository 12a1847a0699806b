package krl

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// serials is a set of certificate serial numbers. What it holds in memory is
// within a small factor of what the list takes on disk: ranges stay ranges, and
// the bits of bitmaps stay bits.
type serials struct {
	ranges []serialRange     // sorted and disjoint after settle
	words  map[uint64]uint64 // bit s%64 of words[s/64] is serial s
}

// serialRange is lo to hi, both in it.
type serialRange struct{ lo, hi uint64 }

var errSerialZero = errors.New("revokes serial 0, which stands for no serial")

func (s *serials) addRange(lo, hi uint64) error {
	if lo == 0 {
		return errSerialZero
	}
	if lo > hi {
		return fmt.Errorf("serial range from %d down to %d", lo, hi)
	}
	s.ranges = append(s.ranges, serialRange{lo, hi})
	return nil
}

// addBitmap adds offset+i for each bit i of bitmap, a big-endian number.
func (s *serials) addBitmap(offset uint64, bitmap []byte) error {
	for len(bitmap) > 0 && bitmap[0] == 0 {
		bitmap = bitmap[1:]
	}
	if len(bitmap) == 0 {
		return nil
	}
	last := len(bitmap) - 1
	highest := uint64(8*last + bits.Len8(bitmap[0]) - 1)
	if offset > math.MaxUint64-highest {
		return fmt.Errorf("serial bitmap at %d goes past the largest serial", offset)
	}
	if offset == 0 && bitmap[last]&1 != 0 {
		return errSerialZero
	}
	for i := range bitmap {
		s.addBits(offset+uint64(8*i), uint64(bitmap[last-i]))
	}
	return nil
}

// addBits adds start+i for each of the low 8 bits i of set.
func (s *serials) addBits(start, set uint64) {
	if s.words == nil {
		s.words = make(map[uint64]uint64)
	}
	word, shift := start/64, start%64
	if low := set << shift; low != 0 {
		s.words[word] |= low
	}
	if high := set >> (64 - shift); high != 0 {
		s.words[word+1] |= high
	}
}

// settle sorts and joins the ranges; contain may be asked from then on.
func (s *serials) settle() {
	slices.SortFunc(s.ranges, func(a, b serialRange) int { return cmp.Compare(a.lo, b.lo) })
	joined := s.ranges[:0]
	for _, r := range s.ranges {
		if n := len(joined); n > 0 && r.lo <= joined[n-1].hi {
			joined[n-1].hi = max(joined[n-1].hi, r.hi)
			continue
		}
		joined = append(joined, r)
	}
	s.ranges = slices.Clip(joined)
}

func (s *serials) contain(serial uint64) bool {
	if s.words[serial/64]&(1<<(serial%64)) != 0 {
		return true
	}
	_, found := slices.BinarySearchFunc(s.ranges, serial, func(r serialRange, serial uint64) int {
		if serial < r.lo {
			return 1
		}
		if serial > r.hi {
			return -1
		}
		return 0
	})
	return found
}
