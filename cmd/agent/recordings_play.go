package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"filippo.io/age"

	"postern/internal/admin"
	"postern/internal/record"
	"postern/internal/review"
)

type recordingsPlayCmd struct {
	sealFlags
	ID     string        `arg:"" help:"The recording's ID, or as much of its beginning as no other has."`
	Speed  float64       `short:"s" default:"1" placeholder:"N" help:"How many times as fast (${default})."`
	Idle   time.Duration `placeholder:"TIME" help:"Make pauses no longer than this."`
	From   time.Duration `placeholder:"TIME" help:"Begin here: 90s, 1m30s."`
	Follow bool          `short:"f" help:"Show a recording that runs as it is now, and then what happens as it happens."`
}

// Help has the examples of the command.
func (recordingsPlayCmd) Help() string {
	return `Keys: space pauses, . shows the next output and pauses, left and right seek 5 seconds, [ and ] a minute, + and - double and halve the speed, q quits.

What is played cannot do anything to this terminal but write on it: titles, links, the clipboard, questions to the terminal, mouse and keyboard modes are taken out. What a client typed is not shown; an export has it, if it was recorded.

Examples:

    postern recordings play 01998e4c-a000-7aaa-9d55-3b0f6f1b2a05-0
    postern recordings play --speed 4 --idle 1s --from 1m30s 01998e4c
    postern recordings play --follow 01998e4c
    postern recordings play --offline --dir /mnt/evidence -i auditor.key 01998e4c`
}

// Run plays the recording.
func (c *recordingsPlayCmd) Run(e *env, flags *recordingsCmd) error {
	if c.Speed <= 0 || c.Idle < 0 || c.From < 0 {
		return undecided(errors.New("--speed, --idle and --from are not below zero, and nothing plays at speed 0"))
	}
	if c.Follow && c.From > 0 {
		return undecided(errors.New("--follow begins now, --from does not"), "--from alone plays a recording that runs up to where it is")
	}
	entry, err := flags.find(c.ID)
	if err != nil {
		return err
	}
	identities, err := c.identities()
	if err != nil {
		return err
	}
	if err := opens(entry, identities); err != nil {
		return recordingFault(err)
	}
	access := admin.Access{Operation: "recordings.play", Recordings: []string{entry.ID}, Count: 1, Session: entry.Header.Session}
	if err := flags.access(e, access); err != nil {
		return err
	}
	p := &review.Player{Speed: c.Speed, Idle: c.Idle, From: c.From, Live: c.Follow}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	_, err = playEntry(ctx, e, p, entry, identities)
	return err
}

// opens says whether a recording can be read, so that no event tells of a look
// at one that could not be.
func opens(entry record.Entry, identities []age.Identity) error {
	r, err := record.OpenFile(entry.Path, identities...)
	if err != nil {
		return err
	}
	return r.Close()
}

// playEntry plays one recording with p, and tells when it was bigger than the
// terminal.
func playEntry(ctx context.Context, e *env, p *review.Player, entry record.Entry, identities []age.Identity) (quit bool, err error) {
	p.Open = func(ctx context.Context) (review.Recording, error) {
		if p.Live {
			return record.Follow(ctx, entry.Path, identities...)
		}
		return record.OpenFile(entry.Path, identities...)
	}
	t, err := openTerminal(e.stdout)
	if err != nil {
		return false, undecided(err)
	}
	defer t.restore()
	p.Out, p.Newlines, p.Keys = e.stdout, t.raw() && !review.HasTerminal(entry.Header), t.keys
	grown := t.fits(int(entry.Header.Columns), int(entry.Header.Rows))
	if grown != "" {
		fmt.Fprintf(e.stderr, "postern: %s\r\n", grown)
	}
	p.SizeChanged = func(columns, rows int) { grown = t.fits(columns, rows) }
	quit, err = p.Play(ctx)
	t.restore()
	if grown != "" {
		fmt.Fprintln(e.stderr, "postern: "+grown)
	}
	if errors.Is(err, record.ErrTorn) && entry.Live && !p.Live {
		err = nil // what there was when it was read, and it goes on
	}
	return quit, recordingFault(err)
}
