package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"filippo.io/age"

	"postern/internal/admin"
	"postern/internal/record"
	"postern/internal/review"
)

type recordingsSearchCmd struct {
	chosen
	sealFlags
	Text       string `arg:"" help:"What to find; capitals matter."`
	Regexp     bool   `short:"E" help:"TEXT is a regular expression (RE2)."`
	IgnoreCase bool   `help:"Capitals don't matter."`
	JSON       bool   `help:"Print JSON."`
}

// Help has the examples of the command.
func (recordingsSearchCmd) Help() string {
	return `Lines are those that stood on the screen, whatever escape codes wrote them: a terminal is emulated. A line that wrapped is one, and what was typed and deleted again is found too. Each line found has the ID of its recording and the time in it, as recordings play --from takes it.

Exit status 0 also where nothing is found; 2 where a recording could not be searched.

Examples:

    postern recordings search "DROP TABLE" --since 7d
    postern recordings search --regexp 'pass(word|wd)' --identity vendor --json
    postern recordings search -i auditor.key --target '10.0.2.*' sudo`
}

// hit is a line that was found.
type hit struct {
	ID       string    `json:"id"`
	AtMS     int64     `json:"at_ms"`
	Time     time.Time `json:"time"`
	Identity string    `json:"identity"`
	Target   string    `json:"target"`
	Line     string    `json:"line"`

	at time.Duration
}

// Run searches.
func (c *recordingsSearchCmd) Run(e *env, flags *recordingsCmd) error {
	match, err := c.expression()
	if err != nil {
		return err
	}
	identities, err := c.identities()
	if err != nil {
		return err
	}
	entries, err := flags.all()
	if err != nil {
		return err
	}
	if entries, err = c.of(entries, time.Now()); err != nil {
		return err
	}
	if err := flags.access(e, c.event(entries)); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := &searching{ctx: ctx, e: e, match: match, identities: identities, print: printHit}
	if c.JSON {
		s.print = printHitJSON
	}
	if err := s.all(entries, c.JSON); err != nil {
		return err
	}
	return s.verdict(len(entries))
}

func (c *recordingsSearchCmd) expression() (*regexp.Regexp, error) {
	text := c.Text
	if text == "" {
		return nil, undecided(errors.New("the text to find is empty"), "postern recordings export --format text writes all of it")
	}
	if !c.Regexp {
		text = regexp.QuoteMeta(text)
	}
	if c.IgnoreCase {
		text = "(?i)" + text
	}
	match, err := regexp.Compile(text)
	if err != nil {
		return nil, undecided(err, "without --regexp the text is taken as it is")
	}
	return match, nil
}

// event names as many of the recordings as an event may.
func (c *recordingsSearchCmd) event(entries []record.Entry) admin.Access {
	a := admin.Access{Operation: "recordings.search", Count: len(entries), Detail: fmt.Sprintf("text %.500q", c.Text)}
	for _, e := range entries[:min(len(entries), admin.MaxRecordings)] {
		a.Recordings = append(a.Recordings, e.ID)
	}
	return a
}

// searching is one search.
type searching struct {
	ctx        context.Context // of the search: Ctrl-C ends it
	e          *env
	match      *regexp.Regexp
	identities []age.Identity
	print      func(io.Writer, hit, bool) error

	hits     int
	unread   int
	firstErr error
}

func (s *searching) all(entries []record.Entry, asJSON bool) error {
	if asJSON {
		fmt.Fprint(s.e.stdout, "[")
		defer fmt.Fprintln(s.e.stdout, "]")
	}
	told := time.Now()
	for i, entry := range entries {
		if time.Since(told) > 2*time.Second {
			fmt.Fprintf(s.e.stderr, "postern: %d of %d recordings searched, %d lines found\n", i, len(entries), s.hits)
			told = time.Now()
		}
		if err := s.one(entry); err != nil {
			return err
		}
	}
	return nil
}

// one searches a recording. One that cannot be read does not end the search.
func (s *searching) one(entry record.Entry) error {
	r, err := record.OpenFile(entry.Path, s.identities...)
	if err != nil {
		s.skipped(entry, err)
		return nil
	}
	defer r.Close()
	for line, err := range review.Lines(entry.Header, r.Records()) {
		switch {
		case s.ctx.Err() != nil:
			return undecided(errors.New("the search was stopped"))
		case errors.Is(err, record.ErrTorn): // all there is was searched
			return nil
		case err != nil:
			s.skipped(entry, err)
			return nil
		case s.match.MatchString(line.Text):
			if err := s.found(entry, line); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *searching) found(entry record.Entry, line review.Line) error {
	h := hit{ID: entry.ID, AtMS: line.At.Milliseconds(), Time: entry.Header.Started.Add(line.At).UTC(),
		Identity: entry.Header.Identity, Target: entry.Header.Login + "@" + entry.Header.Target, Line: line.Text, at: line.At}
	s.hits++
	if err := s.print(s.e.stdout, h, s.hits == 1); err != nil {
		return fmt.Errorf("print what was found: %w", err)
	}
	return nil
}

func (s *searching) skipped(entry record.Entry, err error) {
	fmt.Fprintf(s.e.stderr, "postern: %s is not searched: %s\n", printable(entry.ID), printable(err.Error()))
	s.unread++
	if s.firstErr == nil {
		s.firstErr = err
	}
}

func (s *searching) verdict(recordings int) error {
	if s.unread > 0 {
		f, _ := errors.AsType[*fault](recordingFault(s.firstErr))
		return undecided(fmt.Errorf("%d of %d recordings could not be searched: %w", s.unread, recordings, s.firstErr), f.hints...)
	}
	if s.hits == 0 {
		fmt.Fprintf(s.e.stderr, "postern: nothing found in %d recordings\n", recordings)
	}
	return nil
}

func printHit(w io.Writer, h hit, _ bool) error {
	_, err := fmt.Fprintf(w, "%s  %8s  %s\n", printable(h.ID), clock(h.at), h.Line)
	return err
}

func printHitJSON(w io.Writer, h hit, first bool) error {
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	separator := ",\n"
	if first {
		separator = "\n"
	}
	_, err = fmt.Fprintf(w, "%s%s", separator, b)
	return err
}
