package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"postern/internal/admin"
	"postern/internal/audit"
)

// Access writes down that somebody looks at recordings.
func (c *control) Access(ctx context.Context, by admin.Caller, a admin.Access) error {
	what := fmt.Sprintf("%d recordings", a.Count)
	if a.Count == 1 && len(a.Recordings) == 1 {
		what = a.Recordings[0]
	}
	_, verb, _ := strings.Cut(a.Operation, ".")
	return c.rules.write(ctx, audit.Event{Code: audit.LogAccess, Admin: c.admin(by, a.Operation),
		Session: a.Session, Entity: what, Message: fmt.Sprintf("%s: %s of %s", by.Name, verb, what), Detail: a.Detail,
		Extra: map[string]any{"recordings": append([]string{}, a.Recordings...), "recording_count": a.Count}})
}

// access has the gate write down what is about to be shown. Without its word
// nothing is, unless somebody says that no gate is to know.
func (c *recordingsFlags) access(e *env, a admin.Access) error {
	err := c.call("write the access down", func(ctx context.Context, client *admin.Client) error {
		return client.Access(ctx, a)
	})
	if !errors.Is(err, admin.ErrNotRunning) {
		return err
	}
	if c.Offline {
		fmt.Fprintln(e.stderr, "postern: no gate answers: nobody writes down that these recordings are read")
		return nil
	}
	f, _ := errors.AsType[*fault](err)
	f.hints = append(f.hints, "--offline reads recordings where no gate runs, as on a machine they were copied to; nobody writes that down")
	return f
}
