package policy

import (
	"slices"
	"strings"
)

func (c *checker) rules(p *Policy) {
	names := map[string]bool{}
	for i := range c.spec.Rules {
		r := c.spec.Rules[i].clone()
		path := at("rules", i)
		c.name(path, "rule", r.Name, names)
		c.ruleIdentities(path, &r, p)
		c.ruleConditions(path, &r)
		c.ruleAllow(path, &r)
		c.ruleTargets(path, &r)
		c.ruleListen(path, &r)
		c.ruleSockets(path, &r)
		c.ruleInspection(path, &r)
		c.ruleVia(path, &r)
		p.rules = append(p.rules, &r)
	}
}

func (c *checker) ruleIdentities(path string, r *Rule, p *Policy) {
	path += ".identities"
	if len(r.Identities) == 0 {
		c.add(path, "rule %q lists no identity, so it allows nobody", r.Name)
	}
	for i, name := range r.Identities {
		if _, ok := p.byName[name]; !ok {
			c.add(at(path, i), "identity %q is unknown", name)
		}
		if slices.Contains(r.Identities[:i], name) {
			c.add(at(path, i), "identity %q stands twice", name)
			continue
		}
		p.byIdentity[name] = append(p.byIdentity[name], r)
	}
}

func (c *checker) ruleConditions(path string, r *Rule) {
	for i, endpoint := range r.Endpoints {
		if endpoint == "*" {
			c.add(at(path+".endpoints", i), `"*" is no endpoint: leave endpoints out to allow every admitted one`)
		} else if endpoint == "" || strings.ContainsFunc(endpoint, isUnprintable) {
			c.add(at(path+".endpoints", i), "%q is no endpoint such as vpce-0a1b2c3d4e5f60718", endpoint)
		}
	}
	c.prefixes(path+".sources", r.Sources)
	if r.Hours != nil && r.Hours.zone == nil {
		c.add(path+".hours", "the hours hold no time")
	}
}

func (c *checker) ruleAllow(path string, r *Rule) {
	path += ".allow"
	if len(r.Allow) == 0 {
		c.add(path, "rule %q allows nothing: name one of %s", r.Name, joinStrings(Verbs(), ", "))
	}
	for i, verb := range r.Allow {
		if !slices.Contains(Verbs(), verb) {
			c.add(at(path, i), "%q is not one of %s", verb, joinStrings(Verbs(), ", "))
		} else if slices.Contains(r.Allow[:i], verb) {
			c.add(at(path, i), "%s stands twice", verb)
		}
	}
}

func (c *checker) ruleTargets(path string, r *Rule) {
	inspected := slices.ContainsFunc(r.Allow, Verb.Inspected)
	targeted := inspected || slices.Contains(r.Allow, Forward)
	c.pair(path+".targets", r, len(r.Targets) > 0, targeted, "forward, "+inspectedVerbs)
	c.pair(path+".logins", r, len(r.Logins) > 0, inspected, inspectedVerbs)
	for i, t := range r.Targets {
		if t.glob == "" && !t.cidr.IsValid() {
			c.add(at(path+".targets", i), "%s is not a target: write an address, a CIDR or a name, and ports", t)
		}
	}
	for i, login := range r.Logins {
		if login == "" || strings.ContainsFunc(login, isUnprintable) {
			c.add(at(path+".logins", i), "login %q: only printable ASCII without spaces", login)
		} else if login != "*" && strings.Contains(login, "*") {
			c.add(at(path+".logins", i), `login %q: "*" stands for any login, and only alone`, login)
		}
	}
}

func (c *checker) ruleListen(path string, r *Rule) {
	listens := slices.Contains(r.Allow, Listen)
	c.pair(path+".listen", r, len(r.Listen) > 0, listens, "listen")
	c.pair(path+".connect_from", r, len(r.ConnectFrom) > 0, listens, "listen")
	c.prefixes(path+".connect_from", r.ConnectFrom)
	for i, t := range r.Listen {
		if len(t.binds) == 0 {
			c.add(at(path+".listen", i), "%s is not an address to bind: write 0.0.0.0, * or an address of this host, and ports", t)
		}
	}
}

func (c *checker) ruleSockets(path string, r *Rule) {
	path += ".sockets"
	c.pair(path, r, len(r.Sockets) > 0, slices.Contains(r.Allow, Socket), "socket")
	for i, s := range r.Sockets {
		if err := checkSocketPath(s); err != nil {
			c.add(at(path, i), "%v", err)
		}
	}
}

// pair reports a list that is missing though verbs need it, or given though no
// verb reads it: either way the rule would not do what it seems to.
func (c *checker) pair(path string, r *Rule, given, needed bool, verbs string) {
	field := path[strings.LastIndexByte(path, '.')+1:]
	switch {
	case needed && !given:
		c.add(path, "rule %q allows what needs %s and names none, so it would allow nothing", r.Name, field)
	case given && !needed:
		c.add(path, "rule %q has %s and does not allow %s", r.Name, field, verbs)
	}
}
