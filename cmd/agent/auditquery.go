package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"postern/internal/audit"
)

type auditQueryCmd struct {
	logFlags
	eventFlags
	Limit  int  `short:"n" placeholder:"N" help:"At most so many."`
	Newest bool `xor:"order" help:"The newest first, and of those --limit."`
	Follow bool `short:"f" xor:"order" help:"Go on with new events until Ctrl-C."`
	JSON   bool `help:"Print the events as they stand in the log, one JSON object a line."`
}

// eventFlags say which events are meant.
type eventFlags struct {
	Identity []string `placeholder:"NAME" help:"Who proved it."`
	User     []string `placeholder:"NAME" help:"The SSH user name presented, or the account on the host."`
	Target   []string `placeholder:"HOST" help:"The target as host, host:port or CIDR, by its name or address."`
	Login    []string `placeholder:"NAME" help:"The account at the target."`
	Endpoint []string `placeholder:"VPCE" help:"The VPC endpoint."`
	Client   []string `placeholder:"ADDR" help:"The client as address, address:port or CIDR."`
	Session  []string `placeholder:"ID" help:"The session, or the beginning of its ID."`
	Code     []string `placeholder:"CODE" help:"The event code, such as forward.*."`
	Reason   []string `placeholder:"REASON" help:"The reason code, such as no_rule."`
	Rule     []string `placeholder:"NAME" help:"The rule that allowed it."`
	Since    string   `placeholder:"WHEN" help:"From this on: 2h, 7d ago, 2026-11-24, or 2026-11-24T18:00:00Z; days are in UTC."`
	Until    string   `placeholder:"WHEN" help:"Before this."`
	Text     string   `placeholder:"TEXT" help:"In one of the values of the event; capitals matter."`
	Failed   bool     `help:"Only what failed or was refused."`
	Alerts   bool     `help:"Only alerts."`
}

// Help has the examples of the command.
func (auditQueryCmd) Help() string {
	return `An event is shown that fulfils every condition. A condition may be given several times or with commas, and then one of its values must match; * stands for anything. IDENTITY is who proved it; name? is a user name that was only presented, name (host) somebody on the host. SESSION is the beginning of an ID for postern audit session. A narrow terminal shows fewer columns, and what does not fit is cut there; in a pipe nothing is.

Lines that are not meant are not looked at: postern audit query finds, and proves nothing. To read the log is no event of it.

Exit status 0 also where nothing is found; 1 where the log is damaged.

Examples:

    postern audit query --identity vendor --since 24h
    postern audit query --failed --newest --limit 50
    postern audit query --code 'forward.*' --target '10.0.0.0/16' --since 2026-11-24 --until 2026-11-25
    postern audit query --code auth.failure,ssh.conn.refused --endpoint vpce-0a1b2c3d4e5f60718 --follow
    postern audit query --text /etc/shadow --json | jq .metadata.correlation_uid`
}

// query is what the flags mean at the time now.
func (f *eventFlags) query(now time.Time) (audit.Query, error) {
	since, err := when(f.Since, now)
	if err != nil {
		return audit.Query{}, undecided(fmt.Errorf("--since: %w", err))
	}
	until, err := when(f.Until, now)
	if err != nil {
		return audit.Query{}, undecided(fmt.Errorf("--until: %w", err))
	}
	if !since.IsZero() && !until.IsZero() && !since.Before(until) {
		return audit.Query{}, undecided(errors.New("--until is not after --since: no event can be meant"))
	}
	return audit.Query{
		Codes: f.Code, Identities: f.Identity, Users: f.User, Targets: f.Target, Logins: f.Login, Endpoints: f.Endpoint,
		Clients: f.Client, Sessions: f.Session, Reasons: f.Reason, Rules: f.Rule,
		Since: since, Until: until, Text: f.Text, Failed: f.Failed, Alerts: f.Alerts,
	}, nil
}

// Run prints what is found.
func (c *auditQueryCmd) Run(e *env) error {
	query, err := c.query(time.Now())
	if err != nil {
		return err
	}
	dir, err := c.dir()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	found, err := c.find(ctx, e.stdout, dir, query)
	if err != nil {
		return searchFault(err)
	}
	if found == 0 && ctx.Err() == nil {
		fmt.Fprintln(e.stderr, "postern: nothing found")
	}
	return nil
}

// errNoLog says that a folder has no segments.
var errNoLog = errors.New("there is no event in the folder")

// searchFault says what can be done about an error of a search.
func searchFault(err error) error {
	if _, said := errors.AsType[*fault](err); said {
		return err
	}
	err = fmt.Errorf("search the audit log: %w", err)
	switch {
	case errors.Is(err, errNoLog):
		return undecided(err, "--dir names the folder with the files audit-*.jsonl")
	case errors.Is(err, context.Canceled):
		return undecided(errors.New("the search was stopped"))
	}
	return logFault(err)
}

// find prints the events that are meant, and with Follow those to come. It
// returns how many.
func (c *auditQueryCmd) find(ctx context.Context, w io.Writer, dir string, query audit.Query) (int, error) {
	out := bufio.NewWriter(w)
	rows := rowsFor(w)
	s := audit.Search{Query: query, Limit: c.Limit, Newest: c.Newest, Render: rows.append}
	if c.JSON {
		s.Render = appendLine
	}
	found := 0
	print := func(b []byte) error {
		if found++; found == 1 && !c.JSON {
			out.WriteString(rows.header())
		}
		_, err := out.Write(b)
		return err
	}
	next, err := s.Run(ctx, dir, print)
	if err = errors.Join(err, out.Flush()); err != nil {
		return found, err
	}
	if next == 0 && found == 0 && !c.Follow {
		return found, fmt.Errorf("%w: %s", errNoLog, dir)
	}
	if !c.Follow || c.Limit > 0 && found >= c.Limit {
		return found, nil
	}
	s.Limit = max(0, c.Limit-found)
	err = s.Follow(ctx, dir, next, func(b []byte) error { return errors.Join(print(b), out.Flush()) })
	return found, err
}

func appendLine(dst []byte, e *audit.Entry) []byte { return append(append(dst, e.Line...), '\n') }

// auditRows are the lines of the table for people.
type auditRows struct {
	width int // of the terminal; 0 = none, so that nothing is cut
}

// wide is the terminal that has room for all columns.
const wide = 160

func rowsFor(w io.Writer) *auditRows {
	f, ok := w.(*os.File)
	if !ok {
		return &auditRows{}
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return &auditRows{}
	}
	return &auditRows{width: width}
}

func (r *auditRows) header() string {
	return string(r.row(nil, "TIME"+strings.Repeat(" ", len("2006-01-02T15:04:05.000Z")-len("TIME")), "CODE", "SESSION", "IDENTITY", "ENDPOINT", "TARGET", "WHAT"))
}

// append is called on several goroutines.
func (r *auditRows) append(dst []byte, e *audit.Entry) []byte {
	f := e.Facts()
	return r.row(dst, f.Time.UTC().Format("2006-01-02T15:04:05.000Z"), printable(string(f.Code)), printable(shortSession(f.Session)),
		printable(identityWords(f)), printable(cmp.Or(f.Endpoint, "-")), printable(targetWords(f)), printable(whatWords(f)))
}

func (r *auditRows) row(dst []byte, at, code, session, identity, endpoint, target, what string) []byte {
	narrow := r.width > 0 && r.width < wide
	used := 0
	column := func(s string, width int) {
		if r.width > 0 {
			s = cut(s, width)
		}
		used += width + 2
		dst = append(append(dst, padded(s, width)...), "  "...)
	}
	if narrow && len(at) > len(time.DateTime) {
		at = at[:len(time.DateTime)] // without the milliseconds
	}
	column(at, len(at))
	column(code, len("ssh.handshake.failed"))
	if !narrow {
		column(session, shortID)
	}
	column(identity, 12)
	if !narrow {
		column(endpoint, len("vpce-0a1b2c3d4e5f60718"))
	}
	column(target, 24)
	if r.width > 0 {
		what = cut(what, max(24, r.width-used))
	}
	return append(append(dst, what...), '\n')
}

// shortID is how much of a session's ID is shown: its milliseconds, so two
// sessions rarely share it.
const shortID = 13

func shortSession(id string) string {
	if id == "" {
		return "-"
	}
	return id[:min(len(id), shortID)]
}

// identityWords tell who was proved from who was only said.
func identityWords(f audit.Facts) string {
	switch {
	case f.Admin:
		return f.User + " (host)"
	case f.Identity != "":
		return f.Identity
	case f.User != "":
		return f.User + "?"
	}
	return "-"
}

func targetWords(f audit.Facts) string {
	switch {
	case f.Target == "":
		return "-"
	case f.Login != "":
		return f.Login + "@" + f.Target
	}
	return f.Target
}

// whatWords end with what others wrote, so that nothing can be made to look as
// if it were said of it.
func whatWords(f audit.Facts) string {
	var b strings.Builder
	if f.Alert {
		b.WriteString("ALERT ")
	}
	if f.Failed && f.Reason != "" && !strings.Contains(f.Message, f.Reason) {
		b.WriteString("(" + f.Reason + ") ")
	}
	b.WriteString(f.Message)
	if f.Command != "" && f.Code == audit.ProcStart {
		b.WriteString(": " + f.Command)
	}
	return b.String()
}
