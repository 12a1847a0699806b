package main

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"postern/internal/config"
	"postern/internal/kms"
	"postern/internal/policy"
	"postern/internal/privatelink"
)

// gateAlias is the name under which clients keep the gate's host keys: the
// endpoint's name differs from one VPC to the next, the keys do not.
const gateAlias = "postern-gate"

type clientConfigCmd struct {
	Identity string `arg:"" help:"Identity of the policy."`
	Config   string `short:"c" default:"${config}" placeholder:"FILE" help:"Configuration (${default})."`
	Host     string `placeholder:"NAME" help:"Name that the client reaches the gate by: that of its VPC endpoint. This host's if left out."`
	Port     uint16 `help:"Port that the client reaches the gate by: the load balancer's. The port of listen if left out."`
	Endpoint string `placeholder:"VPCE" help:"Endpoint that the client comes through, for rules with that condition."`
	Source   string `placeholder:"ADDR" help:"Address that the client comes from, for rules with that condition."`
}

// Help has the examples of the command.
func (clientConfigCmd) Help() string {
	return `The lines go to the people or the control plane behind the identity. They hold nothing secret.

Examples:

    postern client-config vendor --host vpce-0a1b2c3d4e5f60718-x1y2z3.vpce-svc-0127881c0d25a3123.us-east-1.vpce.amazonaws.com
    postern client-config alice --host gate.example.com --port 22`
}

// Run prints the lines.
func (c *clientConfigCmd) Run(e *env) error {
	cfg, err := config.Load(c.Config)
	if err != nil {
		return undecided(loading("the configuration", err), configHints(err)...)
	}
	p, err := config.LoadPolicy(cfg.PolicyPath)
	if err != nil {
		return undecided(loading("the policy", err), configHints(err)...)
	}
	if p.StillValid(c.Identity) == policy.ReasonUnknown {
		return wrong(fmt.Errorf("print the lines for %s: the policy has no such identity", c.Identity),
			"the identities are "+strings.Join(p.Identities(), ", "))
	}
	var source netip.Addr
	if c.Source != "" {
		if source, err = netip.ParseAddr(c.Source); err != nil {
			return undecided(fmt.Errorf("read --source: %w", err))
		}
	}
	rules := p.Grants(c.Identity, c.Endpoint, source, time.Now())
	known, err := knownLines(cfg, rules)
	if err != nil {
		return undecided(err, "the gate makes them when it first starts")
	}
	host, port := c.address(cfg.Listen)
	c.printSSH(e.stdout, host, port, p.Users(c.Identity)[0])
	printJumps(e.stdout, rules)
	fmt.Fprintf(e.stdout, "\n# ~/.ssh/known_hosts\n%s", known)
	c.printGrants(e.stdout, rules)
	return nil
}

// knownLines are the lines for known_hosts: the gate's own keys, and where a
// rule lets it show a key in the name of a target, the CA that certifies that
// key, for the names of these targets and no others.
func knownLines(cfg *config.Config, rules []policy.Rule) (string, error) {
	keys, err := publicHostKeys(cfg, cfg.SSH.HostKeys)
	if err != nil {
		return "", fmt.Errorf("read the host keys: %w", err)
	}
	var lines strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&lines, "%s %s", gateAlias, ssh.MarshalAuthorizedKey(k))
	}
	names := eachTarget(rules, knownPatterns)
	if len(names) == 0 {
		return lines.String(), nil
	}
	ca, err := publicCA(cfg, cfg.SSH.HostCA)
	if err != nil {
		return "", fmt.Errorf("read the host CA: %w", err)
	}
	fmt.Fprintf(&lines, "@cert-authority %s %s", strings.Join(names, ","), ssh.MarshalAuthorizedKey(ca))
	return lines.String(), nil
}

// publicCA is the public key of a CA: of one in KMS, KMS is asked for it.
func publicCA(cfg *config.Config, ref string) (ssh.PublicKey, error) {
	if kms.IsKey(ref) {
		key, err := kmsSigner(ref)
		if err != nil {
			return nil, err
		}
		return ssh.NewPublicKey(key.Public())
	}
	keys, err := publicHostKeys(cfg, []string{ref})
	if err != nil {
		return nil, err
	}
	return keys[0], nil
}

// printJumps sends what goes to inspected targets through the gate.
func printJumps(w io.Writer, rules []policy.Rule) {
	for _, r := range rules {
		hosts := eachTarget([]policy.Rule{r}, hostPatterns)
		if len(hosts) == 0 {
			continue
		}
		fmt.Fprintf(w, "Host %s !gate\n    ProxyJump gate\n", strings.Join(hosts, " "))
		if len(r.Logins) == 1 && r.Logins[0] != "*" {
			fmt.Fprintf(w, "    User %s\n", r.Logins[0])
		}
	}
}

// address is where clients connect to.
func (c *clientConfigCmd) address(listen string) (host string, port uint16) {
	host, port = c.Host, c.Port
	if host == "" {
		host, _ = os.Hostname()
	}
	if port == 0 {
		_, digits, _ := net.SplitHostPort(listen) // config has checked it
		n, _ := strconv.ParseUint(digits, 10, 16)
		port = uint16(n)
	}
	return host, port
}

func (c *clientConfigCmd) printSSH(w io.Writer, host string, port uint16, user string) {
	fmt.Fprintf(w, `# ~/.ssh/config
Host gate
    HostName %s
    Port %d
    User %s
    IdentityFile ~/.ssh/%s
    IdentitiesOnly yes
    HostKeyAlias %s
    ServerAliveInterval 60
`, host, port, user, c.Identity, gateAlias)
}

func (c *clientConfigCmd) printGrants(w io.Writer, rules []policy.Rule) {
	fmt.Fprintf(w, "\n# What %s may do now; rules for other endpoints, sources and hours are left out:\n", c.Identity)
	for _, r := range rules {
		printGrant(w, r)
	}
	if len(rules) == 0 {
		fmt.Fprintln(w, "#   nothing")
	}
}

// printGrant prints a rule as the commands that it allows.
func printGrant(w io.Writer, r policy.Rule) {
	fmt.Fprintf(w, "#   %s\n", r)
	if inspected(r) {
		fmt.Fprintln(w, "#       ssh -J gate LOGIN@TARGET    or    ssh LOGIN@TARGET@gate    (also scp, sftp, rsync)")
	}
	if slices.Contains(r.Allow, policy.Forward) {
		fmt.Fprintln(w, "#       ssh -J gate TARGET    or    ssh -N -L LOCALPORT:TARGET:PORT gate")
	}
	if slices.Contains(r.Allow, policy.Listen) {
		for _, l := range r.Listen {
			fmt.Fprintf(w, "#       ssh -N -R %s:HOST:PORT gate\n", l)
		}
	}
	if slices.Contains(r.Allow, policy.Socket) {
		for _, s := range r.Sockets {
			fmt.Fprintf(w, "#       ssh -N -L LOCALPORT:%s gate\n", s)
		}
	}
}

// publicHostKeys reads the public halves of the host keys, which anybody may
// read, or takes them from the private ones, and those of secrets from AWS.
func publicHostKeys(cfg *config.Config, paths []string) ([]ssh.PublicKey, error) {
	var keys []ssh.PublicKey
	for _, path := range paths {
		if privatelink.IsSecret(path) {
			signer, err := secretSigner(cfg, path)
			if err != nil {
				return nil, err
			}
			keys = append(keys, signer.PublicKey())
			continue
		}
		if data, err := os.ReadFile(path + ".pub"); err == nil {
			key, _, _, _, err := ssh.ParseAuthorizedKey(data)
			if err != nil {
				return nil, fmt.Errorf("%s.pub: %w", path, err)
			}
			keys = append(keys, key)
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		signer, err := ssh.ParsePrivateKey(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		keys = append(keys, signer.PublicKey())
	}
	return keys, nil
}
