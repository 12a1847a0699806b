package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"postern/internal/config"
)

type serveCmd struct {
	Config   string `short:"c" default:"${config}" placeholder:"FILE" help:"Configuration (${default})."`
	NewEpoch bool   `help:"Put the audit log aside and begin a new one, where a start refuses the old one. Needs --reason."`
	Reason   string `placeholder:"TEXT" help:"Why; it stands in the first event of the new epoch."`
}

// Validate is called by the parser.
func (c serveCmd) Validate() error {
	if c.NewEpoch != (strings.TrimSpace(c.Reason) != "") {
		return errors.New("--new-epoch and --reason TEXT go together")
	}
	return nil
}

// Help has the signals and examples of the command.
func (serveCmd) Help() string {
	return `The gate stays in the foreground and logs to standard error. It takes its sockets from systemd where a .socket unit passes them by the names ssh, health and metrics, and tells systemd when it is ready.

SIGTERM, SIGINT and "postern drain" let it end: not ready, then no new sessions, then the live ones until drain.timeout. A second SIGTERM or SIGINT cuts them. SIGHUP and "postern reload" read both files again.

Examples:

    postern serve
    postern serve --config ./postern.yaml
    postern serve --new-epoch --reason "restored from the snapshot of Monday"`
}

// Run serves until the gate has drained.
func (c *serveCmd) Run(e *env) error {
	in, err := systemdListeners()
	if err != nil {
		return &fault{status: exitConfig, err: err, hints: []string{"FileDescriptorName= in the .socket unit gives a socket its name"}}
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	return run(context.Background(), process{config: c.Config, newEpoch: c.Reason, inherited: in, signals: signals, stderr: e.stderr})
}

// configFault is a fault in what the operator configured: systemd need not try
// again.
func configFault(err error) error {
	return &fault{status: exitConfig, err: err, hints: configHints(err)}
}

// configHints says what to do about an error of package config.
func configHints(err error) []string {
	var hints []string
	for _, h := range config.HintFor(err) {
		hints = append(hints, strings.TrimPrefix(h, "hint: "))
	}
	if _, ok := errors.AsType[config.Errors](err); ok {
		hints = append(hints, "postern check reads both files and starts nothing")
	}
	return hints
}

// loading says what an error of package config is about: faults have a line
// each, below.
func loading(what string, err error) error {
	if faults, ok := errors.AsType[config.Errors](err); ok {
		return fmt.Errorf("load %s: %s\n%w", what, plural(len(faults), "fault"), err)
	}
	return fmt.Errorf("load %s: %w", what, err)
}
