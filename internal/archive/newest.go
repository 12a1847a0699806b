package archive

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// digits is how many a key's number has, so that keys sort as numbers do.
const digits = 20

// Newest is the last key below prefix, of keys that are prefix and a number of 20
// digits. hint is a number from which the search begins; it takes a few requests
// whatever the number of keys. It returns "" if there is none.
func (a *Archive) Newest(ctx context.Context, prefix string, hint int64) (string, error) {
	s := search{from: func(n int64) ([]int64, bool, error) { return a.numbers(ctx, prefix, n) }}
	newest, err := s.newest(hint)
	if err != nil || newest < 0 {
		return "", err
	}
	return numbered(prefix, newest), nil
}

func numbered(prefix string, n int64) string { return fmt.Sprintf("%s%0*d", prefix, digits, n) }

// numbers are the first numbers from n on of keys below prefix, in order, and
// whether more may follow.
func (a *Archive) numbers(ctx context.Context, prefix string, n int64) (found []int64, more bool, err error) {
	at := place{key: prefix}
	if n > 0 {
		at.key = numbered(prefix, n-1)
	}
	for {
		p, err := a.page(ctx, prefix, "", at)
		if err != nil {
			return nil, false, err
		}
		for _, v := range p.versions {
			if number, ok := parseNumber(strings.TrimPrefix(v.Key, prefix)); ok && number >= n {
				found = append(found, number)
			}
		}
		more = p.next != (place{}) && p.next.key < prefix+":" // which comes after all digits
		if len(found) > 0 || !more {
			return found, more, nil
		}
		at = p.next
	}
}

func parseNumber(name string) (int64, bool) {
	n, err := strconv.ParseInt(name, 10, 64)
	return n, err == nil && len(name) == digits && name[0] == '0'
}

// search finds the largest of many numbers by asking for those from one on.
type search struct {
	// from returns the first numbers from n on, in order, and whether there are
	// more of them.
	from func(n int64) (found []int64, more bool, err error)
}

// newest is the largest number; -1 = there is none. It walks from hint on in
// steps that grow until it is between two numbers asked for, then halves what
// lies between.
func (s search) newest(hint int64) (int64, error) {
	below, above := int64(-1), int64(math.MaxInt64) // the largest found; one from which on there are none
	at, step := max(0, hint), int64(1000)
	for {
		found, more, err := s.from(at)
		if err != nil {
			return 0, err
		}
		if len(found) > 0 {
			below = found[len(found)-1]
			step = max(step, below-found[0]) // a page is the shortest step that tells anything
			if !more {
				return below, nil
			}
		} else {
			above = at
		}
		if above <= below+1 || above == 0 {
			return below, nil
		}
		at, step = next(below, above, step)
	}
}

// next is where to ask next, and the step after that.
func next(below, above, step int64) (int64, int64) {
	switch {
	case above == math.MaxInt64: // nothing but numbers so far
		return below + 1 + min(step, above-below-2), 4 * min(step, math.MaxInt64/4)
	case below < 0: // nothing at all so far
		return max(0, above-step), 16 * min(step, math.MaxInt64/16)
	}
	return below + 1 + (above-below-1)/2, step
}
