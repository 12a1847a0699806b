package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"postern/internal/audit"
)

// findingWords is one finding on one line.
func findingWords(f audit.Finding) string {
	var b strings.Builder
	b.WriteString(printable(f.File))
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d", f.Line)
	}
	if f.Index >= 0 {
		fmt.Fprintf(&b, ", event %d", f.Index)
	}
	if f.Event != "" {
		fmt.Fprintf(&b, " (%s)", printable(f.Event))
	}
	return strings.TrimPrefix(b.String(), ", ") + ": " + printable(f.What)
}

// reportWords is a report for people.
func reportWords(r *audit.Report) string {
	var b strings.Builder
	verdict := "fine"
	if !r.Fine() {
		verdict = "WRONG"
	}
	fmt.Fprintf(&b, "%s: %s\n", verdict, eventsWords(r))
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("log", "%s", printable(r.Origin))
	row("signed", "%d events by %s, root %s", r.Covered, plural(int(r.Checkpoints), "checkpoint"), r.Root)
	if r.Anchors > 0 {
		row("anchors", "%d compared", r.Anchors)
	}
	if r.Recordings > 0 {
		row("recordings", "%d compared", r.Recordings)
	}
	if r.Running > 0 {
		row("running", "%s and programs without an end yet", plural(r.Running, "session"))
	}
	list(&b, "wrong, the first bad event first", r.Findings)
	list(&b, "to know", r.Remarks)
	if r.More > 0 {
		fmt.Fprintf(&b, "and %d more\n", r.More)
	}
	return b.String()
}

func eventsWords(r *audit.Report) string {
	s := plural(int(r.Events), "event")
	if !r.From.IsZero() {
		s += fmt.Sprintf(", %s to %s", r.From.Format(time.RFC3339), r.To.Format(time.RFC3339))
	}
	return s
}

func list(b *strings.Builder, title string, findings []audit.Finding) {
	if len(findings) == 0 {
		return
	}
	fmt.Fprintf(b, "%s:\n", title)
	for _, f := range findings {
		fmt.Fprintf(b, "  %s: %s\n", f.Kind, findingWords(f))
	}
}

// progressBar shows on a terminal how far something is, and elsewhere nothing.
type progressBar struct {
	w     io.Writer // nil = no terminal
	what  string
	began time.Time
	shown time.Time
}

func newProgressBar(w io.Writer, what string) *progressBar {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		w = nil
	}
	return &progressBar{w: w, what: what, began: time.Now()}
}

// show draws the bar at most ten times a second, once the first second is over.
func (p *progressBar) show(done, total int64) {
	now := time.Now()
	if p.w == nil || total <= 0 || now.Sub(p.began) < time.Second || now.Sub(p.shown) < 100*time.Millisecond {
		return
	}
	p.shown = now
	fmt.Fprintf(p.w, "\r%s", barWords(p.what, done, total, now.Sub(p.began)))
}

func (p *progressBar) clear() {
	if p.w != nil && !p.shown.IsZero() {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// barWords is the bar as text: how much is done and how long the rest takes at
// this speed.
func barWords(what string, done, total int64, spent time.Duration) string {
	const width = 30
	done = min(done, total)
	full := int(width * done / total)
	rest := time.Duration(float64(spent) / float64(max(done, 1)) * float64(total-done))
	return fmt.Sprintf("%s [%s%s] %3d%% of %s, %v left \x1b[K", what, strings.Repeat("#", full), strings.Repeat(".", width-full),
		100*done/total, byteCount(total), rest.Round(time.Second))
}
