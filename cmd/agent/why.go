package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"

	"postern/internal/config"
	"postern/internal/policy"
	"postern/internal/upstream"
)

type whyCmd struct {
	Identity string `arg:"" help:"Who asks."`
	Verb     string `arg:"" enum:"shell,exec,sftp-read,sftp-write,agent,x11,forward,listen,socket" help:"What for: shell, exec, sftp-read, sftp-write, agent, x11, forward, listen or socket."`
	Target   string `arg:"" help:"HOST:PORT of the target (port 22 may be left out for what is not forward), ADDRESS:PORT to listen on, or the path of a socket."`

	Config   string    `short:"c" placeholder:"FILE" xor:"file" help:"Configuration that names the policy (${config})."`
	Policy   string    `placeholder:"FILE" xor:"file" help:"Ask this policy, without a configuration and without what was frozen by command."`
	Endpoint string    `placeholder:"VPCE" help:"Endpoint that the request comes through."`
	Source   string    `placeholder:"ADDR" help:"Client address that the request comes from."`
	Login    string    `help:"Account at the target."`
	Command  string    `placeholder:"LINE" help:"Command line to be run at the target (exec)."`
	Via      string    `placeholder:"HOST:PORT" help:"Target whose inspected session a forward comes out of."`
	At       time.Time `placeholder:"TIME" help:"When, as in 2027-03-31T17:59:00+02:00; now if left out."`
	Resolve  bool      `help:"Resolve the target's name as the gate would; without it a name is only compared as it is written."`
	JSON     bool      `help:"Print JSON."`
}

// Help has the examples of the command.
func (whyCmd) Help() string {
	return `The policy is asked as a live session would ask it, and nothing is connected. That an address is the gate's own is not known here. Exit status: 0 allowed, 1 denied, 2 could not be decided.

Examples:

    postern why vendor forward 10.0.2.17:8088
    postern why alice shell node-1.compute.internal --login hadoop --source 10.20.0.9 --resolve
    postern why alice exec 10.0.2.17 --login hadoop --command 'systemctl status hadoop'
    postern why alice forward 127.0.0.1:8080 --via 10.0.2.17:22
    postern why vendor listen 0.0.0.0:7000 --policy ./policy.yaml
    postern why alice exec 10.0.2.17 --login hadoop --at 2027-01-04T07:59:00+01:00`
}

// answer is what the policy says of one address of the target.
type answer struct {
	Address   string    `json:"address,omitempty"`
	Allowed   bool      `json:"allowed"`
	Rule      string    `json:"rule,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Inspected bool      `json:"inspected,omitempty"`
	Rules     []verdict `json:"rules"`
}

type verdict struct {
	Rule    string `json:"rule"`
	Allowed bool   `json:"allowed"`
	Failed  string `json:"failed,omitempty"`
}

// Run asks the policy.
func (c *whyCmd) Run(e *env) error {
	p, err := c.load()
	if err != nil {
		return undecided(loading("the policy", err), append(configHints(err), "--policy FILE asks a policy alone")...)
	}
	r, err := c.request()
	if err != nil {
		return undecided(err, "postern why --help has examples")
	}
	requests, err := c.resolved(p, r)
	if err != nil {
		return undecided(err)
	}
	var answers []answer
	allowed := true
	for _, r := range requests {
		a := ask(p, r)
		answers = append(answers, a)
		allowed = allowed && a.Allowed
	}
	if err := c.print(e.stdout, answers); err != nil {
		return err
	}
	if !allowed {
		return &fault{status: exitWrong}
	}
	return nil
}

// load returns the policy with the identities that were frozen by command.
func (c *whyCmd) load() (*policy.Policy, error) {
	if c.Policy != "" {
		p, err := config.LoadPolicy(c.Policy)
		if err != nil {
			return nil, err
		}
		return p.Policy, nil
	}
	cfg, err := config.Load(cmp.Or(c.Config, defaultConfig))
	if err != nil {
		return nil, err
	}
	p, err := config.LoadPolicy(cfg.PolicyPath)
	if err != nil {
		return nil, err
	}
	f, err := loadFrozen(cfg.Admin.Frozen)
	if err != nil {
		return nil, err
	}
	return p.WithFrozen(f.names()...), nil
}

func (c *whyCmd) request() (policy.Request, error) {
	r := policy.Request{Identity: c.Identity, Endpoint: c.Endpoint, Login: c.Login, Command: c.Command,
		Verb: policy.Verb(c.Verb), Time: c.At}
	if r.Time.IsZero() {
		r.Time = time.Now()
	}
	if c.Source != "" {
		addr, err := netip.ParseAddr(c.Source)
		if err != nil {
			return r, fmt.Errorf("read --source: %w", err)
		}
		r.Client = addr
	}
	if r.Verb == policy.Socket {
		r.Host = c.Target
		return r, nil
	}
	var err error
	if c.Via != "" {
		if r.Via.Host, r.Via.Port, err = splitTarget(c.Via, policy.Forward); err != nil {
			return r, err
		}
	}
	r.Host, r.Port, err = splitTarget(c.Target, r.Verb)
	return r, err
}

// splitTarget reads HOST:PORT. The verbs of an SSH session have a port that is
// meant when none is written.
func splitTarget(s string, v policy.Verb) (host string, port uint16, err error) {
	host, digits, err := net.SplitHostPort(s)
	if err != nil && v != policy.Forward && v != policy.Listen {
		if _, _, perr := net.SplitHostPort(net.JoinHostPort(s, "22")); perr == nil {
			return s, 22, nil
		}
	}
	if err != nil {
		return "", 0, fmt.Errorf("read the target %q: want HOST:PORT", s)
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("read the target %q: %q is not a port", s, digits)
	}
	return host, uint16(n), nil
}

// resolved returns the request once for each address of its host, if the gate
// would resolve it and --resolve is given.
func (c *whyCmd) resolved(p *policy.Policy, r policy.Request) ([]policy.Request, error) {
	if !c.Resolve || !p.MayResolve(r) {
		return []policy.Request{r}, nil
	}
	addrs, err := upstream.New(upstream.Options{}).Resolve(context.Background(), r.Host)
	if err != nil {
		return nil, err
	}
	var all []policy.Request
	for _, addr := range addrs {
		r.Addr = addr
		all = append(all, r)
	}
	return all, nil
}

func ask(p *policy.Policy, r policy.Request) answer {
	d := p.Decide(r)
	a := answer{Allowed: d.Allow, Rule: d.Rule, Reason: string(d.Reason), Inspected: d.Inspected, Rules: []verdict{}}
	if r.Addr.IsValid() {
		a.Address = r.Addr.String()
	}
	for _, v := range p.Explain(r) {
		a.Rules = append(a.Rules, verdict(v))
	}
	return a
}

func (c *whyCmd) print(w io.Writer, answers []answer) error {
	if c.JSON {
		return printJSON(w, answers)
	}
	for _, a := range answers {
		a.print(w)
	}
	return nil
}

func (a answer) print(w io.Writer) {
	subject := ""
	if a.Address != "" {
		subject = a.Address + ": "
	}
	if a.Allowed {
		how := map[bool]string{true: " (inspected: the gate sees the session inside)"}[a.Inspected]
		fmt.Fprintf(w, "%sallowed by rule %s%s\n", subject, a.Rule, how)
		return
	}
	fmt.Fprintf(w, "%sdenied: %s\n", subject, a.Reason)
	if a.Reason == string(policy.ReasonUnresolved) {
		fmt.Fprintln(w, "  the answer waits for the address of the name: add --resolve")
	}
	for _, v := range a.Rules {
		fmt.Fprintf(w, "  rule %s: %s\n", v.Rule, cmp.Or(v.Failed, "would allow it"))
	}
}
