package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern/internal/admin"
	"postern/internal/config"
)

const (
	defaultSocket = "/run/postern/admin.sock"
	callTimeout   = 30 * time.Second
)

// adminFlags say which gate a command is for.
type adminFlags struct {
	Config string `short:"c" placeholder:"FILE" help:"Configuration that names the admin socket (${config})."`
	Socket string `placeholder:"PATH" help:"Admin socket, instead of the one in the configuration."`
}

// path returns the admin socket of the gate that is meant. A configuration that
// has become faulty must keep nobody from cutting a session, so the socket of
// the default configuration then has its default place.
func (f adminFlags) path() (string, error) {
	if f.Socket != "" {
		return f.Socket, nil
	}
	name := f.Config
	if name == "" {
		name = defaultConfig
	}
	c, err := config.Load(name)
	if err == nil {
		return c.Admin.Socket, nil
	}
	if f.Config == "" {
		return defaultSocket, nil
	}
	return "", undecided(loading("the configuration", err), append(configHints(err), "--socket names the admin socket without a configuration")...)
}

// call runs one call at the gate that is meant; doing is what for, in words.
func (f adminFlags) call(doing string, do func(context.Context, *admin.Client) error) error {
	path, err := f.path()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if err := do(ctx, admin.Dial(path)); err != nil {
		return callFault(fmt.Errorf("%s: %w", doing, err))
	}
	return nil
}

// callFault tells a gate that could not be asked from one that said no.
func callFault(err error) error {
	f := &fault{status: exitWrong, err: err}
	if e, ok := errors.AsType[*admin.Error](err); ok && e.Hint != "" {
		f.hints = []string{e.Hint}
	}
	if errors.Is(err, admin.ErrNotRunning) || errors.Is(err, admin.ErrNotAllowed) || errors.Is(err, context.DeadlineExceeded) {
		f.status = exitUsage
	}
	return f
}
