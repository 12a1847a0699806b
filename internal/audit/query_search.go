package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Entry is an event that a search has found, while it is being rendered.
type Entry struct {
	Index  int64
	Line   []byte // the JSON without its newline; valid until Render returns
	fields *eventFields
}

// Facts are what readers ask of the event.
func (e *Entry) Facts() Facts { return e.fields.facts() }

// Search finds events in a log. Fields are set once, before Run or Follow.
type Search struct {
	Query  Query
	Limit  int  // at most so many; 0 = all
	Newest bool // the newest first, and of those Limit
	// Render appends to dst what emit is to get of an event. It is called on
	// several goroutines at once.
	Render func(dst []byte, e *Entry) []byte

	workers int // 0 = as many as there are cores
}

// Run calls emit with each event in dir that is meant, rendered, in the order
// of the log or from its end. What is written meanwhile may be among them. It
// returns the index of the first event that was not looked at, or of one before
// it where Limit ended the search.
//
// Run reads only what may matter, so it is fast and no proof: lines that are not
// meant are counted, not read. An error wraps ErrDamaged where an event that is
// meant is not the one that should stand there, or where lines are missing
// between segments. Memory is some megabytes, whatever the size of the log.
func (s *Search) Run(ctx context.Context, dir string, emit func([]byte) error) (int64, error) {
	m, err := s.Query.matcher()
	if err != nil {
		return 0, err
	}
	segments, err := listSegments(dir)
	if err != nil || len(segments) == 0 {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &searchRun{search: s, matcher: m, dir: dir, emit: emit}
	defer r.working.Wait()
	defer cancel()
	return r.all(ctx, segments)
}

// errEnough ends a run whose limit is reached.
var errEnough = errors.New("that is enough")

// searchRun is one Run. Segments are searched at the same time, a few ahead of the
// one whose events are being given out.
type searchRun struct {
	search  *Search
	matcher *matcher
	dir     string
	emit    func([]byte) error
	given   int
	working sync.WaitGroup
	spare   sync.Pool // of *foundBatch, which are empty
}

// searchPart is the search of one segment.
type searchPart struct {
	stored
	later   *stored // the segment after it
	batches chan *foundBatch
	end     int64 // index after its last event, once batches is closed
	err     error // likewise
}

// foundBatch is what a part found, rendered.
type foundBatch struct {
	bytes []byte
	ends  []int // of each event in bytes
}

func (r *searchRun) all(ctx context.Context, segments []stored) (int64, error) {
	parts := r.parts(segments)
	newest := parts[len(parts)-1]
	if r.search.Newest {
		slices.Reverse(parts)
	}
	ahead := r.search.workers
	if ahead == 0 {
		ahead = runtime.GOMAXPROCS(0)
	}
	started := 0
	for i, p := range parts {
		for ; started < min(len(parts), i+1+ahead); started++ {
			begun := parts[started]
			r.working.Go(func() { r.work(ctx, begun) })
		}
		if err := r.give(ctx, p); err != nil {
			if errors.Is(err, errEnough) {
				err = nil
			}
			return newest.first, err // its end is not known yet
		}
	}
	return newest.end, nil
}

// parts leaves out the segments that have no event of the time that is asked
// for, but for the newest: whoever follows goes on where that ends.
func (r *searchRun) parts(segments []stored) []*searchPart {
	var parts []*searchPart
	for i, s := range segments {
		p := &searchPart{stored: s, batches: make(chan *foundBatch, 4)}
		if i+1 < len(segments) {
			p.later = &segments[i+1]
		}
		if p.later == nil || r.matcher.mayMatter(s, p.later.first) {
			parts = append(parts, p)
		}
	}
	return parts
}

// give hands on what p finds.
func (r *searchRun) give(ctx context.Context, p *searchPart) error {
	for b := range p.batches {
		start := 0
		for _, end := range b.ends {
			if err := r.emit(b.bytes[start:end]); err != nil {
				return err
			}
			start = end
			if r.given++; r.given == r.search.Limit {
				return errEnough
			}
		}
		r.recycle(b)
	}
	if p.err != nil {
		return p.err
	}
	return ctx.Err()
}

func (r *searchRun) recycle(b *foundBatch) {
	b.bytes, b.ends = b.bytes[:0], b.ends[:0]
	r.spare.Put(b)
}

func (r *searchRun) batch() *foundBatch {
	if b, ok := r.spare.Get().(*foundBatch); ok {
		return b
	}
	return &foundBatch{bytes: make([]byte, 0, 2*batchSize)}
}

// work searches p. It may be given up at any time by the end of ctx.
func (r *searchRun) work(ctx context.Context, p *searchPart) {
	defer close(p.batches)
	out := &collector{run: r, ctx: ctx, to: p.batches, foundBatch: r.batch()}
	c := searchScan{matcher: r.matcher, stored: p.stored, next: p.first, found: func(e *Entry) error {
		out.bytes = r.search.Render(out.bytes, e)
		return out.took()
	}}
	p.err = c.file()
	p.end = c.next
	if errors.Is(p.err, fs.ErrNotExist) && r.gone(p) {
		p.err = nil
		return
	}
	if p.err == nil && p.later != nil {
		p.err = c.joins(*p.later)
	}
	if err := out.finish(); p.err == nil {
		p.err = err
	}
}

// gone says whether p could vanish: as the oldest segment by retention, as the
// newest because its first write failed.
func (r *searchRun) gone(p *searchPart) bool {
	segments, err := listSegments(r.dir)
	return err == nil && (len(segments) == 0 || p.first < segments[0].first || p.first >= segments[len(segments)-1].first)
}

// collector makes batches.
type collector struct {
	ctx         context.Context // of the run
	run         *searchRun
	to          chan<- *foundBatch
	*foundBatch // with Newest all of the part's, to be reversed
}

// batchSize is what a batch is about, in bytes.
const batchSize = 64 << 10

func (c *collector) took() error {
	c.ends = append(c.ends, len(c.bytes))
	if c.run.search.Newest {
		c.forget(c.run.search.Limit)
		return nil
	}
	if len(c.bytes) < batchSize {
		return nil
	}
	return c.send()
}

// forget drops the oldest events once there are twice as many as are wanted.
func (c *collector) forget(wanted int) {
	if wanted == 0 || len(c.ends) < 2*wanted {
		return
	}
	cut := c.ends[wanted-1]
	c.bytes = append(c.bytes[:0], c.bytes[cut:]...)
	c.ends = append(c.ends[:0], c.ends[wanted:]...)
	for i := range c.ends {
		c.ends[i] -= cut
	}
}

func (c *collector) finish() error {
	if c.run.search.Newest {
		c.reverse()
	}
	return c.send()
}

func (c *collector) reverse() {
	b := c.run.batch()
	for i := len(c.ends) - 1; i >= 0; i-- {
		start := 0
		if i > 0 {
			start = c.ends[i-1]
		}
		b.bytes = append(b.bytes, c.bytes[start:c.ends[i]]...)
		b.ends = append(b.ends, len(b.bytes))
	}
	c.foundBatch = b
}

func (c *collector) send() error {
	if len(c.ends) == 0 {
		return nil
	}
	select {
	case c.to <- c.foundBatch:
		c.foundBatch = c.run.batch()
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

// clockSlack is how far the clock may be set back or forth in a segment that
// is judged by its first and last event.
const clockSlack = 24 * time.Hour

// mayMatter says whether the segment s, which ends before the event next, can
// have an event of the time asked for. Where it can't be said it may.
func (m *matcher) mayMatter(s stored, next int64) bool {
	if m.since.IsZero() && m.until.IsZero() {
		return true
	}
	first, err := firstRecord(s)
	if err != nil {
		return true
	}
	last, err := lastRecord(s, next)
	if err != nil {
		return true
	}
	from, to := first.Time, last.Time
	if to.Before(from) {
		from, to = to, from
	}
	early := !m.since.IsZero() && to.Add(clockSlack).Before(m.since)
	late := !m.until.IsZero() && from.Add(-clockSlack).After(m.until)
	return !early && !late
}

// lastRecord reads the last event of a segment that ends before the event next.
func lastRecord(s stored, next int64) (Record, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return Record{}, fmt.Errorf("read audit segment: %w", err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return Record{}, fmt.Errorf("read audit segment: %w", err)
	}
	line, err := lastLine(f, size)
	if err != nil {
		return Record{}, damaged(s.path, size, err)
	}
	return parse(line, next-1)
}

// Follow calls emit with each event from index from on that is meant, and with
// new ones as they are written, until ctx ends (nil), emit fails (its error),
// Limit is reached (nil) or the log is damaged. It is to Tail what Run is to
// Read.
func (s *Search) Follow(ctx context.Context, dir string, from int64, emit func([]byte) error) error {
	m, err := s.Query.matcher()
	if err != nil {
		return err
	}
	given := 0
	var line []byte
	var f eventFields
	err = Tail(ctx, dir, from, func(r Record) error {
		if err := f.parse(r.Line, r.Index); err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if !m.match(r.Line, &f) {
			return nil
		}
		line = s.Render(line[:0], &Entry{r.Index, r.Line, &f})
		if err := emit(line); err != nil {
			return err
		}
		if given++; given == s.Limit {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}
