package sshgate

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"postern/internal/policy"
)

// The built-in commands: all that runs on the gate itself.

func isCommand(word string) bool {
	switch word {
	case "whoami", "targets", "help":
		return true
	}
	return isNetcat(word)
}

func greeting(identity string) string {
	return "Hello " + identity + ". This is a gate: there is no shell here, only whoami, targets, help and exit.\n"
}

const helpText = `There is no shell on this gate; it leads to targets:

  ssh -J USER@GATE LOGIN@TARGET          a session on a target, if your rules allow it
  ssh LOGIN@TARGET@GATE                  the same, where the client knows no -J
  scp FILE LOGIN@TARGET#PORT@GATE:       scp, sftp and rsync too; #PORT where it is not 22
  ssh -L 8088:TARGET:8088 USER@GATE      a port of a target on your machine
  ssh -D 1080 USER@GATE                  all allowed targets through a SOCKS proxy
  ssh -R 7000:localhost:9083 USER@GATE   a port of the gate that leads to your machine
  ssh -W TARGET:PORT USER@GATE           standard input and output to a target

Commands: whoami    who you are here, and from where
          targets   what your rules allow now
          help      this text
whoami and targets take --json.
`

// builtin runs one command and returns its exit status.
func (c *session) builtin(words []string, out, stderr io.Writer) uint32 {
	asJSON := len(words) == 2 && words[1] == "--json"
	var name string // stays empty, and so unknown, with any other argument
	if len(words) == 1 || asJSON {
		name = words[0]
	}
	switch name {
	case "whoami":
		return answer(out, asJSON, c.whoami(), c.printWhoami)
	case "targets":
		return answer(out, asJSON, c.targets(), c.printTargets)
	case "help":
		io.WriteString(out, helpText)
		return 0
	}
	io.WriteString(stderr, "postern: there is no such command on the gate (reason: "+reasonCommand+")\n\n"+helpText)
	return 1
}

func answer[T any](out io.Writer, asJSON bool, v T, print func(io.Writer, T)) uint32 {
	if !asJSON {
		print(out, v)
		return 0
	}
	if err := json.NewEncoder(out).Encode(v); err != nil {
		return 1
	}
	return 0
}

type whoami struct {
	Identity    string `json:"identity"`
	User        string `json:"user"`
	Fingerprint string `json:"fingerprint"`
	Certificate string `json:"certificate,omitempty"`
	Endpoint    string `json:"endpoint,omitempty"`
	Client      string `json:"client"`
	Session     string `json:"session"`
	Since       string `json:"since"`
}

func (c *session) whoami() whoami {
	return whoami{
		Identity: c.who.identity, User: c.who.user, Fingerprint: c.who.auth.Fingerprint, Certificate: c.who.auth.KeyID,
		Endpoint: c.origin.Endpoint, Client: c.origin.Client.String(), Session: c.id, Since: c.opened.UTC().Format(time.RFC3339),
	}
}

func (c *session) printWhoami(out io.Writer, w whoami) {
	fmt.Fprintf(out, "%s via %s\n", w.Identity, c.place())
	fmt.Fprintf(out, "user     %s\nkey      %s\n", w.User, w.Fingerprint)
	if w.Certificate != "" {
		fmt.Fprintf(out, "cert     %q\n", w.Certificate)
	}
	fmt.Fprintf(out, "client   %s\nsession  %s\nsince    %s\n", w.Client, w.Session, w.Since)
}

type grant struct {
	Rule    string   `json:"rule"`
	Allow   []string `json:"allow"`
	Targets []string `json:"targets,omitempty"`
	Logins  []string `json:"logins,omitempty"`
	Listen  []string `json:"listen,omitempty"`
	Sockets []string `json:"sockets,omitempty"`
	Until   string   `json:"until,omitempty"`
}

func (c *session) targets() []grant {
	p := c.server.rules.Load().Policy
	grants := []grant{}
	for _, r := range p.Grants(c.who.identity, c.origin.Endpoint, c.origin.Client.Addr(), time.Now()) {
		grants = append(grants, describeRule(r))
	}
	return grants
}

func describeRule(r policy.Rule) grant {
	g := grant{Rule: r.Name, Logins: r.Logins, Sockets: r.Sockets}
	for _, v := range r.Allow {
		g.Allow = append(g.Allow, string(v))
	}
	for _, t := range r.Targets {
		g.Targets = append(g.Targets, t.String())
	}
	for _, t := range r.Listen {
		g.Listen = append(g.Listen, t.String())
	}
	if !r.Until.IsZero() {
		g.Until = r.Until.UTC().Format(time.RFC3339)
	}
	return g
}

func (c *session) printTargets(out io.Writer, grants []grant) {
	if len(grants) == 0 {
		io.WriteString(out, "No rule allows anything from here now.\n")
		return
	}
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "RULE\tALLOW\tTARGETS\tLOGINS\tUNTIL")
	for _, g := range grants {
		places := append(append(append([]string{}, g.Targets...), g.Listen...), g.Sockets...)
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", g.Rule, strings.Join(g.Allow, " "), strings.Join(places, " "), strings.Join(g.Logins, " "), g.Until)
	}
	tw.Flush()
	if slices.ContainsFunc(grants, func(g grant) bool { return len(g.Logins) > 0 }) {
		io.WriteString(out, "\nSessions: ssh -J USER@GATE LOGIN@TARGET, or ssh LOGIN@TARGET@GATE\n")
	}
}
