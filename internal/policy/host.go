package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// CheckHost reads the host that a client wrote in a direct-tcpip request
// (RFC 4254 §7.2). It returns either an address, IPv4-mapped IPv6 unmapped, or
// a name in lower case, never both. Everything else is an error, which is for
// the operator and quotes at most 253 bytes of the host.
//
// An address is in the one strict form that net/netip reads, without a zone.
// A name is at most 253 letters, digits, hyphens and underscores in labels of
// at most 63 that a hyphen neither begins nor ends (RFC 1123 §2.1), without a
// trailing dot. A name whose last label is a number, decimal, octal or
// hexadecimal, is an error: inet_aton, and with it many resolvers, reads
// 0x7f000001, 127.1, 0177.0.0.1 and 2130706433 as 127.0.0.1, and a rule that
// had compared them as names would have been passed by.
func CheckHost(host string) (addr netip.Addr, name string, err error) {
	if len(host) > maxName {
		return netip.Addr{}, "", fmt.Errorf("host of %d bytes: longer than %d", len(host), maxName)
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Zone() != "" {
			return netip.Addr{}, "", fmt.Errorf("host %q: an address with a zone", host)
		}
		return addr.Unmap(), "", nil
	}
	name = lowerASCII(host)
	if err := checkName(name); err != nil {
		return netip.Addr{}, "", fmt.Errorf("host %q: %w", host, err)
	}
	return netip.Addr{}, name, nil
}

const (
	maxName  = 253 // RFC 1035 §2.3.4, without the root's own label
	maxLabel = 63
)

// checkName accepts a DNS name in lower case that no resolver takes for an address.
func checkName(name string) error {
	if len(name) > maxName {
		return fmt.Errorf("a name of %d bytes: longer than %d", len(name), maxName)
	}
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if err := checkLabel(label); err != nil {
			return err
		}
		last = label
	}
	if isNumber(last) {
		return errors.New("neither an address nor a name: it ends in a number")
	}
	return nil
}

func checkLabel(label string) error {
	if label == "" {
		return errors.New("a label of the name is empty")
	}
	if len(label) > maxLabel {
		return fmt.Errorf("a label of %d bytes: longer than %d", len(label), maxLabel)
	}
	if label[0] == '-' || label[len(label)-1] == '-' {
		return fmt.Errorf("label %q begins or ends with a hyphen", label)
	}
	for i := range len(label) {
		if !isNameByte(label[i]) {
			return fmt.Errorf("byte %#02x is not a letter, digit, hyphen or underscore", label[i])
		}
	}
	return nil
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// isNumber reports whether inet_aton could read label as a number. "0x" alone
// counts: some C libraries read it as zero.
func isNumber(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// lowerASCII leaves other bytes alone: strings.ToLower turns the Kelvin sign
// into k, and would make a name of what is none.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
