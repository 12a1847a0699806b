package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// readSegments reads every line that there is, oldest first.
func (v *verifier) readSegments() error {
	if err := v.nextCheckpoint(); err != nil {
		return err
	}
	if err := v.judgeReached(); err != nil { // those of an empty log
		return err
	}
	if err := v.passRemoved(); err != nil {
		return err
	}
	in := bufio.NewReaderSize(nil, 64<<10)
	for i, s := range v.segments {
		stop := int64(math.MaxInt64)
		if i+1 < len(v.segments) {
			stop = v.segments[i+1].first
		}
		if err := v.readSegment(in, s, stop); err != nil {
			return err
		}
	}
	return nil
}

// passRemoved takes the events from hashes.bin whose segments are gone.
func (v *verifier) passRemoved() error {
	if len(v.segments) == 0 || v.segments[0].first == 0 {
		return nil
	}
	first := v.segments[0].first
	v.report.First = first
	v.remark(KindRetention, filepath.Base(v.segments[0].path), first, "the %d events before it are not here any more; their hashes stand for them", first)
	if err := v.skipTo(first); err != nil {
		return err
	}
	switch {
	case v.short && v.opts.Partial:
		v.undecided = fmt.Errorf("%s has no hash of event %d, which is not here, so what follows can't be compared with what was signed", hashesFile, v.shortAt)
	case v.short:
		v.wrong(KindHashes, hashesFile, "the hashes of events that are not here any more are missing, so what follows can't be proven")
	}
	return nil
}

// skipTo takes events from hashes.bin up to the index first. Where that has not
// got them, roots say nothing any more.
func (v *verifier) skipTo(first int64) error {
	for v.next < first {
		ok, err := v.addHash()
		if err != nil {
			return err
		}
		if !ok {
			v.next, v.lost = first, true
		}
	}
	return nil
}

// readSegment reads a segment that ends before the event stop.
func (v *verifier) readSegment(in *bufio.Reader, s stored, stop int64) error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	in.Reset(f)
	r := segmentReader{v: v, in: in, at: spot{filepath.Base(s.path), 1, s.first}, stop: stop}
	if err := r.read(); err != nil {
		return fmt.Errorf("%s: %w", s.path, err)
	}
	v.end = r.at
	if v.next < stop && stop < math.MaxInt64 {
		if !r.bad {
			v.wrongAt(KindMissing, spot{r.at.file, r.at.line, v.next}, "it ends before event %d, and the next segment begins with event %d: %d are missing", v.next, stop, stop-v.next)
		}
		return v.skipTo(stop)
	}
	return nil
}

type segmentReader struct {
	v    *verifier
	in   *bufio.Reader
	at   spot // of the line to read
	stop int64
	bad  bool // a line is not the event that it should be, so none after it is placed
	long []byte
}

func (r *segmentReader) read() error {
	for !r.bad {
		line, err := r.line()
		r.v.progress(len(line))
		switch {
		case err == nil:
			err = r.take(line[:len(line)-1])
		case errors.Is(err, io.EOF):
			r.torn(len(line))
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
			r.reject("it is longer than %d bytes", maxLine)
			return nil
		}
		if err != nil {
			return err
		}
		r.at.line++
		if r.at.line&1023 == 0 && r.v.ctx.Err() != nil {
			return r.v.ctx.Err()
		}
	}
	return nil
}

// line reads one line with its newline, and of one that is longer than events
// are, its beginning. It is valid until the next.
func (r *segmentReader) line() ([]byte, error) {
	line, err := r.in.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	r.long = r.long[:0]
	for errors.Is(err, bufio.ErrBufferFull) && len(r.long) < maxLine {
		r.long = append(r.long, line...)
		line, err = r.in.ReadSlice('\n')
	}
	r.long = append(r.long, line...)
	return r.long, err
}

// torn is for the bytes behind the last newline.
func (r *segmentReader) torn(n int) {
	switch {
	case n == 0:
	case r.stop == math.MaxInt64:
		r.v.remark(KindUnfinished, r.at.file, r.v.next, "its last %d bytes are an unfinished line", n)
	case r.v.next < r.stop:
		r.reject("the segment ends within this line")
	default:
		r.leftOver()
	}
}

// leftOver is for what follows the last event of a segment: lines of a failed
// write may have outlived it, and the next segment then begins by saying so.
func (r *segmentReader) leftOver() {
	r.bad = true
	if r.v.beginsWithFailure(r.stop) {
		r.v.remark(KindUnfinished, r.at.file, -1, "behind event %d it has what a failed write left; it was never acknowledged", r.stop-1)
		return
	}
	r.v.wrongAt(KindEvent, r.at, "more follows behind event %d, with which the segment ends", r.stop-1)
}

func (v *verifier) beginsWithFailure(first int64) bool {
	for _, s := range v.segments {
		if s.first == first {
			head, err := firstRecord(s)
			return err == nil && head.Code == LogFailure
		}
	}
	return false
}

// reject reports a line that can't be the event that should stand there.
// Nothing tells where those behind it belong, so the rest of the segment is
// judged by hashes.bin only.
func (r *segmentReader) reject(format string, args ...any) {
	r.bad = true
	at := r.at
	at.index = r.v.next
	r.v.wrongAt(KindEvent, at, format, args...)
}

func (r *segmentReader) take(line []byte) error {
	v := r.v
	if v.next == r.stop {
		r.leftOver()
		return nil
	}
	var f lineFields
	if err := scanLine(line, &f); err != nil {
		r.reject("the line is no event: %v", err)
		return nil
	}
	switch {
	case f.sequence < 0:
		r.reject("the line has no metadata.sequence")
		return nil
	case f.sequence != v.next:
		r.reject("the line is event %d, and event %d belongs there", f.sequence, v.next)
		return nil
	}
	at := r.at
	at.index = v.next
	v.report.Events++
	v.seen(&f)
	v.history.see(&f, at)
	if Code(f.code) == LogKey {
		v.keys.name(unescaped(f.newKey), at.index)
	}
	return v.addLine(tlog.RecordHash(line), at)
}

// seen keeps the times between which events were written: all, and those that
// no checkpoint covers.
func (v *verifier) seen(f *lineFields) {
	if f.logged < 0 {
		return
	}
	if v.upcoming == nil && v.unsignedFrom == 0 {
		v.unsignedFrom = f.logged
	}
	v.report.To = time.UnixMilli(f.logged).UTC()
	if v.report.From.IsZero() {
		v.report.From = v.report.To
	}
}
