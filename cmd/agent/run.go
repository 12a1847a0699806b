package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"postern/internal/admin"
	"postern/internal/admission"
	"postern/internal/audit"
	"postern/internal/config"
	"postern/internal/health"
	"postern/internal/metrics"
	"postern/internal/sshgate"
	"postern/internal/upstream"
)

// process is what a gate gets from whoever runs it.
type process struct {
	config    string           // path of postern.yaml
	inherited inherited        // listeners that are open already
	signals   <-chan os.Signal // SIGTERM, SIGINT, SIGHUP
	stderr    io.Writer
}

// gate is a built gate: everything that can fail at a start has not.
type gate struct {
	process
	started time.Time
	log     *zap.Logger
	systemd systemd
	rules   *rules
	audit   *audit.Log
	metrics *metrics.Metrics
	server  *sshgate.Server
	health  *health.Server
	admin   *admin.Server
	drain   chan string // why the gate shall end; has room for one

	draining atomic.Bool

	sshListener                                  *watchedListener
	healthListener, metricsListener, adminSocket net.Listener // nil = not listened on
}

// run is a gate from its configuration to its last audit event. It ends when
// the gate has drained; when ctx ends, live sessions are cut.
func run(ctx context.Context, p process) error {
	g := &gate{process: p, started: time.Now(), drain: make(chan string, 1)}
	c, err := config.Load(p.config)
	if err != nil {
		return configFault(loading("the configuration", err))
	}
	if g.rules, err = loadRules(c); err != nil {
		return configFault(loading("the policy", err))
	}
	if err := g.build(c); err != nil {
		g.close()
		return err
	}
	if err := g.announce(ctx); err != nil {
		g.close()
		return err
	}
	return g.serve(ctx)
}

// build makes the parts in the order in which they need each other. Listeners
// come first: the gate must know which ports are its own.
func (g *gate) build(c *config.Config) error {
	g.log, g.rules.level = newLogger(c.Log, g.stderr)
	g.systemd = systemd{log: g.log}
	tuneRuntime(g.log)
	warn(g.log, c)

	hostKeys, err := sshgate.LoadHostKeys(c.SSH.HostKeys)
	if err != nil {
		return configFault(fmt.Errorf("load the host keys: %w", err))
	}
	if err := g.listen(c); err != nil {
		return err
	}
	g.metrics = metrics.New(metricsOptions(c))
	if g.audit, err = audit.Open(auditOptions(c, g.metrics, g.log)); err != nil {
		return fmt.Errorf("open the audit log: %w", err)
	}
	door, err := admission.New(c.Admission)
	if err != nil {
		return configFault(fmt.Errorf("admission: %w", err))
	}
	o := sshOptions(c)
	o.HostKeys, o.Admission, o.Audit, o.Metrics, o.Log = hostKeys, door, g.audit, g.metrics, g.log
	o.Upstream = upstream.New(c.Upstream)
	o.Listeners = ownAddresses(g.sshListener, g.healthListener, g.metricsListener)
	if g.server, err = sshgate.New(o, g.rules.gate()); err != nil {
		return configFault(fmt.Errorf("set up SSH: %w", err))
	}
	if err := g.buildHealth(c); err != nil {
		return err
	}
	g.rules.log, g.rules.audit, g.rules.metrics = g.log, g.audit, g.metrics
	g.rules.admission, g.rules.server = door, g.server
	g.admin = admin.New(&control{socket: c.Admin.Socket, rules: g.rules, server: g.server, drain: g.beginDrain})
	g.admin.Version, g.admin.Revision = thisBuild().Version, thisBuild().Revision
	return nil
}

func (g *gate) listen(c *config.Config) error {
	ssh, err := g.inherited.listen(socketSSH, c.Listen)
	if err != nil {
		return err
	}
	g.sshListener = watchAccept(ssh)
	if g.healthListener, err = g.inherited.listen(socketHealth, c.Health.Listen); err != nil {
		return err
	}
	if g.metricsListener, err = g.inherited.listen(socketMetrics, c.Metrics.Listen); err != nil {
		return err
	}
	if g.adminSocket, err = admin.Listen(c.Admin.Socket); err != nil {
		return fmt.Errorf("listen for admin: %w", err)
	}
	return nil
}

func (g *gate) buildHealth(c *config.Config) error {
	tls, err := healthTLS(c.Health)
	if err != nil {
		return configFault(fmt.Errorf("load health.tls_cert: %w", err))
	}
	g.healthListener = admission.Optional(g.healthListener, c.Admission.HeaderTimeout)
	g.health = health.New(health.Options{
		Checks: []health.Check{
			{Name: "ssh", Test: func() error { return g.sshListener.accepting(acceptPatience) }, Failing: "connections are not accepted"},
			{Name: "audit", Test: g.audit.Ready, Failing: "the audit log can't be written, so nobody is let in"},
		},
		TLS:     tls,
		Changed: g.metrics.SetReady,
		Log:     g.log,
	})
	return nil
}

// close gives up what a failed build had opened.
func (g *gate) close() {
	for _, ln := range []net.Listener{g.healthListener, g.metricsListener, g.adminSocket} {
		if ln != nil {
			ln.Close()
		}
	}
	if g.sshListener != nil {
		g.sshListener.Close()
	}
	if g.audit != nil {
		g.audit.Close()
	}
}
