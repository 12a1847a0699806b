package review

import (
	"bytes"
	"unicode/utf8"
)

// tokenKind says what a token does to a terminal.
type tokenKind uint8

const (
	tokenText    tokenKind = iota // printable characters, valid UTF-8
	tokenControl                  // one C0 control
	tokenStyle                    // SGR: changes no cell
	tokenMove                     // an escape sequence that may move the cursor or change cells
)

// token is a piece of what a program wrote to its terminal that is harmless to
// write to another one. b is good until the lexer goes on.
type token struct {
	kind tokenKind
	b    []byte
}

// state is where the lexer is between two bytes; ECMA-48 §5.
type state uint8

const (
	ground       state = iota
	escape             // after ESC
	intermediate       // after ESC and 02/00-02/15
	control            // in a control sequence
	str                // in a control string, or OSC and the like
)

// Bounds of what a hostile recording can make the lexer hold or swallow.
const (
	maxSequence = 256     // bytes of an escape sequence
	maxString   = 1 << 20 // bytes of a control string, which no terminal shows
)

const replacement = "\ufffd"

// lexer takes the output of programs apart, in pieces of any size, into tokens
// of the allow-list in sequences.go; everything else it drops. Bytes that are
// not UTF-8 come out as U+FFFD. The zero value with emit set is ready.
type lexer struct {
	emit func(token)

	state   state
	osc     bool   // the string may end with BEL
	dropped int    // bytes of the string so far
	last    byte   // of them
	seq     []byte // of the sequence so far, without its introducer
	partial []byte // beginning of a character
	text    []byte // of the token that is being made
}

// write takes p; a token that p breaks off inside waits for the next call,
// text does not.
func (l *lexer) write(p []byte) {
	for len(p) > 0 {
		if l.state == ground {
			p = l.ground(p)
			continue
		}
		p = l.step(p)
	}
	l.flush()
}

// end gives out the beginning of a character that will not be completed.
func (l *lexer) end() {
	l.giveUp()
	l.flush()
}

// giveUp shows a character that was not completed, as utf8.DecodeRune would.
func (l *lexer) giveUp() {
	for range l.partial {
		l.text = append(l.text, replacement...)
	}
	l.partial = l.partial[:0]
}

func (l *lexer) flush() {
	if len(l.text) > 0 {
		l.emit(token{tokenText, l.text})
		l.text = l.text[:0]
	}
}

// ground takes text and the first control after it.
func (l *lexer) ground(p []byte) []byte {
	if len(l.partial) > 0 {
		return l.complete(p)
	}
	n := bytes.IndexFunc(p, func(r rune) bool { return r < ' ' || r >= 0x7f })
	if n < 0 {
		l.text = append(l.text, p...)
		return nil
	}
	l.text = append(l.text, p[:n]...)
	if p = p[n:]; p[0] < utf8.RuneSelf {
		l.control(p[0])
		return p[1:]
	}
	return l.character(p)
}

// complete adds to the character that the last write broke off in.
func (l *lexer) complete(p []byte) []byte {
	if utf8.RuneStart(p[0]) {
		l.giveUp()
		return p
	}
	if l.partial = append(l.partial, p[0]); !utf8.FullRune(l.partial) {
		return p[1:]
	}
	whole := l.partial
	l.partial = nil
	for len(whole) > 0 {
		whole = l.character(whole)
	}
	return p[1:]
}

// character takes one character that is not ASCII. C1 controls have no place:
// what they introduce would be text to one terminal and a command to another.
func (l *lexer) character(p []byte) []byte {
	if !utf8.FullRune(p) {
		l.partial = append(l.partial[:0], p...)
		return nil
	}
	r, n := utf8.DecodeRune(p)
	if r >= 0xa0 {
		l.text = utf8.AppendRune(l.text, r)
	}
	return p[n:]
}

// control takes a C0 control or DEL.
func (l *lexer) control(c byte) {
	switch c {
	case 0x1b:
		l.state, l.seq = escape, l.seq[:0]
	case '\b', '\t', '\n', '\v', '\f', '\r', 0x0e, 0x0f: // and SO, SI
		l.flush()
		l.emit(token{tokenControl, []byte{c}})
	}
}

// step takes one byte of a sequence or string.
func (l *lexer) step(p []byte) []byte {
	c := p[0]
	switch {
	case c == 0x18 || c == 0x1a: // CAN and SUB end any sequence
		l.state = ground
	case c == 0x1b: // and so does the next one; the ESC of a string's ST comes here too
		l.state, l.seq = escape, l.seq[:0]
	case l.state == str:
		l.inString(c)
	case c < ' ':
		l.control(c) // is done at once, the sequence goes on
	case c == 0x7f: // DEL is nothing
	case c > 0x7f:
		l.state = ground
		return p
	case l.state == escape:
		l.escape(c)
	case l.state == intermediate:
		l.intermediate(c)
	default:
		l.parameter(c)
	}
	return p[1:]
}

// inString drops what no reader needs: titles, links, the clipboard, images.
// It ends with BEL, with U+009C, which is a C1 ST, or after so many bytes that
// it rather hides something.
func (l *lexer) inString(c byte) {
	l.dropped++
	if c == '\a' && l.osc || l.last == 0xc2 && c == 0x9c || l.dropped >= maxString {
		l.state = ground
	}
	l.last = c
}

func (l *lexer) escape(c byte) {
	switch {
	case c == '[':
		l.state = control
	case c == ']' || c == 'P' || c == 'X' || c == '^' || c == '_' || c == 'k': // k: the title of a screen window
		l.state, l.osc, l.dropped, l.last = str, c == ']', 0, 0
	case c <= '/':
		l.state, l.seq = intermediate, append(l.seq, c)
	default:
		l.state = ground
		l.sequence(escapeSequence(nil, c))
	}
}

func (l *lexer) intermediate(c byte) {
	if c <= '/' {
		l.keep(c)
		return
	}
	l.state = ground
	l.sequence(escapeSequence(l.seq, c))
}

func (l *lexer) parameter(c byte) {
	if c < '@' {
		l.keep(c)
		return
	}
	l.state = ground
	if len(l.seq) >= maxSequence {
		return
	}
	kind := tokenMove
	if c == 'm' {
		kind = tokenStyle
	}
	if s := controlSequence(l.seq, c); s != nil {
		l.flush()
		l.emit(token{kind, s})
	}
}

// keep adds c to the sequence; one that is too long is dropped at its end.
func (l *lexer) keep(c byte) {
	if len(l.seq) < maxSequence {
		l.seq = append(l.seq, c)
	}
}

func (l *lexer) sequence(s []byte) {
	if s != nil {
		l.flush()
		l.emit(token{tokenMove, s})
	}
}
