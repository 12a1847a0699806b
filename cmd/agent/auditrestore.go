package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"postern/internal/archive"
	"postern/internal/audit"
)

type auditRestoreCmd struct {
	Config string `short:"c" placeholder:"FILE" help:"Configuration that names the archive (${config})."`
	remoteFlags
	To         string `placeholder:"DIR" help:"Folder for what is brought back; made where missing, and it must be empty."`
	Since      string `placeholder:"WHEN" help:"Only segments with events from this on: 2h, 7d ago, 2026-11-24, or 2026-11-24T18:00:00Z; days are in UTC."`
	Until      string `placeholder:"WHEN" help:"Only segments with events before this."`
	Recordings bool   `help:"Bring the recordings of the sessions in these segments too, to DIR/recordings."`
	JSON       bool   `help:"Print what was brought back as JSON."`
}

// Help has the examples of the command.
func (auditRestoreCmd) Help() string {
	return `Brings closed segments back from the archive, with the checkpoints, keys and hashes of the whole log, so that verify, query, session, prove and recordings work on the folder. Whole segments come back: the first one may begin before --since. Nothing in the archive is changed.

Examples:

    postern audit restore --s3 --to ./log
    postern audit restore --s3 s3://evidence/gates --origin gate1.example.com/postern/8f2c4e0b19a7d356/1 --since 2026-11-01 --until 2026-11-08 --recordings --to ./week
    postern audit verify --partial --dir ./week --recordings ./week/recordings --key ./audit.vkey
    postern audit query --dir ./week --identity vendor --failed
    postern recordings play --offline --dir ./week/recordings 01998e4c-7a10-7c3e-9d55-3b0f6f1b2a77-1`
}

// Validate is called by the parser.
func (c *auditRestoreCmd) Validate() error {
	if c.To == "" && !c.List {
		return errors.New("--to names the folder for what is brought back")
	}
	return nil
}

// Run brings the log back.
func (c *auditRestoreCmd) Run(e *env) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := c.source(ctx, &logFlags{Config: c.Config})
	if err != nil {
		return err
	}
	defer r.Close()
	if c.List {
		return r.show(ctx, e.stdout, c.JSON)
	}
	f := &fetch{remote: r, dir: c.To, bar: newProgressBar(e.stderr, "reading the archive")}
	got, err := c.restore(ctx, f)
	if err != nil {
		return remoteFault(err)
	}
	if c.JSON {
		return printJSON(e.stdout, got)
	}
	fmt.Fprint(e.stdout, c.words(got, f))
	return nil
}

func (c *auditRestoreCmd) restore(ctx context.Context, f *fetch) (*fetched, error) {
	since, until, err := c.span(time.Now())
	if err != nil {
		return nil, err
	}
	if f.origin, err = f.remote.choose(ctx); err != nil {
		return nil, err
	}
	if err := f.list(ctx, c.Recordings); err != nil {
		return nil, err
	}
	whole := len(f.segments)
	if f.segments, err = f.within(ctx, since, until); err != nil {
		return nil, err
	}
	if err := emptyFolder(c.To); err != nil {
		return nil, err
	}
	recordings := f.recordings
	f.recordings = nil
	got, err := f.run(ctx)
	if err != nil || !c.Recordings {
		return got, err
	}
	if len(f.segments) < whole {
		if recordings, err = f.recordingsOf(recordings); err != nil {
			return nil, err
		}
	}
	return got, f.addRecordings(ctx, recordings, got)
}

func (c *auditRestoreCmd) span(now time.Time) (since, until time.Time, err error) {
	if since, err = when(c.Since, now); err != nil {
		return since, until, undecided(fmt.Errorf("--since: %w", err))
	}
	if until, err = when(c.Until, now); err != nil {
		return since, until, undecided(fmt.Errorf("--until: %w", err))
	}
	if !since.IsZero() && !until.IsZero() && !since.Before(until) {
		return since, until, undecided(errors.New("--until is not after --since: no event can be meant"))
	}
	return since, until, nil
}

// within picks the segments that have events of a span of time. The beginnings
// of a few are read to find them.
func (f *fetch) within(ctx context.Context, since, until time.Time) ([]archive.Object, error) {
	from, to := 0, len(f.segments)
	var err error
	if !since.IsZero() {
		if from, err = f.beginsAfter(ctx, since); err != nil {
			return nil, err
		}
		from = max(0, from-1) // the one before may reach into the span
	}
	if !until.IsZero() {
		if to, err = f.beginsAfter(ctx, until); err != nil {
			return nil, err
		}
	}
	if from >= to {
		return nil, undecided(fmt.Errorf("read the archive %s: no segment of %s has events of that time", f.remote.url, printable(f.origin)),
			"a segment is copied when it is closed, see audit.segment_age")
	}
	return f.segments[from:to], nil
}

// beginsAfter is the place of the first segment that begins at t or after it.
func (f *fetch) beginsAfter(ctx context.Context, t time.Time) (int, error) {
	low, high := 0, len(f.segments)
	for low < high {
		middle := (low + high) / 2
		began, err := f.began(ctx, f.segments[middle])
		if err != nil {
			return 0, err
		}
		if began.Before(t) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, nil
}

// began is the time of a segment's first event, of which no more is read.
func (f *fetch) began(ctx context.Context, o archive.Object) (time.Time, error) {
	var head firstLine
	if err := f.remote.Fetch(ctx, o, &head); err != nil && !errors.Is(err, errEnough) {
		return time.Time{}, err
	}
	line, _, _ := bytes.Cut(head.Bytes(), []byte("\n"))
	var event struct {
		Time int64 `json:"time"`
	}
	if err := json.Unmarshal(line, &event); err != nil {
		return time.Time{}, fmt.Errorf("%s: its first line is no event: %w", printable(o.Key), err)
	}
	return time.UnixMilli(event.Time), nil
}

// errEnough ends a download.
var errEnough = errors.New("enough")

// firstLine takes what is written until it has a line.
type firstLine struct{ bytes.Buffer }

func (l *firstLine) Write(p []byte) (int, error) {
	n, _ := l.Buffer.Write(p) // it always returns nil
	if bytes.IndexByte(p, '\n') >= 0 || l.Len() > 4<<20 {
		return n, errEnough
	}
	return n, nil
}

// emptyFolder makes a folder, or takes one in which nothing is.
func emptyFolder(path string) error {
	if err := os.MkdirAll(path, 0o750); err != nil {
		return undecided(fmt.Errorf("make the folder of --to: %w", err))
	}
	entries, err := os.ReadDir(path)
	if err == nil && len(entries) > 0 {
		err = errors.New("it is not empty")
	}
	if err != nil {
		return undecided(fmt.Errorf("bring the log back to %s: %w", path, err), "--to names an empty folder, or one that is not there yet")
	}
	return nil
}

// recordingsOf picks the recordings of the sessions that the segments in the
// folder tell of.
func (f *fetch) recordingsOf(all []archive.Object) ([]archive.Object, error) {
	sessions := map[string]bool{}
	for r, err := range audit.Read(f.dir, 0) {
		if err != nil {
			return nil, err
		}
		sessions[r.Session] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(o archive.Object) bool {
		name := strings.TrimPrefix(filepath.Base(o.Key), "rec-")
		session := name[:max(0, strings.LastIndexByte(name, '-'))]
		return !sessions[session]
	}), nil
}

// addRecordings brings recordings to a log that was brought.
func (f *fetch) addRecordings(ctx context.Context, recordings []archive.Object, got *fetched) error {
	more := &fetch{remote: f.remote, origin: f.origin, dir: f.dir, bar: f.bar, recordings: recordings}
	if err := more.checkRoom(); err != nil {
		return err
	}
	defer f.bar.clear()
	if err := os.Mkdir(filepath.Join(f.dir, "recordings"), 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	got.Recordings, got.Remarks = len(recordings), append(got.Remarks, more.covered()...)
	return more.recordingFiles(ctx)
}

// words says what was brought back and what can be done with it.
func (c *auditRestoreCmd) words(got *fetched, f *fetch) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", printable(got.Origin), plural(got.Segments, "segment"))
	if c.Recordings {
		fmt.Fprintf(&b, ", %s", plural(got.Recordings, "recording"))
	}
	fmt.Fprintf(&b, "; hashes of %d events, %s\n", got.Hashed, plural(got.Usable, "checkpoint"))
	list(&b, "to know", got.Remarks)
	next := "postern audit verify --partial --dir " + c.To
	if c.Recordings {
		next += " --recordings " + filepath.Join(c.To, "recordings")
	}
	fmt.Fprintf(&b, "verify it: %s\n", next)
	return b.String()
}
