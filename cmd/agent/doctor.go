package main

import (
	"cmp"
	"context"
	"net/netip"
	"sync"
	"time"

	"postern/internal/admission"
	"postern/internal/config"
	"postern/internal/doctor"
	"postern/internal/kms"
)

type doctorCmd struct {
	Config   string `short:"c" placeholder:"FILE" help:"Configuration (${config})."`
	Instance string `placeholder:"ID" help:"Look at this instance instead of the one that the command runs on."`
	All      bool   `short:"a" help:"Show the checks that are good, too."`
	JSON     bool   `help:"Print JSON."`
}

// Help has the examples of the command.
func (doctorCmd) Help() string {
	return `Host, configuration and the way in through AWS are looked at and nothing is changed: for each thing that is wrong it says what it saw, why it matters and the command that mends it. Of AWS it looks at what the section aws: names, and on EC2 at the instance; credentials are taken from the environment as the aws command does. docs/aws.md explains each check and has the IAM policy. Run it as root, or it can't see who has the port.

Exit status: 0 nothing fails (there may be warnings), 1 something fails, 2 something could not be found out. It takes at most 30 seconds.

Examples:

    sudo postern doctor
    sudo postern doctor --all
    postern doctor --config ./postern.yaml --instance i-0a1b2c3d4e5f60718
    postern doctor --json | jq '.checks[] | select(.status == "fail")'`
}

// diagnosis is what the doctor found; lists are never nil.
type diagnosis struct {
	Status doctor.Status   `json:"status"` // the worst of the checks: fail, unknown, warn or ok
	Region string          `json:"region,omitempty"`
	Checks []doctor.Result `json:"checks"`
	Gaps   []doctor.Gap    `json:"not_looked_at"`
}

// Run looks at everything at once.
func (c *doctorCmd) Run(e *env) error {
	h := &host{configPath: cmp.Or(c.Config, defaultConfig)}
	h.load()
	var wg sync.WaitGroup
	var seen *doctor.Snapshot
	wg.Go(func() { seen = doctor.Collect(context.Background(), doctorSetup(h.config, c.Instance)) })
	wg.Go(h.look)
	wg.Wait()
	d := diagnose(h, seen)
	if err := d.print(e, c); err != nil {
		return err
	}
	return d.exit()
}

func diagnose(h *host, seen *doctor.Snapshot) diagnosis {
	d := diagnosis{Region: seen.Region, Checks: append(h.check(), seen.Check()...), Gaps: []doctor.Gap{}}
	if h.config != nil {
		d.Gaps = append(d.Gaps, seen.Gaps()...)
	} else {
		d.Gaps = append(d.Gaps, doctor.Gap{What: "AWS, but for this instance", Why: "the configuration could not be read", Mend: "mend config.file first"})
	}
	d.Status = worst(d.Checks)
	return d
}

// worst ranks a failure over what could not be found out, and that over a
// warning.
func worst(all []doctor.Result) doctor.Status {
	rank := map[doctor.Status]int{doctor.OK: 0, doctor.Warn: 1, doctor.Unknown: 2, doctor.Fail: 3}
	status := doctor.OK
	for _, r := range all {
		if rank[r.Status] > rank[status] {
			status = r.Status
		}
	}
	return status
}

func (d diagnosis) exit() error {
	switch d.Status {
	case doctor.Fail:
		return &fault{status: exitWrong}
	case doctor.Unknown:
		return &fault{status: exitUsage}
	}
	return nil
}

// doctorSetup is what the configuration says of the way in. Without one only
// the instance is looked at.
func doctorSetup(c *config.Config, instance string) doctor.Setup {
	s := doctor.Setup{Instance: instance}
	if c == nil {
		return s
	}
	if a := c.AWS; a != nil {
		s.Region, s.LoadBalancer, s.EndpointService, s.EndpointOwners = a.Region, a.LoadBalancer, a.EndpointService, a.EndpointOwners
		s.Group, s.Hook = a.AutoScalingGroup, a.LifecycleHook
	}
	s.Gate = doctor.Gate{
		Port: portOf(c.Listen), HealthPort: portOf(c.Health.Listen), HealthTLS: c.Health.TLSCert != "",
		ProxyProtocol: c.Admission.ProxyProtocol == admission.ProxyRequired,
		Peers:         c.Admission.LoadBalancers, Endpoints: c.Admission.Endpoints, Sources: c.Admission.Sources,
		AliveInterval: c.SSH.ClientAliveInterval, DrainSettle: c.Drain.Settle, DrainTimeout: c.Drain.Timeout,
	}
	a := c.Archive
	s.Bucket = doctor.Bucket{Name: a.Bucket, Prefix: a.Prefix, Region: a.Region, Endpoint: a.Endpoint,
		RetentionDays: int(a.Retention / (24 * time.Hour)), Governance: a.RetentionMode == "governance"}
	s.Keys = keysInKMS(c)
	return s
}

func keysInKMS(c *config.Config) []doctor.KeySetup {
	var keys []doctor.KeySetup
	for _, k := range []doctor.KeySetup{
		{Setting: "audit.signing_key", ARN: c.SigningKey, Ed25519: true},
		{Setting: "ssh.host_ca", ARN: c.SSH.HostCA},
		{Setting: "upstream.user_ca", ARN: c.Login.UserCA},
	} {
		if kms.IsKey(k.ARN) {
			keys = append(keys, k)
		}
	}
	return keys
}

// portOf is the port of a checked address.
func portOf(listen string) uint16 { return addressOf(listen).Port() }

// addressOf reads HOST:PORT as the configuration has it; every address is the
// zero one.
func addressOf(listen string) netip.AddrPort {
	if listen != "" && listen[0] == ':' {
		listen = "0.0.0.0" + listen
	}
	a, err := netip.ParseAddrPort(listen)
	if err != nil {
		return netip.AddrPort{}
	}
	return a
}
