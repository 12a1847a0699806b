package files

import "strings"

// word is one word of a command line.
type word struct {
	text     string // quotes and backslashes taken off
	expands  bool   // the shell puts file names or a home directory in its place: * ? [ ] ~ outside quotes
	wildHead bool   // its first byte does: what it expands to may begin with "-"
	quoted   bool   // some of it was quoted
}

// Bytes that mean something to some shell outside quotes, and what expands
// without running anything. "^" was a pipe once, "!" is csh's history, a
// leading "=" zsh's path of a command.
const (
	special = "$`;&|<>(){}!#^\"'\\"
	globs   = "*?[]"
)

// words splits a command line into words as POSIX shells, csh and fish would
// all split it (POSIX.1-2017, Shell Command Language 2.2). It reads single and
// double quotes and the backslash, knows no expansion but that to file names,
// and fails where any of those shells could read something else.
func words(line string) (list []word, ok bool) {
	l := lexer{rest: line}
	for {
		l.rest = strings.TrimLeft(l.rest, " \t")
		if l.rest == "" {
			return list, true
		}
		w, ok := l.word()
		if !ok {
			return nil, false
		}
		list = append(list, w)
	}
}

type lexer struct {
	rest string
	text strings.Builder
	w    word
}

func (l *lexer) word() (word, bool) {
	l.text.Reset()
	l.w = word{}
	for l.rest != "" && l.rest[0] != ' ' && l.rest[0] != '\t' {
		if !l.part() {
			return word{}, false
		}
	}
	l.w.text = l.text.String()
	return l.w, true
}

// part reads a quoted string or one byte.
func (l *lexer) part() bool {
	c := l.rest[0]
	switch {
	case c == '\'':
		return l.quotedBy(c, "\\!")
	case c == '"':
		return l.quotedBy(c, "\\!$`")
	case c == '\\':
		return l.escaped()
	case control(c), strings.IndexByte(special, c) >= 0:
		return false
	case c == '=' && l.start():
		return false
	}
	if strings.IndexByte(globs, c) >= 0 || c == '~' && l.start() {
		l.w.wildHead = l.w.wildHead || c != '~' && l.text.Len() == 0
		l.w.expands = true
	}
	l.rest = l.rest[1:]
	l.text.WriteByte(c)
	return true
}

// start says that the word has not begun.
func (l *lexer) start() bool { return l.text.Len() == 0 && !l.w.quoted }

// quotedBy reads a string in quotes. What is in it must be in it for every
// shell: fish takes a backslash in single quotes, csh an exclamation mark.
func (l *lexer) quotedBy(quote byte, but string) bool {
	text, rest, ok := strings.Cut(l.rest[1:], string(quote))
	if !ok || strings.ContainsAny(text, but) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return false
	}
	l.w.quoted = true
	l.text.WriteString(text)
	l.rest = rest
	return true
}

// escaped reads a backslash and the byte after it. Before a letter or a digit
// fish reads it as C does; nobody needs it there.
func (l *lexer) escaped() bool {
	if len(l.rest) < 2 {
		return false
	}
	c := l.rest[1]
	if control(c) || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' {
		return false
	}
	l.w.quoted = true
	l.text.WriteByte(c)
	l.rest = l.rest[2:]
	return true
}

// control says that c is a control character. A tab between words is not seen
// here; in one it has to be quoted, and no shell needs that.
func control(c byte) bool { return c < ' ' || c == 0x7f }
