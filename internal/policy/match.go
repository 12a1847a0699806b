package policy

import (
	"net/netip"
	"slices"
	"strings"
)

// check returns the first condition of the rule that stops the query, or passed.
func (r *Rule) check(q *query, grants func(*Rule) bool) step {
	if !slices.Contains(r.Identities, q.Identity) {
		return atIdentity
	}
	if !grants(r) || q.nested() && q.Verb != Forward {
		return atVerb
	}
	selected := r.selects(q)
	if selected == atSelector {
		return atSelector
	}
	if q.Verb.Inspected() && !r.admitsLogin(q.Login) {
		return atLogin
	}
	if selected == atSpecial {
		return atSpecial
	}
	if !r.admitsVia(q) {
		return atVia
	}
	if s := r.conditions(q); s != passed {
		return s
	}
	if q.Verb == Exec && !r.admitsCommand(q.Command) {
		return atCommand
	}
	return selected // passed or atResolve
}

// conditions checks what does not depend on what is asked for.
func (r *Rule) conditions(q *query) step {
	switch {
	case len(r.Sources) > 0 && !holdsAddr(r.Sources, q.Client):
		return atSource
	case len(r.Endpoints) > 0 && !slices.Contains(r.Endpoints, q.Endpoint):
		return atEndpoint
	case ended(r.Until, q.Time):
		return atUntil
	case r.Hours != nil && (q.Time.IsZero() || !r.Hours.Contains(q.Time)):
		return atHours
	}
	return passed
}

// admitsLogin compares exactly: account names are case-sensitive at the target.
func (r *Rule) admitsLogin(login string) bool {
	return login != "" && (slices.Contains(r.Logins, login) || slices.Contains(r.Logins, "*"))
}

// commandBreaks are what a list of commands allows in no command line: a shell
// takes what follows for a command of its own, and a C string ends at a NUL.
const commandBreaks = "\n\r\x00"

// admitsCommand matches the whole line as the client wrote it.
func (r *Rule) admitsCommand(command string) bool {
	if len(r.Commands) == 0 {
		return true
	}
	if strings.ContainsAny(command, commandBreaks) {
		return false
	}
	return slices.ContainsFunc(r.Commands, func(glob string) bool { return matchGlob(glob, command) })
}

// selects returns atSelector, atSpecial, atResolve or passed: the best that
// the rule's targets, binds or sockets make of the query.
func (r *Rule) selects(q *query) step {
	switch q.Verb {
	case Listen:
		return when(r.binds(q))
	case Socket:
		return when(slices.Contains(r.Sockets, q.Host))
	}
	if q.nested() {
		return r.selectsNested(q)
	}
	best := atSelector
	for i := range r.Targets {
		best = max(best, r.Targets[i].match(q))
	}
	return best
}

func when(ok bool) step {
	if ok {
		return passed
	}
	return atSelector
}

// match returns atSelector, atSpecial, atResolve or passed.
func (t *Target) match(q *query) step {
	if !t.holdsPort(q.Port) {
		return atSelector
	}
	if t.glob != "" {
		return t.matchName(q)
	}
	return t.matchAddr(q)
}

// matchName never passes a special address: whoever controls the name's DNS
// chose that address, not whoever wrote the rule.
func (t *Target) matchName(q *query) step {
	switch {
	case q.name == "" || !matchGlob(t.glob, q.name):
		return atSelector
	case !q.addr.IsValid():
		return atResolve
	case q.isSpecial || q.Own:
		return atSpecial
	}
	return passed
}

func (t *Target) matchAddr(q *query) step {
	switch {
	case !q.addr.IsValid():
		return atResolve
	case !t.cidr.Contains(q.addr):
		return atSelector
	case q.isSpecial && !q.block.names(t.cidr):
		return atSpecial
	case q.Own && !t.cidr.IsSingleIP():
		return atSpecial
	}
	return passed
}

// binds reports whether the rule lets the query's address and port be bound.
// A bind that nobody may connect to is not worth a port.
func (r *Rule) binds(q *query) bool {
	if len(r.ConnectFrom) == 0 {
		return false
	}
	ports := r.bindPorts(q.addr)
	if q.Port == 0 {
		return len(ports) > 0
	}
	return slices.ContainsFunc(ports, func(p PortRange) bool { return p.Contains(q.Port) })
}

// bindPorts returns the ports that may be bound at addr.
func (r *Rule) bindPorts(addr netip.Addr) []PortRange {
	var ports []PortRange
	for _, t := range r.Listen {
		if slices.Contains(t.binds, addr) {
			ports = append(ports, t.ports...)
		}
	}
	return ports
}
