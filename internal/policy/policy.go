// Package policy decides what an identity may do. It is pure: no I/O, no
// clock but an argument, no state but the immutable Policy.
package policy

import (
	"net/netip"
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
	Blob            []byte // wire format
	From            []netip.Prefix
	Expires         time.Time // zero = never
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
	Logins      []string
	Listen      []Target // addresses (no globs) and ports a tcpip-forward may bind
	ConnectFrom []netip.Prefix
	Sockets     []string // absolute paths on the gate's host
	Allow       []Verb
}

// Request is one thing an identity asks for.
type Request struct {
	Identity string
	Endpoint string
	Client   netip.Addr
	Time     time.Time
	Verb     Verb
	Host     string     // as the client wrote it: target (forward and inspected verbs), bind address (listen, an IP address), path (socket)
	Port     uint16     // listen: 0 asks for any port of the rule
	Addr     netip.Addr // what Host is or resolves to; the zero Addr = not resolved yet
	Own      bool       // Addr belongs to the gate's own host, or Addr and Port to one of its listeners
	Login    string     // inspected verbs
}

// Decision is the answer to a Request. The zero value denies.
type Decision struct {
	Allow       bool
	Rule        string         // the rule that allows
	Reason      Reason         // why not
	Inspected   bool           // Forward only: an inspected verb is granted at this target, so it must not be tunnelled
	ConnectFrom []netip.Prefix // Listen only: who may connect to the bound port
	Ports       []PortRange    // Listen only: the rule's ports
}

// Reason is why a request was denied: an audit code and a metric label.
type Reason string

const (
	ReasonFrozen         Reason = "frozen"
	ReasonUnknown        Reason = "identity_unknown"
	ReasonNoRule         Reason = "no_rule"         // no rule grants the verb at the target to the identity
	ReasonEndpoint       Reason = "endpoint"        // one would, from another endpoint
	ReasonSource         Reason = "source"          // one would, from another client address
	ReasonHours          Reason = "hours"           // one would, at another time of the week
	ReasonExpired        Reason = "expired"         // one did, until its date
	ReasonSpecialAddress Reason = "special_address" // link-local, metadata, loopback or the gate's own, and no CIDR rule names it
	ReasonTarget         Reason = "target_malformed"
	ReasonKeyUnknown     Reason = "key_unknown"
	ReasonUser           Reason = "user" // the identity may not present this SSH user name
	ReasonKeySource      Reason = "key_source"
	ReasonKeyExpired     Reason = "key_expired"
)

// Verdict is what one rule says of a request; Failed is "" where it allows,
// else the first condition that failed, in words.
type Verdict struct {
	Rule    string
	Allowed bool
	Failed  string
}
