package review

import (
	"bytes"
	"slices"
	"strconv"
)

// These are the sequences that a reviewer's terminal is given; whatever is not
// here is dropped. None makes a terminal answer, report keys, the mouse or the
// focus, change what a key sends, its size, title, clipboard, history, tab
// stops, encoding or printer. The numbers are those of ECMA-48, of DEC's VT510
// manual and of xterm's ctlseqs.

// maxParameter is the greatest number that a parameter keeps.
const maxParameter = 9999

// finals are the control sequences without prefix and intermediate bytes, and
// how many parameters they may have.
var finals = map[byte]int{
	'A': 1, 'B': 1, 'C': 1, 'D': 1, 'E': 1, 'F': 1, 'G': 1, 'H': 2, // CUU CUD CUF CUB CNL CPL CHA CUP
	'I': 1, 'Z': 1, 'a': 1, 'd': 1, 'e': 1, 'f': 2, '`': 1, // CHT CBT HPR VPA VPR HVP HPA
	'J': 1, 'K': 1, 'X': 1, // ED EL ECH
	'L': 1, 'M': 1, 'P': 1, '@': 1, 'b': 1, // IL DL DCH ICH REP
	'S': 1, 'T': 1, 'r': 2, // SU SD DECSTBM; T with more would track the mouse
	's': 2, 'u': 0, // SCOSC or DECSLRM, SCORC; u with more would set up a keyboard
}

// privateModes may be set and reset with CSI ? Pm h and l: origin, wrap, blink,
// cursor, reverse wrap, margins, and the forms of the alternate screen.
var privateModes = []int{6, 7, 12, 25, 45, 47, 69, 1047, 1048, 1049}

// insertMode is the one of CSI Pm h and l.
const insertMode = 4

// What puts back each mode that the allow-list can change. rewind is for those
// that move the cursor when they are, so that it ends on the last line.
const (
	plain  = "\x1b[4l\x1b[?7h\x1b[?45l\x1b[?12l\x1b[?25h\x1b(B\x1b)B\x0f\x1b[0m\x1b[0 q"
	rewind = "\x1b[?1049l\x1b[?6l\x1b[?69l\x1b[r"
	bottom = "\x1b[9999;1H\r\n"
)

// softReset stands for ESC c, which would also forget what the reviewer's
// terminal was set up with: the main screen, without attributes, cleared.
const softReset = rewind + plain + "\x1b[2J\x1b[H"

// escapeSequence returns what is to be written for ESC, the intermediates and
// the final byte; nil = nothing.
func escapeSequence(intermediates []byte, final byte) []byte {
	switch {
	case len(intermediates) == 0 && final == 'c':
		return []byte(softReset)
	case len(intermediates) == 0 && bytes.IndexByte([]byte("78DEM"), final) >= 0: // DECSC DECRC IND NEL RI
		return []byte{0x1b, final}
	case len(intermediates) != 1:
	case intermediates[0] == '#' && final == '8', // DECALN
		(intermediates[0] == '(' || intermediates[0] == ')') && (final == 'B' || final == '0' || final == 'A'): // SCS: ASCII, line drawing, UK
		return []byte{0x1b, intermediates[0], final}
	}
	return nil
}

// controlSequence returns what is to be written for CSI, the parameter and
// intermediate bytes in seq, and the final byte; nil = nothing.
func controlSequence(seq []byte, final byte) []byte {
	switch {
	case final == 'm':
		return style(seq)
	case final == 'q' && len(seq) > 0 && bytes.HasSuffix(seq, []byte(" ")): // DECSCUSR
		return numbered("", seq[:len(seq)-1], 1, " q")
	case final == 'h' || final == 'l':
		return modes(seq, final)
	case (final == 'J' || final == 'K') && bytes.HasPrefix(seq, []byte("?")): // DECSED DECSEL
		return erase("?", seq[1:], final)
	case final == 'J' || final == 'K':
		return erase("", seq, final)
	}
	most, ok := finals[final]
	if !ok {
		return nil
	}
	return numbered("", seq, most, string(final))
}

// homes says whether s, which the allow-list has let through, changes what
// moves the cursor when it is put back: margins, origin, alternate screen.
func homes(s []byte) bool {
	switch {
	case string(s) == softReset || bytes.HasSuffix(s, []byte("r")):
		return true
	case !bytes.HasPrefix(s, []byte("\x1b[?")) || s[len(s)-1] != 'h' && s[len(s)-1] != 'l':
		return false
	}
	numbers, _ := parameters(s[3 : len(s)-1])
	return slices.ContainsFunc(numbers, func(n int) bool { return n == 6 || n >= 47 })
}

// erase leaves out ED 3, which would erase the history of the reviewer.
func erase(prefix string, seq []byte, final byte) []byte {
	if n, ok := parameters(seq); !ok || len(n) == 1 && n[0] > 2 {
		return nil
	}
	return numbered(prefix, seq, 1, string(final))
}

// style is SGR, whose parameters may have parts: 4:3, 38:2::1:2:3.
func style(seq []byte) []byte {
	for _, c := range seq {
		if (c < '0' || c > '9') && c != ';' && c != ':' {
			return nil
		}
	}
	return slices.Concat([]byte("\x1b["), seq, []byte("m"))
}

// modes keeps those that are allowed of the ones that a sequence sets.
func modes(seq []byte, final byte) []byte {
	allowed, prefix := []int{insertMode}, ""
	if bytes.HasPrefix(seq, []byte("?")) {
		allowed, prefix, seq = privateModes, "?", seq[1:]
	}
	numbers, ok := parameters(seq)
	if !ok {
		return nil
	}
	numbers = slices.DeleteFunc(numbers, func(n int) bool { return !slices.Contains(allowed, n) })
	if len(numbers) == 0 {
		return nil
	}
	return join(prefix, numbers, string(final))
}

// numbered is a sequence with at most most parameters.
func numbered(prefix string, seq []byte, most int, final string) []byte {
	if len(seq) == 0 {
		return []byte("\x1b[" + prefix + final)
	}
	numbers, ok := parameters(seq)
	if !ok || len(numbers) > most {
		return nil
	}
	return join(prefix, numbers, final)
}

func join(prefix string, numbers []int, final string) []byte {
	b := append([]byte("\x1b["), prefix...)
	for i, n := range numbers {
		if i > 0 {
			b = append(b, ';')
		}
		if n >= 0 {
			b = strconv.AppendInt(b, int64(n), 10)
		}
	}
	return append(b, final...)
}

// parameters reads numbers between semicolons; one left out is -1. It is not
// ok if there is anything else.
func parameters(seq []byte) (numbers []int, ok bool) {
	if len(seq) == 0 {
		return nil, true
	}
	for field := range bytes.SplitSeq(seq, []byte(";")) {
		n := -1
		for _, c := range field {
			if c < '0' || c > '9' {
				return nil, false
			}
			n = min(max(n, 0)*10+int(c-'0'), maxParameter)
		}
		numbers = append(numbers, n)
	}
	return numbers, true
}
