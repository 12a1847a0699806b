package sink

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestPausesGrowUpToALimitAndDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pause
		for _, longest := range []time.Duration{500, 1000, 2000, 4000, 8000, 16000, 30000, 30000} {
			longest *= time.Millisecond
			began := time.Now()
			p.wait(t.Context())
			if took := time.Since(began); took < longest/2 || took > longest {
				t.Errorf("a pause of %s, want %s to %s", took, longest/2, longest)
			}
		}
		p.reset()
		began := time.Now()
		p.wait(t.Context())
		if took := time.Since(began); took > minPause {
			t.Errorf("after a success the pause is %s", took)
		}
	})
}

func TestAPauseEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		began := time.Now()
		p := pause{next: maxPause}
		p.wait(ctx)
		if took := time.Since(began); took != time.Millisecond {
			t.Errorf("it took %s", took)
		}
	})
}

func TestAContextOutlivesAnotherForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		longer, end := outlive(ctx, time.Second)
		defer end()
		time.AfterFunc(time.Hour, cancel)
		began := time.Now()
		<-longer.Done()
		if took := time.Since(began); took != time.Hour+time.Second {
			t.Errorf("it ended after %s", took)
		}
	})
}

func TestAContextThatOutlivesEndsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		longer, end := outlive(ctx, time.Hour)
		cancel()
		synctest.Wait()
		if longer.Err() != nil {
			t.Error("it ended with the other")
		}
		end()
		if longer.Err() == nil {
			t.Error("end did not end it")
		}
	})
}

// scripted is an outlet that a test plays.
type scripted struct {
	l      limits
	send_  func(ctx context.Context, lines [][]byte) (outcome, error)
	closed bool
}

func (s *scripted) limits() limits { return s.l }
func (s *scripted) send(ctx context.Context, lines [][]byte) (outcome, error) {
	return s.send_(ctx, lines)
}
func (s *scripted) close() { s.closed = true }

func scriptedSink(l limits, send func(context.Context, [][]byte) (outcome, error)) (*Sink, *scripted) {
	s := newSink("scripted", 1000)
	out := &scripted{l: l, send_: send}
	s.out = out
	return s, out
}

// TestStopGivesAHangingServerOneSecond: what is sent when the end comes goes on
// for that long.
func TestStopGivesAHangingServerOneSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, out := scriptedSink(limits{events: 10, bytes: 100, longest: 100}, func(ctx context.Context, _ [][]byte) (outcome, error) {
			<-ctx.Done()
			return outcome{}, ctx.Err()
		})
		s.Offer([]byte("a\nb\n"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := s.Run(ctx); err != nil || time.Since(began) != time.Minute+time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		if st := s.Stats(); st.Queued != 2 || st.Connected || !out.closed {
			t.Errorf("%+v, closed: %v", st, out.closed)
		}
	})
}

// TestOnlyNewEventsWaitForCompany has an outlet that takes two at a time.
func TestOnlyNewEventsWaitForCompany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		began := time.Now()
		s, _ := scriptedSink(limits{events: 10, bytes: 100, longest: 100, linger: time.Second}, func(_ context.Context, lines [][]byte) (outcome, error) {
			at = append(at, time.Since(began))
			return outcome{sent: min(2, len(lines))}, nil
		})
		s.Offer([]byte("a\nb\nc\nd\ne\n"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if len(at) != 3 || at[0] != time.Second || at[2] != time.Second {
			t.Errorf("sent after %s", at)
		}
		if st := s.Stats(); st.Sent != 5 || !st.Connected {
			t.Errorf("%+v", st)
		}
	})
}

// TestALossDuringASuccessStays: the server took the events and then ended the
// connection, before the sink has noted the success.
func TestALossDuringASuccessStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *Sink
		s, _ = scriptedSink(limits{events: 10, bytes: 100, longest: 100}, func(context.Context, [][]byte) (outcome, error) {
			s.lost(context.DeadlineExceeded)
			return outcome{sent: 1}, nil
		})
		s.Offer([]byte("a\n"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if st := s.Stats(); st.Connected || st.LastError == "" || st.Sent != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestOfferTakesNoTimeNorMemoryWhenFull(t *testing.T) {
	s, _ := scriptedSink(limits{events: 10, bytes: 100, longest: 100}, nil)
	lines := []byte("0123456789\n")
	for range 200 {
		s.Offer(lines)
	}
	if made := testing.AllocsPerRun(100, func() { s.Offer(lines) }); made > 0 {
		t.Errorf("a full queue makes %v allocations", made)
	}
	if st := s.Stats(); st.QueuedBytes > 1000 || st.Queued != 90 {
		t.Errorf("%+v", st)
	}
}
