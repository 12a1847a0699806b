package policy

import "net/netip"

// block is a range of addresses that no ordinary rule means.
type block struct {
	prefix netip.Prefix
	what   string // completes "169.254.169.254 is …"
}

// specialBlocks is searched in order, so a block stands before those that hold it.
var specialBlocks = []block{
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"}, // 169.254.169.254 and 169.254.170.2 hand out credentials
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("fd00:ec2::/32"), "an AWS metadata address"}, // docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"},                 // a connection to 0.0.0.0 goes to the gate itself
	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("::/96"), "an IPv4-compatible address"}, // RFC 4291 §2.5.5.1
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "a translated address"}, // RFC 8215: where the IPv4 address sits is up to the network
}

// specialBlock finds the block that addr, which is unmapped, is in. An IPv6
// address that carries a special IPv4 address to a translator is special too,
// in the block that carries the IPv4 block.
func specialBlock(addr netip.Addr) (block, bool) {
	for _, b := range specialBlocks {
		if b.prefix.Contains(addr) {
			return b, true
		}
	}
	v4, offset, ok := embeddedIPv4(addr)
	if !ok {
		return block{}, false
	}
	b, ok := specialBlock(v4)
	if !ok {
		return block{}, false
	}
	carrier := netip.PrefixFrom(addr, offset+b.prefix.Bits()).Masked()
	return block{carrier, b.what + " (" + v4.String() + ")"}, true
}

var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052 §2.1
	sixToFour = netip.MustParsePrefix("2002::/16")    // RFC 3056 §2
)

// embeddedIPv4 returns the IPv4 address in a NAT64 or 6to4 address, and the
// bit at which it begins.
func embeddedIPv4(addr netip.Addr) (v4 netip.Addr, offset int, ok bool) {
	if !addr.Is6() {
		return netip.Addr{}, 0, false
	}
	raw := addr.As16()
	switch {
	case nat64.Contains(addr):
		return netip.AddrFrom4([4]byte(raw[12:])), 96, true
	case sixToFour.Contains(addr):
		return netip.AddrFrom4([4]byte(raw[2:])), 16, true
	}
	return netip.Addr{}, 0, false
}

// names reports whether a CIDR lies inside the block: whoever wrote it meant
// the block, which whoever wrote 0.0.0.0/0 did not.
func (b block) names(cidr netip.Prefix) bool {
	return cidr.Bits() >= b.prefix.Bits() && b.prefix.Contains(cidr.Addr())
}
