package policy

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestATargetPrintsAsItIsRead(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.0/16:22,8000-8100": "10.0.0.0/16:22,8000-8100",
		"*.compute.internal:22":    "*.compute.internal:22",
		"*.Compute.Internal:22":    "*.compute.internal:22",
		"ip-*-db.corp:3306":        "ip-*-db.corp:3306",
		"node1:22":                 "node1:22",
		"10.0.2.17:22":             "10.0.2.17:22",
		"10.0.2.17/32:22":          "10.0.2.17:22",
		"[fd00::7]:22":             "[fd00::7]:22",
		"[fd00::/8]:22":            "[fd00::/8]:22",
		"[FD00:0::7/128]:22":       "[fd00::7]:22",
		"0.0.0.0/0:*":              "0.0.0.0/0:*",
		"0.0.0.0/0:1-65535":        "0.0.0.0/0:*",
		"[::/0]:*":                 "[::/0]:*",
		"10.0.0.1:8000-8000":       "10.0.0.1:8000",
		"*.com:443":                "*.com:443",
		"*-a.*.internal:1":         "*-a.*.internal:1",
	} {
		target, err := ParseTarget(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := target.String(); got != want {
			t.Errorf("%s prints as %s, want %s", in, got, want)
		}
	}
}

func TestATargetShowsItsParts(t *testing.T) {
	cidr, name := mustTarget(t, "10.0.0.0/16:22,8000-8100"), mustTarget(t, "*.internal:*")
	if cidr.Prefix() != netip.MustParsePrefix("10.0.0.0/16") || cidr.Glob() != "" || !slices.Equal(cidr.Ports(), []PortRange{{22, 22}, {8000, 8100}}) {
		t.Errorf("%s: %v %q %v", cidr, cidr.Prefix(), cidr.Glob(), cidr.Ports())
	}
	if name.Prefix().IsValid() || name.Glob() != "*.internal" || !slices.Equal(name.Ports(), []PortRange{{1, 65535}}) {
		t.Errorf("%s: %v %q %v", name, name.Prefix(), name.Glob(), name.Ports())
	}
}

func TestPortZeroIsInNoRange(t *testing.T) {
	for _, r := range []PortRange{{}, everyPort, {0, 65535}} {
		if r.Contains(0) {
			t.Errorf("%#v holds port 0", r)
		}
	}
}

// Each refusal says what to write instead.
func TestATargetThatMeansSomethingElseIsRefused(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.1/16:22":                        "write 10.0.0.0/16 for the network, or 10.0.0.1 for the one host",
		"[fd00::7/8]:22":                        "write fd00::/8 for the network",
		"10.0.0.0/33:22":                        "is not a CIDR such as",
		"10.0.0/16:22":                          "is not a CIDR such as",
		"10.0.0.256:22":                         "is not an address",
		"10.0.0:22":                             "is not an address",
		"010.0.0.1:22":                          "is not an address",
		"10.0.0.0/016:22":                       "is not a CIDR such as",
		"0x7f000001:22":                         "ends in a number",
		"2130706433:22":                         "is not an address",
		"fd00::7:22":                            "stands in brackets",
		"fd00::7":                               "stands in brackets",
		"[fd00::7:22":                           "stands in brackets",
		"[10.0.0.1]:22":                         "brackets stand around an IPv6 address",
		"[10.0.0.0/16]:22":                      "brackets stand around an IPv6 address",
		"[node1]:22":                            "brackets stand around an IPv6 address",
		"[fe80::1%eth0]:22":                     "has a zone",
		"[::ffff:10.0.0.1]:22":                  "write 10.0.0.1",
		"[::ffff:10.0.0.0/104]:22":              "IPv6 clothes",
		"10.0.0.1":                              "names no ports",
		"node1":                                 "names no ports",
		"[fd00::7]":                             "names no ports",
		"":                                      "names no ports",
		":22":                                   "names no host",
		"10.0.0.1:":                             "is not a port",
		"10.0.0.1:0":                            "is not a port",
		"10.0.0.1:65536":                        "is not a port",
		"10.0.0.1:022":                          "is not a port",
		"10.0.0.1:+22":                          "is not a port",
		"10.0.0.1:ssh":                          "is not a port",
		"10.0.0.1:22,":                          "is not a port",
		"10.0.0.1:22, 23":                       "is not a port",
		"10.0.0.1:8100-8000":                    "write 8000-8100",
		"10.0.0.1:0-22":                         "is not a port",
		"10.0.0.1:22-":                          "is not a port",
		"10.0.0.1:1-2-3":                        "is not a port",
		"*:22":                                  "any name that anyone registers",
		"**:22":                                 "any name that anyone registers",
		"*.*:22":                                "any name that anyone registers",
		"10.0.*:22":                             "write a CIDR",
		"10.0.0.*:22":                           "write a CIDR",
		"*.10:22":                               "write a CIDR",
		"node*.0x10:22":                         "ends in a number",
		".internal:22":                          "label of the name is empty",
		"*.internal.:22":                        "label of the name is empty",
		"a..b:22":                               "label of the name is empty",
		"-a.b:22":                               "begins or ends with a hyphen",
		"a b:22":                                "is not a letter",
		"é.internal:22":                         "is not a letter",
		"*.\u212Ainternal:22":                   "is not a letter",
		"user@node1:22":                         "is not a letter",
		"localhost:22":                          "write 127.0.0.1",
		strings.Repeat("a", 64) + ":22":         "longer than 63",
		strings.Repeat("a.", 127) + "*" + ":22": "longer than 253",
	} {
		_, err := ParseTarget(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", in, err, want)
		}
	}
}

func TestABindIsOneAddress(t *testing.T) {
	for in, want := range map[string]string{
		"0.0.0.0:7000":         "0.0.0.0:7000",
		"*:7000":               "*:7000",
		"[::]:7000,7001":       "[::]:7000,7001",
		"localhost:1024-65535": "localhost:1024-65535",
		"10.0.1.5:*":           "10.0.1.5:*",
		"[FD00::7]:22":         "[fd00::7]:22",
	} {
		target, err := ParseListen(in)
		if err != nil || target.String() != want {
			t.Errorf("%s prints as %s (%v), want %s", in, target, err, want)
		}
	}
	for in, want := range map[string]string{
		"10.0.0.0/16:7000":      "not a network",
		"*.internal:7000":       "is not an address",
		"gate:7000":             "is not an address",
		"::1:7000":              "stands in brackets",
		"[fe80::1%eth0]:7000":   "has a zone",
		"[::ffff:0.0.0.0]:7000": "write 0.0.0.0",
		"[*]:7000":              "brackets stand around",
		"0.0.0.0":               "names no ports",
		"0.0.0.0:0":             "is not a port",
	} {
		_, err := ParseListen(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", in, err, want)
		}
	}
}

func TestAnAsteriskStandsForAnyRun(t *testing.T) {
	for _, c := range []struct {
		glob, name string
		want       bool
	}{
		{"*.internal", "a.internal", true},
		{"*.internal", "a.b.internal", true},
		{"*.internal", "internal", false},
		{"*.internal", "ainternal", false},
		{"*.internal", "a.internal.x", false},
		{"ip-*", "ip-", true},
		{"ip-*", "ip-10.x", true},
		{"ip-*", "xip-1", false},
		{"a*b*c", "abc", true},
		{"a*b*c", "aXbXbXc", true},
		{"a*b*c", "aXcXb", false},
		{"a**b", "ab", true},
		{"node1", "node1", true},
		{"node1", "node", false},
		{"node1", "node11", false},
	} {
		if got := matchGlob(c.glob, c.name); got != c.want {
			t.Errorf("%s and %s: %v, want %v", c.glob, c.name, got, c.want)
		}
	}
}

// An attacker chooses the name; the longest must not cost more than its square.
func BenchmarkGlobAgainstTheWorstName(b *testing.B) {
	glob, name := "*"+strings.Repeat("a", maxName/2)+"b", strings.Repeat("a", maxName)
	for b.Loop() {
		if matchGlob(glob, name) {
			b.Fatal("matched")
		}
	}
}

// FuzzParseTarget: what is read prints in a form that reads back as the same
// target, for both readers.
func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{
		"10.0.0.0/16:22,8000-8100", "*.compute.internal:22", "10.0.2.17:22", "[fd00::/8]:22", "[fd00::7]:*",
		"*:7000", "localhost:1-2", "[::]:7000", "0.0.0.0:1-65535", "a:b:1", "[]:1", "[[::1]]:1", "1/1:1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(string) (Target, error){ParseTarget, ParseListen} {
			first, err := parse(s)
			if err != nil {
				if !reflect.DeepEqual(first, Target{}) {
					t.Fatalf("%q is refused and gives %v", s, first)
				}
				continue
			}
			second, err := parse(first.String())
			if err != nil || !reflect.DeepEqual(first, second) {
				t.Fatalf("%q prints as %q, which reads as %#v and not %#v (%v)", s, first, second, first, err)
			}
		}
	})
}
