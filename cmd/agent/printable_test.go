package main

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/clipperhouse/displaywidth"
)

func TestWhatOthersWroteDoesNothingToATerminal(t *testing.T) {
	for in, want := range map[string]string{
		"ls -l /tmp":                      "ls -l /tmp",
		"\x1b[2J\x1b]0;title\a":           "\ufffd[2J\ufffd]0;title\ufffd",
		"a\nb\tc\r":                       "a⏎b c\ufffd",
		"\u009b31mred":                    "\ufffd31mred",
		"invoice\u202efdp.exe":            "invoice\ufffdfdp.exe",
		"zero\u200bwidth\ufeff":           "zero\ufffdwidth\ufffd",
		"fill\u3164\u115f\u2800\ufe0f":    "fill\ufffd\ufffd\ufffd\ufffd",
		"no\u00a0break":                   "no\ufffdbreak",
		"\xff\xc3":                        "\ufffd\ufffd",
		"日本 é e\u0301":                    "日本 é e\u0301",
		"z" + strings.Repeat("\u0335", 5): "z\u0335\u0335\u0335\ufffd\ufffd",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestColumnsAreCutByWhatTheyTakeOnAScreen(t *testing.T) {
	for _, c := range []struct {
		in    string
		width int
		want  string
	}{{"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"日本語", 6, "日本語"}, {"日本語", 5, "日本…"}, {"日本語", 4, "日…"}, {"e\u0301e\u0301", 2, "e\u0301e\u0301"}, {"", 3, ""}} {
		if got := cut(c.in, c.width); got != c.want {
			t.Errorf("%q in %d columns is %q, want %q", c.in, c.width, got, c.want)
		}
	}
	if got := padded("日本", 6) + "|"; got != "日本  |" {
		t.Errorf("padded: %q", got)
	}
}

func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"", "plain", "\x1b[31m\u202e\xff\n", "日本\u0301\u0301\u0301\u0301", "\U000e0041\u115f"} {
		f.Add(s, 10)
	}
	f.Fuzz(func(t *testing.T, s string, width int) {
		width = max(1, min(width, 200))
		out := printable(s)
		if !utf8.ValidString(out) {
			t.Fatalf("%q is no UTF-8", out)
		}
		for _, r := range out {
			if r != '\ufffd' && (!unicode.IsPrint(r) || invisible(r)) {
				t.Fatalf("%q has %U", out, r)
			}
		}
		if again := printable(out); again != out {
			t.Fatalf("%q became %q the second time", out, again)
		}
		short := cut(out, width)
		if n := displaywidth.String(short); n > width || !utf8.ValidString(short) {
			t.Fatalf("%q takes %d columns of %d", short, n, width)
		}
		if n := displaywidth.String(padded(short, width)); n < width {
			t.Fatalf("%q is padded to %d columns of %d", short, n, width)
		}
	})
}
