package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"

	"postern/internal/config"
	"postern/internal/record"
)

type recordingsCmd struct {
	recordingsFlags
	List   recordingsListCmd   `cmd:"" help:"Show which recordings there are, the newest last."`
	Show   recordingsShowCmd   `cmd:"" help:"Say what is known of one recording."`
	Play   recordingsPlayCmd   `cmd:"" help:"Play a recording in this terminal, or follow one that still runs."`
	Search recordingsSearchCmd `cmd:"" help:"Find what was on the screen."`
	Export recordingsExportCmd `cmd:"" help:"Write a recording as an asciicast, as text, or as the bytes that they were."`
}

// Help has the examples of the command.
func (recordingsCmd) Help() string {
	return `To show, play, search and export is itself an event of the audit log, log.access, which the running gate writes before anything is shown.

Examples:

    postern recordings list --identity vendor --since 24h
    postern recordings play 01998e4c-a000-7aaa-9d55-3b0f6f1b2a05-0
    postern recordings search --since 7d "DROP TABLE"`
}

// recordingsFlags say where recordings are, and which gate writes down that
// they are read.
type recordingsFlags struct {
	adminFlags
	Dir     string `placeholder:"DIR" help:"Folder of the recordings, instead of the one in the configuration."`
	Offline bool   `help:"Read them where no gate runs; nobody writes that down."`
}

// dir is the folder of the recordings.
func (c *recordingsFlags) dir() (string, error) {
	if c.Dir != "" {
		return c.Dir, nil
	}
	cfg, err := config.Load(cmp.Or(c.Config, defaultConfig))
	if err != nil {
		return "", undecided(loading("the configuration", err), append(configHints(err), "--dir names the folder of the recordings without a configuration")...)
	}
	return cfg.Recordings.Dir, nil
}

// all returns the recordings there are, the oldest first.
func (c *recordingsFlags) all() ([]record.Entry, error) {
	dir, err := c.dir()
	if err != nil {
		return nil, err
	}
	// A link is where the folder is; WalkDir would not follow it.
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	entries, err := record.List(dir)
	if err != nil {
		return nil, recordingFault(err)
	}
	slices.SortStableFunc(entries, func(a, b record.Entry) int { return a.Header.Started.Compare(b.Header.Started) })
	return entries, nil
}

// find returns the recording that is meant by an ID or the beginning of one.
func (c *recordingsFlags) find(id string) (record.Entry, error) {
	entries, err := c.all()
	if err != nil {
		return record.Entry{}, err
	}
	var found []record.Entry
	for _, e := range entries {
		if e.ID == id {
			return e, recordingFault(e.Err)
		}
		if id != "" && strings.HasPrefix(e.ID, id) {
			found = append(found, e)
		}
	}
	switch len(found) {
	case 0:
		return record.Entry{}, wrong(fmt.Errorf("no recording has the ID %q", id), "postern recordings list shows those there are")
	case 1:
		return found[0], recordingFault(found[0].Err)
	}
	return record.Entry{}, wrong(fmt.Errorf("%d recordings have an ID that begins with %q", len(found), id),
		"the first are "+found[0].ID+" and "+found[1].ID)
}

// recordingFault says what can be done about an error of package record.
func recordingFault(err error) error {
	if _, said := errors.AsType[*fault](err); said || err == nil {
		return err
	}
	switch {
	case errors.Is(err, record.ErrSealed):
		return undecided(err, "--identity-file names the file with the age identity (AGE-SECRET-KEY-...) of one of its recipients; postern recordings show names them")
	case errors.Is(err, record.ErrIdentity):
		return undecided(err, "postern recordings show names the recipients that it is sealed to")
	case errors.Is(err, record.ErrTorn):
		return wrong(err, "it ends where its writer was stopped or its disk was full; all before that is whole")
	case errors.Is(err, record.ErrCorrupt), errors.Is(err, record.ErrNotRecording):
		return wrong(err, "keep the file as it is: its recording.chunk and recording.end events in the audit log say what it was")
	case errors.Is(err, record.ErrVersion):
		return undecided(err, "is it of a newer postern?")
	case errors.Is(err, fs.ErrPermission):
		return undecided(err, "recordings may be read by the gate's account and root: try sudo")
	}
	return undecided(err)
}

// sealFlags open sealed recordings.
type sealFlags struct {
	IdentityFile []string `short:"i" placeholder:"FILE" help:"File with age identities, for sealed recordings."`
}

func (f sealFlags) identities() ([]age.Identity, error) {
	var all []age.Identity
	for _, name := range f.IdentityFile {
		b, err := os.Open(name)
		if err != nil {
			return nil, undecided(fmt.Errorf("read the identity file: %w", err))
		}
		ids, err := age.ParseIdentities(b)
		b.Close()
		if err != nil {
			return nil, undecided(fmt.Errorf("read the identity file %s: %w", name, err), "age-keygen makes such a file; it has a line that begins with AGE-SECRET-KEY-1")
		}
		all = append(all, ids...)
	}
	return all, nil
}

// chosen says which recordings a list or a search is about.
type chosen struct {
	Identity string `placeholder:"NAME" help:"Those of this identity; * stands for anything."`
	Target   string `placeholder:"HOST" help:"Those at this target, as host or host:port; * stands for anything."`
	Session  string `placeholder:"ID" help:"Those of this session."`
	Since    string `placeholder:"WHEN" help:"Those that went on after this: 90m, 24h, 7d ago, 2026-11-24, or 2026-11-24T18:00:00Z; days are in UTC."`
	Until    string `placeholder:"WHEN" help:"Those that began before this."`
}

// of returns those of entries that are meant.
func (c chosen) of(entries []record.Entry, now time.Time) ([]record.Entry, error) {
	since, err := when(c.Since, now)
	if err != nil {
		return nil, undecided(fmt.Errorf("--since: %w", err))
	}
	until, err := when(c.Until, now)
	if err != nil {
		return nil, undecided(fmt.Errorf("--until: %w", err))
	}
	for _, pattern := range []string{c.Identity, c.Target} {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, undecided(fmt.Errorf("%q: %w", pattern, err))
		}
	}
	var found []record.Entry
	for _, e := range entries {
		ended := e.Header.Started.Add(e.Duration)
		late := !since.IsZero() && ended.Before(since) && !e.Live
		early := !until.IsZero() && e.Header.Started.After(until)
		if e.Err != nil || c.matches(e.Header) && !late && !early {
			found = append(found, e)
		}
	}
	return found, nil
}

func (c chosen) matches(h record.Header) bool {
	host := h.Target
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	return like(c.Identity, h.Identity) && (like(c.Target, h.Target) || like(c.Target, strings.Trim(host, "[]"))) &&
		strings.HasPrefix(h.Session, c.Session)
}

func like(pattern, s string) bool {
	ok, _ := path.Match(pattern, s)
	return pattern == "" || ok
}

// when reads a time, or how long ago it is.
func when(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02T15:04", time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time; 24h, 7d, 2026-11-24 and 2026-11-24T18:00:00Z are", s)
}

// what says in words what is recorded.
func what(h record.Header) string {
	return printable(strings.TrimSpace(h.Kind + " " + h.Command))
}

// stateWords say how a recording ended, if it has.
func stateWords(e record.Entry) string {
	switch {
	case e.Err != nil:
		return "unreadable"
	case e.Live:
		return "running"
	case !e.Ended:
		return "broken off"
	case !e.Complete:
		return "cut"
	}
	return "complete"
}
