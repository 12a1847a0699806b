package review

// Filter makes the output of programs harmless to the terminal of whoever looks
// at it: what Append returns holds text in UTF-8, the controls that move the
// cursor, and the escape sequences that move, erase, scroll, colour, or change
// to the alternate screen, and nothing else, however the input is cut. A Filter
// is for one stream; the zero value is ready. It is not safe for concurrent use.
type Filter struct {
	// Newlines has each LF begin at the left margin, for output that a terminal
	// in raw mode would show as stairs. It is set before use.
	Newlines bool

	lexer lexer
	out   []byte
	homes bool // something that has to be rewound has passed
}

// Append appends to dst what of p may be written to a terminal.
func (f *Filter) Append(dst, p []byte) []byte {
	f.begin(dst)
	f.lexer.write(p)
	return f.result()
}

// End appends what is left when the stream ends, and what puts a terminal
// back as it was: the main screen, no attributes, a visible cursor.
func (f *Filter) End(dst []byte) []byte {
	f.begin(dst)
	f.lexer.end()
	if !f.homes {
		return append(f.result(), plain...)
	}
	f.homes = false
	return append(f.result(), rewind+plain+bottom...)
}

func (f *Filter) begin(dst []byte) {
	f.out = dst
	f.lexer.emit = f.take
}

func (f *Filter) result() []byte {
	out := f.out
	f.out = nil
	return out
}

func (f *Filter) take(t token) {
	if f.Newlines && t.kind == tokenControl && t.b[0] == '\n' {
		f.out = append(f.out, '\r')
	}
	f.homes = f.homes || t.kind == tokenMove && homes(t.b)
	f.out = append(f.out, t.b...)
}
