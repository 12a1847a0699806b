package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"postern/internal/audit"
)

type auditSessionCmd struct {
	logFlags
	ID   string `arg:"" help:"The session's ID, or as much of its beginning as no other session has."`
	All  bool   `help:"A line for each event: each file, and what is of no matter otherwise."`
	JSON bool   `help:"Print the session's events as they stand in the log, one JSON object a line."`
}

// Help has the examples of the command.
func (auditSessionCmd) Help() string {
	return `Who came, from where, when and by which rule, and what was opened, run, moved, refused and recorded, in order. Times count from the session's beginning. A line that begins with ! failed or was refused, one with !! is an alert. File operations of one kind that follow each other are counted together. What was done to the session on the host is there as well. The log is only read; that is no event of it.

Exit status 1 where no session, or more than one, has such an ID.

Examples:

    postern audit session 01998e4c-7a10-7c3e-9d55-3b0f6f1b2a77
    postern audit session 01998e4c-7a10 --all
    postern audit session 01998e4c-7a10 --json | jq -r 'select(.file) | .file.path'`
}

// Run tells the story.
func (c *auditSessionCmd) Run(e *env) error {
	dir, err := c.dir()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := c.show(ctx, e.stdout, dir); err != nil {
		return searchFault(err)
	}
	return nil
}

func (c *auditSessionCmd) show(ctx context.Context, w io.Writer, dir string) error {
	id, err := resolveSession(ctx, dir, c.ID)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	if c.JSON {
		_, err := sessionEvents(ctx, dir, id, func(line []byte) error {
			_, err := out.Write(append(line, '\n'))
			return err
		})
		return errors.Join(err, out.Flush())
	}
	story := &audit.Story{All: c.All, Size: sizeWords, Lasted: lastedWords}
	if _, err := sessionEvents(ctx, dir, id, story.Add); err != nil {
		return err
	}
	story.End()
	printStory(out, story)
	return out.Flush()
}

// sessionLength is that of an ID.
const sessionLength = len("01998e4c-7a10-7c3e-9d55-3b0f6f1b2a77")

// sessionOf is the session an event is of, or was done to.
func sessionOf(f audit.Facts) string {
	if f.Session != "" {
		return f.Session
	}
	return f.Resource[:min(len(f.Resource), sessionLength)] // a recording has its channel after that
}

// resolveSession returns the one session whose ID begins so.
func resolveSession(ctx context.Context, dir, id string) (string, error) {
	if id == "" {
		return "", undecided(errors.New("the ID of the session is empty"))
	}
	var found []string
	s := audit.Search{Query: audit.Query{Sessions: []string{id}}, Render: func(dst []byte, e *audit.Entry) []byte {
		return append(dst, sessionOf(e.Facts())...)
	}}
	next, err := s.Run(ctx, dir, func(b []byte) error {
		if !slices.Contains(found, string(b)) && len(found) < 100 {
			found = append(found, string(b))
		}
		return nil
	})
	switch {
	case err != nil:
		return "", err
	case next == 0:
		return "", fmt.Errorf("%w: %s", errNoLog, dir)
	case slices.Contains(found, id):
		return id, nil
	case len(found) == 0:
		return "", wrong(fmt.Errorf("no session in the log has the ID %q", id), "postern audit query --code auth.success --newest shows the last sessions",
			"what was refused before it was a session has no ID: postern audit query --failed")
	case len(found) > 1:
		hint := "they begin with " + printable(found[0]) + " and " + printable(found[1])
		return "", wrong(fmt.Errorf("%d sessions have an ID that begins with %q", len(found), id), hint, "postern audit query --session "+printable(id)+" shows them")
	}
	return found[0], nil
}

// sessionEvents calls fn with each event of the session id, and what was done to it.
func sessionEvents(ctx context.Context, dir, id string, fn func(line []byte) error) (int64, error) {
	s := audit.Search{Query: audit.Query{Sessions: []string{id}}, Render: func(dst []byte, e *audit.Entry) []byte {
		return append(append(append(dst, sessionOf(e.Facts())...), 0), e.Line...)
	}}
	return s.Run(ctx, dir, func(b []byte) error {
		i := bytes.LastIndexByte(b, 0) // no JSON has one
		if string(b[:i]) != id {
			return nil
		}
		return fn(slices.Clone(b[i+1:]))
	})
}

// longText is what a line of the story may have where not all was asked for, in
// columns: some lines of a terminal.
const longText = 500

func printStory(w io.Writer, s *audit.Story) {
	fmt.Fprintf(w, "Session %s\n\n", printable(s.Session))
	for _, f := range s.Facts() {
		fmt.Fprintf(w, "  %-9s  %s\n", f.Name, printable(f.Value))
	}
	fmt.Fprintln(w, "\nWhat happened")
	fmt.Fprintln(w)
	for _, l := range s.Lines {
		text := printable(l.Text)
		if !s.All {
			text = cut(text, longText)
		}
		fmt.Fprintf(w, "%2s %s  %s\n", mark(l), sinceBegin(l.At.Sub(s.Began)), text)
	}
	if len(s.Recordings) == 0 {
		fmt.Fprintln(w, "\nNothing of it was recorded.")
		return
	}
	fmt.Fprintln(w, "\nRecordings, for postern recordings play")
	fmt.Fprintln(w)
	for _, r := range s.Recordings {
		fmt.Fprintf(w, "  %s  %-10s  %9s  %s\n", printable(r.ID), r.State, sizeWords(r.Size), cut(printable(r.What), 80))
	}
}

func mark(l audit.StoryLine) string {
	switch {
	case l.Alert:
		return "!!"
	case l.Bad:
		return "!"
	}
	return ""
}

// sinceBegin is a time in the session: +0:01:02.345.
func sinceBegin(d time.Duration) string {
	sign := "+"
	if d < 0 {
		sign, d = "-", -d
	}
	return fmt.Sprintf("%s%d:%02d:%02d.%03d", sign, d/time.Hour, d%time.Hour/time.Minute, d%time.Minute/time.Second, d%time.Second/time.Millisecond)
}

// sizeWords are a number of bytes in a sentence: 512 bytes, 3.4KB.
func sizeWords(n int64) string {
	if n < 1024 {
		return byteCount(n) + " bytes"
	}
	return byteCount(n) + "B"
}

// lastedWords are a time in a sentence.
func lastedWords(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%dms", d.Milliseconds())
	}
	return clock(d)
}
