package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// maxAddrs bounds what one name may resolve to, so that a name whose owner is
// hostile cannot make the gate dial a whole network.
const maxAddrs = 32

var (
	errNoName = errors.New("no such host")
	errZone   = errors.New("addresses with a zone are not dialled")
)

// Resolve returns the addresses of a host name, in the order in which they
// should be tried (RFC 6724), IPv4-mapped ones unmapped, each once, none with
// a zone and at most 32; never an empty list without an error. A literal
// address is returned as it is, without a look-up. A name that ends in a
// number ("127.1", "0x7f000001") is no name (RFC 1123 §2.1): it is refused
// here, because some system resolvers read it as an address.
//
// When ctx ends first, Resolve returns at once, while package net may keep a
// goroutine on the look-up, which other callers may share, for up to the
// resolver's own time-out (resolv.conf(5), 5 s an attempt).
//
// The caller checks the addresses and hands them to DialTCP; resolving again
// would open the way for a name that changes in between.
func (d *Dialer) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return literal(a)
	}
	if !isName(host) {
		return nil, fmt.Errorf("resolve %q: %w", host, errNoName)
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	found, err := d.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("resolve %q: %w", host, err)
	}
	addrs := plain(found)
	if len(addrs) == 0 {
		return nil, fmt.Errorf("resolve %q: %w", host, errNoName)
	}
	return addrs, nil
}

func literal(a netip.Addr) ([]netip.Addr, error) {
	if a.Zone() != "" {
		return nil, fmt.Errorf("resolve %q: %w", a, errZone)
	}
	return []netip.Addr{a.Unmap()}, nil
}

// isName reports whether host could be a DNS name: printable ASCII without
// blanks, labels of 1 to 63 bytes, 253 in all, one dot at the end allowed, and
// a last label that is not a number.
func isName(host string) bool {
	host = strings.TrimSuffix(host, ".")
	if len(host) > 253 {
		return false
	}
	labels := strings.Split(host, ".")
	for _, l := range labels {
		if !isLabel(l) {
			return false
		}
	}
	return !isNumber(labels[len(labels)-1])
}

// isLabel is wider than RFC 1123, since names with underscores are in use.
func isLabel(l string) bool {
	if l == "" || len(l) > 63 {
		return false
	}
	return !strings.ContainsFunc(l, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		return !letter && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// isNumber reports whether inet_aton(3) would read l as a number.
func isNumber(l string) bool {
	digits := "0123456789"
	if hex, ok := strings.CutPrefix(strings.ToLower(l), "0x"); ok {
		l, digits = hex, "0123456789abcdef"
	}
	return strings.Trim(l, digits) == ""
}

// plain drops what is never dialled and what is there twice.
func plain(found []netip.Addr) []netip.Addr {
	var addrs []netip.Addr
	for _, a := range found {
		a = a.Unmap()
		if a.Zone() != "" || slices.Contains(addrs, a) {
			continue
		}
		if addrs = append(addrs, a); len(addrs) == maxAddrs {
			break
		}
	}
	return addrs
}

// isNoName reports whether err says that the name has no address.
func isNoName(err error) bool {
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && dns.IsNotFound || errors.Is(err, errNoName)
}
