package main

import (
	"context"
	"fmt"

	"postern/internal/admin"
)

type drainCmd struct {
	adminFlags
}

// Help has the examples of the command.
func (drainCmd) Help() string {
	return `The gate turns unready, waits drain.settle for the load balancer to see it, takes no new sessions, waits at most drain.timeout for the live ones, and ends. The command does not wait for that.

Examples:

    postern drain && postern sessions`
}

// Run begins the drain.
func (c *drainCmd) Run(e *env) error {
	err := c.call("drain", func(ctx context.Context, gate *admin.Client) error { return gate.Drain(ctx) })
	if err != nil {
		return err
	}
	fmt.Fprintln(e.stdout, "draining: postern sessions shows what is left")
	return nil
}
