package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/alecthomas/kong"
)

// The exit statuses.
const (
	exitFine   = 0
	exitWrong  = 1  // what was asked about is wrong, or what was asked for failed
	exitUsage  = 2  // the command line is wrong, or the answer could not be found
	exitConfig = 78 // serve only: EX_CONFIG of sysexits.h, so that systemd need not retry
)

// fault is an error with the exit status it ends in and what to do about it.
// A nil err says that everything has been printed already.
type fault struct {
	status int
	err    error
	hints  []string
}

func (f *fault) Error() string {
	if f.err == nil {
		return fmt.Sprintf("exit status %d", f.status)
	}
	return f.err.Error()
}

func (f *fault) Unwrap() error { return f.err }

// undecided is an error that kept the command from finding its answer.
func undecided(err error, hints ...string) error {
	return &fault{status: exitUsage, err: err, hints: hints}
}

// wrong is an answer that is bad.
func wrong(err error, hints ...string) error {
	return &fault{status: exitWrong, err: err, hints: hints}
}

// usage is a command line that says nothing.
func usage(err error) error {
	hint := "postern --help shows the commands"
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil && parse.Context.Selected() != nil {
		hint = "postern " + parse.Context.Selected().Path() + " --help shows how it is used"
	}
	return &fault{status: exitUsage, err: err, hints: []string{hint}}
}

// report prints err as one line and its hints, and returns the exit status.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitFine
	}
	f, ok := errors.AsType[*fault](err)
	if !ok {
		f = &fault{status: exitWrong, err: err}
	}
	if f.err == nil {
		return f.status
	}
	fmt.Fprintf(w, "postern: %v\n", err)
	for _, h := range f.hints {
		fmt.Fprintf(w, "hint: %s\n", h)
	}
	return f.status
}
