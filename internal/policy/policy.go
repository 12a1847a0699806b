// Package policy decides what an identity may do. It is pure: no I/O, no
// clock but an argument, no state but the immutable Policy.
package policy

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Verb is what a rule can grant.
type Verb string

// The verbs. Shell to X11 are granted at a target's SSH port and make the
// session inspected; Forward (direct-tcpip), Listen (tcpip-forward) and Socket
// (direct-streamlocal) are tunnelled.
const (
	Shell     Verb = "shell"
	Exec      Verb = "exec"
	SFTPRead  Verb = "sftp-read"
	SFTPWrite Verb = "sftp-write"
	Agent     Verb = "agent"
	X11       Verb = "x11"
	Forward   Verb = "forward"
	Listen    Verb = "listen"
	Socket    Verb = "socket"
)

// Verbs returns every verb, the inspected ones first.
func Verbs() []Verb {
	return []Verb{Shell, Exec, SFTPRead, SFTPWrite, Agent, X11, Forward, Listen, Socket}
}

// Inspected reports whether the gate terminates the SSH inside to grant v.
func (v Verb) Inspected() bool {
	switch v {
	case Shell, Exec, SFTPRead, SFTPWrite, Agent, X11:
		return true
	}
	return false
}

// opensSession reports whether v alone is reason enough to answer a forward
// with the inspected path. Agent and X11 only add to a session.
func (v Verb) opensSession() bool {
	switch v {
	case Shell, Exec, SFTPRead, SFTPWrite:
		return true
	}
	return false
}

// Spec is a policy before New has checked it. The zero value allows nothing.
type Spec struct {
	Version     string // names this policy in events: "sha256:" and the first hex digits of the file
	Authorities []Authority
	Identities  []Identity
	Rules       []Rule
	Frozen      []string // identities that may do nothing, whatever the rules say
}

// Authority is a user CA. Keys are wire-format public keys (RFC 4253 §6.6).
type Authority struct {
	Name string
	Keys [][]byte
}

// Identity is who a key or a certificate belongs to.
type Identity struct {
	Name      string
	Keys      []Key
	Authority string   // with Principal: certificates of this authority
	Principal string   // that the certificate must list
	Users     []string // SSH user names it may present; empty = its own name
}

// Key is one public key of an identity, with the options its authorized_keys
// line carried.
type Key struct {
	Blob            []byte         // wire format
	From            []netip.Prefix // client addresses it may come from; empty = any
	Expires         time.Time      // exclusive; zero = never
	NoTouchRequired bool
}

// Rule grants verbs. Empty Identities, Targets, Listen, Sockets, ConnectFrom
// or Allow match nothing; empty Endpoints, Sources, Hours and Until are no
// condition; empty Logins match no login of an inspected verb.
type Rule struct {
	Name        string
	Identities  []string
	Endpoints   []string
	Sources     []netip.Prefix
	Hours       *Hours
	Until       time.Time // exclusive; zero = no end
	Targets     []Target
	Logins      []string // accounts at the target, compared exactly; "*" alone is any
	Listen      []Target // addresses (no globs) and ports a tcpip-forward may bind
	ConnectFrom []netip.Prefix
	Sockets     []string // absolute paths on the gate's host
	Allow       []Verb

	// What goes with inspected verbs.
	Commands  []string  // exec only these whole command lines, as globs in which "*" is any run of characters; empty = any
	Env       []string  // environment variables that may be passed on, as globs, besides LANG and LC_*
	Recording Recording // how sessions under this rule are recorded

	// Via limits the rule, which then allows Forward and nothing else, to
	// channels that come out of an inspected session at one of these targets.
	// A rule without it allows such a channel too, but to no special address.
	Via []Target
}

// Recording is how the inspected sessions of a rule are recorded. The zero
// value records output and ends a session that can't be recorded.
type Recording struct {
	Off      bool // don't record
	Input    bool // record what the client sends too
	Continue bool // a session goes on when its recording fails
}

// Request is one thing an identity asks for.
type Request struct {
	Identity string
	Endpoint string
	Client   netip.Addr
	Time     time.Time // the zero Time is in no hours and before no end
	Verb     Verb
	Host     string     // as the client wrote it: target (forward and inspected verbs), bind address (listen, an IP address), path (socket)
	Port     uint16     // listen: 0 asks for any port of the rule
	Addr     netip.Addr // what Host is or resolves to; the zero Addr = not resolved yet
	Own      bool       // Addr belongs to the gate's own host, or Addr and Port to one of its listeners
	Login    string     // inspected verbs
	Command  string     // Exec: the whole command line
	Via      Via        // Forward: the inspected session that the channel comes out of; zero = the gate itself dials
}

// Via is the target of an inspected session that opens a channel to somewhere
// else. Its Host names what the target resolves, so the gate has no Addr for it
// and only rules that name it as written, or its literal address, match.
type Via struct {
	Host string
	Port uint16
	Addr netip.Addr
}

// Decision is the answer to a Request. The zero value denies.
type Decision struct {
	Allow       bool
	Rule        string         // the rule that allows
	Reason      Reason         // why not
	Inspected   bool           // Forward only: an inspected verb is granted at this target, so it must not be tunnelled
	ConnectFrom []netip.Prefix // Listen only: who may connect to the bound port
	Ports       []PortRange    // Listen only: the rule's ports for the bind address
	Env         []string       // inspected verbs: the rule's Env
	Recording   Recording      // inspected verbs: the rule's Recording
}

// Reason is why a request was denied: an audit code and a metric label.
type Reason string

// The reasons, all of them.
const (
	ReasonFrozen         Reason = "frozen"
	ReasonUnknown        Reason = "identity_unknown"
	ReasonNoRule         Reason = "no_rule"             // no rule grants the verb at the target to the identity
	ReasonLogin          Reason = "login"               // one would, at another account of the target
	ReasonEndpoint       Reason = "endpoint"            // one would, from another endpoint
	ReasonSource         Reason = "source"              // one would, from another client address
	ReasonHours          Reason = "hours"               // one would, at another time of the week
	ReasonExpired        Reason = "expired"             // one did, until its date
	ReasonSpecialAddress Reason = "special_address"     // link-local, metadata, loopback or the gate's own, and no CIDR rule names it
	ReasonUnresolved     Reason = "unresolved"          // one may, once Host is resolved and Addr set
	ReasonCommand        Reason = "command"             // one would, for another command line
	ReasonVia            Reason = "via"                 // one would, out of an inspected session at another target
	ReasonNested         Reason = "inspected_elsewhere" // a channel out of an inspected session to where SSH must be inspected itself
	ReasonTarget         Reason = "target_malformed"
	ReasonKeyUnknown     Reason = "key_unknown"
	ReasonUser           Reason = "user" // the identity may not present this SSH user name
	ReasonKeySource      Reason = "key_source"
	ReasonKeyExpired     Reason = "key_expired"
)

// Verdict is what one rule says of a request; Failed is "" where it allows,
// else the first condition that failed, in words for the operator.
type Verdict struct {
	Rule    string
	Allowed bool
	Failed  string
}

// Policy is a checked Spec: immutable, safe for concurrent use. The nil and
// the zero Policy deny everything.
type Policy struct {
	version     string
	identities  []Identity
	byName      map[string]int      // index in identities
	keys        map[string]keyOwner // by key blob
	authorities map[string]string   // name, by CA key blob
	rules       []*Rule
	byIdentity  map[string][]*Rule // the rules that list the identity, in order
	frozen      map[string]bool
}

// keyOwner says where a key stands in Policy.identities.
type keyOwner struct{ identity, key int }

// Version returns the Version of the Spec.
func (p *Policy) Version() string {
	if p == nil {
		return ""
	}
	return p.version
}

// Identities returns the names of all identities, in the order of the Spec.
func (p *Policy) Identities() []string {
	if p == nil {
		return nil
	}
	names := make([]string, len(p.identities))
	for i, id := range p.identities {
		names[i] = id.Name
	}
	return names
}

// Users returns the SSH user names that the identity may present, none for one
// that is unknown.
func (p *Policy) Users(identity string) []string {
	if p == nil {
		return nil
	}
	i, ok := p.byName[identity]
	if !ok {
		return nil
	}
	return slices.Clone(p.identities[i].users())
}

// Frozen reports whether the identity is cut off by the Spec or by WithFrozen.
func (p *Policy) Frozen(identity string) bool {
	return p != nil && p.frozen[identity]
}

// StillValid returns "" while the identity exists and is not frozen, else
// ReasonFrozen or ReasonUnknown: what cuts a live session whatever it does.
func (p *Policy) StillValid(identity string) Reason {
	if p.Frozen(identity) {
		return ReasonFrozen
	}
	if p == nil {
		return ReasonUnknown
	}
	if _, ok := p.byName[identity]; !ok {
		return ReasonUnknown
	}
	return ""
}

// WithFrozen returns a copy in which the named identities are frozen too.
// Names of no identity are kept: they freeze who gets the name later.
func (p *Policy) WithFrozen(names ...string) *Policy {
	if p == nil {
		p = &Policy{}
	}
	frozen := make(map[string]bool, len(p.frozen)+len(names))
	maps.Copy(frozen, p.frozen)
	for _, name := range names {
		frozen[name] = true
	}
	changed := *p
	changed.frozen = frozen
	return &changed
}

// Grants returns the rules that can allow the identity something from this
// endpoint and client at this time, in order: none for one that is frozen or
// unknown.
func (p *Policy) Grants(identity, endpoint string, client netip.Addr, now time.Time) []Rule {
	if p.StillValid(identity) != "" {
		return nil
	}
	q := query{Request: Request{Identity: identity, Endpoint: endpoint, Client: client.Unmap(), Time: now}}
	var rules []Rule
	for _, r := range p.byIdentity[identity] {
		if r.conditions(&q) == passed {
			rules = append(rules, r.clone())
		}
	}
	return rules
}

func (r *Rule) clone() Rule {
	c := *r
	c.Identities = slices.Clone(r.Identities)
	c.Endpoints = slices.Clone(r.Endpoints)
	c.Sources = slices.Clone(r.Sources)
	c.Targets = slices.Clone(r.Targets)
	c.Logins = slices.Clone(r.Logins)
	c.Listen = slices.Clone(r.Listen)
	c.ConnectFrom = slices.Clone(r.ConnectFrom)
	c.Sockets = slices.Clone(r.Sockets)
	c.Allow = slices.Clone(r.Allow)
	c.Commands = slices.Clone(r.Commands)
	c.Env = slices.Clone(r.Env)
	c.Via = slices.Clone(r.Via)
	return c
}

func (id *Identity) clone() Identity {
	c := *id
	c.Users = slices.Clone(id.Users)
	c.Keys = make([]Key, len(id.Keys))
	for i, k := range id.Keys {
		c.Keys[i] = k
		c.Keys[i].Blob = slices.Clone(k.Blob)
		c.Keys[i].From = slices.Clone(k.From)
	}
	return c
}
