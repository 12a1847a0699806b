package review

import (
	"iter"
	"time"
	"unicode/utf8"

	"postern/internal/record"
)

// Line is a line as it was on the screen. Text is valid UTF-8 without controls.
type Line struct {
	At   time.Duration // since the recording's beginning, when it first read so
	Text string
}

// maxLine bounds a line, in bytes; a longer one is several.
const maxLine = 64 << 10

// Lines are what a recording showed, line by line, in the order in which they
// were complete. With a terminal it is what stood on its screen: lines that
// wrapped are one, what was typed and deleted again is there too, and lines
// that a program drew again as they were are not repeated. Without one it is
// the lines of both outputs. An error of records ends them. Memory is bounded
// by the size of the screen, time by the bytes.
func Lines(h record.Header, records iter.Seq2[record.Record, error]) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		stopped := false
		emit := func(l Line) {
			stopped = stopped || !yield(l, nil)
		}
		view := newView(h, emit)
		defer view.close()
		for r, err := range records {
			if err != nil {
				view.end()
				if !stopped {
					yield(Line{}, err)
				}
				return
			}
			view.take(r)
			if stopped {
				return
			}
		}
		view.end()
	}
}

// HasTerminal says whether what h is of ran on a terminal; a client may ask for
// one without a name.
func HasTerminal(h record.Header) bool { return h.Term != "" || h.Columns > 0 }

// view makes lines of records.
type view interface {
	take(record.Record)
	end() // gives out the line that is not complete
	close()
}

func newView(h record.Header, emit func(Line)) view {
	if !HasTerminal(h) {
		return &pipes{out: pipe{emit: emit}, err: pipe{emit: emit}}
	}
	return newScreen(int(h.Columns), int(h.Rows), emit)
}

// pipes are the outputs of a program without a terminal, whose lines do not mix.
type pipes struct{ out, err pipe }

func (p *pipes) take(r record.Record) {
	switch r.Kind {
	case record.Stdout:
		p.out.write(r.At, r.Data)
	case record.Stderr:
		p.err.write(r.At, r.Data)
	}
}

func (p *pipes) end() {
	p.out.end()
	p.err.end()
}

func (p *pipes) close() {}

// pipe is one of them.
type pipe struct {
	emit  func(Line)
	lexer lexer
	at    time.Duration
	line  []byte
}

func (p *pipe) write(at time.Duration, b []byte) {
	p.at = at
	p.lexer.emit = p.token
	p.lexer.write(b)
}

func (p *pipe) end() {
	p.lexer.emit = p.token
	p.lexer.end()
	p.give()
}

func (p *pipe) token(t token) {
	switch {
	case t.kind == tokenText:
		p.text(t.b)
	case t.kind != tokenControl:
	case t.b[0] == '\n':
		p.give()
	case t.b[0] == '\t':
		p.text([]byte(" "))
	}
}

func (p *pipe) text(b []byte) {
	for len(b) > 0 {
		n := whole(b, maxLine-len(p.line))
		if n == 0 {
			p.give()
			continue
		}
		p.line = append(p.line, b[:n]...)
		b = b[n:]
	}
}

// whole is how much of b, in whole characters, fits into n bytes.
func whole(b []byte, n int) int {
	if n >= len(b) {
		return len(b)
	}
	for n > 0 && !utf8.RuneStart(b[n]) {
		n--
	}
	return n
}

func (p *pipe) give() {
	if len(p.line) > 0 {
		p.emit(Line{p.at, string(p.line)})
		p.line = p.line[:0]
	}
}
