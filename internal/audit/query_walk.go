package audit

import (
	"bytes"
	"encoding/json"
	"errors"
)

// errNoObject says that a line is no JSON object.
var errNoObject = errors.New("the line is no JSON object")

// walker goes through the JSON of a line once and stops where somebody asks.
// It is some twenty times as fast as encoding/json because it skips what nobody
// asked for, and looks into that only as far as it must to find its end.
type walker struct {
	b   []byte
	i   int
	bad bool // it is no JSON; the walk is over
}

// text is the inside of a JSON string as it stands in the line.
type text []byte

// decode returns the string that t stands for, as encoding/json reads it.
func (t text) decode() []byte {
	if plain(t) {
		return t
	}
	return []byte(unquote(t))
}

func (t text) String() string {
	if plain(t) {
		return string(t)
	}
	return unquote(t)
}

// plain says that a JSON string is its own value.
func plain(t []byte) bool {
	for _, c := range t {
		if c == '\\' || c >= 0x80 {
			return false
		}
	}
	return true
}

func unquote(t []byte) string {
	quoted := append(append([]byte{'"'}, t...), '"')
	var s string
	if json.Unmarshal(quoted, &s) != nil {
		return "\ufffd"
	}
	return s
}

// object calls member for each member of the object that comes next. member
// takes the value; whatever is no object is skipped.
func (w *walker) object(member func(key []byte)) {
	if !w.enter('{') {
		return
	}
	for !w.leave('}') {
		key, ok := w.string()
		if !ok || !w.enter(':') {
			w.bad = true
			return
		}
		before := w.i
		member(key.decode())
		if w.i == before {
			w.bad = true // a value must have at least one byte
		}
	}
}

// array calls element where each element of the array that comes next begins.
func (w *walker) array(element func()) {
	if !w.enter('[') {
		return
	}
	for !w.leave(']') {
		before := w.i
		element()
		if w.i == before {
			w.bad = true
		}
	}
}

// enter takes c. Another value in its place is skipped.
func (w *walker) enter(c byte) bool {
	w.space()
	if w.i < len(w.b) && w.b[w.i] == c {
		w.i++
		return true
	}
	w.skip()
	return false
}

// leave takes the comma between two elements, or the end; it says whether that
// was it, or nothing can follow.
func (w *walker) leave(end byte) bool {
	w.space()
	if w.bad || w.i >= len(w.b) {
		w.bad = true
		return true
	}
	switch w.b[w.i] {
	case end:
		w.i++
		return true
	case ',':
		w.i++
		w.space()
	}
	return false
}

func (w *walker) space() {
	if w.i < len(w.b) && w.b[w.i] > ' ' {
		return // in what the log writes, always
	}
	for w.i < len(w.b) && (w.b[w.i] == ' ' || w.b[w.i] == '\t' || w.b[w.i] == '\r' || w.b[w.i] == '\n') {
		w.i++
	}
}

// shortString is how many bytes are looked at one by one, which for so few is
// faster than the call that looks at many.
const shortString = 16

// string takes the string that comes next; anything else is skipped.
func (w *walker) string() (text, bool) {
	w.space()
	if w.i >= len(w.b) || w.b[w.i] != '"' {
		w.skip()
		return nil, false
	}
	start := w.i + 1
	near := min(len(w.b), start+shortString)
	for end := start; end < near; end++ {
		switch w.b[end] {
		case '"':
			w.i = end + 1
			return text(w.b[start:end]), true
		case '\\':
			end++
		}
	}
	for end := start; ; end++ {
		n := bytes.IndexByte(w.b[end:], '"')
		if n < 0 {
			w.bad, w.i = true, len(w.b)
			return nil, false
		}
		end += n
		if w.b[end-1] != '\\' || !escaped(w.b[start:end]) {
			w.i = end + 1
			return text(w.b[start:end]), true
		}
	}
}

// escaped says whether what follows b is: b ends with an odd number of
// backslashes.
func escaped(b []byte) bool {
	n := len(b)
	for n > 0 && b[n-1] == '\\' {
		n--
	}
	return (len(b)-n)%2 == 1
}

// text takes a string into t.
func (w *walker) text(t *text) {
	if s, ok := w.string(); ok {
		*t = s
	}
}

// number takes a whole number into n.
func (w *walker) number(n *int64) {
	w.space()
	start := w.i
	w.skip()
	digits := w.b[start:w.i]
	negative := len(digits) > 0 && digits[0] == '-'
	if negative {
		digits = digits[1:]
	}
	if len(digits) == 0 || len(digits) > 18 {
		return
	}
	var v int64
	for _, c := range digits {
		if c < '0' || c > '9' {
			return
		}
		v = v*10 + int64(c-'0')
	}
	if negative {
		v = -v
	}
	*n = v
}

// truth takes true or false into b.
func (w *walker) truth(b *bool) {
	w.space()
	start := w.i
	w.skip()
	*b = string(w.b[start:w.i]) == "true"
}

// skip takes the value that comes next.
func (w *walker) skip() {
	w.space()
	if w.i >= len(w.b) {
		w.bad = true
		return
	}
	switch w.b[w.i] {
	case '"':
		w.string()
	case '{', '[':
		w.skipNested()
	default:
		for w.i < len(w.b) && !ends(w.b[w.i]) {
			w.i++
		}
	}
}

// ends says whether c comes after a number or name.
func ends(c byte) bool {
	return c == ',' || c == '}' || c == ']' || c == ' ' || c == '\t' || c == '\r' || c == '\n'
}

func (w *walker) skipNested() {
	depth := 0
	for w.i < len(w.b) {
		switch w.b[w.i] {
		case '"':
			if w.string(); w.bad {
				return
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		w.i++
		if depth == 0 {
			return
		}
	}
	w.bad = true
}

// anyString says whether one of the strings in the value that comes next is
// as wanted. It looks at all the others, and at no name of a member.
func (w *walker) anyString(wanted func(text) bool) bool {
	w.space()
	if w.i >= len(w.b) {
		w.bad = true
		return false
	}
	found := false
	switch w.b[w.i] {
	case '"':
		s, ok := w.string()
		found = ok && wanted(s)
	case '{':
		w.object(func([]byte) { found = w.anyString(wanted) || found })
	case '[':
		w.array(func() { found = w.anyString(wanted) || found })
	default:
		w.skip()
	}
	return found
}
