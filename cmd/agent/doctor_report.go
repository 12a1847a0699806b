package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"postern/internal/doctor"
)

const reportWidth = 100

func (d diagnosis) print(e *env, c *doctorCmd) error {
	if c.JSON {
		return printJSON(e.stdout, d)
	}
	d.text(e.stdout, c.All)
	return nil
}

// text shows first what fails, then what is doubtful, then what is not known.
func (d diagnosis) text(w io.Writer, all bool) {
	fmt.Fprintln(w, d.headline())
	for _, status := range []doctor.Status{doctor.Fail, doctor.Warn} {
		for _, r := range d.of(status) {
			fmt.Fprintln(w)
			prose(w, fmt.Sprintf("%-7s %s: ", status, r.ID), r.Saw)
			field(w, "want", r.Title)
			field(w, "why", r.Why)
			mends(w, r.Mend)
		}
	}
	d.unknowns(w)
	for _, g := range d.Gaps {
		fmt.Fprintln(w)
		prose(w, "not looked at: ", g.What)
		field(w, "why", g.Why)
		mends(w, []string{g.Mend})
	}
	d.good(w, all)
}

func (d diagnosis) of(status doctor.Status) []doctor.Result {
	return slices.DeleteFunc(slices.Clone(d.Checks), func(r doctor.Result) bool { return r.Status != status })
}

func (d diagnosis) headline() string {
	words := []string{plural(len(d.Checks), "check")}
	for _, x := range []struct {
		status    doctor.Status
		one, many string
	}{{doctor.Fail, "fails", "fail"}, {doctor.Warn, "warns", "warn"}, {doctor.Unknown, "is unknown", "are unknown"}} {
		if n := len(d.of(x.status)); n == 1 {
			words = append(words, "1 "+x.one)
		} else if n > 1 {
			words = append(words, fmt.Sprintf("%d %s", n, x.many))
		}
	}
	if d.Status == doctor.OK {
		words = append(words, "all good")
	}
	where := ""
	if d.Region != "" {
		where = " in " + d.Region
	}
	return strings.Join(words, ", ") + where
}

// unknowns puts together what one thing would mend: with AWS out of reach most
// checks are unknown for the same reason.
func (d diagnosis) unknowns(w io.Writer) {
	var order []string
	groups := map[string][]doctor.Result{}
	for _, r := range d.of(doctor.Unknown) {
		key := strings.Join(r.Mend, "\n")
		if len(groups[key]) == 0 {
			order = append(order, key)
		}
		groups[key] = append(groups[key], r)
	}
	for _, key := range order {
		var ids, saws []string
		for _, r := range groups[key] {
			ids = append(ids, r.ID)
			if !slices.Contains(saws, r.Saw) {
				saws = append(saws, r.Saw)
			}
		}
		fmt.Fprintln(w)
		prose(w, "unknown ", strings.Join(ids, ", "))
		for _, saw := range saws {
			field(w, "saw", saw)
		}
		mends(w, groups[key][0].Mend)
	}
}

func (d diagnosis) good(w io.Writer, all bool) {
	good := d.of(doctor.OK)
	if len(good) == 0 {
		return
	}
	fmt.Fprintln(w)
	if !all {
		fmt.Fprintf(w, "ok      %s (--all shows them)\n", plural(len(good), "check"))
		return
	}
	for _, r := range good {
		prose(w, fmt.Sprintf("ok      %s: ", r.ID), r.Saw)
	}
}

func field(w io.Writer, name, text string) {
	if text != "" {
		prose(w, fmt.Sprintf("  %-6s", name), text)
	}
}

// mends are never wrapped: they are there to be copied.
func mends(w io.Writer, lines []string) {
	for i, line := range lines {
		name := ""
		if i == 0 {
			name = "mend"
		}
		fmt.Fprintf(w, "  %-6s%s\n", name, printable(line))
	}
}

// prose wraps text behind a first column.
func prose(w io.Writer, first, text string) {
	indent := strings.Repeat(" ", min(len(first), 8))
	line := first
	for i, word := range strings.Fields(printable(text)) {
		switch {
		case i == 0 || line == indent:
			line += word
		case len(line)+1+len(word) > reportWidth:
			fmt.Fprintln(w, line)
			line = indent + word
		default:
			line += " " + word
		}
	}
	fmt.Fprintln(w, line)
}
