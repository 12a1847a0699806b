package main

import (
	"net/netip"
	"path"
	"slices"
	"testing"

	"postern/internal/policy"
)

func parsedTarget(t *testing.T, text string) policy.Target {
	t.Helper()
	target, err := policy.ParseTarget(text)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func TestTargetsAsPatternsOfOpenSSH(t *testing.T) {
	for text, want := range map[string][]string{
		"10.0.0.0/16:22":             {"10.0.*"},
		"10.0.0.0/8:22":              {"10.*"},
		"10.0.2.17:22":               {"10.0.2.17"},
		"10.0.2.16/30:2222":          {"[10.0.2.16]:2222", "[10.0.2.17]:2222", "[10.0.2.18]:2222", "[10.0.2.19]:2222"},
		"*.compute.internal:22,2200": {"*.compute.internal", "[*.compute.internal]:2200"},
		"node:20-30":                 {"node", "[node]:*"},
		"node:2000-3000":             {"[node]:*"},
		"[fd00::7]:22":               {"fd00::7"},
		"[2001:db8::7]:2222":         {"[2001:db8::7]:2222"},
		"[2001:db8::/32]:22":         {"2001:db8:*"},
		"[2001:db8:0:1::/64]:22":     nil, // the zero may be written as ::
		"[fd00::/8]:22":              nil,
		"0.0.0.0/0:22":               nil, // would be every name too
	} {
		if got := knownPatterns(parsedTarget(t, text)); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// FuzzHostPatterns: the patterns of a prefix match its addresses and no others.
func FuzzHostPatterns(f *testing.F) {
	f.Add([]byte{10, 0, 0, 0}, 16, []byte{10, 0, 2, 17})
	f.Add([]byte{10, 0, 128, 0}, 17, []byte{10, 0, 127, 255})
	f.Add([]byte{172, 16, 0, 0}, 12, []byte{172, 32, 0, 0})
	f.Fuzz(func(t *testing.T, network []byte, bits int, address []byte) {
		if len(network) != 4 || len(address) != 4 || bits < 8 || bits > 32 {
			return
		}
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte(network)), bits).Masked()
		addr := netip.AddrFrom4([4]byte(address))
		matched := slices.ContainsFunc(hostPatterns(parsedTarget(t, p.String()+":22")), func(pattern string) bool {
			ok, err := path.Match(pattern, addr.String())
			return ok && err == nil
		})
		if matched != p.Contains(addr) {
			t.Errorf("%s matches %s: %v", p, addr, matched)
		}
	})
}
