package kexinit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

const (
	maxIdentification = 255   // bytes with CR LF, RFC 4253 §4.2
	minPacket         = 12    // packet_length of the shortest packet, RFC 4253 §6
	maxPacket         = 35000 // packet_length; RFC 4253 §6.1
	minPadding        = 4
	msgKexinit        = 20
	cookieLen         = 16
	maxName           = 64  // RFC 4251 §6
	maxNames          = 256 // in one list; real clients stay below 50
	maxQuoted         = 40  // of the client's bytes in an error for the operator
)

// identification returns the line that b begins with, without its line end,
// and how many bytes of b it takes. A size of 0 without an error means that
// more bytes are needed.
func identification(b []byte) (line string, size int, err error) {
	text, _, ended := bytes.Cut(b[:min(len(b), maxIdentification)], []byte("\n"))
	if ended {
		size = len(text) + 1
		text = bytes.TrimSuffix(text, []byte("\r"))
	}
	if err := checkIdentification(text, ended); err != nil {
		return "", 0, &Error{ReasonVersionBad, fmt.Errorf("%w: %+q", err, b[:min(len(b), maxQuoted)])}
	}
	if !ended && len(text) == maxIdentification {
		return "", 0, &Error{ReasonVersionLong, fmt.Errorf("identification over %d bytes", maxIdentification)}
	}
	if !ended {
		return "", 0, nil
	}
	return string(text), size, nil
}

// checkIdentification judges a line that may not have ended yet, so that a
// client of another protocol is refused at its first bytes.
func checkIdentification(text []byte, ended bool) error {
	if !ended {
		text = bytes.TrimSuffix(text, []byte("\r"))
	}
	if !begins(text, "SSH-2.0-", ended) && !begins(text, "SSH-1.99-", ended) {
		return errors.New("first line is no SSH-2.0 identification")
	}
	for _, c := range text {
		if c < ' ' || c > '~' {
			return errors.New("identification is not printable ASCII")
		}
	}
	return nil
}

// begins reports whether text is prefix and at least one byte more or, if it
// has not ended, may become so.
func begins(text []byte, prefix string, ended bool) bool {
	if len(text) > len(prefix) || ended {
		return len(text) > len(prefix) && strings.HasPrefix(string(text), prefix)
	}
	return strings.HasPrefix(prefix, string(text))
}

// packetPayload returns the payload of the unencrypted packet that b begins
// with (RFC 4253 §6), which must be a KEXINIT; nil means that more bytes are
// needed. A bad header is refused before the rest has come.
func packetPayload(b []byte) ([]byte, error) {
	if len(b) < 4 {
		return nil, nil
	}
	length := int64(binary.BigEndian.Uint32(b))
	if length < minPacket || length > maxPacket || (length+4)%8 != 0 {
		return nil, fmt.Errorf("packet length %d", length)
	}
	if len(b) > 5 && b[5] != msgKexinit {
		return nil, fmt.Errorf("first packet is message %d, not KEXINIT", b[5])
	}
	if int64(len(b)) < 4+length {
		return nil, nil
	}
	padding := int64(b[4])
	if padding < minPadding || padding+1 >= length {
		return nil, fmt.Errorf("padding of %d bytes in a packet of %d", padding, length)
	}
	return b[5 : 4+length-padding], nil
}

// kexinit holds the ten name-lists of a KEXINIT in wire order, each as it came.
type kexinit [10]string

// parseKexinit checks and cuts a KEXINIT payload. The result shares no memory
// with it.
func parseKexinit(payload []byte) (*kexinit, error) {
	if len(payload) < 1+cookieLen {
		return nil, errors.New("KEXINIT ends within its cookie")
	}
	rest := string(payload[1+cookieLen:])
	var k kexinit
	for i := range k {
		list, after, ok := cutString(rest)
		if !ok {
			return nil, fmt.Errorf("KEXINIT ends within name-list %d", i+1)
		}
		if err := checkNames(list); err != nil {
			return nil, fmt.Errorf("KEXINIT name-list %d: %w", i+1, err)
		}
		k[i], rest = list, after
	}
	if k[0] == "" {
		return nil, errors.New("KEXINIT names no key exchange")
	}
	if len(rest) != 5 { // first_kex_packet_follows and a reserved uint32
		return nil, fmt.Errorf("KEXINIT has %d bytes after its name-lists, not 5", len(rest))
	}
	return &k, nil
}

// cutString takes an RFC 4251 string from the front of s.
func cutString(s string) (value, rest string, ok bool) {
	if len(s) < 4 {
		return "", "", false
	}
	size := uint64(s[0])<<24 | uint64(s[1])<<16 | uint64(s[2])<<8 | uint64(s[3])
	if size > uint64(len(s)-4) {
		return "", "", false
	}
	return s[4 : 4+size], s[4+size:], true
}

// checkNames holds a name-list to RFC 4251 §5 and §6.
func checkNames(list string) error {
	if list == "" {
		return nil
	}
	if strings.Count(list, ",") >= maxNames {
		return fmt.Errorf("over %d names", maxNames)
	}
	for name := range strings.SplitSeq(list, ",") {
		if len(name) == 0 || len(name) > maxName {
			return fmt.Errorf("name of %d bytes", len(name))
		}
		if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("name %+.40q is not printable ASCII", name)
		}
	}
	return nil
}

// hello splits the lists anew at each call: a connection keeps only the text.
func (k *kexinit) hello(version string, compression int) Hello {
	if k == nil {
		return Hello{Version: version}
	}
	return Hello{
		Version:             version,
		KexAlgorithms:       names(k[0]),
		HostKeyAlgorithms:   names(k[1]),
		CiphersClientServer: names(k[2]),
		CiphersServerClient: names(k[3]),
		MACsClientServer:    names(k[4]),
		MACsServerClient:    names(k[5]),
		Compression:         names(k[compression]),
	}
}

func names(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}
