package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"postern/internal/admin"
)

type sessionsCmd struct {
	adminFlags
	List  sessionsListCmd  `cmd:"" default:"withargs" help:"Show the live sessions, oldest first (what sessions does by itself)."`
	Watch sessionsWatchCmd `cmd:"" help:"Follow what a session that is recorded shows."`
	Kill  sessionsKillCmd  `cmd:"" help:"Cut a session now."`
}

// Help has the examples of the command.
func (sessionsCmd) Help() string {
	return `Examples:

    postern sessions
    postern sessions --json
    postern sessions kill 01998e4c-a000-7aaa-9d55-3b0f6f1b2a05 --reason "change window closed"`
}

type sessionsListCmd struct {
	JSON bool `help:"Print JSON."`
}

// Help has the examples of the command.
func (sessionsListCmd) Help() string {
	return `IN is what the client sent to targets, OUT what they sent to it, in bytes.

Examples:

    postern sessions
    postern sessions --json`
}

// Run prints the live sessions.
func (c *sessionsListCmd) Run(e *env, gate *sessionsCmd) error {
	var live []admin.SessionInfo
	err := gate.call("list the sessions", func(ctx context.Context, client *admin.Client) (err error) {
		live, err = client.Sessions(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(e.stdout, append([]admin.SessionInfo{}, live...))
	}
	return printSessions(e.stdout, live, time.Now())
}

func printSessions(w io.Writer, live []admin.SessionInfo, now time.Time) error {
	if len(live) == 0 {
		_, err := fmt.Fprintln(w, "no live sessions")
		return err
	}
	var rows []string
	for _, s := range live {
		rows = append(rows, strings.Join([]string{
			s.ID, s.Identity, s.Client, cmp.Or(s.Endpoint, "-"), readable(now.Sub(s.Since)),
			byteCount(s.BytesIn), byteCount(s.BytesOut), rtt(s.RTTMillis), channelWords(s.Channels),
		}, "\t"))
	}
	return table(w, "SESSION\tIDENTITY\tCLIENT\tENDPOINT\tAGE\tIN\tOUT\tRTT\tCHANNELS", rows)
}

func rtt(millis float64) string {
	if millis <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.1fms", millis)
}

// channelWords names the first channels and counts the rest.
func channelWords(channels []admin.ChannelInfo) string {
	const shown = 3
	var words []string
	for i, ch := range channels {
		if i == shown {
			words = append(words, fmt.Sprintf("and %d more", len(channels)-shown))
			break
		}
		words = append(words, strings.TrimSpace(ch.Type+" "+ch.Target))
	}
	return cmp.Or(strings.Join(words, ", "), "-")
}

type sessionsKillCmd struct {
	ID     string `arg:"" help:"The session's ID, or as much of its beginning as no other live session has."`
	Reason string `short:"r" help:"Why, for the audit log; the client is not told."`
}

// Help has the examples of the command.
func (sessionsKillCmd) Help() string {
	return `The client sees a sentence that an operator ended its session. It can connect again; freeze keeps it from that.

Examples:

    postern sessions kill 01998e4c-a000-7aaa-9d55-3b0f6f1b2a05 --reason "change window closed"`
}

// Run cuts the session.
func (c *sessionsKillCmd) Run(e *env, gate *sessionsCmd) error {
	err := gate.call("cut session "+c.ID, func(ctx context.Context, client *admin.Client) error {
		return client.Kill(ctx, c.ID, c.Reason)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "session %s is cut\n", c.ID)
	return nil
}
