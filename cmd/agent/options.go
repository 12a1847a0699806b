package main

import (
	"crypto/tls"
	"errors"
	"os"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"postern/internal/audit"
	"postern/internal/config"
	"postern/internal/metrics"
	"postern/internal/sshgate"
)

// acceptPatience is how long the accept loop may be away from its listener.
const acceptPatience = 10 * time.Second

func sshOptions(c *config.Config) sshgate.Options {
	return sshgate.Options{
		Algorithms:          sshgate.Profile(c.SSH.Algorithms),
		LoginGraceTime:      c.SSH.LoginGraceTime,
		ClientAliveInterval: c.SSH.ClientAliveInterval,
		ClientAliveCountMax: c.SSH.ClientAliveCountMax,
		MaxAuthTries:        c.SSH.MaxAuthTries,
		MaxChannels:         c.Sessions.MaxChannels,
		IdleTimeout:         c.Sessions.IdleTimeout,
	}
}

func metricsOptions(c *config.Config) metrics.Options {
	o := c.Metrics.Options
	b := thisBuild()
	o.Version, o.Revision = b.Version, b.Revision
	return o
}

func auditOptions(c *config.Config, m *metrics.Metrics, log *zap.Logger) audit.Options {
	o := c.Audit
	o.Host.Version = thisBuild().Version
	if name, err := os.Hostname(); err == nil {
		o.Host.Hostname = name
	}
	o.Appended = func(d time.Duration, codes []audit.Code, err error) {
		names := make([]string, len(codes))
		for i, code := range codes {
			names[i] = string(code)
		}
		m.AuditAppended(d, names, err)
	}
	o.Signed = func(size int64, err error) {
		if err == nil {
			m.Checkpoint(size)
		}
	}
	o.OnFailure = func(s audit.State, err error) {
		if err == nil {
			log.Info("audit log", zap.Stringer("state", s))
			return
		}
		log.Error("audit log", zap.Stringer("state", s), zap.Error(err))
	}
	return o
}

// auditFault tells a log that must not be written on from one that can't be:
// starting again is no help there.
func auditFault(err error) error {
	if !errors.Is(err, audit.ErrDamaged) {
		return err
	}
	return &fault{status: exitConfig, err: err, hints: []string{
		"postern audit verify names the first event that is not as it was written",
		"postern serve --new-epoch --reason TEXT puts the log aside, in a folder beside the new one, and begins a new one that says so",
	}}
}

// auditDisk reads what the metrics say of the audit log at each scrape.
func auditDisk(log *audit.Log, dir string) func() (metrics.AuditLog, error) {
	return func() (metrics.AuditLog, error) {
		free, err := diskFree(dir)
		return metrics.AuditLog{Events: uint64(log.Size()), DiskFree: free}, err
	}
}

// diskFree is how many bytes the daemon may still write to dir's file system.
func diskFree(dir string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, err
	}
	return fs.Bavail * uint64(fs.Bsize), nil
}

// healthTLS returns nil for plain HTTP. TLS 1.2 is offered because the load
// balancer's health checks may have nothing newer.
func healthTLS(h config.Health) (*tls.Config, error) {
	if h.TLSCert == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(h.TLSCert, h.TLSKey)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

// warn logs what the configuration says and surely does not mean. A session
// takes a file for its client and one for each target or remote forward.
func warn(log *zap.Logger, c *config.Config, files uint64) {
	for _, w := range c.Warnings {
		log.Warn("configuration", zap.String("warning", w))
	}
	if sessions := c.Admission.Limits.MaxSessions; uint64(sessions)*2 > files {
		log.Warn("limits.max_sessions is more than the open files that the process may have allow",
			zap.Int("max_sessions", sessions), zap.Uint64("nofile", files))
	}
}
