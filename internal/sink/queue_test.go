package sink

import (
	"bytes"
	"strings"
	"testing"
)

// texts takes everything out of a queue.
func texts(q *queue) []string {
	var all []string
	for {
		lines := q.first(3, 100, 0)
		if len(lines) == 0 {
			return all
		}
		for _, line := range lines {
			all = append(all, string(line))
		}
		q.drop(len(lines))
	}
}

func TestWhatHasNoRoomIsLeftOut(t *testing.T) {
	for name, c := range map[string]struct {
		offered    []string
		kept       string
		late, long int
	}{
		"all fit":                   {[]string{"a\nb\n", "c\n"}, "a b c", 0, 0},
		"nothing":                   {[]string{"", ""}, "", 0, 0},
		"a long one in the middle":  {[]string{"a\n123456789\nb\n"}, "a b", 0, 1},
		"a long one at the ends":    {[]string{"123456789\na\n123456789\n"}, "a", 0, 2},
		"the longest":               {[]string{"12345678\n"}, "12345678", 0, 0},
		"the last ones come late":   {[]string{"12345678\n", "a\nb\nc\n"}, "12345678 a b", 1, 0},
		"a short one after a late":  {[]string{"12345\n", "123456\nab\n"}, "12345 123456", 1, 0},
		"a short one fits after it": {[]string{"1234567\n", "123456\nab\n"}, "1234567 ab", 1, 0},
		"no newline at the end":     {[]string{"ab\ncd"}, "ab cd", 0, 0},
	} {
		q := newQueue(13)
		late, long := 0, 0
		for _, lines := range c.offered {
			a, b := q.offer([]byte(lines), 8)
			late, long = late+a, long+b
		}
		if kept := strings.Join(texts(q), " "); kept != c.kept || late != c.late || long != c.long {
			t.Errorf("%s: kept %q, %d late and %d too long; want %q, %d and %d", name, kept, late, long, c.kept, c.late, c.long)
		}
		if events, bytes := q.size(); events != 0 || bytes != 0 {
			t.Errorf("%s: empty, it holds %d events of %d bytes", name, events, bytes)
		}
	}
}

func TestOfferedLinesAreCopied(t *testing.T) {
	q := newQueue(100)
	lines := []byte("abc\n")
	q.offer(lines, 10)
	copy(lines, "xyz")
	if got := texts(q); got[0] != "abc" {
		t.Errorf("got %q", got)
	}
}

func TestABatchKeepsItsLimits(t *testing.T) {
	q := newQueue(1000)
	q.offer([]byte("1234567890\n12345\n12345\n1\n1\n1\n"), 1000)
	for _, c := range []struct{ events, size, extra, want int }{
		{100, 100, 0, 6},
		{4, 100, 0, 4},
		{100, 20, 0, 3},
		{100, 19, 0, 2},
		{100, 20, 2, 2},
		{100, 1, 0, 1},
	} {
		if got := len(q.first(c.events, c.size, c.extra)); got != c.want {
			t.Errorf("%+v: %d events", c, got)
		}
	}
}

// FuzzAQueueLosesNothingUncounted offers lines in pieces and takes them again.
func FuzzAQueueLosesNothingUncounted(f *testing.F) {
	f.Add([]byte("a\nbb\n\nccc\n"), 5, 2)
	f.Add([]byte("\n\n\n"), 1, 0)
	f.Fuzz(func(t *testing.T, lines []byte, limit, longest int) {
		lines = append(lines, '\n')
		q := newQueue(limit)
		late, long := q.offer(lines, longest)
		events, size := q.size()
		if size > max(limit, 0) {
			t.Fatalf("%d bytes in a queue of %d", size, limit)
		}
		if offered := bytes.Count(lines, []byte("\n")); events+late+long != offered {
			t.Fatalf("%d lines: %d kept, %d late, %d long", offered, events, late, long)
		}
		if got := texts(q); len(got) != events {
			t.Fatalf("%d of %d came out", len(got), events)
		}
	})
}
