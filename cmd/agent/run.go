package main

import (
	"context"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"postern/internal/admin"
	"postern/internal/audit"
	"postern/internal/config"
	"postern/internal/health"
	"postern/internal/metrics"
	"postern/internal/privatelink"
	"postern/internal/record"
	"postern/internal/sshgate"
)

// process is what a gate gets from whoever runs it.
type process struct {
	config    string           // path of postern.yaml
	newEpoch  string           // why the audit log begins a new epoch, "" = it goes on
	inherited inherited        // listeners that are open already
	signals   <-chan os.Signal // SIGTERM, SIGINT, SIGHUP
	stderr    io.Writer
}

// gate is a built gate: everything that can fail at a start has not.
type gate struct {
	process
	log     *zap.Logger
	systemd systemd
	rules   *rules
	audit   *audit.Log
	metrics *metrics.Metrics
	server  *sshgate.Server
	health  *health.Server
	admin   *admin.Server

	recordings *record.Store
	archive    *archiver // nil = there is none
	sinks      *sinks

	aws       *privatelink.Client // nil = nothing is asked for while the gate runs
	wayIn     *wayIn              // nil = nothing is followed
	lifecycle *lifecycle          // nil = there is no aws: section

	sshListener                                  *watchedListener
	healthListener, metricsListener, adminSocket net.Listener

	drain    chan ending // has room for one
	draining atomic.Bool
}

// run is a gate from its configuration to its last audit event. It ends when
// the gate has drained; when ctx ends, live sessions are cut.
func run(ctx context.Context, p process) error {
	g := &gate{process: p, drain: make(chan ending, 1)}
	c, err := config.Load(p.config)
	if err != nil {
		return configFault(loading("the configuration", err))
	}
	if c.AWS != nil || c.PolicyObject != "" {
		if g.aws, err = openAWS(c); err != nil {
			return configFault(err)
		}
	}
	if err := firstPolicy(c, g.aws); err != nil {
		return err
	}
	if g.rules, err = loadRules(c); err != nil {
		return configFault(err)
	}
	if err := g.build(c); err != nil {
		g.close()
		return err
	}
	if err := g.announce(ctx, c, time.Now()); err != nil {
		g.close()
		return err
	}
	return g.serve(ctx)
}

// life are the contexts of a gate's parts, in the order in which they end.
// None ends because the process is asked to: shutdown ends them.
type life struct {
	accept, record, write, ops                 context.Context
	stopAccept, stopRecord, stopWrite, stopOps context.CancelFunc

	accepted, recorded, written chan struct{} // closed when the part has ended
}

func newLife(ctx context.Context) *life {
	l := &life{accepted: make(chan struct{}), recorded: make(chan struct{}), written: make(chan struct{})}
	ctx = context.WithoutCancel(ctx)
	l.accept, l.stopAccept = context.WithCancel(ctx)
	l.record, l.stopRecord = context.WithCancel(ctx)
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

	parts.Go(func() error {
		defer close(l.written)
		return g.audit.Run(l.write)
	})
	parts.Go(func() error { return g.archive.run(l.ops) })
	parts.Go(func() error { return g.sinks.run(l.ops, g.audit) })
	parts.Go(func() error {
		defer close(l.recorded)
		return g.recordings.Run(l.record)
	})
	parts.Go(func() error {
		defer close(l.accepted)
		return g.server.Serve(l.accept, g.sshListener)
	})
	parts.Go(func() error { return g.cutUnaudited(l.accept) })
	parts.Go(func() error { return g.health.Serve(l.ops, g.healthListener) })
	parts.Go(func() error { return g.metrics.Serve(l.ops, g.metricsListener, g.log) })
	parts.Go(func() error { return g.admin.Serve(l.ops, g.adminSocket) })
	parts.Go(func() error { return g.rules.run(l.ops) })
	parts.Go(func() error { return g.wayIn.run(l.ops) })
	parts.Go(func() error { return g.lifecycle.run(l.ops) })
	parts.Go(func() error { return g.handleSignals(l.ops, cut) })
	parts.Go(func() error { return g.systemd.watch(l.ops, g.selfCheck, g.status) })
	parts.Go(func() error { return tuneHeap(l.ops) })
	parts.Go(func() error {
		defer l.stopOps()
		return g.shutdown(failed, force, l)
	})
	g.systemd.notify(daemon.SdNotifyReady + "\nSTATUS=" + g.status())
	defer g.lifecycle.complete()
	return parts.Wait()
}
