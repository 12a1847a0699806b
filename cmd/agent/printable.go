package main

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/clipperhouse/displaywidth"
)

// printable makes what others wrote one line of text that does nothing to the
// reader's terminal and looks like what it is: controls, escape sequences, what
// turns the direction of writing, what is invisible, spaces of strange widths
// and what is no UTF-8 stand as U+FFFD, line feeds as ⏎, tabs as spaces.
func printable(s string) string {
	if isPlain(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	marks := 0
	for _, r := range s { // each byte that is no UTF-8 is one U+FFFD
		if unicode.Is(unicode.M, r) {
			marks++
		} else {
			marks = 0
		}
		b.WriteRune(visible(r, marks))
	}
	return b.String()
}

func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// visible is what stands for r, which is the given number of marks after a letter.
func visible(r rune, marks int) rune {
	const most = 3 // more grow over the lines around
	switch {
	case r == '\n':
		return '⏎'
	case r == '\t':
		return ' '
	case !unicode.IsPrint(r), invisible(r), marks > most:
		return utf8.RuneError
	}
	return r
}

// invisible runes are letters and marks for Unicode and nothing for the eye.
func invisible(r rune) bool {
	const blankBraille = 0x2800
	return r == blankBraille || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// cut is s in at most width columns of a terminal; where something is left out
// it ends in an ellipsis. s is printable.
func cut(s string, width int) string {
	if len(s) <= width && isPlain(s) {
		return s
	}
	return displaywidth.TruncateString(s, width, "…")
}

// padded is s, and spaces up to width columns.
func padded(s string, width int) string {
	n := len(s)
	if !isPlain(s) {
		n = displaywidth.String(s)
	}
	return s + strings.Repeat(" ", max(0, width-n))
}
