package main

import (
	"reflect"

	"postern/internal/config"
)

// setting is one key of postern.yaml as a reload sees it.
type setting struct {
	key  string
	live bool // a reload can change it
	of   func(*config.Config) any
}

// settings lists what a reload compares; what is not live needs a restart.
func settings() []setting {
	live := func(key string, of func(*config.Config) any) setting { return setting{key, true, of} }
	fixed := func(key string, of func(*config.Config) any) setting { return setting{key, false, of} }
	return []setting{
		fixed("listen", func(c *config.Config) any { return c.Listen }),
		live("admission.proxy_protocol", func(c *config.Config) any { return c.Admission.ProxyProtocol }),
		live("admission.load_balancers", func(c *config.Config) any { return c.Admission.LoadBalancers }),
		live("admission.endpoints", func(c *config.Config) any { return c.Admission.Endpoints }),
		live("admission.sources", func(c *config.Config) any { return c.Admission.Sources }),
		live("admission.header_timeout", func(c *config.Config) any { return c.Admission.HeaderTimeout }),
		live("limits.max_startups", func(c *config.Config) any { return c.Admission.Limits.MaxStartups }),
		live("limits.max_startups_per_source", func(c *config.Config) any { return c.Admission.Limits.MaxStartupsPerSource }),
		live("limits.max_sessions", func(c *config.Config) any { return c.Admission.Limits.MaxSessions }),
		live("limits.max_sessions_per_identity", func(c *config.Config) any { return c.Admission.Limits.MaxSessionsPerIdentity }),
		live("limits.penalties", func(c *config.Config) any { return c.Admission.Limits.Penalties }),
		fixed("limits.max_channels", func(c *config.Config) any { return c.Sessions.MaxChannels }),
		fixed("limits.idle_timeout", func(c *config.Config) any { return c.Sessions.IdleTimeout }),
		live("aws.load_balancer", ofAWS(func(a config.AWS) any { return a.LoadBalancer })),
		live("aws.endpoint_service", ofAWS(func(a config.AWS) any { return a.EndpointService })),
		live("aws.endpoint_owners", ofAWS(func(a config.AWS) any { return a.EndpointOwners })),
		live("aws.accept_endpoints", ofAWS(func(a config.AWS) any { return a.AcceptEndpoints })),
		live("aws.refresh", ofAWS(func(a config.AWS) any { return a.Refresh })),
		fixed("aws.region", ofAWS(func(a config.AWS) any { return a.Region })),
		fixed("aws.auto_scaling_group", ofAWS(func(a config.AWS) any { return a.AutoScalingGroup })),
		fixed("aws.lifecycle_hook", ofAWS(func(a config.AWS) any { return a.LifecycleHook })),
		fixed("aws", func(c *config.Config) any { return c.AWS != nil }),
		fixed("ssh", func(c *config.Config) any { return c.SSH }),
		live("policy", func(c *config.Config) any { return c.PolicyPath }),
		fixed("policy", func(c *config.Config) any { return c.PolicyObject }),
		fixed("upstream.dial_timeout", func(c *config.Config) any { return c.Upstream }),
		fixed("upstream.user_ca", func(c *config.Config) any { return c.Login.UserCA }),
		fixed("upstream.certificate_lifetime", func(c *config.Config) any { return c.Login.CertificateLifetime }),
		fixed("upstream.private_key", func(c *config.Config) any { return c.Login.PrivateKey }),
		live("upstream.known_hosts", func(c *config.Config) any { return c.Login.KnownHosts }),
		fixed("recordings", func(c *config.Config) any { return c.Recordings }),
		fixed("audit.dir", func(c *config.Config) any { return c.Audit.Dir }),
		fixed("audit.min_free", func(c *config.Config) any { return c.Audit.MinFree }),
		fixed("audit.signing_key", func(c *config.Config) any { return c.SigningKey }),
		fixed("audit.old_signing_key", func(c *config.Config) any { return c.OldSigningKey }),
		fixed("audit.origin", func(c *config.Config) any { return c.Audit.Origin }),
		fixed("audit.segment_size", func(c *config.Config) any { return c.Audit.SegmentSize }),
		fixed("audit.segment_age", func(c *config.Config) any { return c.Audit.SegmentAge }),
		fixed("audit.retention_days", func(c *config.Config) any { return c.Audit.Retention }),
		fixed("archive", func(c *config.Config) any { return c.Archive }),
		fixed("sinks", func(c *config.Config) any { return c.Sinks }),
		fixed("health", func(c *config.Config) any { return c.Health }),
		fixed("metrics", func(c *config.Config) any { return c.Metrics }),
		fixed("admin", func(c *config.Config) any { return c.Admin }),
		live("drain", func(c *config.Config) any { return c.Drain }),
		live("log.level", func(c *config.Config) any { return c.Log.Level }),
		fixed("log.format", func(c *config.Config) any { return c.Log.Format }),
	}
}

// ofAWS reads a key of aws:, which has no values where the section is missing.
func ofAWS(of func(config.AWS) any) func(*config.Config) any {
	return func(c *config.Config) any {
		if c.AWS == nil {
			return of(config.AWS{})
		}
		return of(*c.AWS)
	}
}

// changedKeys names the keys in which two configurations differ: those that a
// reload changes, and those that keep their old value until a restart.
func changedKeys(old, now *config.Config) (live, restart []string) {
	for _, s := range settings() {
		if reflect.DeepEqual(s.of(old), s.of(now)) {
			continue
		}
		if s.live {
			live = append(live, s.key)
		} else {
			restart = append(restart, s.key)
		}
	}
	return live, restart
}
