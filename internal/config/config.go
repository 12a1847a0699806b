// Package config turns postern.yaml and policy.yaml into the options structs
// that the packages own. Decoding is strict: every fault is reported, each with
// file, line and column.
package config

import (
	"time"

	"postern/internal/admission"
	"postern/internal/audit"
	"postern/internal/krl"
	"postern/internal/metrics"
	"postern/internal/policy"
	"postern/internal/sink"
	"postern/internal/upstream"
)

// Config is a checked postern.yaml. Paths in it are absolute.
type Config struct {
	Path       string
	Version    string // "sha256:" and the first 16 hex digits of the file
	Listen     string
	Admission  admission.Options // with Limits
	AWS        *AWS              // nil = no aws: section
	SSH        SSH
	Sessions   Sessions
	PolicyPath string
	// PolicyObject is the s3://BUCKET/KEY that PolicyPath is a copy of; "" =
	// PolicyPath is the policy itself.
	PolicyObject string
	Upstream     upstream.Options
	Login        Login
	Audit        audit.Options // what the audit: section sets, but for the key
	SigningKey   string        // audit.signing_key: a path, or the ARN of a key in KMS
	// OldSigningKey is audit.old_signing_key, of the same kinds; "" = what lies
	// beside a SigningKey that is a file.
	OldSigningKey string
	Recordings    Recordings
	Archive       Archive
	Sinks         Sinks
	Health        Health
	Metrics       Metrics
	Admin         Admin
	Drain         Drain
	Log           Log

	Warnings []string // one for each setting that is surely not meant
}

// SSH is the ssh: section.
type SSH struct {
	HostKeys            []string // paths, made at first start where missing, or secrets in AWS
	HostCA              string   // a path, a secret in AWS, or the ARN of a key in KMS
	Algorithms          string   // "modern", "post-quantum" or "compatible"
	LoginGraceTime      time.Duration
	ClientAliveInterval time.Duration
	ClientAliveCountMax int
	MaxAuthTries        int
}

// Sessions is what of the limits: section concerns sessions.
type Sessions struct {
	MaxChannels int
	IdleTimeout time.Duration // 0 = never
}

// Login is what of the upstream: section says how the gate logs in at an
// inspected target.
type Login struct {
	UserCA              string // a path, a secret in AWS, or the ARN of a key in KMS
	CertificateLifetime time.Duration
	PrivateKey          string // "" = certificates
	KnownHosts          []string
}

// Recordings is the recordings: section.
type Recordings struct {
	Dir        string
	Recipients []string // age recipients, as written; empty = recordings are not sealed
	Continue   bool     // on_failure: continue, whatever a rule says
	MinFree    int64    // bytes; with less, no recording is begun
}

// Archive is the archive: section; without a Bucket nothing is archived.
type Archive struct {
	Bucket, Prefix, Region, Endpoint string        // Prefix without a slash at its end
	Retention                        time.Duration // of each object; 0 = the bucket's default
	RetentionMode                    string        // "compliance" or "governance"
	AnchorInterval                   time.Duration // from checkpoint to checkpoint in the bucket
	AnchorMaxLag                     time.Duration // how far the bucket may be behind
	Refuse                           bool          // when_behind: refuse: nobody is let in then
}

// Sinks is the sinks: section. One without an Address or a Group is not there.
type Sinks struct {
	Syslog     sink.SyslogOptions     // without Hostname
	CloudWatch sink.CloudWatchOptions // Stream "" = the gate chooses
}

// Health is the health: section. TLSCert and TLSKey are both set or both "".
type Health struct{ Listen, TLSCert, TLSKey string }

// Metrics is the metrics: section.
type Metrics struct {
	Listen  string
	Options metrics.Options // WebConfig and LiveSessions
}

// Admin is the admin: section. Frozen is the file that keeps the identities
// that were frozen by command.
type Admin struct{ Socket, Frozen string }

// Drain is the drain: section.
type Drain struct{ Settle, Timeout time.Duration }

// Log is the log: section: Level is debug, info, warn or error, Format json or
// console.
type Log struct{ Level, Format string }

// Policy is a checked policy.yaml with what its files held.
type Policy struct {
	*policy.Policy
	Path    string
	Version string      // "sha256:" and the first 16 hex digits over policy.yaml and, in the order in which it names them, its files
	Files   []string    // policy.yaml and the files it names, each once: what a change of is a change of the policy
	Revoked []*krl.List // asked about every key and certificate
}
