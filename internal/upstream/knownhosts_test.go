package upstream

import (
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func (k *KnownHosts) accepts(host string, port uint16, key ssh.PublicKey) bool {
	_, err := k.check(host, port, key, time.Now())
	return err == nil
}

func TestNamesMatchAsOpenSSHMatchesThem(t *testing.T) {
	key := newKey(t, "ed25519").PublicKey()
	hosts := []struct {
		host string
		port uint16
	}{
		{"db.example", 22}, {"DB.Example", 22}, {"db.example", 2222}, {"web.example", 22}, {"db", 22}, {"d", 22}, {"db.example.test", 22},
		{"10.0.0.7", 22}, {"10.0.0.7", 2222}, {"fd00::7", 22}, {"fd00::7", 2222}, {"xdb.example", 22},
	}
	for _, names := range []string{
		"db.example", "DB.EXAMPLE", "db.example,10.0.0.7", "[db.example]:2222", "[db.example]:22", "*", "*.example", "d*", "?b.example", "??",
		"db*,!db.example", "!db.example,*", "!*", "[*]:2222", "[*]:*", "*.example,!web.*", "fd00::7", "[fd00::7]:2222", "10.0.0.?", "d*b*.*e",
	} {
		file := knownHostsFile(t, names+" "+line(key))
		known, err := LoadKnownHosts([]string{file})
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hosts {
			found := exec.Command(program(t, "ssh-keygen"), "-F", lookupName(h.host, h.port), "-f", file).Run() == nil
			if got := known.accepts(h.host, h.port, key); got != found {
				t.Errorf("%s port %d by %q: %v, OpenSSH says %v", h.host, h.port, names, got, found)
			}
		}
	}
}

func TestHashedNamesAreFound(t *testing.T) {
	key, other := newKey(t, "ed25519").PublicKey(), newKey(t, "ed25519").PublicKey()
	file := knownHostsFile(t, "db.example "+line(key), "[db.example]:2222 "+line(other), "10.0.0.7,fd00::7 "+line(key))
	keygen(t, "-q", "-H", "-f", file)
	known, err := LoadKnownHosts([]string{file})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		host string
		port uint16
		key  ssh.PublicKey
		want bool
	}{
		{"db.example", 22, key, true}, {"DB.example", 22, key, true}, {"db.example", 22, other, false}, {"db.example", 2222, other, true},
		{"db.example", 2222, key, false}, {"10.0.0.7", 22, key, true}, {"FD00:0::7", 22, key, true}, {"web.example", 22, key, false},
	} {
		if got := known.accepts(tc.host, tc.port, tc.key); got != tc.want {
			t.Errorf("%s port %d: %v", tc.host, tc.port, got)
		}
	}
}

func TestWhatIsNoHostIsUnknown(t *testing.T) {
	key := newKey(t, "ed25519").PublicKey()
	known := knownHosts(t, "* "+line(key), "[db]:2222 "+line(key))
	for _, host := range []string{"", "[db]:2222", "db,web", "*", "a b", "fe80::1%eth0", "|1|x|y", "db\x00"} {
		if known.accepts(host, 22, key) {
			t.Errorf("%q is known", host)
		}
	}
	if !known.accepts("db", 22, key) {
		t.Error("db is unknown")
	}
}

func TestNobodyIsKnownByDefault(t *testing.T) {
	key := newKey(t, "ed25519").PublicKey()
	none, err := LoadKnownHosts(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, known := range []*KnownHosts{nil, {}, none} {
		_, err := known.check("db.example", 22, key, time.Now())
		if e, ok := errors.AsType[*HostKeyError](err); !ok || e.Outcome != OutcomeHostKeyUnknown {
			t.Errorf("%v", err)
		}
		if got := known.hostKeyAlgorithms("db.example", 22); !slices.Equal(got, plainHostKeyAlgorithms()) {
			t.Errorf("%v", got)
		}
	}
}

func TestHostKeyAlgorithmsBeginWithWhatIsListed(t *testing.T) {
	ecdsa, rsa := line(newKey(t, "ecdsa").PublicKey()), line(newKey(t, "rsa").PublicKey())
	known := knownHosts(t, "db.example "+rsa, "db.example "+ecdsa, "@cert-authority *.cert.example "+rsa)
	for host, want := range map[string][]string{
		"db.example":       {ssh.KeyAlgoECDSA256, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256, ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA384},
		"other.example":    {ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256},
		"web.cert.example": append(certHostKeyAlgorithms(), ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256),
	} {
		got := known.hostKeyAlgorithms(host, 22)
		if !slices.Equal(got[:len(want)], want) || slices.Contains(got, ssh.KeyAlgoRSA) || slices.Contains(got, ssh.CertAlgoRSAv01) {
			t.Errorf("%s: %v", host, got)
		}
	}
}

func TestAFaultyFileIsNamedWithItsLine(t *testing.T) {
	good := line(newKey(t, "ed25519").PublicKey())
	for _, bad := range []string{
		"db.example", "db.example ssh-ed25519", "db.example ssh-ed25519 !!!", "db.example ssh-rsa " + strings.Fields(good)[1],
		"@revokd * " + good, "@cert-authority @revoked " + good, "db.example,,web " + good, "! " + good, "|1|x " + good, "|2|AAAA|AAAA " + good,
		"|1|AAAA|AAAA " + good, "|1|!|AAAA " + good, "@cert-authority", "\x00",
	} {
		file := knownHostsFile(t, "# first", "", "ok.example "+good, bad)
		if _, err := LoadKnownHosts([]string{file}); err == nil || !strings.Contains(err.Error(), file+":4: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	missing := filepath.Join(t.TempDir(), "missing")
	if _, err := LoadKnownHosts([]string{missing}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("%v", err)
	}
}

func TestSeveralFilesAreOneList(t *testing.T) {
	a, b := newKey(t, "ed25519").PublicKey(), newKey(t, "ed25519").PublicKey()
	known, err := LoadKnownHosts([]string{
		knownHostsFile(t, "\tdb.example "+line(a)+" a comment\r"), knownHostsFile(t, "db.example "+line(b), "@revoked * "+line(a)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if known.accepts("db.example", 22, a) || !known.accepts("db.example", 22, b) {
		t.Error("the second file's lines do not count")
	}
}

func FuzzKnownHosts(f *testing.F) {
	key, err := ssh.NewPublicKey(ed25519Key())
	if err != nil {
		f.Fatal(err)
	}
	for _, names := range []string{"db.example ", "@cert-authority *.x,!y ", "@revoked * ", "[db]:22,10.0.0.? ", "|1|AAAA|AAAA "} {
		f.Add([]byte(names + line(key) + " comment\n# x\n"))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		k := &KnownHosts{revoked: map[string]string{}}
		if k.parse("f", data) != nil {
			return
		}
		if k.accepts("db.example", 22, key) && !strings.Contains(string(data), line(key)[12:40]) {
			t.Errorf("a key that is not in the file was accepted by %q", data)
		}
	})
}

func FuzzWildcard(f *testing.F) {
	for _, s := range [][2]string{{"*", ""}, {"a*b?c", "axxbyc"}, {"**a*", "bab"}, {"?", "ab"}, {"*.example", "db.example"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern)+len(name) > 24 {
			return // the oracle is exponential
		}
		if got, want := wildcard(pattern, name), slowWildcard(pattern, name); got != want {
			t.Errorf("%q matches %q: %v, want %v", pattern, name, got, want)
		}
	})
}

// slowWildcard is the definition.
func slowWildcard(pattern, name string) bool {
	switch {
	case pattern == "":
		return name == ""
	case pattern[0] == '*':
		return slowWildcard(pattern[1:], name) || name != "" && slowWildcard(pattern, name[1:])
	}
	return name != "" && (pattern[0] == '?' || pattern[0] == name[0]) && slowWildcard(pattern[1:], name[1:])
}

// ed25519Key is a key that needs no randomness.
func ed25519Key() any {
	return ed25519.PublicKey(make([]byte, 32))
}
