package main

import (
	"context"
	"fmt"

	"postern/internal/admin"
)

type freezeCmd struct {
	Identity string `arg:"" help:"Identity of the policy."`
	Lift     bool   `help:"Let it in again."`
	adminFlags
}

// Help has the examples of the command.
func (freezeCmd) Help() string {
	return `All sessions of the identity are cut and it is refused from now on, whatever the rules say, through restarts and upgrades, until it is lifted. An identity under frozen: in policy.yaml is lifted there.

Examples:

    postern freeze vendor
    postern freeze --lift vendor`
}

// Run freezes or lifts.
func (c *freezeCmd) Run(e *env) error {
	doing, done := "freeze "+c.Identity, "is frozen: its sessions are cut and it is refused"
	if c.Lift {
		doing, done = "lift "+c.Identity, "is lifted: the policy decides again"
	}
	err := c.call(doing, func(ctx context.Context, gate *admin.Client) error {
		return gate.Freeze(ctx, c.Identity, !c.Lift)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "identity %s %s\n", c.Identity, done)
	return nil
}
