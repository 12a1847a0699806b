package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// with returns the rules of groups that are about TCP to port, one way.
func (s *Snapshot) with(groups []string, egress bool, port int) []Rule {
	var found []Rule
	for _, r := range s.Rules.Value {
		if slices.Contains(groups, r.Group) && r.Egress == egress && r.about(port) {
			found = append(found, r)
		}
	}
	return found
}

func (r Rule) about(port int) bool {
	return r.Protocol == "-1" || r.Protocol == "tcp" && r.From <= port && port <= r.To
}

// who is the other side of a rule.
func (r Rule) who() string {
	if r.CIDR.IsValid() {
		return r.CIDR.String()
	}
	return r.Peer + r.PrefixList
}

// toGroup says whether a rule is about one of groups.
func toGroup(rules []Rule, groups []string) bool {
	return slices.ContainsFunc(rules, func(r Rule) bool { return r.Peer != "" && slices.Contains(groups, r.Peer) })
}

// listed says whether a rule is about a prefix list, whose addresses are not known here.
func listed(rules []Rule) string {
	for _, r := range rules {
		if r.PrefixList != "" {
			return r.PrefixList
		}
	}
	return ""
}

func cidrs(rules []Rule) []netip.Prefix {
	var all []netip.Prefix
	for _, r := range rules {
		if r.CIDR.IsValid() {
			all = append(all, r.CIDR)
		}
	}
	return all
}

// outside returns those of addrs that no rule is about.
func outside(rules []Rule, addrs []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range addrs {
		if !slices.ContainsFunc(cidrs(rules), func(p netip.Prefix) bool { return p.Contains(a) }) {
			out = append(out, a)
		}
	}
	return out
}

// covered says whether prefixes together have every address of p.
func covered(p netip.Prefix, prefixes []netip.Prefix) bool {
	overlaps := false
	for _, q := range prefixes {
		if q.Bits() <= p.Bits() && q.Contains(p.Addr()) {
			return true
		}
		overlaps = overlaps || q.Overlaps(p)
	}
	if !overlaps {
		return false // also ends the halving: a single address is covered or not
	}
	low, high := halves(p)
	return covered(low, prefixes) && covered(high, prefixes)
}

func halves(p netip.Prefix) (low, high netip.Prefix) {
	bits := p.Bits()
	b := p.Masked().Addr().AsSlice()
	low = netip.PrefixFrom(p.Masked().Addr(), bits+1)
	b[bits/8] |= 0x80 >> (bits % 8)
	top, _ := netip.AddrFromSlice(b)
	return low, netip.PrefixFrom(top, bits+1)
}

// blocked returns the first ports of from to to that an ACL does not let
// through, one way, with what there is at the other side; "" if none.
func (a *ACL) blocked(egress bool, other netip.Addr, from, to int) string {
	entries := slices.Clone(a.Entries)
	slices.SortFunc(entries, func(x, y ACLEntry) int { return cmp.Compare(x.Number, y.Number) })
	left := from // the ports below are let through
	for left <= to {
		through := left - 1
		for _, e := range entries {
			if e.Egress != egress || !e.is(other) || !e.has(left) {
				continue
			}
			if e.Allow {
				through = min(to, e.last(entries, other, left))
			}
			break // the first that matches decides
		}
		if through < left {
			return fmt.Sprintf("port %d", left)
		}
		left = through + 1
	}
	return ""
}

func (e ACLEntry) is(other netip.Addr) bool {
	return (e.Protocol == "6" || e.Protocol == "-1") && e.CIDR.IsValid() && e.CIDR.Contains(other)
}

func (e ACLEntry) has(port int) bool {
	return e.Protocol == "-1" || e.From <= port && port <= e.To
}

// last is the last port from port on for which e decides: an entry before it may
// begin in between.
func (e ACLEntry) last(entries []ACLEntry, other netip.Addr, port int) int {
	last := e.To
	if e.Protocol == "-1" {
		last = 65535
	}
	for _, before := range entries {
		if before.Number < e.Number && before.Egress == e.Egress && before.is(other) && before.From > port {
			last = min(last, before.From-1)
		}
	}
	return last
}

// joined writes a list of things for people.
func joined[T any](all []T) string {
	var words []string
	for _, x := range all {
		words = append(words, fmt.Sprint(x))
	}
	return strings.Join(words, ", ")
}
