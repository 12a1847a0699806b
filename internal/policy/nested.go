package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A nested request is a Forward out of an inspected session: it is the
// session's target that resolves the name and dials. What the gate knows is
// the host as it is written, so
//   - a name matches names, a literal address CIDRs, and nothing is resolved;
//   - a rule with Via matches only here, and names a special address, such as
//     the target's own loopback, by a CIDR inside its block;
//   - a rule without Via was written with the gate's network in mind, so it
//     reaches no special address and no name of the loopback;
//   - where an inspected verb is granted, the channel is refused: what runs in
//     it is opaque to the gate, and there is a way to the same place that is not.

// nested reports whether the request comes out of an inspected session.
func (q *query) nested() bool { return q.Via != Via{} }

// readNested checks what the request says of the session it comes out of.
func (q *query) readNested() error {
	if q.name != "" && q.Addr.IsValid() {
		return fmt.Errorf("%s is resolved by the target, and an address was given", q.name)
	}
	via := query{Request: Request{Host: q.Via.Host, Port: q.Via.Port, Addr: q.Via.Addr}}
	if err := via.readTarget(); err != nil {
		return fmt.Errorf("the session it comes out of: %w", err)
	}
	q.Via.Host, q.Via.Addr = via.name, via.addr
	if q.name == "localhost" { // RFC 6761 §6.3: it is the loopback wherever it is asked for
		q.addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return nil
}

// selectsNested returns atSelector, atSpecial or passed.
func (r *Rule) selectsNested(q *query) step {
	best := atSelector
	for i := range r.Targets {
		best = max(best, r.Targets[i].matchNested(q, len(r.Via) > 0))
	}
	return best
}

func (t *Target) matchNested(q *query, viaNamed bool) step {
	switch {
	case !t.holdsPort(q.Port) || !t.holdsHost(q.name, q.addr):
		return atSelector
	case q.isSpecial && viaNamed && q.block.names(t.cidr):
		return passed
	case q.isSpecial || isLoopbackName(q.name):
		return atSpecial
	}
	return passed
}

// holdsHost takes a name for a name and an address for an address: neither is
// turned into the other.
func (t *Target) holdsHost(name string, addr netip.Addr) bool {
	if t.glob != "" {
		return name != "" && matchGlob(t.glob, name)
	}
	return t.cidr.Contains(addr)
}

// admitsVia reports whether the query comes from where the rule says: out of a
// session at one of its Via, or from anywhere where it has none.
func (r *Rule) admitsVia(q *query) bool {
	if len(r.Via) == 0 {
		return true
	}
	return q.nested() && slices.ContainsFunc(r.Via, func(t Target) bool {
		return t.holdsPort(q.Via.Port) && t.holdsHost(q.Via.Host, q.Via.Addr)
	})
}

// inspectedElsewhere reports whether the channel would carry SSH past the
// inspection that the rules make of it: it goes back into the sshd of the very
// session it comes out of, or to where a rule that holds now inspects. A name
// may be any address of a CIDR.
func (p *Policy) inspectedElsewhere(q *query) bool {
	return q.returns() || slices.ContainsFunc(p.byIdentity[q.Identity], func(r *Rule) bool {
		return r.inspects() && r.conditions(q) == passed && slices.ContainsFunc(r.Targets, q.mayBe)
	})
}

// returns reports whether the target is asked to dial its own sshd.
func (q *query) returns() bool {
	same := q.name != "" && q.name == q.Via.Host || q.addr.IsValid() && q.addr == q.Via.Addr
	loopback := q.addr.IsLoopback() || q.addr.IsUnspecified() || isLoopbackName(q.name)
	return q.Port == q.Via.Port && (same || loopback)
}

// mayBe reports whether a target of an inspecting rule may be what the query
// names. A special address is the target's own, which such a rule never means.
func (q *query) mayBe(t Target) bool {
	if !t.holdsPort(q.Port) || q.isSpecial {
		return false
	}
	return t.holdsHost(q.name, q.addr) || q.name != "" && t.cidr.IsValid()
}

// isLoopbackName knows localhost and what the hosts files of Linux
// distributions call the loopback too.
func isLoopbackName(name string) bool {
	switch name {
	case "localhost", "localhost.localdomain", "localhost4", "localhost4.localdomain4",
		"localhost6", "localhost6.localdomain6", "ip6-localhost", "ip6-loopback":
		return true
	}
	return strings.HasSuffix(name, ".localhost") // RFC 6761 §6.3
}

func (r *Rule) viaWords(q *query) string {
	if !q.nested() {
		return "via: the rule is for channels out of an inspected session at " + joinStrings(r.Via, ", ")
	}
	return fmt.Sprintf("via: %s is none of %s", q.viaString(), joinStrings(r.Via, ", "))
}

func (q *query) viaString() string {
	host := q.Via.Host
	if host == "" || q.Via.Addr.IsValid() && host == q.Via.Addr.String() {
		return hostPort(q.Via.Addr.String(), q.Via.Port)
	}
	if !q.Via.Addr.IsValid() {
		return hostPort(host, q.Via.Port)
	}
	return hostPort(host, q.Via.Port) + " (" + q.Via.Addr.String() + ")"
}

// nestedSpecialWords says that only a rule with via, and an address, will do.
func (q *query) nestedSpecialWords() string {
	if !q.addr.IsValid() {
		return fmt.Sprintf("special address: %s is a name of the target's loopback; ask for 127.0.0.1", q.name)
	}
	return fmt.Sprintf("special address: %s of the target is %s; name it in a rule with via, with a CIDR inside %s",
		q.addr, q.block.what, q.block.prefix)
}

func (q *query) nestedWords() string {
	return fmt.Sprintf("inspected elsewhere: SSH to %s is inspected; reach it through the gate, not through %s",
		hostPort(q.Host, q.Port), q.viaString())
}
