package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// searchScan searches one segment.
type searchScan struct {
	stored
	matcher *matcher
	found   func(*Entry) error // its error ends the scan

	next    int64 // index of the next line
	offset  int64 // of buf in the file
	partial bool  // the file ends within a line
	at      []int // where in the chunk the needles are next, and the backslash last
	fields  eventFields
	entry   Entry
}

// scanSize is what is read at once, in bytes: little enough for a cache.
const scanSize = 256 << 10

var errLongLine = errors.New("a line has no end")

// file searches the segment up to its last whole line.
func (s *searchScan) file() error {
	f, err := os.Open(s.path)
	if err != nil {
		return fmt.Errorf("read audit segment: %w", err)
	}
	defer f.Close()
	buf := make([]byte, scanSize)
	rest := 0 // bytes at the beginning of buf whose line has no end yet
	for {
		n, err := f.Read(buf[rest:])
		if n == 0 && errors.Is(err, io.EOF) {
			s.partial = rest > 0
			return nil
		}
		if err != nil {
			return fmt.Errorf("read audit segment: %w", err)
		}
		if rest, err = s.take(buf[:rest+n]); err != nil {
			return err
		}
		if rest > maxLine {
			return damaged(s.path, s.offset, errLongLine)
		}
		if rest == len(buf) {
			buf = append(buf, make([]byte, len(buf))...)
		}
	}
}

// take searches the whole lines of b and moves the rest of it to the front,
// whose length it returns.
func (s *searchScan) take(b []byte) (int, error) {
	end := bytes.LastIndexByte(b, '\n') + 1
	if err := s.chunk(b[:end]); err != nil {
		return 0, err
	}
	s.offset += int64(end)
	return copy(b, b[end:]), nil
}

// chunk searches whole lines.
func (s *searchScan) chunk(b []byte) error {
	s.at = s.at[:0]
	for pos := 0; pos < len(b); {
		hit := s.candidate(b, pos)
		if hit == len(b) {
			s.next += int64(bytes.Count(b[pos:], []byte("\n")))
			return nil
		}
		start := pos + bytes.LastIndexByte(b[pos:hit], '\n') + 1
		s.next += int64(bytes.Count(b[pos:start], []byte("\n")))
		end := hit + bytes.IndexByte(b[hit:], '\n')
		if err := s.line(b[start:end], int64(start)); err != nil {
			return err
		}
		s.next++
		pos = end + 1
	}
	return nil
}

// candidate is a place from pos on in the next line that may be meant: one with
// a needle, or with a backslash, behind which JSON can hide one.
func (s *searchScan) candidate(b []byte, pos int) int {
	needles := s.matcher.needles
	if len(needles) == 0 {
		return pos
	}
	if len(s.at) == 0 {
		for range len(needles) + 1 {
			s.at = append(s.at, -1)
		}
	}
	nearest := len(b)
	for i := range s.at {
		if s.at[i] < pos {
			needle := []byte(`\`)
			if i < len(needles) {
				needle = needles[i]
			}
			s.at[i] = len(b)
			if n := bytes.Index(b[pos:], needle); n >= 0 {
				s.at[i] = pos + n
			}
		}
		nearest = min(nearest, s.at[i])
	}
	return nearest
}

func (s *searchScan) line(line []byte, at int64) error {
	err := s.fields.parse(line, s.next)
	if len(line) >= maxLine {
		err = errLongLine
	}
	if err != nil {
		return damaged(s.path, s.offset+at, err)
	}
	if !s.matcher.match(line, &s.fields) {
		return nil
	}
	s.entry = Entry{Index: s.next, Line: line, fields: &s.fields}
	return s.found(&s.entry)
}

// joins checks that the segment later begins where this one ended, unless a
// failed write left lines behind that a log.failure event then took back; as
// cursor.enter does.
func (s *searchScan) joins(later stored) error {
	if later.first == s.next && !s.partial || isEmpty(later.path) {
		return nil
	}
	head, err := firstRecord(later)
	if err != nil || later.first > s.next || head.Code != LogFailure {
		return damaged(s.path, s.offset, fmt.Errorf("the next segment begins with event %d instead of %d", later.first, s.next))
	}
	return nil
}
