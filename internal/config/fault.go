package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Fault is one thing that is wrong with a file. Line and Column start at 1;
// 0 means that the fault is not of one place.
type Fault struct {
	File         string
	Line, Column int
	Path         string // the key: "admission.endpoints[0]"; "" for the file as a whole
	Msg          string // without Go types, on one line
	Hint         string // what to do, where Msg does not say it already
}

// String is "file:line:column: path: message".
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		b.WriteString(":" + strconv.Itoa(f.Line))
	}
	if f.Line > 0 && f.Column > 0 {
		b.WriteString(":" + strconv.Itoa(f.Column))
	}
	b.WriteString(": ")
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Msg)
	return b.String()
}

// Errors are all faults of a file and of the files it names, the file's own
// first, each file's in the order in which they stand in it. It is never
// returned empty.
type Errors []Fault

// Error has one line for each fault.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, f := range e {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// HintFor returns what to do about an error of Load or LoadPolicy: whole lines
// that begin with "hint: ", each once, or none.
func HintFor(err error) []string {
	var hints []string
	add := func(s string) {
		if line := "hint: " + s; s != "" && !slices.Contains(hints, line) {
			hints = append(hints, line)
		}
	}
	for _, e := range joined(err) {
		if faults, ok := errors.AsType[Errors](e); ok {
			for _, f := range faults {
				add(f.Hint)
			}
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		add("name the file with --config, or write one: the package ships annotated examples as /etc/postern/postern.yaml and /etc/postern/policy.yaml")
	case errors.Is(err, fs.ErrPermission):
		add("the user postern must be able to read the file and to enter its folders")
	}
	return hints
}

// joined returns the errors that errors.Join joined, or err alone.
func joined(err error) []error {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		return all.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// maxFaults is how many faults are reported, so that a file that is something
// else altogether fills neither the log nor the event of a reload.
const maxFaults = 200

// ordered sorts faults, those of file main first, drops repeated ones and cuts
// off what is past maxFaults.
func ordered(main string, faults []Fault) Errors {
	slices.SortStableFunc(faults, func(a, b Fault) int {
		if a.File != b.File && (a.File == main || b.File == main) {
			return cmp.Compare(btoi(a.File != main), btoi(b.File != main))
		}
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	faults = slices.Compact(faults)
	if n := len(faults) - maxFaults; n > 0 {
		faults[maxFaults].Path, faults[maxFaults].Msg, faults[maxFaults].Hint = "", fmt.Sprintf("and %d more faults from here on", n), ""
		faults = faults[:maxFaults+1]
	}
	return faults
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// shown is text from a file as it may stand in a message: on one line, short,
// and in quotes where it would not be plain to see.
func shown(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "..."
	}
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == '"' }) {
		return strconv.Quote(s)
	}
	return s
}

// nearest returns "; did you mean X?" for the name that is nearest to what was
// written, or "" where none is near.
func nearest(written string, names []string) string {
	best, distance := "", 1+len(written)/3
	for _, name := range names {
		if d := editDistance(written, name); d <= distance && (best == "" || d < distance) {
			best, distance = name, d
		}
	}
	if best == "" || len(written) > 100 {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// editDistance counts the bytes to insert, delete, replace or swap with their
// neighbour to turn a into b.
func editDistance(a, b string) int {
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+btoi(a[i] != b[j]))
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
