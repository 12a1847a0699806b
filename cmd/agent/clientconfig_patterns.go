package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern/internal/policy"
)

// inspected reports whether the rule grants SSH sessions at its targets.
func inspected(r policy.Rule) bool {
	return slices.ContainsFunc(r.Allow, policy.Verb.Inspected)
}

// hostPatterns are the patterns of ssh_config(5) that match what a target
// matches and nothing else; none where that can't be said in patterns.
func hostPatterns(t policy.Target) []string {
	if t.Glob() != "" {
		return []string{t.Glob()}
	}
	p := t.Prefix()
	switch {
	case p.IsSingleIP():
		return []string{p.Addr().String()}
	case p.Addr().Is4() && p.Bits() >= 8:
		return v4Patterns(p)
	case p.Addr().Is6() && p.Bits() > 0 && p.Bits()%16 == 0:
		return v6Patterns(p)
	}
	return nil
}

// v4Patterns has a pattern for each value of the octet in which the prefix
// ends: 10.0.0.0/15 is 10.0.* and 10.1.*.
func v4Patterns(p netip.Prefix) []string {
	octets := p.Addr().As4()
	whole := (p.Bits() - 1) / 8 // octets before the one that varies
	end := ""
	if whole < 3 {
		end = ".*"
	}
	var patterns []string
	for n := range 1 << (8*(whole+1) - p.Bits()) {
		text := ""
		for _, o := range octets[:whole] {
			text += fmt.Sprintf("%d.", o)
		}
		patterns = append(patterns, fmt.Sprintf("%s%d%s", text, int(octets[whole])+n, end))
	}
	return patterns
}

// v6Patterns has a pattern for a prefix of whole groups, none of them zero:
// zeros may be written in many ways.
func v6Patterns(p netip.Prefix) []string {
	bytes := p.Addr().As16()
	var text strings.Builder
	for i := 0; i < p.Bits()/8; i += 2 {
		group := int(bytes[i])<<8 | int(bytes[i+1])
		if group == 0 {
			return nil
		}
		fmt.Fprintf(&text, "%x:", group)
	}
	return []string{text.String() + "*"}
}

// knownPatterns are hostPatterns as known_hosts has them, with their ports
// (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
func knownPatterns(t policy.Target) []string {
	var patterns []string
	for _, host := range hostPatterns(t) {
		for _, r := range t.Ports() {
			patterns = append(patterns, knownPattern(host, r)...)
		}
	}
	return patterns
}

func knownPattern(host string, r policy.PortRange) []string {
	var patterns []string
	if r.Contains(22) {
		patterns = append(patterns, host)
	}
	switch {
	case r.First != r.Last:
		patterns = append(patterns, fmt.Sprintf("[%s]:*", host))
	case r.First != 22:
		patterns = append(patterns, fmt.Sprintf("[%s]:%d", host, r.First))
	}
	return patterns
}

// eachTarget collects what of makes of the targets of inspected rules, each
// once.
func eachTarget(rules []policy.Rule, of func(policy.Target) []string) []string {
	var all []string
	for _, r := range rules {
		if !inspected(r) {
			continue
		}
		for _, t := range r.Targets {
			for _, text := range of(t) {
				if !slices.Contains(all, text) {
					all = append(all, text)
				}
			}
		}
	}
	return all
}
