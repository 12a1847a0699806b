package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"postern/internal/admin"
	"postern/internal/record"
	"postern/internal/review"
)

type sessionsWatchCmd struct {
	sealFlags
	ID      string `arg:"" help:"The session's ID, or as much of its beginning as no other recorded session has."`
	Channel string `placeholder:"N" help:"This channel of it, where several run; without it the one that began first."`
	Dir     string `placeholder:"DIR" help:"Folder of the recordings, instead of the one in the configuration."`
}

// Help has the examples of the command.
func (sessionsWatchCmd) Help() string {
	return `The screen of a session that is recorded, as it is now, and then what happens as it happens. It ends with the channel that is watched. Space pauses, q quits. To watch is an event of the audit log, log.access; the client is not told.

Examples:

    postern sessions
    postern sessions watch 01998e4c-a000-7aaa-9d55-3b0f6f1b2a05`
}

// Run follows the session.
func (c *sessionsWatchCmd) Run(e *env, gate *sessionsCmd) error {
	flags := &recordingsFlags{adminFlags: gate.adminFlags, Dir: c.Dir}
	entries, err := flags.all()
	if err != nil {
		return err
	}
	entry, others, err := c.live(entries)
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
	access := admin.Access{Operation: "sessions.watch", Recordings: []string{entry.ID}, Count: 1, Session: entry.Header.Session}
	if err := flags.access(e, access); err != nil {
		return err
	}
	if len(others) > 0 {
		fmt.Fprintf(e.stderr, "postern: this is channel %s; --channel watches another: %s\n", printable(entry.Header.Channel), strings.Join(others, ", "))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	quit, err := playEntry(ctx, e, &review.Player{Live: true}, entry, identities)
	if err == nil && !quit && ctx.Err() == nil {
		fmt.Fprintln(e.stderr, "postern: the channel has ended")
	}
	return err
}

// live returns the recording to follow, and the channels of the others.
func (c *sessionsWatchCmd) live(entries []record.Entry) (record.Entry, []string, error) {
	entries = slices.DeleteFunc(entries, func(e record.Entry) bool {
		return e.Err != nil || !e.Live || c.ID == "" || !strings.HasPrefix(e.Header.Session, c.ID)
	})
	var found []record.Entry
	var others []string
	for _, e := range entries {
		if e.Header.Session != entries[0].Header.Session {
			return record.Entry{}, nil, wrong(fmt.Errorf("several sessions that are being recorded have an ID that begins with %q", c.ID),
				"among them "+entries[0].Header.Session+" and "+e.Header.Session)
		}
		if c.Channel == "" && found == nil || c.Channel == e.Header.Channel {
			found = append(found, e)
		} else {
			others = append(others, printable(e.Header.Channel+" ("+strings.TrimSpace(e.Header.Kind+" "+e.Header.Command)+")"))
		}
	}
	switch {
	case found != nil:
		return found[0], others, nil
	case others != nil:
		return record.Entry{}, nil, wrong(fmt.Errorf("channel %s of the session is not being recorded", c.Channel), "these are: "+strings.Join(others, ", "))
	}
	return record.Entry{}, nil, wrong(errors.New("nothing of a session with the ID "+printable(c.ID)+" is being recorded"),
		"postern sessions shows the live sessions; tunnels are never recorded", "postern recordings list --session "+printable(c.ID)+" shows what was recorded")
}
