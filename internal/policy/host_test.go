package policy

import (
	"bufio"
	"bytes"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

func TestCheckHostReadsAddressesAndNames(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.2.17":              "10.0.2.17",
		"::1":                    "::1",
		"FD00::7":                "fd00::7",
		"::ffff:10.0.2.17":       "10.0.2.17",
		"::ffff:7f00:1":          "127.0.0.1",
		"0.0.0.0":                "0.0.0.0",
		"node1":                  "node1",
		"Node1.Compute.INTERNAL": "node1.compute.internal",
		"_sip._tcp.example.com":  "_sip._tcp.example.com",
		"xn--bcher-kva.example":  "xn--bcher-kva.example",
		"10.0.0.1.example.com":   "10.0.0.1.example.com",
		"0x7f000001.com":         "0x7f000001.com",
		"1.2.3.4a":               "1.2.3.4a",
		"0xg":                    "0xg",
		strings.Repeat("a", 63):  strings.Repeat("a", 63),
	} {
		addr, name, err := CheckHost(in)
		if err != nil || addr.IsValid() == (name != "") {
			t.Errorf("%q: address %v, name %q, error %v", in, addr, name, err)
			continue
		}
		if got := name + strings.TrimPrefix(addr.String(), "invalid IP"); got != want {
			t.Errorf("%q reads as %q, want %q", in, got, want)
		}
	}
}

func TestWhatIsNeitherAddressNorNameIsRefused(t *testing.T) {
	for _, in := range []string{
		"", ".", "..", "a.", ".a", "a..b", "10.0.2.17.", "localhost.",
		"0x7f000001", "0X7F000001", "0x", "a.0x", "0x7f.1", "127.1", "127.0.1", "0177.0.0.1", "2130706433", "017700000001", "0", "1.2.3.4.5", "256.1.1.1", "1.2.3.04", "a.1",
		"fe80::1%eth0", "::1%1", "[::1]", "::1]", "::g", "::ffff:1.2.3.4%x", "1.2.3.4:22", "10.0.0.0/8",
		"a\x00.internal", "\x00", "127.0.0.1\x00.internal", " a", "a ", "a b", "a\n", "a\t", "a/b", "a@b", "a:b", "*", "*.internal", "$(id)", "a;b", "a,b", "-oProxyCommand=x", "a-", "a.-b", "a.b-",
		"é.example", "ａ.example", "１２７.0.0.1", "127。0。0。1", "\u212A.example", "a\xff",
		strings.Repeat("a", 64), strings.Repeat("a.", 127), strings.Repeat("a", 254), strings.Repeat("a", 1<<20),
	} {
		addr, name, err := CheckHost(in)
		if err == nil || addr.IsValid() || name != "" {
			t.Errorf("%.80q: address %v, name %q, error %v", in, addr, name, err)
		}
		if err != nil && len(err.Error()) > 2000 {
			t.Errorf("%.80q: an error of %d bytes", in, len(err.Error()))
		}
	}
}

func TestANameEndsAt253Bytes(t *testing.T) {
	longest := strings.Repeat("a.", 126) + "a"
	if _, name, err := CheckHost(longest); err != nil || name != longest {
		t.Errorf("253 bytes: %q, %v", name, err)
	}
	if _, _, err := CheckHost(longest + "a"); err == nil {
		t.Error("254 bytes are accepted")
	}
}

// numericForms are names made of what inet_aton reads as numbers, and of what
// it almost does.
func numericForms() []string {
	parts := []string{"0", "1", "7", "08", "010", "0177", "255", "256", "65536", "2130706433", "4294967295", "4294967296",
		"0x", "0x0", "0x7f", "0X7F", "0xg", "0x7f000001", "1e1", "1_0", "a", "0b1", "0o7"}
	forms := append([]string(nil), parts...)
	for _, a := range parts {
		for _, b := range parts {
			forms = append(forms, a+"."+b, a+".0."+b, a+".0.0."+b, "1."+a+"."+b, a+"."+b+".0.1")
		}
	}
	return forms
}

// TestNoNameIsAnAddressToTheCLibrary asks the C library's own inet_aton.
func TestNoNameIsAnAddressToTheCLibrary(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("python3 is missing")
		}
		t.Skip("python3 is missing: it calls the C library's inet_aton")
	}
	cmd := exec.Command(python, "-c", `
import socket, sys
for line in sys.stdin:
    try: socket.inet_aton(line.rstrip("\n")); print(1)
    except OSError: print(0)`)
	forms := numericForms()
	cmd.Stdin = strings.NewReader(strings.Join(forms, "\n"))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	addresses := 0
	answers := bufio.NewScanner(bytes.NewReader(out))
	for _, form := range forms {
		if !answers.Scan() {
			t.Fatalf("no answer for %q", form)
		}
		isAddress := answers.Text() == "1"
		if isAddress {
			addresses++
		}
		if isAddress != inetAton(form) {
			t.Errorf("%q: the C library says %v, the test's inet_aton the opposite", form, isAddress)
		}
		if _, name, err := CheckHost(form); err == nil && name != "" && isAddress {
			t.Errorf("%q is a name here and an address to the C library", form)
		}
	}
	if addresses < 100 {
		t.Errorf("only %d of %d forms are addresses to the C library", addresses, len(forms))
	}
}

// inetAton is inet_aton(3) as a fuzz oracle: one to four numbers, decimal,
// octal or hexadecimal, the last of which fills the bytes that are left.
func inetAton(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return false
	}
	for i, part := range parts {
		limit := uint64(255)
		if i == len(parts)-1 {
			limit = 1<<(8*(5-len(parts))) - 1
		}
		n, ok := cNumber(part)
		if !ok || n > limit {
			return false
		}
	}
	return true
}

func cNumber(s string) (uint64, bool) {
	base := 10
	if len(s) > 1 && s[0] == '0' {
		base, s = 8, s[1:]
		if s[0] == 'x' || s[0] == 'X' {
			base, s = 16, s[1:]
		}
	}
	n, err := strconv.ParseUint(s, base, 64)
	return n, err == nil
}

// FuzzCheckHost: what is accepted as a name is no address to inet_aton, is in
// lower case, reads back as itself and is made of name bytes only; what is
// accepted as an address has one spelling and no zone.
func FuzzCheckHost(f *testing.F) {
	for _, s := range append(numericForms()[:60], "10.0.2.17", "node1.compute.internal", "::ffff:127.0.0.1", "fe80::1%eth0", "a.", "\u212A", "_a.b", "127.1") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		addr, name, err := CheckHost(s)
		if err != nil {
			if addr.IsValid() || name != "" {
				t.Fatalf("%q is refused and gives %v and %q", s, addr, name)
			}
			return
		}
		if addr.IsValid() == (name != "") {
			t.Fatalf("%q gives %v and %q", s, addr, name)
		}
		if addr.IsValid() {
			if again, err := netip.ParseAddr(addr.String()); err != nil || again != addr || addr.Zone() != "" || addr.Is4In6() {
				t.Fatalf("%q gives %v", s, addr)
			}
			return
		}
		if inetAton(s) || inetAton(name) {
			t.Fatalf("%q is a name here and an address to inet_aton", s)
		}
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || strings.HasSuffix(name, ".") || !strings.EqualFold(s, name) {
			t.Fatalf("%q gives the name %q", s, name)
		}
		if _, again, err := CheckHost(name); err != nil || again != name {
			t.Fatalf("%q gives %q, which gives %q (%v)", s, name, again, err)
		}
	})
}
