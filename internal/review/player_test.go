package review

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"postern/internal/record"
)

// TestMain makes every test of the package a leak test.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tape is a recording of words and when they were said.
type tape struct {
	words []record.Record
	err   error // at the end
	live  context.Context
	clock time.Time // for live ones: when it began
}

func said(at time.Duration, what string) record.Record {
	return record.Record{At: at, Kind: record.Stdout, Data: []byte(what)}
}

func (r tape) Close() error { return nil }

func (r tape) Records() iter.Seq2[record.Record, error] {
	return func(yield func(record.Record, error) bool) {
		for _, w := range r.words {
			if r.live != nil && !r.wait(w.At) {
				yield(record.Record{}, r.live.Err())
				return
			}
			if !yield(w, nil) {
				return
			}
		}
		if r.err != nil {
			yield(record.Record{}, r.err)
		}
	}
}

func (r tape) wait(at time.Duration) bool {
	select {
	case <-time.After(time.Until(r.clock.Add(at))):
		return true
	case <-r.live.Done():
		return false
	}
}

// screenplay notes what reached the terminal, and when.
type screenplay struct {
	began time.Time
	notes []string
}

func (s *screenplay) Write(p []byte) (int, error) {
	text := strings.NewReplacer(plain, "<end>", "\x1b[2J\x1b[H", "<clear>").Replace(string(p))
	s.notes = append(s.notes, fmt.Sprintf("%v %s", time.Since(s.began), text))
	return len(p), nil
}

// press is a key at a time.
type press struct {
	at  time.Duration
	key Key
}

// play plays r with p in a bubble and returns what was seen when.
func play(t *testing.T, p Player, r tape, presses ...press) (seen string, quit bool, err error) {
	synctest.Test(t, func(t *testing.T) {
		out := &screenplay{began: time.Now()}
		r.clock = time.Now()
		p.Open = func(ctx context.Context) (Recording, error) {
			if p.Live {
				r.live = ctx
			}
			return r, nil
		}
		keys := make(chan Key)
		p.Out, p.Keys = out, keys
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		pressed := make(chan struct{})
		go func() {
			defer close(pressed)
			for _, k := range presses {
				select {
				case <-time.After(time.Until(out.began.Add(k.at))):
				case <-ctx.Done():
					return
				}
				select {
				case keys <- k.key:
				case <-ctx.Done():
				}
			}
		}()
		quit, err = p.Play(ctx)
		cancel()
		<-pressed
		seen = strings.Join(out.notes, ", ")
	})
	return seen, quit, err
}

func TestARecordingPlaysInItsTime(t *testing.T) {
	words := tape{words: []record.Record{said(0, "a"), said(time.Second, "b"), said(11*time.Second, "c"), said(12*time.Second, "d")}}
	for name, tc := range map[string]struct {
		player  Player
		presses []press
		want    string
	}{
		"as it was":         {Player{}, nil, "0s a, 1s b, 11s c, 12s d, 12s <end>"},
		"faster":            {Player{Speed: 2}, nil, "0s a, 500ms b, 5.5s c, 6s d, 6s <end>"},
		"without idleness":  {Player{Idle: 2 * time.Second}, nil, "0s a, 1s b, 3s c, 4s d, 4s <end>"},
		"both":              {Player{Idle: 2 * time.Second, Speed: 2}, nil, "0s a, 500ms b, 1.5s c, 2s d, 2s <end>"},
		"from":              {Player{From: 10 * time.Second}, nil, "0s a, 0s b, 1s c, 2s d, 2s <end>"},
		"from the end":      {Player{From: time.Hour}, nil, "0s a, 0s b, 0s c, 0s d, 0s <end>"},
		"paused":            {Player{}, []press{{3 * time.Second, KeyPause}, {time.Minute, KeyPause}}, "0s a, 1s b, 1m8s c, 1m9s d, 1m9s <end>"},
		"step by step":      {Player{}, []press{{2 * time.Second, KeyStep}, {4 * time.Second, KeyStep}, {5 * time.Second, KeyPause}}, "0s a, 1s b, 2s c, 4s d, 4s <end>"},
		"forward":           {Player{}, []press{{2 * time.Second, KeyForward}}, "0s a, 1s b, 6s c, 7s d, 7s <end>"},
		"far forward":       {Player{}, []press{{2 * time.Second, KeyForwardFar}}, "0s a, 1s b, 2s c, 2s d, 2s <end>"},
		"back":              {Player{}, []press{{11500 * time.Millisecond, KeyBack}}, "0s a, 1s b, 11s c, 11.5s <end>, 11.5s <clear>, 11.5s a, 11.5s b, 16s c, 17s d, 17s <end>"},
		"back to the start": {Player{}, []press{{2 * time.Second, KeyBackFar}}, "0s a, 1s b, 2s <end>, 2s <clear>, 2s a, 3s b, 13s c, 14s d, 14s <end>"},
		"faster in between": {Player{}, []press{{5 * time.Second, KeyFaster}}, "0s a, 1s b, 8s c, 8.5s d, 8.5s <end>"},
		"slower in between": {Player{}, []press{{10 * time.Second, KeySlower}}, "0s a, 1s b, 12s c, 14s d, 14s <end>"},
		"quit":              {Player{}, []press{{2 * time.Second, KeyQuit}}, "0s a, 1s b, 2s <end>"},
		"back while paused": {Player{}, []press{{11500 * time.Millisecond, KeyPause}, {12 * time.Second, KeyBack}, {20 * time.Second, KeyPause}},
			"0s a, 1s b, 11s c, 12s <end>, 12s <clear>, 12s a, 12s b, 24.5s c, 25.5s d, 25.5s <end>"},
	} {
		got, quit, err := play(t, tc.player, words, tc.presses...)
		if got != tc.want || quit != (name == "quit") || err != nil {
			t.Errorf("%s: quit %v, %v\n got %s\nwant %s", name, quit, err, got, tc.want)
		}
	}
}

func TestALiveRecordingIsShownAsItHappens(t *testing.T) {
	words := tape{words: []record.Record{said(0, "a"), said(time.Second, "b"), said(30*time.Second, "c")}}
	if got, _, err := play(t, Player{Live: true}, words, press{2 * time.Second, KeyBack}); got != "0s a, 1s b, 30s c, 30s <end>" || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	// A key ends it while nothing is said.
	if got, quit, err := play(t, Player{Live: true}, words, press{9 * time.Second, KeyQuit}); got != "0s a, 1s b, 9s <end>" || !quit || err != nil {
		t.Errorf("%s, %v, %v", got, quit, err)
	}
}

func TestOnlyOutputIsPlayed(t *testing.T) {
	words := tape{words: []record.Record{
		{Kind: record.Request, Data: []byte("shell")}, {Kind: record.Stdin, Data: []byte("secret")}, said(0, "a\x1b]0;x\a"),
		{Kind: record.Resize, Data: record.AppendSize(nil, 132, 50)}, {Kind: record.Stderr, Data: []byte("b")}, {Kind: record.Exit, Data: []byte("0")},
	}}
	var size string
	p := Player{SizeChanged: func(columns, rows int) { size = fmt.Sprint(columns, rows) }}
	if got, _, err := play(t, p, words); got != "0s a, 0s b, 0s <end>" || size != "132 50" || err != nil {
		t.Errorf("%s, size %s, %v", got, size, err)
	}
}

func TestTheTerminalIsPutBackWhateverHappens(t *testing.T) {
	broken := errors.New("broken")
	if got, _, err := play(t, Player{}, tape{words: []record.Record{said(0, "a")}, err: broken}); got != "0s a, 0s <end>" || err != broken {
		t.Errorf("%s, %v", got, err)
	}
	late := tape{words: []record.Record{said(0, "a"), said(24*time.Hour, "b")}}
	if got, quit, err := play(t, Player{}, late); got != "0s a, 1h0m0s <end>" || quit || err != nil {
		t.Errorf("context over: %s, %v, %v", got, quit, err)
	}
	p := Player{Out: full{}, Open: func(context.Context) (Recording, error) { return late, nil }}
	if _, err := p.Play(t.Context()); !errors.Is(err, errFull) {
		t.Error(err)
	}
	p = Player{Out: full{}, Open: func(context.Context) (Recording, error) { return nil, broken }}
	if _, err := p.Play(t.Context()); err != broken {
		t.Error(err)
	}
}

func TestKeysAreWhatTerminalsSend(t *testing.T) {
	var k Keys
	var got []Key
	for _, c := range []byte(" .q\x1b[C\x1b[D\x1bOC\x1b[1;5D[]+-\x1b[A\x1b[Bx\x1b[Z\x03") {
		if key := k.Next(c); key != 0 {
			got = append(got, key)
		}
	}
	want := []Key{KeyPause, KeyStep, KeyQuit, KeyForward, KeyBack, KeyForward, KeyBack, KeyBackFar, KeyForwardFar, KeyFaster, KeySlower, KeyFaster, KeySlower, KeyQuit}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}
