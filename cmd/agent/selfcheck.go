package main

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// cutUnaudited cuts every session when the audit log can no longer be written:
// what they do from then on would leave no trace. The gate stays up to say so.
func (g *gate) cutUnaudited(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-g.audit.Failed():
		g.log.Error("the audit log has failed: all sessions are cut and none is let in", zap.Error(g.audit.Ready()))
		g.server.CutAll("the audit log has failed")
	}
	return nil
}

// status is the line that systemctl shows.
func (g *gate) status() string {
	return sessionStatus(g.draining.Load(), g.server.Sessions(), time.Now())
}

// selfCheck is nil while the gate does its work: connections are accepted and
// no lock hangs. An audit log that refuses is no reason to be killed: the gate
// refuses too, and says so.
func (g *gate) selfCheck(ctx context.Context) error {
	done := make(chan struct{})
	// A check that hangs is left behind: without a ping the process is killed.
	go func() {
		defer close(done)
		g.server.Sessions()
		_ = g.health.Ready()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("sessions or readiness: %w", ctx.Err())
	}
	if g.draining.Load() {
		return nil
	}
	return g.sshListener.accepting(acceptPatience)
}
