package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// PortRange is an inclusive range of ports. The zero value holds no port.
type PortRange struct{ First, Last uint16 }

// Contains reports whether port is in the range. Port 0 is in none.
func (r PortRange) Contains(port uint16) bool {
	return port != 0 && r.First <= port && port <= r.Last
}

// String returns "22", "8000-8100" or "*", as ParseTarget reads them.
func (r PortRange) String() string {
	if r == everyPort {
		return "*"
	}
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

var everyPort = PortRange{1, 65535}

// Target is one element of targets: or listen:, made by ParseTarget or
// ParseListen. It is immutable. The zero value matches nothing.
type Target struct {
	host  string       // as String writes it
	cidr  netip.Prefix // targets: addresses
	glob  string       // targets: names
	binds []netip.Addr // listen: what may be bound
	ports []PortRange
}

// ParseTarget reads HOST:PORTS, one element of targets:.
//
// HOST is an address (10.0.2.17, [fd00::7]), a canonical CIDR (10.0.0.0/16,
// [fd00::/8]) or a name in which "*" stands for any run of characters, dots
// included (*.compute.internal). Names are compared in lower case. A name
// without a letter or digit of its own, such as "*", is refused, because it
// would allow any name that anyone registers.
//
// PORTS are ports and ascending ranges, separated by commas (22,8000-8100),
// from 1 to 65535; "*" is all of them.
func ParseTarget(s string) (Target, error) {
	host, ports, err := splitTarget(s)
	if err != nil {
		return Target{}, fmt.Errorf("target %q: %w", s, err)
	}
	t := Target{ports: ports}
	if looksLikeAddress(host) {
		t.cidr, err = parseCIDR(host)
		t.host = cidrHost(t.cidr)
	} else {
		t.glob, err = parseGlob(host)
		t.host = t.glob
	}
	if err != nil {
		return Target{}, fmt.Errorf("target %q: %w", s, err)
	}
	return t, nil
}

// ParseListen reads ADDRESS:PORTS, one element of listen:. ADDRESS is what a
// tcpip-forward may bind (RFC 4254 §7.1): an address, which allows that bind
// and no other; "localhost", which allows 127.0.0.1 and ::1; or "*", which
// allows 0.0.0.0 and ::. CIDRs and globs are refused. PORTS are as in
// ParseTarget.
func ParseListen(s string) (Target, error) {
	host, ports, err := splitTarget(s)
	if err != nil {
		return Target{}, fmt.Errorf("listen address %q: %w", s, err)
	}
	binds, err := parseBinds(host)
	if err != nil {
		return Target{}, fmt.Errorf("listen address %q: %w", s, err)
	}
	t := Target{host: host, binds: binds, ports: ports}
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		t.host = bracketed(addr.String())
	}
	return t, nil
}

// String returns the target in the form that ParseTarget or ParseListen reads.
func (t Target) String() string {
	return t.host + ":" + joinStrings(t.ports, ",")
}

// Prefix returns the addresses that a CIDR target names, the zero Prefix for
// any other.
func (t Target) Prefix() netip.Prefix { return t.cidr }

// Glob returns the pattern of a target that names hosts, "" for any other.
func (t Target) Glob() string { return t.glob }

// Ports returns the ports of the target, in the order they were written.
func (t Target) Ports() []PortRange { return slices.Clone(t.ports) }

func (t Target) holdsPort(port uint16) bool {
	return slices.ContainsFunc(t.ports, func(r PortRange) bool { return r.Contains(port) })
}

// splitTarget takes a target apart. IPv6 must stand in brackets, because
// fd00::7:22 can be read two ways.
func splitTarget(s string) (host string, ports []PortRange, err error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.HasSuffix(s, "]") {
		return "", nil, errors.New("it names no ports: write HOST:22, HOST:22,8000-8100 or HOST:* for every port")
	}
	host = s[:i]
	if host == "" {
		return "", nil, errors.New("it names no host")
	}
	if strings.Contains(host, ":") && !(strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]")) {
		return "", nil, errors.New("an IPv6 address stands in brackets: write [fd00::7]:22 or [fd00::/8]:22")
	}
	ports, err = parsePorts(s[i+1:])
	return host, ports, err
}

func parsePorts(s string) ([]PortRange, error) {
	var ports []PortRange
	for element := range strings.SplitSeq(s, ",") {
		r, err := parsePortRange(element)
		if err != nil {
			return nil, err
		}
		ports = append(ports, r)
	}
	return ports, nil
}

func parsePortRange(s string) (PortRange, error) {
	if s == "*" {
		return everyPort, nil
	}
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	a, err := parsePort(first)
	if err != nil {
		return PortRange{}, err
	}
	b, err := parsePort(last)
	if err != nil {
		return PortRange{}, err
	}
	if a > b {
		return PortRange{}, fmt.Errorf("port range %s descends: write %d-%d", s, b, a)
	}
	return PortRange{a, b}, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	// ParseUint also reads 022: one port has one spelling here.
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("%q is not a port from 1 to 65535", s)
	}
	return uint16(n), nil
}

// looksLikeAddress tells addresses from names by what no name may be, so that
// a mistyped address is reported as one.
func looksLikeAddress(host string) bool {
	return strings.ContainsAny(host, "[]/") || strings.Trim(host, "0123456789.") == ""
}

func parseCIDR(host string) (netip.Prefix, error) {
	inner, err := unbracket(host)
	if err != nil {
		return netip.Prefix{}, err
	}
	if !strings.Contains(inner, "/") {
		addr, err := netip.ParseAddr(inner)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("%q is not an address", inner)
		}
		return onePrefix(addr)
	}
	p, err := netip.ParsePrefix(inner)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not a CIDR such as 10.0.0.0/16", inner)
	}
	return p, checkPrefix(p)
}

func onePrefix(addr netip.Addr) (netip.Prefix, error) {
	if addr.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%s has a zone, which means nothing to a client", addr)
	}
	p := netip.PrefixFrom(addr, addr.BitLen())
	return p, checkPrefix(p)
}

// checkPrefix refuses a prefix that has a better spelling, in words that give it.
func checkPrefix(p netip.Prefix) error {
	if !p.IsValid() {
		return errors.New("a CIDR is empty")
	}
	if p.Addr().Is4In6() {
		return fmt.Errorf("%s is an IPv4 address in IPv6 clothes: write %s", p, p.Addr().Unmap())
	}
	if p != p.Masked() {
		return fmt.Errorf("%s has bits set past its prefix: write %s for the network, or %s for the one host", p, p.Masked(), p.Addr())
	}
	return nil
}

// unbracket takes the brackets off; they belong to IPv6 and to nothing else.
func unbracket(host string) (string, error) {
	inner, opened := strings.CutPrefix(host, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	if opened != closed || strings.ContainsAny(inner, "[]") {
		return "", fmt.Errorf("%q has unbalanced brackets", host)
	}
	if opened != strings.Contains(inner, ":") {
		return "", fmt.Errorf("%q: brackets stand around an IPv6 address and nothing else", host)
	}
	return inner, nil
}

func cidrHost(p netip.Prefix) string {
	if p.IsSingleIP() {
		return bracketed(p.Addr().String())
	}
	return bracketed(p.String())
}

func bracketed(s string) string {
	if strings.Contains(s, ":") {
		return "[" + s + "]"
	}
	return s
}

// parseGlob checks a name pattern and returns it in lower case.
func parseGlob(host string) (string, error) {
	glob := lowerASCII(host)
	if !strings.Contains(glob, "*") {
		if err := checkName(glob); err != nil {
			return "", err
		}
		if glob == "localhost" {
			return "", errors.New("localhost is a loopback address, which only a CIDR allows: write 127.0.0.1 or [::1]")
		}
		return glob, nil
	}
	if strings.Trim(glob, "*.-_") == "" {
		return "", errors.New("it matches any name that anyone registers: write a domain such as *.compute.internal, or 0.0.0.0/0 for every IPv4 address")
	}
	if strings.Trim(glob, "0123456789.*") == "" {
		return "", errors.New("it looks like addresses but matches names: write a CIDR such as 10.0.0.0/16")
	}
	// Whatever the asterisks stand for, the rest must be able to be a name.
	if err := checkName(strings.ReplaceAll(glob, "*", "x")); err != nil {
		return "", err
	}
	return glob, nil
}

func parseBinds(host string) ([]netip.Addr, error) {
	switch host {
	case "*":
		return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}, nil
	case "localhost":
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	if strings.Contains(host, "/") {
		return nil, errors.New("a bind is one address, not a network: write 0.0.0.0, * or the address")
	}
	inner, err := unbracket(host)
	if err != nil {
		return nil, err
	}
	addr, err := netip.ParseAddr(inner)
	if err != nil {
		return nil, fmt.Errorf("%q is not an address: write 0.0.0.0, [::], *, localhost or an address of this host", inner)
	}
	_, err = onePrefix(addr)
	return []netip.Addr{addr}, err
}

// matchGlob reports whether "*" in glob can be filled so that it reads name.
func matchGlob(glob, name string) bool {
	star, mark := -1, 0
	g, n := 0, 0
	for n < len(name) {
		switch {
		case g < len(glob) && glob[g] == '*':
			star, mark = g, n
			g++
		case g < len(glob) && glob[g] == name[n]:
			g++
			n++
		case star >= 0: // let the last asterisk take one character more
			mark++
			g, n = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(glob[g:], "*") == ""
}
