package main

import (
	"context"
	"fmt"

	"postern/internal/admin"
)

type reloadCmd struct {
	adminFlags
}

// Help has the examples of the command.
func (reloadCmd) Help() string {
	return `The running gate reads postern.yaml and policy.yaml again. A file with a fault keeps its old content in force, and the fault is shown here. A changed policy takes effect without this command too, within a second.

Examples:

    postern check && postern reload`
}

// Run reloads.
func (c *reloadCmd) Run(e *env) error {
	err := c.call("reload", func(ctx context.Context, gate *admin.Client) error { return gate.Reload(ctx) })
	if err != nil {
		return err
	}
	fmt.Fprintln(e.stdout, "both files are in force")
	return nil
}
