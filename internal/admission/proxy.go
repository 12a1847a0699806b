package admission

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// The PROXY protocol version 2, section 2.2 of HAProxy's proxy-protocol.txt,
// and the TLV that AWS adds for PrivateLink ("Edit target group attributes",
// Network Load Balancer guide).
const (
	signatureV2 = "\r\n\r\n\x00\r\nQUIT\n"
	signatureV1 = "PROXY "

	fixedLen = 16   // signature, version and command, family, length
	maxBody  = 4096 // bytes after the fixed part; AWS sends 84 to 108

	commandLocal = 0x20 // version 2 in the upper half
	commandProxy = 0x21

	familyTCP4 = 0x11
	familyTCP6 = 0x21

	tlvCRC32C = 0x03
	tlvAWS    = 0xEA

	awsEndpointID = 0x01 // first byte of an AWS TLV whose rest is the endpoint ID

	maxEndpointLen = 255
)

// header is one PROXY v2 header that was checked whole.
type header struct {
	local    bool // a health check of the sender itself: nothing below is set
	src, dst netip.AddrPort
	endpoint string // "" when no AWS TLV names one
}

// errSilent is the end of a connection that never sent a byte.
var errSilent = errors.New("no byte was sent")

// readHeader reads one header from r and not a byte past it, however the bytes
// are cut. It gives up at the first byte that cannot belong to a header. The
// error wraps errSilent when r ended before the first byte; otherwise it is a
// *Denied that lacks the origin.
func readHeader(r io.Reader) (header, error) {
	buf, err := fill(r, make([]byte, 0, 128), headerNeeds)
	if err == nil {
		return parseHeader(buf)
	}
	if len(buf) == 0 {
		return header{}, fmt.Errorf("%w: %w", errSilent, err)
	}
	reason := ReasonHeaderMalformed
	if errors.Is(err, os.ErrDeadlineExceeded) {
		reason = ReasonHeaderTimeout
	}
	return header{}, deny(reason, "header ended after %d bytes: %w", len(buf), err)
}

// fill appends to buf what r gives, never more than needs asks for, until
// needs asks for nothing. An error of r that came with the last byte needed
// is dropped: r will say it again.
func fill(r io.Reader, buf []byte, needs func([]byte) int) ([]byte, error) {
	for n := needs(buf); n > 0; n = needs(buf) {
		buf = slices.Grow(buf, n)
		m, err := r.Read(buf[len(buf) : len(buf)+n])
		buf = buf[:len(buf)+m]
		if err != nil && needs(buf) > 0 {
			return buf, err
		}
	}
	return buf, nil
}

// headerNeeds says how many bytes more may be read before buf, the beginning
// of a connection, can be parsed; 0 when it is whole or cannot become valid.
func headerNeeds(buf []byte) int {
	if !mayBecome(buf, signatureV2) {
		return v1Needs(buf)
	}
	if len(buf) < fixedLen {
		return fixedLen - len(buf)
	}
	if n := bodyLen(buf); n <= maxBody {
		return fixedLen + n - len(buf)
	}
	return 0
}

func bodyLen(buf []byte) int { return int(binary.BigEndian.Uint16(buf[14:fixedLen])) }

// v1Needs tells the start of version 1 from other bytes, so that its refusal
// can name it.
func v1Needs(buf []byte) int {
	if len(buf) < len(signatureV1) && mayBecome(buf, signatureV1) {
		return len(signatureV1) - len(buf)
	}
	return 0
}

// mayBecome reports whether buf starts with sig as far as both go.
func mayBecome(buf []byte, sig string) bool {
	n := min(len(buf), len(sig))
	return string(buf[:n]) == sig[:n]
}

func startsWith(buf []byte, sig string) bool {
	return len(buf) >= len(sig) && mayBecome(buf, sig)
}

// parseHeader checks what headerNeeds let through.
func parseHeader(buf []byte) (header, error) {
	switch {
	case startsWith(buf, signatureV1):
		return header{}, deny(ReasonHeaderV1, "PROXY version 1: turn on proxy_protocol_v2.enabled at the target group, or send-proxy-v2")
	case startsWith(buf, "SSH-"):
		return header{}, deny(ReasonHeaderMalformed, "SSH came without a PROXY header: is proxy_protocol_v2.enabled on at the target group?")
	case !startsWith(buf, signatureV2):
		return header{}, deny(ReasonHeaderMalformed, "no PROXY v2 signature in %q", buf[:min(len(buf), fixedLen)])
	case len(buf) < fixedLen:
		return header{}, deny(ReasonHeaderMalformed, "header ended after %d bytes", len(buf))
	case bodyLen(buf) > maxBody:
		return header{}, deny(ReasonHeaderMalformed, "length %d is over %d", bodyLen(buf), maxBody)
	case len(buf) != fixedLen+bodyLen(buf):
		return header{}, deny(ReasonHeaderMalformed, "%d bytes of %d", len(buf), fixedLen+bodyLen(buf))
	}
	switch buf[12] {
	case commandLocal:
		return header{local: true}, checkLocal(buf)
	case commandProxy:
		return parseProxy(buf)
	}
	return header{}, deny(ReasonHeaderMalformed, "version and command %#02x", buf[12])
}

// parseProxy reads addresses and TLVs. Only TCP over IPv4 and IPv6 can reach
// this port: UDP, Unix sockets and a PROXY command without a family are
// malformed here.
func parseProxy(buf []byte) (header, error) {
	body := buf[fixedLen:]
	n := addressLen(buf[13])
	if n == 0 {
		return header{}, deny(ReasonHeaderMalformed, "family %#02x is not TCP over IPv4 or IPv6", buf[13])
	}
	if len(body) < n {
		return header{}, deny(ReasonHeaderMalformed, "%d bytes of addresses, family %#02x has %d", len(body), buf[13], n)
	}
	src, dst := addresses(body[:n])
	t, err := walkTLVs(body[n:], fixedLen+n)
	if err != nil {
		return header{}, err
	}
	if err := t.verify(buf); err != nil {
		return header{}, err
	}
	return header{src: src, dst: dst, endpoint: t.endpoint}, nil
}

// addressLen is the size of the address block of a family, 0 for one that is
// not TCP.
func addressLen(family byte) int {
	switch family {
	case familyTCP4:
		return 12
	case familyTCP6:
		return 36
	}
	return 0
}

// addresses splits a block: source and destination address, then their ports.
// An IPv4 address in IPv6 clothing becomes the IPv4 address, so that no rule
// can be got round by the other notation.
func addresses(block []byte) (src, dst netip.AddrPort) {
	n := (len(block) - 4) / 2
	s, _ := netip.AddrFromSlice(block[:n])
	d, _ := netip.AddrFromSlice(block[n : 2*n])
	ports := block[2*n:]
	return netip.AddrPortFrom(s.Unmap(), binary.BigEndian.Uint16(ports)),
		netip.AddrPortFrom(d.Unmap(), binary.BigEndian.Uint16(ports[2:]))
}

// checkLocal verifies the checksum of a LOCAL header where it has one. What
// the family says does not hold for LOCAL: AWS names TCP over IPv4 and sends
// no address block. The specification has the receiver skip the body by its
// length, so one that is not made of TLVs is no error.
func checkLocal(buf []byte) error {
	for _, n := range []int{0, addressLen(buf[13])} {
		if len(buf) < fixedLen+n {
			continue
		}
		if t, err := walkTLVs(buf[fixedLen+n:], fixedLen+n); err == nil {
			return t.verify(buf)
		}
	}
	return nil
}

// tlvs is what a header says beyond the addresses.
type tlvs struct {
	crcAt       int // offset of the checksum in the header; 0 = none
	endpoint    string
	hasEndpoint bool
}

// walkTLVs reads the TLVs of b, which starts at offset at of its header. They
// must fill b exactly. Types that are not listed are skipped, NOOP (0x04) too.
func walkTLVs(b []byte, at int) (tlvs, error) {
	var t tlvs
	for len(b) > 0 {
		if len(b) < 3 {
			return tlvs{}, deny(ReasonHeaderMalformed, "TLV cut after %d bytes", len(b))
		}
		n := int(binary.BigEndian.Uint16(b[1:3]))
		if len(b) < 3+n {
			return tlvs{}, deny(ReasonHeaderMalformed, "TLV %#02x has %d bytes of %d", b[0], len(b)-3, n)
		}
		if err := t.add(b[0], b[3:3+n], at+3); err != nil {
			return tlvs{}, err
		}
		b, at = b[3+n:], at+3+n
	}
	return t, nil
}

// add takes one TLV, whose value starts at offset at of the header. A second
// checksum or endpoint is an attack on parsers that differ in which one counts.
func (t *tlvs) add(kind byte, value []byte, at int) error {
	switch kind {
	case tlvCRC32C:
		if len(value) != 4 || t.crcAt != 0 {
			return deny(ReasonHeaderMalformed, "CRC32C TLV of %d bytes, or a second one", len(value))
		}
		t.crcAt = at
	case tlvAWS:
		return t.addAWS(value)
	}
	return nil
}

func (t *tlvs) addAWS(value []byte) error {
	if len(value) == 0 {
		return deny(ReasonHeaderMalformed, "AWS TLV without a subtype")
	}
	if value[0] != awsEndpointID {
		return nil
	}
	if t.hasEndpoint {
		return deny(ReasonHeaderMalformed, "second endpoint ID")
	}
	t.hasEndpoint, t.endpoint = true, string(value[1:])
	return nil
}

// verify checks the checksum of the whole header, then the endpoint ID. AWS
// always sends both; an endpoint ID without a checksum was not written by it.
func (t *tlvs) verify(buf []byte) error {
	if t.crcAt == 0 && t.hasEndpoint {
		return deny(ReasonHeaderCRC, "endpoint ID without a CRC32C")
	}
	if t.crcAt != 0 {
		if got, want := checksum(buf, t.crcAt), binary.BigEndian.Uint32(buf[t.crcAt:]); got != want {
			return deny(ReasonHeaderCRC, "CRC32C %08x, header says %08x", got, want)
		}
	}
	if t.hasEndpoint && !validEndpoint(t.endpoint) {
		return deny(ReasonHeaderMalformed, "endpoint ID %q", t.endpoint)
	}
	return nil
}

// checksum is the CRC32C of a header as if the four bytes at offset at, where
// the checksum stands, were zero.
func checksum(buf []byte, at int) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, buf[:at])
	sum = crc32.Update(sum, table, []byte{0, 0, 0, 0})
	return crc32.Update(sum, table, buf[at+4:])
}

// validEndpoint accepts an ID of any length, old ones have 8 hex digits, but
// only characters that are safe in a log, a label and a file name.
func validEndpoint(id string) bool {
	rest, ok := strings.CutPrefix(id, "vpce-")
	if !ok || rest == "" || len(id) > maxEndpointLen {
		return false
	}
	return strings.Trim(rest, "0123456789abcdefghijklmnopqrstuvwxyz-") == ""
}
