package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// Decide answers a request. An identity that is frozen or unknown and a host
// that is malformed are denied before any rule is looked at. Of the rules, in
// order, the first that allows is named. Where none does, the reason is that
// of the rule that came furthest.
//
// A name in targets matches the name that the client wrote, a CIDR the address
// that it is or resolves to. No target that is a name is allowed before Addr
// is set: the address that is checked must be the one that is dialled. A
// loopback, link-local, metadata, multicast, broadcast or unspecified address,
// bare or inside a NAT64 or 6to4 address, needs a CIDR that lies wholly in that
// block, and an address for which Own is set needs one that is that address
// alone; an address that is both needs both.
//
// For Forward, a rule that grants shell, exec, sftp-read or sftp-write at the
// target wins over every rule that grants forward, and Inspected is set: the
// caller must take the inspected path, where each login and verb is then
// decided. Login is not looked at for Forward.
//
// For Exec, a rule that lists commands allows a command line that one of them
// matches as a whole. A line with a newline, a carriage return or a NUL is
// matched by none: what a shell makes of it is more than one command.
//
// Where Via is set, Verb is Forward and the inspected session's target dials,
// so names match as written, are never resolved, and Own does not matter; see
// nested.go.
//
// For Listen, Host is the bind address. A rule's 0.0.0.0 allows that bind and
// not 127.0.0.1. Special addresses and Own do not matter to a bind.
func (p *Policy) Decide(r Request) Decision {
	if reason := p.StillValid(r.Identity); reason != "" {
		return Decision{Reason: reason}
	}
	q, err := read(r)
	if err != nil {
		return Decision{Reason: ReasonTarget}
	}
	rule, s := p.find(&q)
	if s == passed && q.nested() && p.inspectedElsewhere(&q) {
		return Decision{Reason: ReasonNested}
	}
	if s != passed {
		return Decision{Reason: s.reason()}
	}
	return rule.decision(&q)
}

// MayResolve reports whether the answer to a request waits for the address of
// its Host: Host is a name, Addr is not set, and a rule of which every other
// condition holds could match. The caller then resolves the name, sets Addr
// and decides; where MayResolve is false, Decide denies, and no DNS query
// carries the name out of the gate.
func (p *Policy) MayResolve(r Request) bool {
	return p.Decide(r).Reason == ReasonUnresolved
}

// Explain returns the verdict of every rule, in order, on a request. Where
// Decide denies before it looks at rules, each verdict says so. For Forward,
// more than one kind of rule may allow; Decide says which one is taken.
func (p *Policy) Explain(r Request) []Verdict {
	if p == nil {
		return nil
	}
	q, failed := p.beforeRules(r)
	verdicts := make([]Verdict, len(p.rules))
	for i, rule := range p.rules {
		verdicts[i] = Verdict{Rule: rule.Name, Failed: failed}
		if failed == "" {
			verdicts[i].Failed = p.explainRule(rule, &q)
			verdicts[i].Allowed = verdicts[i].Failed == ""
		}
	}
	return verdicts
}

func (p *Policy) explainRule(r *Rule, q *query) string {
	s := r.check(q, q.grantedBy)
	if s == passed && q.nested() && p.inspectedElsewhere(q) {
		return q.nestedWords()
	}
	return r.words(s, q)
}

// beforeRules returns what denies a request whatever the rules say, in words.
func (p *Policy) beforeRules(r Request) (query, string) {
	switch p.StillValid(r.Identity) {
	case ReasonFrozen:
		return query{}, fmt.Sprintf("identity: %q is frozen", r.Identity)
	case ReasonUnknown:
		return query{}, fmt.Sprintf("identity: %q is unknown", r.Identity)
	}
	q, err := read(r)
	if err != nil {
		return query{}, fmt.Sprintf("target: %v", err)
	}
	return q, ""
}

// find returns the first rule that allows, else how far the best one came.
func (p *Policy) find(q *query) (*Rule, step) {
	rules := p.byIdentity[q.Identity]
	if q.Verb != Forward || q.nested() {
		return furthest(rules, q, q.grantedBy)
	}
	rule, s := furthest(rules, q, (*Rule).inspects)
	if s == passed {
		return rule, s
	}
	tunnels := func(r *Rule) bool { return slices.Contains(r.Allow, Forward) }
	rule, t := furthest(rules, q, tunnels)
	return rule, max(s, t)
}

func furthest(rules []*Rule, q *query, grants func(*Rule) bool) (*Rule, step) {
	best := atIdentity
	for _, r := range rules {
		s := r.check(q, grants)
		if s == passed {
			return r, passed
		}
		best = max(best, s)
	}
	return nil, best
}

func (r *Rule) decision(q *query) Decision {
	d := Decision{Allow: true, Rule: r.Name}
	switch q.Verb {
	case Forward:
		d.Inspected = !q.nested() && r.inspects()
	case Listen:
		d.ConnectFrom = slices.Clone(r.ConnectFrom)
		d.Ports = r.bindPorts(q.addr)
	}
	if q.Verb.Inspected() {
		d.Env = slices.Clone(r.Env)
		d.Recording = r.Recording
	}
	return d
}

// inspects reports whether the rule makes a forward to its targets inspected.
func (r *Rule) inspects() bool { return slices.ContainsFunc(r.Allow, Verb.opensSession) }

// step is the condition of a rule that stopped a request. They are checked in
// this order: what was asked for first, then from where, then when, so that
// the rule that came furthest is the one the asker most likely meant.
type step int

const (
	atIdentity step = iota
	atVerb
	atSelector // target, bind address or socket
	atLogin
	atSpecial
	atVia
	atSource
	atEndpoint
	atUntil
	atHours
	atCommand
	atResolve // all else holds
	passed
)

func (s step) reason() Reason {
	switch s {
	case atLogin:
		return ReasonLogin
	case atSpecial:
		return ReasonSpecialAddress
	case atVia:
		return ReasonVia
	case atSource:
		return ReasonSource
	case atEndpoint:
		return ReasonEndpoint
	case atUntil:
		return ReasonExpired
	case atHours:
		return ReasonHours
	case atCommand:
		return ReasonCommand
	case atResolve:
		return ReasonUnresolved
	}
	return ReasonNoRule
}

// query is a Request whose host has been read.
type query struct {
	Request
	name      string     // Host in lower case, where it is a name
	addr      netip.Addr // what is dialled or bound, unmapped; zero = not resolved yet
	block     block      // that addr is in
	isSpecial bool
}

// read checks the host of a request, in the way that its verb means it.
func read(r Request) (query, error) {
	q := query{Request: r}
	q.Client = r.Client.Unmap()
	switch {
	case r.Verb == Listen:
		return q, q.readBind()
	case r.Verb == Socket:
		return q, checkSocketPath(r.Host)
	}
	if err := q.readTarget(); err != nil {
		return q, err
	}
	if q.nested() {
		if err := q.readNested(); err != nil {
			return q, err
		}
	}
	q.block, q.isSpecial = specialBlock(q.addr)
	return q, nil
}

func (q *query) readTarget() error {
	if q.Port == 0 {
		return errors.New("port 0 is none")
	}
	written, name, err := CheckHost(q.Host)
	if err != nil {
		return err
	}
	resolved := q.Addr.Unmap()
	switch {
	case resolved.Zone() != "":
		return fmt.Errorf("%s has a zone", resolved)
	case name == "" && resolved.IsValid() && resolved != written:
		return fmt.Errorf("%s was asked for and %s is to be dialled", written, resolved)
	case name == "":
		resolved = written
	}
	q.name, q.addr = name, resolved
	return nil
}

func (q *query) readBind() error {
	addr, err := netip.ParseAddr(q.Host)
	if err != nil || addr.Zone() != "" {
		return fmt.Errorf("%q is not an address to bind", q.Host)
	}
	q.addr = addr.Unmap()
	return nil
}

// checkSocketPath accepts one spelling of a path, so that a rule that compares
// spellings compares paths.
func checkSocketPath(s string) error {
	if !path.IsAbs(s) || path.Clean(s) != s || strings.ContainsRune(s, 0) {
		return fmt.Errorf("%q is not an absolute path in its shortest form", s)
	}
	return nil
}

// grantedBy reports whether a rule grants what is asked for; for Forward, also
// a rule that makes it inspected.
func (q *query) grantedBy(r *Rule) bool {
	return slices.Contains(r.Allow, q.Verb) || q.Verb == Forward && !q.nested() && r.inspects()
}
