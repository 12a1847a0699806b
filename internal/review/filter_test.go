package review

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// allowed is all that the filter may give out, written down a second time.
var allowed = regexp.MustCompile(`^(?:[ -~\x{a0}-\x{10ffff}]|[\x08-\x0f]|\x1b(?:[78DEM]|#8|[()][0AB]|\[(?:` +
	`[\d]{0,4}[ABCDEFGIZade` + "`" + `XLMP@bST]|(?:\d{0,4};?\d{0,4})[Hfrs]|u|\??[012]?[JK]|[\d;:]*m|\d{0,4} q|4[hl]|` +
	`\?(?:(?:6|7|12|25|45|47|69|1047|1048|1049);?)+[hl])))*$`)

func filtered(pieces ...string) string {
	var f Filter
	var out []byte
	for _, p := range pieces {
		out = f.Append(out, []byte(p))
	}
	return string(out)
}

func TestTheFilterPassesWhatScreensAreMadeOf(t *testing.T) {
	for _, s := range []string{
		"plain text, naïve 漢字 🎉\r\n", "\x1b[1;31mred\x1b[0m", "\x1b[38;2;1;2;3m\x1b[4:3m\x1b[m", "\x1b[H\x1b[2J\x1b[12;40Hx",
		"\x1b[?1049h\x1b[?25l\x1b[?25h\x1b[?1049l", "\x1b[5;20r\x1b[3L\x1b[2M\x1b[4P\x1b[@\x1b[9X", "\x1b(0lqqk\x1b(B\x0e\x0f",
		"\x1b7\x1b8\x1bM\x1bD\x1bE", "\x1b[S\x1b[2T\x1b[K\x1b[1K\x1b[?2K", "\x1b[;5H", "\x1b[2 q", "\x1b[4h\x1b[4l", "tab\tback\b",
	} {
		if got := filtered(s); got != s {
			t.Errorf("%q came as %q", s, got)
		}
	}
}

// TestNoAttackReachesTheReviewersTerminal has one line for each way in which
// what is played could do something to whoever plays it.
func TestNoAttackReachesTheReviewersTerminal(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"title":                         {"a\x1b]0;evil\ab", "ab"},
		"title ended by ST":             {"a\x1b]2;evil\x1b\\b", "ab"},
		"title ended by a C1 ST":        {"a\x1b]2;evil\u009cb", "ab"},
		"clipboard":                     {"\x1b]52;c;cm0gLXJmIC8K\a", ""},
		"hyperlink":                     {"\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\", "click"},
		"palette question":              {"\x1b]4;1;?\a", ""},
		"screen title":                  {"\x1bkevil\x1b\\x", "x"},
		"DCS":                           {"\x1bP$q\"p\x1b\\x", "x"},
		"sixel":                         {"\x1bPq#0;2;0;0;0\x1b\\x", "x"},
		"APC":                           {"\x1b_Ga=T\x1b\\x", "x"},
		"PM":                            {"\x1b^x\x1b\\x", "x"},
		"SOS":                           {"\x1bXx\x1b\\x", "x"},
		"primary attributes":            {"\x1b[c\x1b[0c\x1b[>c\x1b[=c\x1bZ", ""},
		"status and cursor position":    {"\x1b[5n\x1b[6n\x1b[?6n", ""},
		"XTVERSION":                     {"\x1b[>0q", ""},
		"mode question":                 {"\x1b[?1049$p\x1b[4$p", ""},
		"terminal parameters":           {"\x1b[x", ""},
		"checksum of a rectangle":       {"\x1b[1;1;1;1;5;5*y", ""},
		"answerback":                    {"\x05", ""},
		"mouse":                         {"\x1b[?1000h\x1b[?1003;1006h\x1b[?9h", ""},
		"focus and paste":               {"\x1b[?1004h\x1b[?2004h", ""},
		"of several modes the good one": {"\x1b[?1000;25;2004l", "\x1b[?25l"},
		"keys":                          {"\x1b[?1h\x1b=\x1b>\x1b[>4;2m\x1b[>1u\x1b[=1;1u\x1b[20h", ""},
		"keyboard lock":                 {"\x1b[2h", ""},
		"size and window":               {"\x1b[8;1;1t\x1b[21t\x1b[?3h\x1b[4;100$t", ""},
		"highlight tracking":            {"\x1b[1;2;3;4;5T", ""},
		"history":                       {"\x1b[3J", ""},
		"printer":                       {"\x1b[5i\x1b[?5i", ""},
		"tab stops":                     {"\x1bH\x1b[3g", ""},
		"other character sets":          {"\x1b%@\x1b(%5\x1bn\x1b|\x1b(1", ""},
		"C1 controls":                   {"\u009b5n\u009d0;x\u009c\u0090q", "5n0;xq"},
		"C1 controls of eight bits":     {"\x9b5n", "\ufffd5n"},
		"bell, NUL, XOFF, DEL":          {"a\a\x00\x13\x7fb", "ab"},
		"hard reset":                    {"\x1bc", softReset},
		"a control inside a sequence":   {"\x1b[1\r0Cx", "\r\x1b[10Cx"},
		"a sequence that is given up":   {"\x1b[1\x185n", "5n"},
		"a sequence inside a sequence":  {"\x1b[5\x1b[6nx", "x"},
		"huge numbers":                  {"\x1b[99999999999999999999C", "\x1b[9999C"},
		"a sequence without end":        {"\x1b[" + strings.Repeat("1;", 4000) + "mx", "x"},
		"a string without end":          {"\x1b]0;" + strings.Repeat("x", maxString-2) + "seen", "seen"},
		"ESC and a letter with a mark":  {"\x1b\u00e9", "\u00e9"},
	} {
		if got := filtered(tc.in); got != tc.want {
			t.Errorf("%s: %q came as %q, want %q", name, tc.in, got, tc.want)
		}
		if !allowed.MatchString(tc.want) {
			t.Errorf("%s: the test would let %q pass", name, tc.want)
		}
	}
}

func TestTheEndPutsTheTerminalBack(t *testing.T) {
	for in, want := range map[string]string{
		"\x1b[31mred\xe2\x82": "\x1b[31mred\ufffd\ufffd" + plain,
		"\x1b[5;9rx":          "\x1b[5;9rx" + rewind + plain + bottom,
		"\x1b[?1049hx":        "\x1b[?1049hx" + rewind + plain + bottom,
		"\x1b[?25lx":          "\x1b[?25lx" + plain,
	} {
		var f Filter
		if got := string(f.End(f.Append(nil, []byte(in)))); got != want || !allowed.MatchString(got) {
			t.Errorf("%q came as %q, want %q", in, got, want)
		}
	}
}

func TestLinesOfAPipeBeginAtTheMargin(t *testing.T) {
	f := Filter{Newlines: true}
	if got := string(f.Append(nil, []byte("a\nb\r\n"))); got != "a\r\nb\r\r\n" {
		t.Errorf("%q", got)
	}
}

// FuzzFilter shows that nothing outside the allow-list passes, and that it does
// not matter where the stream is cut.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{"\x1b]52;c;QQ==\a", "\x1b[?1000;25h", "\xe2\x82\xac\xe2\x82", "\x1b[38;2;1;2;3mx\x1bc", "\x1bP+q\x1b\\", "\u009b6n", "\x1b[1\n;2H", "\xc2\x1b[c", "\xf0\x80\x80\x80", "\x1b( B"} {
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, p []byte, cut uint8) {
		whole := filtered(string(p))
		if !utf8.ValidString(whole) || !allowed.MatchString(whole) {
			t.Fatalf("%q came as %q", p, whole)
		}
		var one Filter
		var out []byte
		for piece := range chunks(p, int(cut%7)+1) {
			out = one.Append(out, piece)
		}
		var uncut Filter
		if want := uncut.End(uncut.Append(nil, p)); !bytes.Equal(one.End(out), want) {
			t.Fatalf("%q cut each %d bytes came as %q, whole as %q", p, cut%7+1, out, want)
		}
	})
}

func chunks(p []byte, n int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(p) > 0 {
			k := min(n, len(p))
			if !yield(p[:k]) {
				return
			}
			p = p[k:]
		}
	}
}
