package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"

	"postern/internal/admin"
	"postern/internal/record"
)

type recordingsShowCmd struct {
	sealFlags
	ID     string `arg:"" help:"The recording's ID, or as much of its beginning as no other has."`
	Blocks bool   `help:"Show the blocks of the file, too: where each is, and of what time."`
	JSON   bool   `help:"Print JSON."`
}

// Help has the examples of the command.
func (recordingsShowCmd) Help() string {
	return `SHA-256 is that of the file as it is now; the recording.end event in the audit log has the one it must be.

Examples:

    postern recordings show 01998e4c-a000-7aaa-9d55-3b0f6f1b2a05-0
    postern recordings show -i auditor.key 01998e4c --blocks
    postern audit tail -n 100000 --json | grep $(postern recordings show --json 01998e4c | jq -r .sha256)`
}

// shown is what there is to say of a recording.
type shown struct {
	recordingInfo
	SHA256   string         `json:"sha256"`
	Requests []shownRecord  `json:"requests"`
	Exits    []shownRecord  `json:"exits"`
	Blocks   []record.Block `json:"blocks,omitempty"`
	Read     string         `json:"read"` // "whole", "not opened", or why not

	err error
}

type shownRecord struct {
	AtMS int64  `json:"at_ms"`
	Text string `json:"text"`
}

// Run prints what is known.
func (c *recordingsShowCmd) Run(e *env, flags *recordingsCmd) error {
	entry, err := flags.find(c.ID)
	if err != nil {
		return err
	}
	identities, err := c.identities()
	if err != nil {
		return err
	}
	err = flags.access(e, admin.Access{Operation: "recordings.show", Recordings: []string{entry.ID}, Count: 1, Session: entry.Header.Session})
	if err != nil {
		return err
	}
	s, err := c.examine(entry, identities)
	if err != nil {
		return recordingFault(err)
	}
	if c.JSON {
		err = printJSON(e.stdout, s)
	} else {
		err = s.print(e.stdout)
	}
	if err != nil {
		return err
	}
	return recordingFault(s.err)
}

// examine reads the file: its hash, its blocks, and its records if they are
// not sealed from us.
func (c *recordingsShowCmd) examine(entry record.Entry, identities []age.Identity) (*shown, error) {
	s := &shown{recordingInfo: infoOf(entry), Requests: []shownRecord{}, Exits: []shownRecord{}, Read: "whole"}
	f, err := os.Open(entry.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	chunks, err := record.Prefixes(f)
	if err != nil {
		return nil, err
	}
	s.Size, s.SHA256 = chunks[0].Size, chunks[0].SHA256
	if c.Blocks {
		s.Blocks, _ = record.Index(f) // what is wrong with it, reading the records tells
	}
	s.readRecords(entry, identities)
	return s, nil
}

func (s *shown) readRecords(entry record.Entry, identities []age.Identity) {
	r, err := record.OpenFile(entry.Path, identities...)
	if errors.Is(err, record.ErrSealed) {
		s.Read = "not opened: it is sealed, and no --identity-file was given"
		return
	}
	if err != nil {
		s.Read, s.err = err.Error(), err
		return
	}
	defer r.Close()
	if !entry.Ended {
		s.Records = 0
	}
	for rec, err := range r.Records() {
		if err != nil {
			s.Read = err.Error()
			if !entry.Live {
				s.err = err
			}
			return
		}
		if !entry.Ended {
			s.count(rec)
		}
		text := shownRecord{rec.At.Milliseconds(), string(rec.Data)}
		switch rec.Kind {
		case record.Request:
			s.Requests = append(s.Requests, text)
		case record.Exit:
			s.Exits = append(s.Exits, text)
		}
	}
}

// count stands in for the totals that a recording without end does not have.
func (s *shown) count(r record.Record) {
	s.Records++
	switch n := int64(len(r.Data)); r.Kind {
	case record.Stdout:
		s.Stdout += n
	case record.Stderr:
		s.Stderr += n
	case record.Stdin:
		s.Stdin += n
	}
	s.DurationMS = r.At.Milliseconds()
}

func (s *shown) print(w io.Writer) error {
	rows := []string{
		"session\t" + s.Session + ", channel " + s.Channel,
		"identity\t" + s.Identity,
		"client\t" + strings.TrimSpace(s.Client+" "+s.Endpoint),
		"target\t" + s.Login + "@" + s.Target + " (" + s.Address + ")",
		"rule\t" + s.Rule,
		"what\t" + strings.TrimSpace(s.Kind+" "+s.Command),
		"terminal\t" + s.terminal(),
		fmt.Sprintf("duration\t%d ms", s.DurationMS),
		fmt.Sprintf("bytes\t%d of standard output, %d of standard error, %d of input", s.Stdout, s.Stderr, s.Stdin),
		fmt.Sprintf("file\t%s, %d bytes", s.Path, s.Size),
		"SHA-256\t" + s.SHA256,
		"state\t" + s.State,
		"sealed to\t" + orDash(strings.Join(s.Recipients, " ")),
		"read\t" + s.Read,
	}
	if s.Started != nil {
		rows = append(rows, "started\t"+s.Started.UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	for _, r := range s.Requests {
		rows = append(rows, fmt.Sprintf("request\tat %d ms: %s", r.AtMS, r.Text))
	}
	for _, r := range s.Exits {
		rows = append(rows, fmt.Sprintf("exit\tat %d ms: %s", r.AtMS, r.Text))
	}
	for i, r := range rows { // the tab between is ours, what clients wrote has none
		name, value, _ := strings.Cut(r, "\t")
		rows[i] = name + "\t" + printable(value)
	}
	if err := table(w, "recording\t"+printable(s.ID), rows); err != nil || s.Blocks == nil {
		return err
	}
	var blocks []string
	for _, b := range s.Blocks {
		blocks = append(blocks, fmt.Sprintf("%d\t%d\t%s\t%s\t%d", b.Number, b.Offset, clock(b.First), clock(b.Last), b.Records))
	}
	fmt.Fprintln(w)
	return table(w, "BLOCK\tOFFSET\tFROM\tTO\tRECORDS", blocks)
}

func (s *shown) terminal() string {
	if s.Term == "" && s.Columns == 0 {
		return "none"
	}
	return fmt.Sprintf("%s, %d columns, %d rows", orDash(s.Term), s.Columns, s.Rows)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
