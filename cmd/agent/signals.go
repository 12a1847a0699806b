package main

import (
	"context"
	"os"
	"syscall"

	"go.uber.org/zap"
)

// handleSignals turns signals into drain, force and reload until ctx ends.
func (g *gate) handleSignals(ctx context.Context, force context.CancelFunc) error {
	draining := false
	for {
		var s os.Signal
		select {
		case <-ctx.Done():
			return nil
		case s = <-g.signals:
		}
		switch {
		case s == syscall.SIGHUP:
			// What is wrong has been logged and written down by reload.
			_ = g.rules.reload(ctx, ownProcess("config.reload", "SIGHUP"))
		case draining:
			g.log.Warn("second signal: live sessions are cut", zap.Stringer("signal", s))
			force()
		default:
			draining = true
			g.beginDrain(ending{reason: signalName(s)})
		}
	}
}

// signalName is the name as kill(1) has it; Go says "terminated".
func signalName(s os.Signal) string {
	switch s {
	case syscall.SIGTERM:
		return "SIGTERM"
	case syscall.SIGINT:
		return "SIGINT"
	}
	return s.String()
}
