package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"postern/internal/record"
)

type recordingsListCmd struct {
	chosen
	JSON bool `help:"Print JSON."`
}

// Help has the examples of the command.
func (recordingsListCmd) Help() string {
	return `Nothing of what was recorded is shown, so the list is no event. STATE is complete, running, cut (the session ended before its end was seen), broken off (the gate died, or the disk was full), or unreadable.

Examples:

    postern recordings list
    postern recordings list --identity vendor --target '10.0.2.*' --since 2026-11-24 --until 2026-11-25
    postern recordings list --dir /mnt/evidence --json | jq -r '.[] | select(.state != "complete") | .id'`
}

// Run prints the list.
func (c *recordingsListCmd) Run(e *env, flags *recordingsCmd) error {
	entries, err := flags.all()
	if err != nil {
		return err
	}
	if entries, err = c.of(entries, time.Now()); err != nil {
		return err
	}
	if c.JSON {
		infos := []recordingInfo{}
		for _, entry := range entries {
			infos = append(infos, infoOf(entry))
		}
		err = printJSON(e.stdout, infos)
	} else {
		err = printRecordings(e.stdout, entries)
	}
	if err != nil {
		return err
	}
	return unreadable(entries)
}

// unreadable is the error of a list with files that could not be read.
func unreadable(entries []record.Entry) error {
	var errs []error
	for _, e := range entries {
		if e.Err != nil {
			errs = append(errs, e.Err)
		}
	}
	if errs == nil {
		return nil
	}
	f, _ := errors.AsType[*fault](recordingFault(errs[0]))
	f.err = fmt.Errorf("%d of %d files could not be read: %w", len(errs), len(entries), errs[0])
	return f
}

func printRecordings(w io.Writer, entries []record.Entry) error {
	if len(entries) == 0 {
		_, err := fmt.Fprintln(w, "no recordings")
		return err
	}
	var rows []string
	for _, e := range entries {
		rows = append(rows, recordingRow(e))
	}
	return table(w, "ID\tSTARTED\tDURATION\tIDENTITY\tLOGIN@TARGET\tWHAT\tSIZE\tSTATE", rows)
}

func recordingRow(e record.Entry) string {
	state := stateWords(e)
	if e.Sealed {
		state += ", sealed"
	}
	h := e.Header
	if e.Err != nil {
		return strings.Join([]string{printable(e.ID), "-", "-", "-", "-", "-", byteCount(e.Size), state}, "\t")
	}
	const widest = 40
	command := []rune(what(h))
	if len(command) > widest {
		command = append(command[:widest-1], '…')
	}
	return strings.Join([]string{
		printable(e.ID), h.Started.UTC().Format("2006-01-02T15:04:05Z"), clock(e.Duration), printable(h.Identity),
		printable(h.Login + "@" + strings.TrimSuffix(h.Target, ":22")), string(command), byteCount(e.Size), state,
	}, "\t")
}

// clock is a time in a recording, as --from takes it.
func clock(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Truncate(100*time.Millisecond).Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%04.1fs", d/time.Minute, (d % time.Minute).Truncate(100*time.Millisecond).Seconds())
	}
	return fmt.Sprintf("%dh%02dm%02ds", d/time.Hour, d%time.Hour/time.Minute, d%time.Minute/time.Second)
}

// recordingInfo is what --json says of a recording.
type recordingInfo struct {
	ID         string     `json:"id"`
	Path       string     `json:"path"`
	Session    string     `json:"session,omitempty"`
	Channel    string     `json:"channel,omitempty"`
	Identity   string     `json:"identity,omitempty"`
	Endpoint   string     `json:"endpoint,omitempty"`
	Client     string     `json:"client,omitempty"`
	Login      string     `json:"login,omitempty"`
	Target     string     `json:"target,omitempty"`
	Address    string     `json:"address,omitempty"`
	Rule       string     `json:"rule,omitempty"`
	Kind       string     `json:"kind,omitempty"`
	Command    string     `json:"command,omitempty"`
	Term       string     `json:"term,omitempty"`
	Columns    uint32     `json:"columns,omitempty"`
	Rows       uint32     `json:"rows,omitempty"`
	Started    *time.Time `json:"started,omitempty"`
	DurationMS int64      `json:"duration_ms"`
	Size       int64      `json:"size"`
	Stdout     int64      `json:"stdout"`
	Stderr     int64      `json:"stderr"`
	Stdin      int64      `json:"stdin"`
	Records    int64      `json:"records"`
	State      string     `json:"state"`
	Sealed     bool       `json:"sealed"`
	Recipients []string   `json:"recipients,omitempty"`
	Error      string     `json:"error,omitempty"`
}

func infoOf(e record.Entry) recordingInfo {
	h := e.Header
	i := recordingInfo{
		ID: e.ID, Path: e.Path, Session: h.Session, Channel: h.Channel, Identity: h.Identity, Endpoint: h.Endpoint,
		Client: h.Client, Login: h.Login, Target: h.Target, Address: h.Address, Rule: h.Rule, Kind: h.Kind,
		Command: h.Command, Term: h.Term, Columns: h.Columns, Rows: h.Rows, DurationMS: e.Duration.Milliseconds(),
		Size: e.Size, Stdout: e.Stdout, Stderr: e.Stderr, Stdin: e.Stdin, Records: e.Records,
		State: stateWords(e), Sealed: e.Sealed, Recipients: h.Recipients,
	}
	if e.Err != nil {
		i.Error = e.Err.Error()
	} else {
		i.Started = &h.Started
	}
	return i
}
