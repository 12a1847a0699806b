package review

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"time"

	"postern/internal/record"
)

// Recording is what a Player reads; *record.Reader is one.
type Recording interface {
	Records() iter.Seq2[record.Record, error]
	Close() error
}

// Key is what somebody who watches asks for.
type Key uint8

// The keys.
const (
	KeyPause      Key = iota + 1 // or go on
	KeyStep                      // the next output, then pause
	KeyBack                      // seekStep
	KeyForward                   // seekStep
	KeyBackFar                   // seekFar
	KeyForwardFar                // seekFar
	KeySlower                    // half the speed
	KeyFaster                    // twice the speed
	KeyQuit
)

const (
	seekStep = 5 * time.Second
	seekFar  = time.Minute
	minSpeed = 1.0 / 64
	maxSpeed = 1024
)

// Player plays a recording on a terminal. Its fields are set before Play.
type Player struct {
	// Open opens the recording at its beginning: once, and again for each step
	// back. ctx ends when the recording is closed.
	Open func(ctx context.Context) (Recording, error)

	Out      io.Writer     // the terminal, which gets what a Filter lets through
	Newlines bool          // as of Filter
	Speed    float64       // 2 = twice as fast; 0 = as it was
	Idle     time.Duration // longest pause that is played; 0 = all
	From     time.Duration // what is before it is shown at once
	Live     bool          // everything is shown as soon as it is read, and keys don't seek
	Keys     <-chan Key    // nil = nobody presses any

	// SizeChanged is told the size of the recorded terminal when it changes;
	// nil = nobody wants to know.
	SizeChanged func(columns, rows int)
}

// Play plays until the recording or ctx ends, which are no error, or somebody
// quits: then quit is true. The terminal is put back as it was, whatever
// happens. All goroutines have ended when it returns.
func (p *Player) Play(ctx context.Context) (quit bool, err error) {
	s := &showing{Player: p, speed: p.Speed, to: p.From}
	if s.speed <= 0 {
		s.speed = 1
	}
	for {
		again, err := s.once(ctx)
		if !s.begun {
			return false, err
		}
		if werr := s.write(s.filter.End(nil)); err == nil {
			err = werr
		}
		if err != nil || !again {
			return s.quit, err
		}
		s.filter = Filter{}
		if err := s.write([]byte("\x1b[2J\x1b[H")); err != nil {
			return false, err
		}
	}
}

// showing is one Play.
type showing struct {
	*Player
	filter Filter
	begun  bool // the terminal may not be as it was
	buf    []byte
	speed  float64
	paused bool
	step   bool // show one more output though paused
	quit   bool

	to      time.Duration // what is not after it is shown at once
	at      time.Duration // where in the recording we are
	next    *record.Record
	due     time.Time     // of next; not while paused
	left    time.Duration // until next, while paused
	shownAt time.Time     // when at was reached, or should have been
}

// item is what the reading goroutine has read.
type item struct {
	record record.Record
	err    error
}

// once plays from the beginning; again says that somebody went back to s.to.
func (s *showing) once(ctx context.Context) (again bool, err error) {
	reading, stop := context.WithCancel(ctx)
	r, err := s.Open(reading)
	if err != nil {
		stop()
		return false, err
	}
	items := make(chan item, 16)
	go read(reading, r, items)
	defer func() {
		stop()
		for range items { // until read has returned
		}
		if cerr := r.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("close the recording: %w", cerr)
		}
	}()
	s.begun, s.filter.Newlines = true, s.Newlines
	s.at, s.next, s.shownAt = 0, nil, time.Now()
	return s.loop(ctx, items)
}

// read reads ahead, so that keys work while a live recording says nothing. It
// returns when r or ctx has ended.
func read(ctx context.Context, r Recording, items chan<- item) {
	defer close(items)
	for rec, err := range r.Records() {
		rec.Data = bytes.Clone(rec.Data)
		select {
		case items <- item{rec, err}:
		case <-ctx.Done():
			return
		}
	}
}

func (s *showing) loop(ctx context.Context, items <-chan item) (again bool, err error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		arrive, ripe := items, (<-chan time.Time)(nil)
		if s.next != nil {
			arrive = nil
			if !s.paused || s.step || s.next.At <= s.to && !s.Live {
				timer.Reset(time.Until(s.due))
				ripe = timer.C
			}
		}
		select {
		case <-ctx.Done():
			return false, nil
		case k := <-s.Keys:
			if again = s.key(k); again || s.quit {
				return again, nil
			}
		case it, ok := <-arrive:
			if !ok {
				return false, nil
			}
			if it.err != nil {
				return false, unlessOver(ctx, it.err)
			}
			s.schedule(&it.record)
		case <-ripe:
			if err := s.show(); err != nil {
				return false, err
			}
		}
	}
}

// unlessOver is err, but for what follows from ctx being at its end.
func unlessOver(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// schedule says when r is to be shown. It counts from when the record before
// it should have been shown, so that delays do not add up.
func (s *showing) schedule(r *record.Record) {
	s.next = r
	wait := max(r.At-max(s.at, s.to), 0)
	if s.Idle > 0 {
		wait = min(wait, s.Idle)
	}
	wait = time.Duration(float64(wait) / s.speed)
	if s.Live || r.At <= s.to {
		wait = 0
	}
	if s.paused {
		s.left, s.due = wait, time.Now()
		return
	}
	if s.due = s.shownAt.Add(wait); wait == 0 {
		s.due = time.Now()
	}
}

func (s *showing) show() error {
	r := s.next
	s.next, s.at, s.shownAt = nil, r.At, s.due
	switch r.Kind {
	case record.Stdout, record.Stderr:
		s.step = false
		s.buf = s.filter.Append(s.buf[:0], r.Data)
		return s.write(s.buf)
	case record.Resize:
		if columns, rows, ok := record.ParseSize(r.Data); ok && s.SizeChanged != nil {
			s.SizeChanged(int(min(columns, 1<<16)), int(min(rows, 1<<16)))
		}
	}
	return nil
}

func (s *showing) write(b []byte) error {
	if _, err := s.Out.Write(b); err != nil {
		return fmt.Errorf("write to the terminal: %w", err)
	}
	return nil
}

// key does what k asks for; again says that it is to go back to s.to.
func (s *showing) key(k Key) (again bool) {
	switch k {
	case KeyQuit:
		s.quit = true
	case KeyPause:
		s.pause(!s.paused)
	case KeyStep:
		s.pause(true)
		s.step, s.due = true, time.Now()
	case KeySlower:
		s.hurry(0.5)
	case KeyFaster:
		s.hurry(2)
	case KeyBack:
		return s.seek(-seekStep)
	case KeyForward:
		return s.seek(seekStep)
	case KeyBackFar:
		return s.seek(-seekFar)
	case KeyForwardFar:
		return s.seek(seekFar)
	}
	return false
}

func (s *showing) pause(on bool) {
	switch {
	case on && !s.paused:
		s.left = max(time.Until(s.due), 0)
	case !on && s.paused:
		s.due = time.Now().Add(s.left)
		s.shownAt, s.step = time.Now(), false
	}
	s.paused = on
}

func (s *showing) hurry(factor float64) {
	before := s.speed
	s.speed = min(max(s.speed*factor, minSpeed), maxSpeed)
	scale := before / s.speed
	s.left = time.Duration(float64(s.left) * scale)
	if left := time.Until(s.due); left > 0 {
		s.due = time.Now().Add(time.Duration(float64(left) * scale))
	}
}

// seek goes forward by showing what is in between at once, and back by going
// to the beginning and then forward: only so is the screen what it was.
func (s *showing) seek(by time.Duration) (again bool) {
	if s.Live {
		return false
	}
	s.to = max(s.position()+by, 0)
	if by < 0 {
		return true
	}
	s.shownAt = time.Now()
	if s.next != nil {
		paused := s.paused
		s.paused = false
		s.schedule(s.next)
		if s.paused = paused; paused {
			s.left = max(time.Until(s.due), 0)
		}
	}
	return false
}

// position is where in the recording we are, between two records too.
func (s *showing) position() time.Duration {
	at := max(s.at, s.to)
	if s.next == nil || s.next.At <= at {
		return at
	}
	left := s.left
	if !s.paused {
		left = max(time.Until(s.due), 0)
	}
	return max(at, s.next.At-time.Duration(float64(left)*s.speed))
}

// Keys takes keys apart: what a terminal in raw mode sends when they are
// pressed. The zero value is ready.
type Keys struct{ seq []byte }

// Next returns what the byte completes, 0 = nothing.
func (k *Keys) Next(c byte) Key {
	switch {
	case c == 0x1b:
		k.seq = append(k.seq[:0], c)
		return 0
	case len(k.seq) == 1 && (c == '[' || c == 'O'):
		k.seq = append(k.seq, c)
		return 0
	case len(k.seq) == 2 && c < '@':
		return 0 // a parameter: a key with a modifier
	case len(k.seq) == 2:
		k.seq = k.seq[:0]
		return map[byte]Key{'C': KeyForward, 'D': KeyBack, 'A': KeyFaster, 'B': KeySlower}[c]
	}
	k.seq = k.seq[:0]
	return map[byte]Key{
		' ': KeyPause, 'p': KeyPause, '.': KeyStep, 'q': KeyQuit, 0x03: KeyQuit, 0x04: KeyQuit,
		'[': KeyBackFar, ']': KeyForwardFar, '+': KeyFaster, '-': KeySlower,
	}[c]
}
