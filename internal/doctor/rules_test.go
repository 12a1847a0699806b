package doctor

import (
	"encoding/binary"
	"net/netip"
	"path"
	"slices"
	"strings"
	"testing"
)

func TestPrefixesCoverTogether(t *testing.T) {
	for _, sc := range []struct {
		p    string
		by   string
		want bool
	}{
		{"10.20.0.0/16", "", false},
		{"10.20.0.0/16", "10.20.0.0/16", true},
		{"10.20.0.0/16", "10.0.0.0/8", true},
		{"10.20.0.0/16", "10.20.0.0/17", false},
		{"10.20.0.0/16", "10.20.0.0/17 10.20.128.0/17", true},
		{"10.20.0.0/16", "10.20.0.0/17 10.20.128.0/18 10.20.192.0/18", true},
		{"10.20.0.0/16", "10.20.0.0/17 10.20.128.0/18 10.20.192.0/19", false},
		{"10.20.0.0/16", "10.20.0.1/32", false},
		{"10.20.0.1/32", "10.20.0.1/32", true},
		{"10.20.0.1/32", "10.20.0.2/32", false},
		{"0.0.0.0/0", "0.0.0.0/1 128.0.0.0/1", true},
		{"fd00::/16", "fd00::/17 fd00:8000::/17", true},
		{"10.0.0.0/8", "::/0", false},
	} {
		if got := covered(netip.MustParsePrefix(sc.p), prefixes(strings.Fields(sc.by)...)); got != sc.want {
			t.Errorf("%s by %q: %v", sc.p, sc.by, got)
		}
	}
}

// FuzzCovered compares with asking about each address of a small network.
func FuzzCovered(f *testing.F) {
	f.Add(byte(24), []byte{10, 0, 0, 0, 25, 10, 0, 0, 128, 25})
	f.Add(byte(30), []byte{10, 0, 0, 1, 32})
	f.Fuzz(func(t *testing.T, bits byte, raw []byte) {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, 0}), 24+int(bits%9))
		var by []netip.Prefix
		for ; len(raw) >= 5 && len(by) < 20; raw = raw[5:] {
			by = append(by, netip.PrefixFrom(netip.AddrFrom4([4]byte(raw)), int(raw[4]%33)).Masked())
		}
		want := true
		for a := p.Addr(); p.Contains(a); a = a.Next() {
			want = want && slices.ContainsFunc(by, func(q netip.Prefix) bool { return q.Contains(a) })
		}
		if got := covered(p, by); got != want {
			t.Errorf("%v by %v: %v", p, by, got)
		}
	})
}

// FuzzACL compares with asking about each port.
func FuzzACL(f *testing.F) {
	f.Add([]byte{1, 0, 10, 0, 200, 3, 1, 0, 0, 255, 255}, uint16(5), uint16(1000))
	f.Fuzz(func(t *testing.T, raw []byte, from, length uint16) {
		acl := &ACL{ID: "acl"}
		other := netip.MustParseAddr("10.0.0.1")
		for n := 1; len(raw) >= 5 && n < 12; raw, n = raw[5:], n+1 {
			e := ACLEntry{Number: n, Allow: raw[0]&1 != 0, Egress: raw[0]&2 != 0, Protocol: "6", CIDR: netip.MustParsePrefix("10.0.0.0/8"),
				From: int(binary.BigEndian.Uint16(raw[1:])), To: int(binary.BigEndian.Uint16(raw[3:]))}
			if raw[0]&4 != 0 {
				e.CIDR = netip.MustParsePrefix("192.0.2.0/24")
			}
			if raw[0]&8 != 0 {
				e.Protocol, e.From, e.To = "-1", 0, 0
			}
			acl.Entries = append(acl.Entries, e)
		}
		slices.Reverse(acl.Entries)
		to := int(from) + int(length%2000)
		want := ""
		for port := int(from); port <= to && want == ""; port++ {
			if !lets(acl, other, port) {
				want = "stopped"
			}
		}
		if got := acl.blocked(false, other, int(from), to); (got == "") != (want == "") {
			t.Errorf("ports %d to %d: %q, want %q; %+v", from, to, got, want, acl.Entries)
		}
	})
}

// lets is the rule of network ACLs: the first entry that is about it decides.
func lets(acl *ACL, other netip.Addr, port int) bool {
	for n := 1; n < 12; n++ {
		for _, e := range acl.Entries {
			if e.Number == n && !e.Egress && e.is(other) && e.has(port) {
				return e.Allow
			}
		}
	}
	return false
}

func TestAPolicyPermitsWhatItSays(t *testing.T) {
	const action, resource = "s3:PutObject", "arn:aws:s3:::bucket/prefix/x"
	for _, sc := range []struct {
		policy         string
		allowed, known bool
	}{
		{``, true, true},
		{`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}`, true, true},
		{`{"Statement":{"Effect":"Allow","Principal":{"AWS":"*"},"Action":["s3:Get*","S3:putobject"],"Resource":["arn:aws:s3:::bucket","arn:aws:s3:::bucket/*"]}}`, true, true},
		{`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:Get*","Resource":"*"}]}`, false, true},
		{`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::other/*"}]}`, false, true},
		{`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"},{"Effect":"Deny","Principal":"*","Action":"s3:Put*","Resource":"*"}]}`, false, true},
		{`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"},{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}`, true, false},
		{`{"Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::1:root"},"Action":"*","Resource":"*"}]}`, false, false},
		{`{"Statement":[{"Effect":"Allow","Principal":"*","NotAction":"s3:Delete*","Resource":"*"}]}`, false, false},
		{`not JSON`, false, false},
		{`{"Statement":"none"}`, false, false},
	} {
		if allowed, known := permits(sc.policy, action, resource); allowed != sc.allowed || known != sc.known {
			t.Errorf("%s: allowed %v, known %v", sc.policy, allowed, known)
		}
	}
}

// FuzzMatches compares with path.Match, whose stars stop at slashes and which
// knows more characters.
func FuzzMatches(f *testing.F) {
	for _, s := range []string{"s3:*", "*Put*", "a?c", "**", "", "*a*b"} {
		f.Add(s, "s3:PutObject")
	}
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if strings.ContainsAny(pattern, `[]\/`) || strings.Contains(s, "/") || !ascii(pattern) || !ascii(s) {
			return // path.Match takes these for something else
		}
		want, err := path.Match(pattern, s)
		if err != nil {
			return // a pattern that only path.Match finds wrong
		}
		if got := matches(pattern, s); got != want {
			t.Errorf("%q with %q: %v", s, pattern, got)
		}
	})
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > 126 })
}
