package admission

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

// Headers V1 to V5 were captured at AWS load balancers, V6 is a capture whose
// author masked the addresses, V7 and V8 are made to the same layout.
func vectors() map[string][]byte {
	const sig = "0d0a0d0a000d0a515549540a"
	v := map[string][]byte{}
	for name, text := range map[string]string{
		"V1": sig + "21110054ac1f0771ac1f0a1fc8f20050030004e8d6892dea001701767063652d3038643262663135666163353030316339040024" + zeros(36),
		"V2": sig + "21110054c0a82c0ac0a82c07cc3e241b030004b9286fa6ea001701767063652d3030656166633435386563393762383333040024" + zeros(36),
		"V3": sig + "20110054030004bce5951f04004a" + zeros(74),
		"V4": sig + "211100542399e1ca0a002485cb3201bb030004c4fb1a1b04003e" + zeros(62),
		"V5": sig + "211100547b67c99aac1f0c37b116024b0300040894220704003e" + zeros(62),
		"V6": sig + "21110054ffffffffac1f1cd1898801bb030004508978bb04003e" + zeros(62),
		"V7": sig + "211100540a0102030a0102c8c3500016030004f926155bea001701767063652d3031323334353637383961626364656630040024" + zeros(36),
		"V8": sig + "2121006cfd000001000000000000000000000010fd000002000000000000000000000020c350001603000421a84d78ea001701767063652d3031323334353637383961626364656630040024" + zeros(36),
	} {
		b, err := hex.DecodeString(text)
		if err != nil {
			panic(err)
		}
		v[name] = b
	}
	return v
}

func zeros(n int) string { return strings.Repeat("00", n) }

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func TestHeadersOfRealLoadBalancersAreRead(t *testing.T) {
	for name, want := range map[string]header{
		"V1": {src: ap("172.31.7.113:51442"), dst: ap("172.31.10.31:80"), endpoint: "vpce-08d2bf15fac5001c9"},
		"V2": {src: ap("192.168.44.10:52286"), dst: ap("192.168.44.7:9243"), endpoint: "vpce-00eafc458ec97b833"},
		"V3": {local: true},
		"V4": {src: ap("35.153.225.202:52018"), dst: ap("10.0.36.133:443")},
		"V5": {src: ap("123.103.201.154:45334"), dst: ap("172.31.12.55:587")},
		"V7": {src: ap("10.1.2.3:50000"), dst: ap("10.1.2.200:22"), endpoint: "vpce-0123456789abcdef0"},
		"V8": {src: ap("[fd00:1::10]:50000"), dst: ap("[fd00:2::20]:22"), endpoint: "vpce-0123456789abcdef0"},
	} {
		t.Run(name, func(t *testing.T) {
			raw := vectors()[name]
			const banner = "SSH-2.0-OpenSSH_9.2\r\n"
			stream := append(bytes.Clone(raw), banner...)
			for cut, r := range map[string]io.Reader{
				"coalesced":    bytes.NewReader(stream),
				"single bytes": iotest.OneByteReader(bytes.NewReader(stream)),
				"halves":       iotest.HalfReader(bytes.NewReader(stream)),
				"error early":  iotest.DataErrReader(bytes.NewReader(raw)),
			} {
				got, err := readHeader(r)
				if err != nil || got != want {
					t.Errorf("%s: got %+v, %v, want %+v", cut, got, err, want)
				}
				if rest, _ := io.ReadAll(r); cut != "error early" && string(rest) != banner {
					t.Errorf("%s: the banner became %q", cut, rest)
				}
			}
		})
	}
}

func TestAHeaderWhoseAddressesWereEditedFailsItsChecksum(t *testing.T) {
	wantReason(t, vectors()["V6"], ReasonHeaderCRC)
}

func TestEveryFlippedBitOfARealHeaderIsNoticed(t *testing.T) {
	for _, name := range []string{"V1", "V7", "V8"} {
		raw := vectors()[name]
		for i := range len(raw) * 8 {
			edited := bytes.Clone(raw)
			edited[i/8] ^= 1 << (i % 8)
			if h, err := readHeader(bytes.NewReader(edited)); err == nil {
				t.Errorf("%s: bit %d flipped: accepted as %+v", name, i, h)
			}
		}
	}
}

func TestAHeaderCutAnywhereIsRefused(t *testing.T) {
	for name, raw := range vectors() {
		for n := 1; n < len(raw); n++ {
			_, err := readHeader(bytes.NewReader(raw[:n]))
			if d, ok := errors.AsType[*Denied](err); !ok || d.Reason != ReasonHeaderMalformed {
				t.Fatalf("%s cut after %d bytes: %v", name, n, err)
			}
		}
	}
}

func TestAConnectionWithoutAByteIsSilent(t *testing.T) {
	for _, end := range []error{io.EOF, net.ErrClosed, os.ErrDeadlineExceeded} {
		if _, err := readHeader(iotest.ErrReader(end)); !errors.Is(err, errSilent) || !errors.Is(err, end) {
			t.Errorf("%v: got %v", end, err)
		}
	}
}

func TestAHeaderThatStopsMidwayTimesOut(t *testing.T) {
	r := io.MultiReader(bytes.NewReader(vectors()["V1"][:40]), iotest.ErrReader(os.ErrDeadlineExceeded))
	_, err := readHeader(r)
	if d, ok := errors.AsType[*Denied](err); !ok || d.Reason != ReasonHeaderTimeout {
		t.Fatalf("got %v", err)
	}
}

// raw is a header to be built, with a length and a checksum that are right
// unless the test spoils them.
type raw struct {
	command, family byte
	block           []byte
	tlvs            [][]byte
	crc             bool
	length          int // instead of the right one when not 0
}

func tlv(kind byte, value string) []byte {
	b := binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(value)))
	return append(b, value...)
}

func endpointTLV(id string) []byte { return tlv(tlvAWS, "\x01"+id) }

func (r raw) bytes() []byte {
	b := append([]byte(signatureV2), r.command, r.family, 0, 0)
	b = append(b, r.block...)
	at := 0
	if r.crc {
		at = len(b) + 3
		b = append(b, tlv(tlvCRC32C, "\x00\x00\x00\x00")...)
	}
	for _, t := range r.tlvs {
		b = append(b, t...)
	}
	length := len(b) - fixedLen
	if r.length != 0 {
		length = r.length
	}
	binary.BigEndian.PutUint16(b[14:], uint16(length))
	if at > 0 {
		sum := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
		binary.BigEndian.PutUint32(b[at:], sum)
	}
	return b
}

func block4(src, dst string) []byte { return blockOf(ap(src), ap(dst)) }

func blockOf(src, dst netip.AddrPort) []byte {
	b := append(src.Addr().AsSlice(), dst.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, src.Port())
	return binary.BigEndian.AppendUint16(b, dst.Port())
}

func proxy4(tlvs ...[]byte) raw {
	return raw{command: commandProxy, family: familyTCP4, block: block4("10.20.0.7:50000", "10.20.0.9:22"), tlvs: tlvs, crc: true}
}

func TestBadHeadersAreRefusedWithTheirReason(t *testing.T) {
	const id = "vpce-0a1b2c3d4e5f60718"
	with := func(r raw, edit func(*raw)) raw { edit(&r); return r }
	bytesOf := func(r raw, edit func(*raw)) []byte { return with(r, edit).bytes() }
	for name, c := range map[string]struct {
		raw  []byte
		want Reason
	}{
		"version 1":                {[]byte("PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n"), ReasonHeaderV1},
		"version 1, shortest":      {[]byte("PROXY UNKNOWN\r\n"), ReasonHeaderV1},
		"banner without a header":  {[]byte("SSH-2.0-OpenSSH_9.2\r\n"), ReasonHeaderMalformed},
		"one wrong byte":           {[]byte("x"), ReasonHeaderMalformed},
		"signature broken late":    {[]byte(signatureV2[:11] + "x" + "\x21\x11\x00\x00"), ReasonHeaderMalformed},
		"version 1 in version 2":   {bytesOf(proxy4(), func(r *raw) { r.command = 0x11 }), ReasonHeaderMalformed},
		"version 3":                {bytesOf(proxy4(), func(r *raw) { r.command = 0x31 }), ReasonHeaderMalformed},
		"unknown command":          {bytesOf(proxy4(), func(r *raw) { r.command = 0x22 }), ReasonHeaderMalformed},
		"UDP over IPv4":            {bytesOf(proxy4(), func(r *raw) { r.family = 0x12 }), ReasonHeaderMalformed},
		"UDP over IPv6":            {bytesOf(proxy4(), func(r *raw) { r.family = 0x22 }), ReasonHeaderMalformed},
		"Unix socket":              {raw{command: commandProxy, family: 0x31, block: make([]byte, 216)}.bytes(), ReasonHeaderMalformed},
		"PROXY without a family":   {raw{command: commandProxy}.bytes(), ReasonHeaderMalformed},
		"address block cut":        {bytesOf(proxy4(), func(r *raw) { r.block, r.crc = r.block[:11], false }), ReasonHeaderMalformed},
		"no address block":         {bytesOf(proxy4(), func(r *raw) { r.block, r.crc = nil, false }), ReasonHeaderMalformed},
		"IPv6 with an IPv4 block":  {bytesOf(proxy4(), func(r *raw) { r.family, r.crc = familyTCP6, false }), ReasonHeaderMalformed},
		"length over the cap":      {bytesOf(proxy4(), func(r *raw) { r.length = maxBody + 1 }), ReasonHeaderMalformed},
		"length 65535":             {bytesOf(proxy4(), func(r *raw) { r.length = 65535 }), ReasonHeaderMalformed},
		"TLV without a length":     {proxy4([]byte{0x04}).bytes(), ReasonHeaderMalformed},
		"TLV with half a length":   {proxy4([]byte{0x04, 0x00}).bytes(), ReasonHeaderMalformed},
		"TLV past the end":         {proxy4([]byte{0x04, 0x00, 0x02, 0x00}).bytes(), ReasonHeaderMalformed},
		"CRC of 3 bytes":           {bytesOf(proxy4(tlv(tlvCRC32C, "abc")), noCRC), ReasonHeaderMalformed},
		"CRC of 5 bytes":           {bytesOf(proxy4(tlv(tlvCRC32C, "abcde")), noCRC), ReasonHeaderMalformed},
		"second CRC":               {proxy4(tlv(tlvCRC32C, "\x00\x00\x00\x00")).bytes(), ReasonHeaderMalformed},
		"wrong CRC":                {bytesOf(proxy4(tlv(tlvCRC32C, "abcd")), noCRC), ReasonHeaderCRC},
		"endpoint without CRC":     {bytesOf(proxy4(endpointTLV(id)), noCRC), ReasonHeaderCRC},
		"second endpoint":          {proxy4(endpointTLV(id), endpointTLV(id)).bytes(), ReasonHeaderMalformed},
		"second endpoint, empty":   {proxy4(endpointTLV(""), endpointTLV(id)).bytes(), ReasonHeaderMalformed},
		"AWS TLV without subtype":  {proxy4(tlv(tlvAWS, "")).bytes(), ReasonHeaderMalformed},
		"endpoint of no character": {proxy4(endpointTLV("")).bytes(), ReasonHeaderMalformed},
		"endpoint of prefix only":  {proxy4(endpointTLV("vpce-")).bytes(), ReasonHeaderMalformed},
		"endpoint with capitals":   {proxy4(endpointTLV("vpce-0A")).bytes(), ReasonHeaderMalformed},
		"endpoint with a newline":  {proxy4(endpointTLV("vpce-0a\n")).bytes(), ReasonHeaderMalformed},
		"endpoint with NUL":        {proxy4(endpointTLV("vpce-0a\x00")).bytes(), ReasonHeaderMalformed},
		"endpoint star":            {proxy4(endpointTLV("*")).bytes(), ReasonHeaderMalformed},
		"endpoint not ASCII":       {proxy4(endpointTLV("vpce-é")).bytes(), ReasonHeaderMalformed},
		"endpoint of 256":          {proxy4(endpointTLV("vpce-" + strings.Repeat("a", 251))).bytes(), ReasonHeaderMalformed},
		"LOCAL with a wrong CRC":   {raw{command: commandLocal, family: familyTCP4, tlvs: [][]byte{tlv(tlvCRC32C, "abcd")}}.bytes(), ReasonHeaderCRC},
		"LOCAL with addresses and a wrong CRC": {
			raw{command: commandLocal, family: familyTCP4, block: block4("10.0.0.1:1", "10.0.0.2:2"), tlvs: [][]byte{tlv(tlvCRC32C, "abcd")}}.bytes(), ReasonHeaderCRC},
	} {
		t.Run(name, func(t *testing.T) { wantReason(t, c.raw, c.want) })
	}
}

func noCRC(r *raw) { r.crc = false }

// wantReason also cuts the header into single bytes: the reason must not
// depend on how it comes.
func wantReason(t *testing.T, b []byte, want Reason) {
	t.Helper()
	for _, r := range []io.Reader{bytes.NewReader(b), iotest.OneByteReader(bytes.NewReader(b))} {
		_, err := readHeader(r)
		if d, ok := errors.AsType[*Denied](err); !ok || d.Reason != want {
			t.Errorf("got %v, want reason %s", err, want)
		}
	}
}

func TestUnusualHeadersAreRead(t *testing.T) {
	plain := header{src: ap("10.20.0.7:50000"), dst: ap("10.20.0.9:22")}
	withEndpoint := func(id string) header { h := plain; h.endpoint = id; return h }
	long := "vpce-" + strings.Repeat("f", 250)
	for name, c := range map[string]struct {
		raw  raw
		want header
	}{
		"no TLV at all":         {raw{command: commandProxy, family: familyTCP4, block: block4("10.20.0.7:50000", "10.20.0.9:22")}, plain},
		"old endpoint ID":       {proxy4(endpointTLV("vpce-1a2b3c4d")), withEndpoint("vpce-1a2b3c4d")},
		"longest endpoint ID":   {proxy4(endpointTLV(long)), withEndpoint(long)},
		"endpoint after others": {proxy4(tlv(0x05, "unique"), tlv(0x04, ""), tlv(0xEE, "x"), endpointTLV("vpce-0a")), withEndpoint("vpce-0a")},
		"other AWS subtype":     {proxy4(tlv(tlvAWS, "\x02secret"), tlv(tlvAWS, "\x02secret")), plain},
		"body at the cap":       {proxy4(tlv(0x04, strings.Repeat("\x00", maxBody-12-7-3))), plain},
		"IPv4 in IPv6":          {raw{command: commandProxy, family: familyTCP6, block: blockOf(ap("[::ffff:10.20.0.7]:50000"), ap("[::ffff:10.20.0.9]:22")), crc: true}, plain},
		"LOCAL, HAProxy's":      {raw{command: commandLocal}, header{local: true}},
		"LOCAL with addresses":  {raw{command: commandLocal, family: familyTCP4, block: block4("10.0.0.1:1", "10.0.0.2:2"), crc: true}, header{local: true}},
		"LOCAL with anything":   {raw{command: commandLocal, family: 0x99, tlvs: [][]byte{{1, 2, 3, 4, 5}}}, header{local: true}},
	} {
		t.Run(name, func(t *testing.T) {
			b := c.raw.bytes()
			r := bytes.NewReader(append(b, "SSH-"...))
			if got, err := readHeader(r); err != nil || got != c.want {
				t.Fatalf("got %+v, %v, want %+v", got, err, c.want)
			}
			if r.Len() != len("SSH-") {
				t.Fatalf("%d bytes left of 4", r.Len())
			}
		})
	}
}

// FuzzHeader holds whatever is sent: no panic, nothing read past the header,
// memory bounded, the same answer however the bytes are cut, and no endpoint
// without a checksum that is right.
func FuzzHeader(f *testing.F) {
	for _, v := range vectors() {
		f.Add(v)
		f.Add(append(v, "SSH-2.0-x\r\n"...))
	}
	f.Add([]byte("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n"))
	f.Add(proxy4(tlv(0x05, "id"), endpointTLV("vpce-1a2b3c4d")).bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		buf, fillErr := fill(r, nil, headerNeeds)
		if len(buf) > fixedLen+maxBody {
			t.Fatalf("%d bytes were read", len(buf))
		}
		h, err := header{}, fillErr
		if err == nil {
			h, err = parseHeader(buf)
		}
		again, againErr := readHeader(iotest.OneByteReader(bytes.NewReader(data)))
		if (err == nil) != (againErr == nil) || (err == nil && h != again) {
			t.Fatalf("at once %+v, %v; in single bytes %+v, %v", h, err, again, againErr)
		}
		if err != nil {
			return
		}
		if used, want := len(data)-r.Len(), fixedLen+int(binary.BigEndian.Uint16(data[14:])); used != want {
			t.Fatalf("%d bytes used, the header has %d", used, want)
		}
		if h.endpoint != "" && !checksumHolds(buf) {
			t.Fatalf("endpoint %q from a header whose checksum is wrong", h.endpoint)
		}
	})
}

// checksumHolds looks for any four bytes after a CRC32C type and length that
// are the checksum of the rest.
func checksumHolds(b []byte) bool {
	for at := fixedLen; at+7 <= len(b); at++ {
		if b[at] != tlvCRC32C || b[at+1] != 0 || b[at+2] != 4 {
			continue
		}
		zeroed := bytes.Clone(b)
		clear(zeroed[at+3 : at+7])
		if crc32.Checksum(zeroed, crc32.MakeTable(crc32.Castagnoli)) == binary.BigEndian.Uint32(b[at+3:]) {
			return true
		}
	}
	return false
}
