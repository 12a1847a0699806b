package main

import (
	"context"
	"fmt"
	"net"
	"runtime"
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

// build makes the parts in the order in which they need each other. Listeners
// come early: the gate must know which ports are its own.
func (g *gate) build(c *config.Config) error {
	g.log, g.rules.level = newLogger(c.Log, g.stderr)
	g.systemd = systemd{log: g.log}
	warn(g.log, c, tuneRuntime(g.log))
	if err := g.listen(c); err != nil {
		return err
	}
	if err := g.buildMetrics(c); err != nil {
		return err
	}
	if err := g.openAudit(c); err != nil {
		return err
	}
	g.metrics.WatchAudit(auditDisk(g.audit, c.Audit.Dir))
	g.metrics.WatchRecordings(func() (uint64, error) { return diskFree(c.Recordings.Dir) })
	door, err := admission.New(c.Admission)
	if err != nil {
		return configFault(fmt.Errorf("set up admission: %w", err))
	}
	if err := g.buildServer(c, door); err != nil {
		return err
	}
	if err := g.buildHealth(c); err != nil {
		return err
	}
	g.rules.log, g.rules.audit, g.rules.metrics = g.log, g.audit, g.metrics
	g.rules.admission, g.rules.server = door, g.server
	g.wayIn = newWayIn(c, g.aws, g.rules)
	g.lifecycle = newLifecycle(c, g.aws, g.log, g.beginDrain)
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

func (g *gate) openAudit(c *config.Config) error {
	o := auditOptions(c, g.metrics, g.log)
	o.NewEpoch = g.newEpoch
	g.locate(c, &o.Host)
	var err error
	if o.Key, o.OldKey, err = auditKeys(c); err != nil {
		return err
	}
	if err := g.copyAudit(c, &o); err != nil {
		return configFault(err)
	}
	if g.audit, err = audit.Open(o); err != nil {
		return auditFault(fmt.Errorf("open the audit log: %w", err))
	}
	if g.archive != nil {
		g.archive.opened(g.audit)
	}
	g.log.Info("audit log", zap.String("origin", g.audit.Origin()), zap.Int64("size", g.audit.Size()), zap.String("vkey", g.audit.VerifierKey()))
	return nil
}

// copyAudit has the log tell the archive and the sinks of what it writes, and
// compares it with what the archive has of it.
func (g *gate) copyAudit(c *config.Config, o *audit.Options) error {
	var err error
	if g.sinks, err = newSinks(c.Sinks, g.log); err != nil {
		return err
	}
	g.metrics.WatchSinks(g.sinks.stats)
	if g.archive, err = newArchiver(c, g.log, g.metrics, g.beginDrain); err != nil {
		return err
	}
	appended, signed := o.Appended, o.Signed
	o.Appended = func(d time.Duration, codes []audit.Code, err error) {
		appended(d, codes, err)
		g.archive.appended(codes)
	}
	o.Signed = func(size int64, err error) {
		signed(size, err)
		g.archive.signed()
	}
	o.Written = func(first int64, lines []byte) {
		g.sinks.offer(lines)
		g.archive.written(first, lines)
	}
	if g.archive != nil {
		o.Archived, o.Anchors = g.archive.archived, g.archive.before()
	}
	return nil
}

func (g *gate) buildMetrics(c *config.Config) error {
	if err := c.Metrics.Options.Validate(); err != nil {
		return configFault(fmt.Errorf("load metrics.web_config: %w", err))
	}
	g.metrics = metrics.New(metricsOptions(c))
	g.metrics.SetEndpoints(c.Admission.Endpoints)
	return nil
}

func (g *gate) buildServer(c *config.Config, door *admission.Gate) error {
	o := sshOptions(c)
	var err error
	if o.HostKeys, err = hostKeys(c); err != nil {
		return keyFault("", fmt.Errorf("load the host keys: %w", err))
	}
	o.Admission, o.Audit, o.Metrics, o.Log = door, g.audit, g.metrics, g.log
	o.Upstream, o.Archived = upstream.New(c.Upstream), g.archive.ready
	if err := g.buildInspection(c, &o); err != nil {
		return err
	}
	o.Listeners = ownAddresses(g.sshListener, g.healthListener, g.metricsListener)
	if g.server, err = sshgate.New(o, g.rules.gate()); err != nil {
		return configFault(fmt.Errorf("set up SSH: %w", err))
	}
	return nil
}

// buildHealth is called when all that is checked has been built.
func (g *gate) buildHealth(c *config.Config) error {
	tls, err := healthTLS(c.Health)
	if err != nil {
		return configFault(fmt.Errorf("load health.tls_cert: %w", err))
	}
	g.healthListener = admission.Optional(g.healthListener, c.Admission.HeaderTimeout)
	g.health = health.New(health.Options{
		Checks:   g.checks(c),
		TLS:      tls,
		Changed:  g.metrics.SetReady,
		Answered: g.metrics.HealthChecked,
		Log:      g.log,
	})
	return nil
}

// checks are what readiness depends on: where sessions go on without their
// recording, a full disk is no reason to send clients elsewhere.
func (g *gate) checks(c *config.Config) []health.Check {
	all := []health.Check{
		{Name: "ssh", Test: func() error { return g.sshListener.accepting(acceptPatience) }, Failing: "connections are not accepted"},
		{Name: "audit", Test: g.audit.Ready, Failing: "the audit log can't be written, so nobody is let in"},
	}
	if c.Archive.Refuse {
		all = append(all, health.Check{Name: "archive", Test: g.archive.ready, Failing: "the archive of the audit log is too far behind, so nobody is let in"})
	}
	if watchOf(c).LoadBalancer != "" {
		all = append(all, health.Check{Name: "way_in", Test: g.rules.knowsBalancer, Failing: "the address of the load balancer is not known, so nobody can connect"})
	}
	if !c.Recordings.Continue {
		all = append(all, health.Check{Name: "recordings", Test: g.recordings.Ready, Failing: "no recording can begin, so no inspected session can"})
	}
	return all
}

// close gives up what a start that failed had opened.
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

// announce writes daemon.start: a gate that cannot write does not serve.
func (g *gate) announce(ctx context.Context, c *config.Config, now time.Time) error {
	b, policy := thisBuild(), g.rules.policy.Version
	err := g.audit.Append(ctx, audit.Event{Code: audit.DaemonStart, Message: "postern " + b.Version + " started", Policy: policy,
		Extra: map[string]any{"config": c.Version, "go": runtime.Version(), "x_crypto": b.Crypto, "listen": g.sshListener.Addr().String()}})
	if err != nil {
		return fmt.Errorf("write the first audit event: %w", err)
	}
	g.metrics.ConfigReloaded(true, now)
	g.log.Info("serving", zap.Stringer("ssh", g.sshListener.Addr()), zap.Stringer("health", g.healthListener.Addr()),
		zap.Stringer("metrics", g.metricsListener.Addr()), zap.String("admin", c.Admin.Socket),
		zap.String("config", c.Version), zap.String("policy", policy), zap.String("version", b.Version))
	return nil
}
