// Package sink sends a second copy of the audit events to where a security team
// gathers them: a syslog server or CloudWatch Logs. It does what it can: the
// audit log is the truth, and is never held up.
//
// An event is sent at least once if it is not dropped: what may or may not have
// arrived before a failure is sent again, and metadata.uid tells. Neither is it
// certain that a syslog server has got what was written to its connection.
package sink

import (
	"context"
	"maps"
	"sync"
	"time"
)

// Stats are what a sink has done.
type Stats struct {
	Sent        uint64            // events
	Dropped     uint64            // events
	Reasons     map[string]uint64 // of Dropped: queue_full, too_large, rejected, too_old; never nil
	Queued      int               // events
	QueuedBytes int64
	Connected   bool
	LastError   string // "" = none since the last event was sent
	LastSent    time.Time
}

// Why an event was dropped.
const (
	queueFull = "queue_full" // it came faster than the sink could send
	tooLarge  = "too_large"  // for the protocol, or for the queue
	rejected  = "rejected"   // by CloudWatch, as malformed or too far in the future
	tooOld    = "too_old"    // for CloudWatch
)

const (
	defaultQueue = 8 << 20 // bytes
	flushTime    = time.Second
	minPause     = 500 * time.Millisecond
	maxPause     = 30 * time.Second
)

// Sink is a bounded queue and what empties it. Its methods may be called from
// any goroutine, Run once.
type Sink struct {
	name  string
	out   outlet
	queue *queue

	mu     sync.Mutex // guards what follows
	stats  Stats      // Queued and QueuedBytes are unused
	losses int        // how often the connection ended by itself
}

// outlet is where a sink's events go. Only Run calls it, but for limits.
type outlet interface {
	limits() limits
	// send tries to get lines out, from the first to the last. It says what became
	// of how many; those are not sent again. The error is why there are not more.
	send(ctx context.Context, lines [][]byte) (outcome, error)
	// close ends what send has opened, and waits for what it has started.
	close()
}

// limits are of one call of send.
type limits struct {
	events  int
	bytes   int
	extra   int           // bytes that each event costs beside its own
	longest int           // bytes that an event may have
	linger  time.Duration // that an event waits for company
}

// outcome counts events.
type outcome struct{ sent, tooLarge, rejected, tooOld int }

func (o outcome) events() int { return o.sent + o.tooLarge + o.rejected + o.tooOld }

func newSink(name string, queue int) *Sink {
	if queue <= 0 {
		queue = defaultQueue
	}
	return &Sink{name: name, queue: newQueue(queue), stats: Stats{Reasons: map[string]uint64{}}}
}

// Name is "syslog" or "cloudwatch".
func (s *Sink) Name() string { return s.name }

// Offer copies events, each a line with its newline, into the queue, and drops
// those for which there is no room. It never waits.
func (s *Sink) Offer(lines []byte) {
	late, long := s.queue.offer(lines, s.out.limits().longest)
	if late+long == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.drop(queueFull, late)
	s.stats.drop(tooLarge, long)
}

func (s *Stats) drop(reason string, events int) {
	if events > 0 {
		s.Dropped += uint64(events)
		s.Reasons[reason] += uint64(events)
	}
}

// Run sends what is queued until ctx ends, and then, for at most a second, what
// is left. It returns nil.
func (s *Sink) Run(ctx context.Context) error {
	sending, end := outlive(ctx, flushTime)
	defer end()
	defer s.out.close()
	var p pause
	linger := s.out.limits().linger
	for {
		lines := s.next(ctx, linger)
		if len(lines) == 0 || sending.Err() != nil {
			return nil
		}
		done, err := s.send(sending, lines)
		linger = s.out.limits().linger
		if done < len(lines) {
			linger = 0 // the others have waited already
		}
		if err == nil {
			p.reset()
			continue
		}
		if ctx.Err() != nil {
			return nil // there is no time for another try
		}
		p.wait(ctx)
	}
}

// next waits until there is something to send, and so long for more. It returns
// nothing only if ctx has ended and nothing is left.
func (s *Sink) next(ctx context.Context, linger time.Duration) [][]byte {
	l := s.out.limits()
	s.queue.wait(ctx, 1, nil)
	if linger > 0 {
		company := time.NewTimer(linger)
		defer company.Stop()
		s.queue.wait(ctx, min(l.bytes, s.queue.limit/2), company.C)
	}
	return s.queue.first(l.events, l.bytes, l.extra)
}

// send returns how many of lines are done with.
func (s *Sink) send(ctx context.Context, lines [][]byte) (int, error) {
	s.mu.Lock()
	losses := s.losses
	s.mu.Unlock()
	done, err := s.out.send(ctx, lines)
	s.queue.drop(done.events())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Sent += uint64(done.sent)
	s.stats.drop(tooLarge, done.tooLarge)
	s.stats.drop(rejected, done.rejected)
	s.stats.drop(tooOld, done.tooOld)
	if done.sent > 0 {
		s.stats.LastSent = time.Now()
	}
	if err != nil || losses == s.losses {
		s.note(err) // what lost has noted meanwhile is newer than a success
	}
	return done.events(), err
}

// note writes down how the connection stands. The caller holds mu.
func (s *Sink) note(err error) {
	s.stats.Connected, s.stats.LastError = err == nil, ""
	if err != nil {
		s.stats.LastError = err.Error()
	}
}

// lost is for an outlet that learns between two events that its connection has
// ended.
func (s *Sink) lost(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.losses++
	s.note(err)
}

// Stats are what the sink has done by now.
func (s *Sink) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	stats.Reasons = maps.Clone(stats.Reasons)
	events, bytes := s.queue.size()
	stats.Queued, stats.QueuedBytes = events, int64(bytes)
	return stats
}
