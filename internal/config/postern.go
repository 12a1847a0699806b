package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"postern/internal/admission"
)

// Load reads postern.yaml at path and checks it. Relative paths in it start in
// the folder of the file. The error is Errors, with all faults, or says why the
// file could not be read. A key that is left out has the default of defaults.
func Load(path string) (*Config, error) {
	path, data, err := open(path)
	if err != nil {
		return nil, err
	}
	return parsePostern(path, data)
}

func open(path string) (abs string, data []byte, err error) {
	if abs, err = filepath.Abs(path); err != nil {
		return "", nil, err
	}
	if data, err = readFile(abs, maxFile); err != nil {
		// The system's own errors name the file already.
		if errors.Unwrap(err) == nil {
			err = fmt.Errorf("%s: %w", abs, err)
		}
		return "", nil, fmt.Errorf("read configuration: %w", err)
	}
	return abs, data, nil
}

func parsePostern(path string, data []byte) (*Config, error) {
	d := newDecoder(path, filepath.Dir(path))
	c := defaults()
	c.Path = path
	c.Version = version(data)
	if root, ok := d.document(data); ok {
		d.postern(root, c)
	}
	if len(d.faults) > 0 {
		return nil, ordered(path, d.faults)
	}
	return c, nil
}

// version names what was read: "sha256:" and the first 16 hex digits of the
// hash over the parts, one after the other.
func version(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))[:16]
}

// The longest time from keepalive to keepalive: NLB and PrivateLink drop a flow
// that was silent for 350 s.
const maxAliveInterval = 349 * time.Second

func defaults() *Config {
	const state = "/var/lib/postern/"
	c := &Config{
		Listen:     ":22",
		PolicyPath: "/etc/postern/policy.yaml",
		SSH: SSH{
			HostKeys:            []string{state + "ssh_host_ed25519_key", state + "ssh_host_ecdsa_key", state + "ssh_host_rsa_key"},
			HostCA:              state + "host_ca",
			Algorithms:          "modern",
			LoginGraceTime:      30 * time.Second,
			ClientAliveInterval: time.Minute,
			ClientAliveCountMax: 3,
			MaxAuthTries:        6,
		},
		Sessions:   Sessions{MaxChannels: 128},
		Login:      Login{UserCA: state + "user_ca", CertificateLifetime: 5 * time.Minute, KnownHosts: []string{"/etc/postern/known_hosts"}},
		SigningKey: state + "audit_key",
		Recordings: Recordings{Dir: state + "recordings", MinFree: 512 << 20},
		Archive:    Archive{RetentionMode: "compliance", AnchorInterval: time.Minute, AnchorMaxLag: time.Hour},
		Health:     Health{Listen: ":8022"},
		Metrics:    Metrics{Listen: "127.0.0.1:9722"},
		Admin:      Admin{Socket: "/run/postern/admin.sock", Frozen: state + "frozen.json"},
		Drain:      Drain{Settle: 30 * time.Second, Timeout: 8 * time.Hour},
		Log:        Log{Level: "info", Format: "json"},
	}
	c.Admission.HeaderTimeout = 5 * time.Second
	c.Admission.Limits = admission.Limits{MaxStartups: 256, MaxStartupsPerSource: 10, MaxSessions: 2000, MaxSessionsPerIdentity: 200, Penalties: true}
	c.Upstream.DialTimeout = 10 * time.Second
	c.Audit.Dir = "/var/log/postern/audit"
	c.Audit.MinFree, c.Audit.SegmentSize, c.Audit.SegmentAge = 512<<20, 8<<20, 24*time.Hour
	c.Metrics.Options.LiveSessions = 200
	return c
}

func (d *decoder) postern(root value, c *Config) {
	root.mapping(
		may("listen", scalar(&c.Listen, hostPort)),
		must("admission", c.admission),
		may("aws", c.aws),
		may("ssh", c.ssh),
		may("limits", c.limits),
		may("policy", c.policy),
		may("upstream", c.upstream),
		may("audit", c.audit),
		may("recordings", c.recordings),
		may("archive", c.archive),
		may("sinks", c.sinks),
		may("health", c.health),
		may("metrics", c.metrics),
		may("admin", c.admin),
		may("drain", c.drain),
		may("log", c.log),
	)
	if c.Archive.Bucket != "" && d.at["audit.segment_age"] == nil {
		c.Audit.SegmentAge = archivedSegmentAge
	}
	d.checkListeners(c)
	d.checkAdmission(c)
	d.checkAWS(c)
}

func (c *Config) admission(v value) {
	a := &c.Admission
	v.mapping(
		must("proxy_protocol", scalar(&a.ProxyProtocol, oneOf(admission.ProxyRequired, admission.ProxyOff))),
		may("load_balancers", listOf(&a.LoadBalancers, loadBalancer)),
		may("endpoints", listOf(&a.Endpoints, admittedEndpoint)),
		must("sources", listOf(&a.Sources, prefix)),
		may("header_timeout", scalar(&a.HeaderTimeout, duration(10*time.Millisecond, time.Minute))),
	)
}

func (c *Config) ssh(v value) {
	s := &c.SSH
	v.mapping(
		may("host_keys", listOf(&s.HostKeys, secretOr(file))),
		may("host_ca", scalar(&s.HostCA, secretOr(signingKey))),
		may("algorithms", scalar(&s.Algorithms, oneOf("modern", "post-quantum", "compatible"))),
		may("login_grace_time", scalar(&s.LoginGraceTime, duration(time.Second, 10*time.Minute))),
		may("client_alive_interval", scalar(&s.ClientAliveInterval, aliveInterval)),
		may("client_alive_count_max", scalar(&s.ClientAliveCountMax, number(1, 100))),
		may("max_auth_tries", scalar(&s.MaxAuthTries, number(1, 100))),
	)
	if len(s.HostKeys) == 0 {
		v.d.faultAt(v.path+".host_keys", "empty; the gate needs at least one host key", "")
	}
}

func aliveInterval(v value) (time.Duration, bool) {
	d, ok := duration(time.Second, 24*time.Hour)(v)
	if ok && d > maxAliveInterval {
		v.fault("%s is too long: NLB and PrivateLink drop a flow that was silent for 350s; want at most 349s", v.node.Value)
		return 0, false
	}
	return d, ok
}

func (c *Config) limits(v value) {
	l := &c.Admission.Limits
	const many = 1_000_000
	v.mapping(
		may("max_startups", scalar(&l.MaxStartups, number(1, many))),
		may("max_startups_per_source", scalar(&l.MaxStartupsPerSource, number(1, many))),
		may("max_sessions", scalar(&l.MaxSessions, number(1, many))),
		may("max_sessions_per_identity", scalar(&l.MaxSessionsPerIdentity, number(1, many))),
		may("max_channels", scalar(&c.Sessions.MaxChannels, number(1, 10_000))),
		may("idle_timeout", scalar(&c.Sessions.IdleTimeout, duration(0, 30*24*time.Hour))),
		may("penalties", scalar(&l.Penalties, onOff)),
	)
}

func (c *Config) upstream(v value) {
	l := &c.Login
	v.mapping(
		may("user_ca", scalar(&l.UserCA, secretOr(signingKey))),
		may("certificate_lifetime", scalar(&l.CertificateLifetime, duration(30*time.Second, 24*time.Hour))),
		may("private_key", scalar(&l.PrivateKey, orNothing(file))),
		may("known_hosts", listOf(&l.KnownHosts, file)),
		may("dial_timeout", scalar(&c.Upstream.DialTimeout, duration(10*time.Millisecond, 5*time.Minute))),
	)
}

func (c *Config) audit(v value) {
	days := 0
	v.mapping(
		may("dir", scalar(&c.Audit.Dir, place)),
		may("signing_key", scalar(&c.SigningKey, signingKey)),
		may("old_signing_key", scalar(&c.OldSigningKey, orNothing(signingKey))),
		may("origin", scalar(&c.Audit.Origin, orNothing(form(`[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}`, "a host or domain, such as gate1.example.com")))),
		may("segment_size", scalar(&c.Audit.SegmentSize, segmentSize)),
		may("segment_age", scalar(&c.Audit.SegmentAge, duration(time.Minute, 31*24*time.Hour))),
		may("retention_days", scalar(&days, number(0, 36_500))),
		may("min_free", scalar(&c.Audit.MinFree, size)),
	)
	c.Audit.Retention = time.Duration(days) * 24 * time.Hour
}

// segmentSize reads a size of audit segments: in one that is smaller hardly
// anything but its own log.rotate has room, and the newest one is read whole at
// each start.
func segmentSize(v value) (int64, bool) {
	n, ok := signedSize(v)
	if ok && (n < 64<<10 || n > 1<<30) {
		v.fault("%s is not between 64KiB and 1GiB", shown(v.node.Value))
		return 0, false
	}
	return n, ok
}

func (c *Config) recordings(v value) {
	r := &c.Recordings
	v.mapping(
		may("dir", scalar(&r.Dir, place)),
		may("recipients", listOf(&r.Recipients, form(`age1[0-9a-z]{10,}`, "an age recipient (age1...)"))),
		may("on_failure", scalar(&r.Continue, onFailure)),
		may("min_free", scalar(&r.MinFree, signedSize)),
	)
}

func (c *Config) health(v value) {
	h := &c.Health
	v.mapping(
		may("listen", scalar(&h.Listen, hostPort)),
		may("tls_cert", scalar(&h.TLSCert, orNothing(file))),
		may("tls_key", scalar(&h.TLSKey, orNothing(file))),
	)
	if (h.TLSCert == "") != (h.TLSKey == "") {
		v.d.faultAt(v.path, "tls_cert and tls_key go together: set both, or none for plain HTTP", "")
	}
}

func (c *Config) metrics(v value) {
	v.mapping(
		may("listen", scalar(&c.Metrics.Listen, hostPort)),
		may("web_config", scalar(&c.Metrics.Options.WebConfig, orNothing(file))),
		may("live_sessions", scalar(&c.Metrics.Options.LiveSessions, number(0, 10_000))),
	)
}

func (c *Config) admin(v value) {
	v.mapping(
		may("socket", scalar(&c.Admin.Socket, socketPath)),
		may("frozen", scalar(&c.Admin.Frozen, place)),
	)
}

// maxSocketPath is how long the path of a unix socket may be: the kernel holds
// it in 108 bytes, one of them a NUL.
const maxSocketPath = 107

// socketPath reads the path of a unix socket.
func socketPath(v value) (string, bool) {
	path, ok := place(v)
	if ok && len(path) > maxSocketPath {
		v.fault("%s is longer than the %d bytes that the path of a socket may have", shown(path), maxSocketPath)
		return "", false
	}
	return path, ok
}

func (c *Config) drain(v value) {
	v.mapping(
		may("settle", scalar(&c.Drain.Settle, duration(0, 10*time.Minute))),
		may("timeout", scalar(&c.Drain.Timeout, duration(0, 7*24*time.Hour))),
	)
}

func (c *Config) log(v value) {
	v.mapping(
		may("level", scalar(&c.Log.Level, oneOf("debug", "info", "warn", "error"))),
		may("format", scalar(&c.Log.Format, oneOf("json", "console"))),
	)
}
