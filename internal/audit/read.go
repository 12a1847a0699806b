package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"
)

// Record is one event as it stands in the log.
type Record struct {
	Index   int64
	Line    []byte // the JSON without its newline; valid until the next record is read
	Code    Code
	Time    time.Time
	Logged  time.Time // when it was handed to the log
	Session string    // "" = of no session
}

// maxLine bounds what a reader takes for one event, in bytes.
const maxLine = 1 << 20

// parse checks that line is the event with the index want.
func parse(line []byte, want int64) (Record, error) {
	var e struct {
		Time     int64
		Metadata struct {
			Sequence       *int64
			LoggedTime     int64  `json:"logged_time"`
			EventCode      Code   `json:"event_code"`
			CorrelationUID string `json:"correlation_uid"`
		}
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return Record{}, fmt.Errorf("event %d is no JSON: %w", want, err)
	}
	m := e.Metadata
	if m.Sequence == nil {
		return Record{}, fmt.Errorf("event %d has no metadata.sequence", want)
	}
	if *m.Sequence != want {
		return Record{}, fmt.Errorf("event %d stands where event %d should", *m.Sequence, want)
	}
	return Record{Index: want, Line: line, Code: m.EventCode, Time: time.UnixMilli(e.Time), Logged: time.UnixMilli(m.LoggedTime), Session: m.CorrelationUID}, nil
}

// Read yields the events in dir from index from on, or from the oldest that is
// there, to the end. It stops at the first line that is not the event it should
// be, with an error that wraps ErrDamaged. An unfinished last line is left out:
// it is being written, or was never acknowledged. The log may be open.
func Read(dir string, from int64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		c := &cursor{dir: dir, next: from, from: from}
		defer c.close()
		for {
			r, err := c.read()
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// tailInterval is how long a follower may be behind.
const tailInterval = 200 * time.Millisecond

// Tail calls fn with each event in dir from index from on, and goes on with new
// ones as they are written, until ctx ends (nil), fn fails (its error) or the
// log is damaged. from = -1 begins with the next event that is written. A line
// whose write fails may have been seen by then: after it the indexes go back to
// that of a log.failure event, and what follows that counts.
func Tail(ctx context.Context, dir string, from int64, fn func(Record) error) error {
	if from < 0 {
		end, err := findNext(dir)
		if err != nil {
			return err
		}
		from = end
	}
	c := &cursor{dir: dir, next: from, from: from}
	defer c.close()
	poll := time.NewTicker(tailInterval)
	defer poll.Stop()
	for {
		if err := c.drain(fn); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
		}
	}
}

func (c *cursor) drain(fn func(Record) error) error {
	for {
		r, err := c.read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := fn(r); err != nil {
			return err
		}
	}
}

// findNext is the index that the next event in dir will have.
func findNext(dir string) (int64, error) {
	segments, err := listSegments(dir)
	if err != nil || len(segments) == 0 {
		return 0, err
	}
	next := segments[len(segments)-1].first
	for r, err := range Read(dir, next) {
		if err != nil {
			return 0, err
		}
		next = r.Index + 1
	}
	return next, nil
}

// cursor reads events one after the other, across segments.
type cursor struct {
	dir     string
	from    int64
	next    int64 // index of the event to read; it is the true one once file is open
	current stored
	file    *os.File
	in      *bufio.Reader
	offset  int64
	partial []byte // of a line whose newline has not been read
}

// read returns the next event, or io.EOF while there is none.
func (c *cursor) read() (Record, error) {
	for {
		line, err := c.nextLine()
		if err != nil {
			return Record{}, err
		}
		r, err := parse(line, c.next)
		if err != nil {
			return Record{}, damaged(c.current.path, c.offset, err)
		}
		c.offset += int64(len(line)) + 1
		c.next++
		if r.Index >= c.from {
			return r, nil
		}
	}
}

func (c *cursor) nextLine() ([]byte, error) {
	if c.file == nil {
		if err := c.seek(); err != nil {
			return nil, err
		}
	}
	line, err := c.line()
	for errors.Is(err, io.EOF) {
		if c.replaced() {
			if err := c.open(c.current); err != nil {
				return nil, err
			}
			line, err = c.line()
			continue
		}
		later, found, listErr := c.later()
		if listErr != nil {
			return nil, listErr
		}
		if !found {
			return nil, err
		}
		// Lines may have come between the end of file and the listing.
		if line, err = c.line(); errors.Is(err, io.EOF) {
			if err := c.enter(later); err != nil {
				return nil, c.vanished(later, err)
			}
			line, err = c.line()
		}
	}
	return line, err
}

// line returns a whole line, or io.EOF and keeps what there is of one.
func (c *cursor) line() ([]byte, error) {
	if len(c.partial) > 0 && c.partial[len(c.partial)-1] == '\n' {
		c.partial = c.partial[:0]
	}
	for {
		part, err := c.in.ReadSlice('\n')
		c.partial = append(c.partial, part...)
		if len(c.partial) > maxLine {
			return nil, damaged(c.current.path, c.offset, errors.New("a line has no end"))
		}
		if err == nil {
			return bytes.TrimSuffix(c.partial, []byte("\n")), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}

// seek opens the segment that holds next, or the oldest if that is gone.
func (c *cursor) seek() error {
	segments, err := listSegments(c.dir)
	if err != nil {
		return err
	}
	if len(segments) == 0 {
		return io.EOF
	}
	s := segments[0]
	for _, later := range segments[1:] {
		if later.first <= c.next {
			s = later
		}
	}
	return c.open(s)
}

func (c *cursor) open(s stored) error {
	f, err := os.Open(s.path)
	if err != nil {
		return fmt.Errorf("read audit segment: %w", err)
	}
	c.close()
	c.current, c.file, c.in, c.next, c.offset, c.partial = s, f, bufio.NewReaderSize(f, 64<<10), s.first, 0, nil
	return nil
}

// replaced reports whether another file has the current one's name: the first
// write to that failed, and it was made anew.
func (c *cursor) replaced() bool {
	ours, err := c.file.Stat()
	theirs, err2 := os.Lstat(c.current.path)
	return err == nil && err2 == nil && !os.SameFile(ours, theirs)
}

// later is the segment after the current one, if there is one.
func (c *cursor) later() (stored, bool, error) {
	segments, err := listSegments(c.dir)
	if err != nil {
		return stored{}, false, err
	}
	for _, s := range segments {
		if s.first > c.current.first {
			return s, true, nil
		}
	}
	return stored{}, false, nil
}

// enter goes on to the segment s. It begins where the current one ends, unless
// a failed write left lines behind that a log.failure event then took back.
func (c *cursor) enter(s stored) error {
	if s.first == c.next && len(c.partial) == 0 {
		return c.open(s)
	}
	if isEmpty(s.path) {
		return io.EOF // it was made a moment ago
	}
	head, err := firstRecord(s)
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if s.first > c.next || err != nil || head.Code != LogFailure {
		return damaged(c.current.path, c.offset, fmt.Errorf("the next segment begins with event %d instead of %d", s.first, c.next))
	}
	return c.open(s)
}

// vanished turns the error of entering s into io.EOF where s was the newest
// segment and is gone: its first write failed, and it is being made anew under
// the same name.
func (c *cursor) vanished(s stored, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	segments, listErr := listSegments(c.dir)
	if listErr != nil {
		return listErr
	}
	if len(segments) > 0 && segments[len(segments)-1].first > s.first {
		return err
	}
	return io.EOF
}

func (c *cursor) close() {
	if c.file != nil {
		c.file.Close()
	}
}

// firstRecord reads the first event of a segment.
func firstRecord(s stored) (Record, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return Record{}, fmt.Errorf("read audit segment: %w", err)
	}
	defer f.Close()
	line, err := bufio.NewReader(io.LimitReader(f, maxLine)).ReadBytes('\n')
	if err != nil {
		return Record{}, damaged(s.path, 0, fmt.Errorf("no first event: %w", err))
	}
	r, err := parse(bytes.TrimSuffix(line, []byte("\n")), s.first)
	if err != nil {
		return Record{}, damaged(s.path, 0, err)
	}
	return r, nil
}

// checkEnds checks the first and the last line of a segment that ends before
// the event next.
func checkEnds(s stored, next int64) error {
	if _, err := firstRecord(s); err != nil {
		return err
	}
	f, err := os.Open(s.path)
	if err != nil {
		return fmt.Errorf("read audit segment: %w", err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("read audit segment: %w", err)
	}
	line, err := lastLine(f, size)
	if err != nil {
		return damaged(s.path, size, err)
	}
	if _, err := parse(line, next-1); err != nil {
		return damaged(s.path, size, err)
	}
	return nil
}

func lastLine(f io.ReaderAt, size int64) ([]byte, error) {
	for _, window := range []int64{16 << 10, maxLine} {
		tail := make([]byte, min(size, window))
		if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil {
			return nil, err
		}
		line, ended := bytes.CutSuffix(tail, []byte("\n"))
		if !ended {
			return nil, errors.New("the last line has no end")
		}
		if start := bytes.LastIndexByte(line, '\n'); start >= 0 || int64(len(tail)) == size {
			return line[start+1:], nil
		}
	}
	return nil, errors.New("the last line has no beginning")
}
