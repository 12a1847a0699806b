package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"postern/internal/audit"
)

// ending is why a gate ends.
type ending struct {
	reason string    // SIGTERM, SIGINT, drain, part_failed, rolled_back, stopped, or that of AWS's notice
	by     string    // who, for drain
	err    error     // what the process is to end with: sessions are cut at once
	at     time.Time // when the instance goes; zero = nobody has said
}

// lastMoments is what sealed recordings and the last checkpoint take.
const lastMoments = 15 * time.Second

// patience is how long live sessions may go on: not until the instance goes,
// which would leave recordings without an end.
func (e ending) patience(timeout time.Duration, now time.Time) time.Duration {
	if e.at.IsZero() {
		return timeout
	}
	return max(0, min(timeout, e.at.Sub(now)-lastMoments))
}

// beginDrain lets the gate end; the first reason given counts.
func (g *gate) beginDrain(why ending) {
	select {
	case g.drain <- why:
	default:
	}
}

// shutdown waits for a reason to end and then ends the gate in the order that
// a load balancer, a vendor and a reviewer can follow: unready, no new
// sessions, no sessions, no recordings, last event. What the caller stops afterwards still
// served while this ran.
func (g *gate) shutdown(failed, force context.Context, l *life) error {
	why := g.awaitEnd(failed, force)
	force, cutNow := context.WithCancel(force)
	defer cutNow()
	if why.err != nil {
		cutNow()
	}
	g.draining.Store(true)
	g.systemd.notify(daemon.SdNotifyStopping)
	g.health.Drain()
	g.metrics.SetDraining(true)
	drain := g.rules.current().Drain
	g.log.Info("draining", zap.String("reason", why.reason), zap.String("by", why.by), zap.Int("sessions", len(g.server.Sessions())),
		zap.Duration("settle", drain.Settle), zap.Duration("timeout", drain.Timeout))

	pause(force, drain.Settle) // until the load balancer has seen it
	g.server.Drain()
	l.stopAccept()
	<-l.accepted
	live := len(g.server.Sessions())
	cut := g.endSessions(force, why.patience(drain.Timeout, time.Now()))
	l.stopRecord() // no session is left that records
	<-l.recorded
	err := g.farewell(why, live, cut)
	l.stopWrite()
	<-l.written
	g.archive.flush() // the last checkpoint
	err = errors.Join(why.err, err, g.audit.Close())
	g.log.Info("stopped", zap.String("reason", why.reason), zap.Int("drained", live-cut), zap.Int("cut", cut), zap.Error(err))
	return err
}

// awaitEnd returns why the gate shall end.
func (g *gate) awaitEnd(failed, force context.Context) ending {
	select {
	case why := <-g.drain:
		return why
	case <-failed.Done():
		return ending{reason: "part_failed"}
	case <-force.Done():
		return ending{reason: "stopped"}
	}
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// endSessions lets the sessions end by themselves for at most timeout and
// returns how many had to be cut.
func (g *gate) endSessions(force context.Context, timeout time.Duration) (cut int) {
	patience, cancel := context.WithTimeout(force, timeout)
	defer cancel()
	ctx, cutNow := context.WithCancel(context.Background())
	counted := make(chan struct{})
	stop := context.AfterFunc(patience, func() {
		defer close(counted)
		cut = len(g.server.Sessions()) // before Shutdown cuts them
		cutNow()
	})
	_ = g.server.Shutdown(ctx) // its only error is that of ctx
	if !stop() {
		<-counted
	}
	cutNow()
	return cut
}

// farewell writes daemon.stop.
func (g *gate) farewell(why ending, live, cut int) error {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	err := g.audit.Append(ctx, audit.Event{Code: audit.DaemonStop, Message: "postern stopped: " + why.reason, Reason: why.reason,
		Extra: map[string]any{"drained": live - cut, "cut": cut}})
	if err != nil {
		return fmt.Errorf("write the last audit event: %w", err)
	}
	return nil
}
