package sink

import (
	"bytes"
	"context"
	"sync"
	"time"
)

// queue holds lines until they are sent, at most limit bytes of them. offer may
// be called from any goroutine, the rest by the one that empties it.
type queue struct {
	limit int           // bytes
	added chan struct{} // something was, since the last look

	mu     sync.Mutex // guards what follows
	chunks [][]byte   // of whole lines, newlines included; never changed, only cut at the front
	bytes  int
	events int
}

func newQueue(limit int) *queue {
	return &queue{limit: limit, added: make(chan struct{}, 1)}
}

// offer copies the lines for which there is room, and counts the others: those
// longer than longest bytes without their newline, and those that came too late.
func (q *queue) offer(lines []byte, longest int) (late, long int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	first := 0 // of the lines that stay and are not copied yet
	for at := 0; at < len(lines); {
		size := lineSize(lines[at:])
		if text := size - 1; text > longest || size > q.limit {
			long++
		} else if q.bytes+size > q.limit {
			late++
		} else {
			q.bytes += size
			q.events++
			at += size
			continue
		}
		q.push(lines[first:at])
		at += size
		first = at
	}
	q.push(lines[first:])
	return late, long
}

func lineSize(lines []byte) int {
	if i := bytes.IndexByte(lines, '\n'); i >= 0 {
		return i + 1
	}
	return len(lines)
}

func (q *queue) push(lines []byte) {
	if len(lines) == 0 {
		return
	}
	q.chunks = append(q.chunks, bytes.Clone(lines))
	select {
	case q.added <- struct{}{}:
	default:
	}
}

// first are the oldest lines without their newlines: at most events of them, and
// no more than size bytes where each costs extra on top, but one at least. They
// stay in the queue until drop.
func (q *queue) first(events, size, extra int) [][]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	var lines [][]byte
	for _, chunk := range q.chunks {
		for len(chunk) > 0 {
			n := lineSize(chunk)
			line := bytes.TrimSuffix(chunk[:n:n], []byte("\n"))
			if size -= len(line) + extra; len(lines) > 0 && (size < 0 || len(lines) == events) {
				return lines
			}
			lines = append(lines, line)
			chunk = chunk[n:]
		}
	}
	return lines
}

// drop removes the oldest lines.
func (q *queue) drop(events int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for range events {
		n := lineSize(q.chunks[0])
		q.bytes -= n
		q.events--
		if q.chunks[0] = q.chunks[0][n:]; len(q.chunks[0]) == 0 {
			q.chunks[0] = nil // to be collected
			q.chunks = q.chunks[1:]
		}
	}
}

// wait returns when the queue holds so many bytes, late has a value, or ctx has
// ended.
func (q *queue) wait(ctx context.Context, size int, late <-chan time.Time) {
	for {
		if _, held := q.size(); held >= size {
			return
		}
		select {
		case <-q.added:
		case <-late:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (q *queue) size() (events, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.events, q.bytes
}
