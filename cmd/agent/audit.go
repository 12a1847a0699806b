package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"postern/internal/audit"
	"postern/internal/config"
)

type auditCmd struct {
	Verify      auditVerifyCmd      `cmd:"" help:"Prove that the log is what was written and signed."`
	Restore     auditRestoreCmd     `cmd:"" help:"Bring a log, or a part of it, back from the archive."`
	Prove       auditProveCmd       `cmd:"" help:"Write a proof of one event, for somebody who has not got the log."`
	VerifyProof auditVerifyProofCmd `cmd:"" name:"verify-proof" help:"Check a proof of one event."`
	Tail        auditTailCmd        `cmd:"" help:"Show the last events."`
	Query       auditQueryCmd       `cmd:"" help:"Find events by who, where, when and what."`
	Session     auditSessionCmd     `cmd:"" help:"Tell what happened in one session, in order."`
}

// logFlags say which log is read.
type logFlags struct {
	Config string `short:"c" placeholder:"FILE" xor:"dir" help:"Configuration that names the log (${config})."`
	Dir    string `placeholder:"DIR" xor:"dir" help:"Folder of the log, instead of the one in the configuration."`
}

// dir is the folder of the log.
func (f *logFlags) dir() (string, error) {
	if f.Dir != "" {
		return f.Dir, nil
	}
	cfg, err := f.config()
	if err != nil {
		return "", err
	}
	return cfg.Audit.Dir, nil
}

// config is the configuration that names the log.
func (f *logFlags) config() (*config.Config, error) {
	cfg, err := config.Load(cmp.Or(f.Config, defaultConfig))
	if err != nil {
		return nil, undecided(loading("the configuration", err), append(configHints(err), "--dir names the folder of the log without a configuration")...)
	}
	return cfg, nil
}

type auditTailCmd struct {
	logFlags
	Lines  int  `short:"n" default:"20" help:"How many events (${default})."`
	Follow bool `short:"f" help:"Go on with new events until Ctrl-C."`
	JSON   bool `help:"Print the events as they stand in the log, one JSON object a line."`
}

// Help has the examples of the command.
func (auditTailCmd) Help() string {
	return `One line an event: time, code, outcome, session and what happened. The log is only read; whoever reads it must be in the group that may.

Examples:

    postern audit tail
    postern audit tail -n 100 --follow
    postern audit tail -n 1000 --json | jq 'select(.metadata.event_code == "forward.open")'`
}

// Run prints the events.
func (c *auditTailCmd) Run(e *env) error {
	dir, err := c.dir()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := c.tail(ctx, e.stdout, dir); err != nil {
		return logFault(fmt.Errorf("read the audit log: %w", err))
	}
	return nil
}

// logFault says what can be done about an error of reading the log.
func logFault(err error) error {
	switch {
	case errors.Is(err, audit.ErrDamaged):
		return wrong(err, "keep the folder as it is: somebody must look at what happened to it")
	case errors.Is(err, fs.ErrPermission):
		return undecided(err, "the group postern-audit may read the log: try sudo")
	}
	return undecided(err)
}

// tail prints the last events, and those that follow.
func (c *auditTailCmd) tail(ctx context.Context, w io.Writer, dir string) error {
	from, err := tailStart(dir, c.Lines)
	if err != nil {
		return err
	}
	var last []string
	next := from
	for r, err := range audit.Read(dir, from) {
		if err != nil {
			return err
		}
		next = r.Index + 1
		last = append(last, c.words(r))
		last = last[max(0, len(last)-c.Lines):]
	}
	for _, l := range last {
		fmt.Fprintln(w, l)
	}
	if !c.Follow {
		return nil
	}
	return audit.Tail(ctx, dir, next, func(r audit.Record) error {
		_, err := fmt.Fprintln(w, c.words(r))
		return err
	})
}

// tailStart is the index of an event that has n others after it, or of the
// oldest. It looks at the names of the segments only, so that the end of a
// large log is found at once.
func tailStart(dir string, n int) (int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	var firsts []int64 // of the segments, in order, as their names sort
	for _, e := range entries {
		var first int64
		if _, err := fmt.Sscanf(e.Name(), "audit-%d.jsonl", &first); err == nil {
			firsts = append(firsts, first)
		}
	}
	for i := len(firsts) - 1; i >= 0; i-- {
		if firsts[len(firsts)-1]-firsts[i] >= int64(n) {
			return firsts[i], nil
		}
	}
	return 0, nil
}

func (c *auditTailCmd) words(r audit.Record) string {
	if c.JSON {
		return string(r.Line)
	}
	return eventWords(r)
}

// eventWords is one line for people.
func eventWords(r audit.Record) string {
	var e struct {
		Status     string `json:"status"`
		StatusCode string `json:"status_code"`
		Message    string `json:"message"`
	}
	_ = json.Unmarshal(r.Line, &e) // package audit has read it as JSON already
	outcome := strings.ToLower(e.Status)
	if e.StatusCode != "" {
		outcome += " (" + e.StatusCode + ")"
	}
	return printable(fmt.Sprintf("%s  %-20s %-36s %s: %s", r.Time.UTC().Format("2006-01-02T15:04:05.000Z"),
		r.Code, cmp.Or(r.Session, "-"), outcome, e.Message))
}
