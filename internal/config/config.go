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
	"postern/internal/upstream"
)

// Config is a checked postern.yaml.
type Config struct {
	Path       string
	Version    string // "sha256:" and the first 16 hex digits of the file
	Listen     string
	Admission  admission.Options // with Limits
	SSH        SSH
	Sessions   Sessions
	PolicyPath string
	Upstream   upstream.Options
	Audit      audit.Options
	Health     Health
	Metrics    Metrics
	Admin      Admin
	Drain      Drain
	Log        Log
}

// SSH is the ssh: section.
type SSH struct {
	HostKeys            []string // paths; made at first start where missing
	HostCA              string
	Algorithms          string // "modern", "post-quantum" or "compatible"
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

// Health, Metrics, Admin, Drain and Log are the sections of those names.
type Health struct{ Listen, TLSCert, TLSKey string }
type Metrics struct {
	Listen  string
	Options metrics.Options
}
type Admin struct{ Socket, Frozen string } // Frozen: file that keeps the identities frozen by command
type Drain struct{ Settle, Timeout time.Duration }
type Log struct{ Level, Format string }

// Policy is a checked policy.yaml with what its files held.
type Policy struct {
	*policy.Policy
	Path    string
	Version string
	Revoked []*krl.List // asked about every key and certificate
}

func Load(path string) (*Config, error)       { panic("stub") }
func LoadPolicy(path string) (*Policy, error) { panic("stub") }
