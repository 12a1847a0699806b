package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"postern/internal/audit"
)

// life are the contexts of a gate's parts, in the order in which they end.
// None ends because the process is asked to: shutdown ends them.
type life struct {
	accept, write, ops             context.Context
	stopAccept, stopWrite, stopOps context.CancelFunc
}

func newLife(ctx context.Context) *life {
	l := &life{}
	ctx = context.WithoutCancel(ctx)
	l.accept, l.stopAccept = context.WithCancel(ctx)
	l.write, l.stopWrite = context.WithCancel(ctx)
	l.ops, l.stopOps = context.WithCancel(ctx)
	return l
}

// serve runs the parts of a built gate and waits for all of them.
func (g *gate) serve(ctx context.Context) error {
	force, cut := context.WithCancel(ctx) // sessions are cut when it ends
	defer cut()
	l := newLife(ctx)
	parts, failed := errgroup.WithContext(l.ops)
	accepted, written := make(chan struct{}), make(chan struct{})

	parts.Go(func() error {
		defer close(written)
		return g.audit.Run(l.write)
	})
	parts.Go(func() error {
		defer close(accepted)
		return g.server.Serve(l.accept, g.sshListener)
	})
	parts.Go(func() error { return g.cutUnaudited(l.accept) })
	parts.Go(func() error { return g.health.Serve(l.ops, g.healthListener) })
	parts.Go(func() error { return g.metrics.Serve(l.ops, g.metricsListener, g.log) })
	parts.Go(func() error { return g.admin.Serve(l.ops, g.adminSocket) })
	parts.Go(func() error { return g.rules.run(l.ops) })
	parts.Go(func() error { return g.handleSignals(l.ops, cut) })
	parts.Go(func() error { return g.systemd.watch(l.ops, g.selfCheck, g.status) })
	parts.Go(func() error { return tuneHeap(l.ops) })
	parts.Go(func() error {
		defer l.stopOps()
		return g.shutdown(failed, force, l, accepted, written)
	})
	g.systemd.notify(daemon.SdNotifyReady + "\nSTATUS=" + g.status())
	return parts.Wait()
}

// announce writes daemon.start: a gate that cannot write does not serve.
func (g *gate) announce(ctx context.Context) error {
	b := thisBuild()
	c := g.rules.current()
	err := g.audit.Append(ctx, audit.Event{Code: audit.DaemonStart, Message: "postern " + b.Version + " started",
		Policy: g.rules.policy.Version,
		Extra:  map[string]any{"config": c.Version, "go": runtime.Version(), "x_crypto": b.Crypto, "listen": g.sshListener.Addr().String()}})
	if err != nil {
		return fmt.Errorf("write the first audit event: %w", err)
	}
	g.metrics.ConfigReloaded(true, time.Now())
	g.log.Info("serving", zap.Stringer("ssh", g.sshListener.Addr()), zap.Stringer("health", g.healthListener.Addr()),
		zap.Stringer("metrics", g.metricsListener.Addr()), zap.String("admin", c.Admin.Socket),
		zap.String("config", c.Version), zap.String("policy", g.rules.policy.Version), zap.String("version", b.Version))
	return nil
}

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
			g.beginDrain(signalName(s))
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

// beginDrain lets the gate end; the first reason given counts.
func (g *gate) beginDrain(why string) {
	select {
	case g.drain <- why:
	default:
	}
}

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
	if g.draining.Load() {
		return nil
	}
	if err := g.sshListener.accepting(acceptPatience); err != nil {
		return err
	}
	done := make(chan struct{})
	// A check that hangs is left behind, once: the process is then killed.
	go func() {
		defer close(done)
		g.server.Sessions()
		_ = g.health.Ready()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("sessions or readiness: %w", ctx.Err())
	}
}
