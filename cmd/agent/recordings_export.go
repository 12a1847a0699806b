package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/term"

	"postern/internal/admin"
	"postern/internal/record"
	"postern/internal/review"
)

type recordingsExportCmd struct {
	sealFlags
	ID     string `arg:"" help:"The recording's ID, or as much of its beginning as no other has."`
	Format string `short:"f" enum:"cast2,cast3,text,raw" default:"cast2" placeholder:"FORMAT" help:"cast2 and cast3: asciicast version 2 and 3. text: the lines that stood on the screen. raw: the bytes that the client got. (${default})"`
	Stderr bool   `help:"Standard error: raw writes it instead of standard output, casts play it where there was no terminal."`
	Output string `short:"o" placeholder:"FILE" help:"File to make, instead of standard output; it must not be there."`
}

// Help has the examples of the command.
func (recordingsExportCmd) Help() string {
	return `Casts keep every byte: where output was no UTF-8, an event with the code b has the exact bytes of the event before it in base64. Players pass over codes that they don't know.

Examples:

    postern recordings export 01998e4c -o session.cast && asciinema play session.cast
    postern recordings export 01998e4c --format text | less
    postern recordings export 01998e4c --format raw | sha256sum
    postern recordings export 01998e4c --format raw --stderr -o errors.bin`
}

// Run exports the recording.
func (c *recordingsExportCmd) Run(e *env, flags *recordingsCmd) error {
	entry, err := flags.find(c.ID)
	if err != nil {
		return err
	}
	if out, ok := e.stdout.(*os.File); ok && c.Output == "" && c.Format != "text" && term.IsTerminal(int(out.Fd())) {
		return undecided(errors.New("standard output is a terminal, and what was recorded could do anything to it"),
			"-o names a file to write", "postern recordings play shows it safely")
	}
	identities, err := c.identities()
	if err != nil {
		return err
	}
	r, err := record.OpenFile(entry.Path, identities...)
	if err != nil {
		return recordingFault(err)
	}
	defer r.Close()
	access := admin.Access{Operation: "recordings.export", Recordings: []string{entry.ID}, Count: 1, Session: entry.Header.Session, Detail: "format " + c.Format}
	if err := flags.access(e, access); err != nil {
		return err
	}
	err = c.to(e.stdout, func(w io.Writer) error {
		return review.Export(w, review.Format(c.Format), entry.Header, r.Records(), c.Stderr)
	})
	if errors.Is(err, record.ErrTorn) && entry.Live {
		fmt.Fprintln(e.stderr, "postern: the recording goes on; this is what there was")
		return nil
	}
	return recordingFault(err)
}

// to has write write to the file that was named, or to stdout.
func (c *recordingsExportCmd) to(stdout io.Writer, write func(io.Writer) error) error {
	if c.Output == "" {
		return write(stdout)
	}
	f, err := os.OpenFile(c.Output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return undecided(err, "a file that is there is not written over")
	}
	if err != nil {
		return undecided(err)
	}
	err = write(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
