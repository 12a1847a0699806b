package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"postern/internal/audit"
	"postern/internal/config"
	"postern/internal/metrics"
	"postern/internal/sink"
)

// sinks are the second copies of the events.
type sinks struct {
	list []*sink.Sink
	log  *zap.Logger
}

// newSinks makes what the sinks: section names; nothing is sent yet.
func newSinks(c config.Sinks, log *zap.Logger) (*sinks, error) {
	s := &sinks{log: log}
	host, _ := os.Hostname() // without one, the server knows the address
	if c.Syslog.Address != "" {
		c.Syslog.Hostname = host
		made, err := sink.Syslog(c.Syslog)
		if err != nil {
			return nil, fmt.Errorf("sinks.syslog: %w", err)
		}
		s.list = append(s.list, made)
	}
	if c.CloudWatch.Group != "" {
		c.CloudWatch.Stream = cmp.Or(c.CloudWatch.Stream, host, "postern")
		made, err := sink.CloudWatch(context.Background(), c.CloudWatch)
		if err != nil {
			return nil, fmt.Errorf("sinks.cloudwatch: %w", err)
		}
		s.list = append(s.list, made)
	}
	return s, nil
}

// checkSinks reads the files that the sinks: section names.
func checkSinks(c config.Sinks) error {
	_, err := newSinks(c, zap.NewNop())
	return err
}

// offer hands events to every sink. It never waits.
func (s *sinks) offer(lines []byte) {
	for _, each := range s.list {
		each.Offer(lines)
	}
}

// stats are what the metrics say.
func (s *sinks) stats() []metrics.Sink {
	var all []metrics.Sink
	for _, each := range s.list {
		st := each.Stats()
		all = append(all, metrics.Sink{Name: each.Name(), Sent: st.Sent, Dropped: st.Dropped, QueuedBytes: st.QueuedBytes, Connected: st.Connected})
	}
	return all
}

// run sends until ctx ends, and a second longer, and writes down what was
// dropped.
func (s *sinks) run(ctx context.Context, log *audit.Log) error {
	var parts errgroup.Group
	for _, each := range s.list {
		parts.Go(func() error { return each.Run(ctx) })
		parts.Go(func() error { s.watch(ctx, each, log); return nil })
	}
	return parts.Wait()
}

// dropReport is how much time there is at least between two events that say
// what a sink has dropped.
const dropReport = time.Minute

// watch looks at one sink each second.
func (s *sinks) watch(ctx context.Context, each *sink.Sink, log *audit.Log) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	reported, connected, began := sink.Stats{}, true, time.Now()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			st := each.Stats()
			if st.Connected != connected {
				connected = st.Connected
				s.tell(each.Name(), st)
			}
			if st.Dropped > reported.Dropped && now.Sub(last) >= dropReport {
				log.Note(dropped(each.Name(), reported, st, later(began, last), now))
				reported, last = st, now
			}
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (s *sinks) tell(name string, st sink.Stats) {
	if st.Connected {
		s.log.Info("sink reached", zap.String("sink", name))
		return
	}
	s.log.Warn("sink not reached, events wait", zap.String("sink", name), zap.String("error", st.LastError))
}

// dropped says what a sink has let go since it was last reported, at since.
func dropped(name string, before, st sink.Stats, since, now time.Time) audit.Event {
	n := st.Dropped - before.Dropped
	reasons := map[string]any{}
	for reason, count := range st.Reasons {
		if count > before.Reasons[reason] {
			reasons[reason] = int64(count - before.Reasons[reason])
		}
	}
	return audit.Event{
		Code: audit.SinkDropped, Count: int(n), Start: since, End: now, Detail: st.LastError,
		Message: fmt.Sprintf("%s: %s dropped", name, plural(int(n), "event")),
		Extra:   map[string]any{"sink": name, "reasons": reasons},
	}
}
