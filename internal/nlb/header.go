// Package nlb plays the network load balancer that stands before the gate: it
// sends the PROXY v2 header as AWS does and passes bytes. The demo and the
// tests use it; the gate itself never does.
package nlb

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/netip"
)

// Types of the TLVs in an AWS header (PROXY protocol §2.2; AWS, "Edit target
// group attributes", PROXY protocol).
const (
	typeCRC32C = 0x03
	typeNOOP   = 0x04
	typeAWS    = 0xEA

	subtypeVPCEndpoint = 0x01
)

const (
	signature    = "\r\n\r\n\x00\r\nQUIT\n"
	fixedSize    = 16 // signature, version, family and length
	tlvsSize     = 72 // what AWS pads the TLVs of a PROXY header to
	localSize    = 84 // and those of a LOCAL header, which has no addresses
	versionProxy = 0x21
	versionLocal = 0x20
	familyIPv4   = 0x11
	familyIPv6   = 0x21
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli) // read-only

// Header is what a load balancer says of one connection.
type Header struct {
	Client   netip.AddrPort // who connects
	Dialled  netip.AddrPort // what it connected to: the endpoint's address
	Endpoint string         // VPC endpoint ID; "" = not through PrivateLink
}

// Append appends the PROXY v2 header for h to b: addresses, CRC32C, the
// endpoint's TLV and NOOP padding, in the order AWS sends them. Client and
// Dialled are sent as IPv6 unless both are IPv4.
func (h Header) Append(b []byte) []byte {
	family, addresses := h.addresses()
	tlvs := append([]byte{typeCRC32C, 0, 4}, 0, 0, 0, 0)
	if h.Endpoint != "" {
		value := append([]byte{subtypeVPCEndpoint}, h.Endpoint...)
		tlvs = appendTLV(tlvs, typeAWS, value)
	}
	return appendHeader(b, versionProxy, family, addresses, pad(tlvs, tlvsSize))
}

// AppendLocal appends the header of a health check: AWS says LOCAL with an
// IPv4 family and then sends no addresses.
func AppendLocal(b []byte) []byte {
	tlvs := []byte{typeCRC32C, 0, 4, 0, 0, 0, 0}
	return appendHeader(b, versionLocal, familyIPv4, nil, pad(tlvs, localSize))
}

// V1 is the same statement as a PROXY v1 line, which an NLB never sends.
func (h Header) V1() string {
	family := "TCP4"
	if !h.Client.Addr().Unmap().Is4() {
		family = "TCP6"
	}
	return fmt.Sprintf("PROXY %s %s %s %d %d\r\n", family,
		h.Client.Addr().Unmap(), h.Dialled.Addr().Unmap(), h.Client.Port(), h.Dialled.Port())
}

func (h Header) addresses() (family byte, b []byte) {
	client, dialled := h.Client.Addr().Unmap(), h.Dialled.Addr().Unmap()
	family = familyIPv4
	if client.Is4() && dialled.Is4() {
		b = append(client.AsSlice(), dialled.AsSlice()...)
	} else {
		family = familyIPv6
		c, d := client.As16(), dialled.As16()
		b = append(c[:], d[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, h.Client.Port())
	return family, binary.BigEndian.AppendUint16(b, h.Dialled.Port())
}

// appendHeader appends the whole header and fills in the checksum, which
// covers all of it and whose TLV must come first.
func appendHeader(b []byte, version, family byte, addresses, tlvs []byte) []byte {
	start := len(b)
	b = append(b, signature...)
	b = append(b, version, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(addresses)+len(tlvs)))
	b = append(append(b, addresses...), tlvs...)
	header := b[start:]
	sum := crc32.Checksum(header, castagnoli)
	binary.BigEndian.PutUint32(header[fixedSize+len(addresses)+3:], sum)
	return b
}

func appendTLV(b []byte, typ byte, value []byte) []byte {
	b = append(b, typ)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

// pad fills tlvs up to size with one NOOP; a NOOP takes 3 bytes at least.
func pad(tlvs []byte, size int) []byte {
	free := size - len(tlvs) - 3
	if free < 0 {
		return tlvs
	}
	return appendTLV(tlvs, typeNOOP, make([]byte, free))
}
