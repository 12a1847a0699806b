package sshgate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/policy"
)

// certificate signs a user certificate for key by ca; change may spoil it
// before, spoil after it is signed.
func certificate(t testing.TB, ca ssh.Signer, key ssh.PublicKey, change func(*ssh.Certificate)) *ssh.Certificate {
	t.Helper()
	c := &ssh.Certificate{
		Key: key, CertType: ssh.UserCert, KeyId: "alice on monday", Serial: 7, ValidPrincipals: []string{"alice"},
		ValidAfter: uint64(time.Now().Add(-time.Minute).Unix()), ValidBefore: uint64(time.Now().Add(time.Hour).Unix()),
		Permissions: ssh.Permissions{Extensions: map[string]string{extensionForwarding: "", extensionPTY: ""}},
	}
	if change != nil {
		change(c)
	}
	if err := c.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	return c
}

func certGate(t testing.TB) (*gate, ssh.Signer) {
	ca := newSigner(t)
	g := newGate(t, gateSpec{spec: func(s *policy.Spec) {
		s.Authorities = []policy.Authority{{Name: "corp", Keys: [][]byte{ca.PublicKey().Marshal()}}}
		s.Identities = append(s.Identities, policy.Identity{Name: "alice", Authority: "corp", Principal: "alice"})
		s.Rules[0].Identities = append(s.Rules[0].Identities, "alice")
	}})
	return g, ca
}

func TestACertificateIsAcceptedOnlyWhole(t *testing.T) {
	g, ca := certGate(t)
	other := newSigner(t)
	for _, c := range []struct {
		name   string
		ca     ssh.Signer
		reason string // "" = accepted
		change func(*ssh.Certificate)
	}{
		{name: "good", ca: ca},
		{"of another CA", other, "key_unknown", nil},
		{"no principals", ca, reasonCertPrincipals, func(c *ssh.Certificate) { c.ValidPrincipals = nil }},
		{"another principal", ca, "key_unknown", func(c *ssh.Certificate) { c.ValidPrincipals = []string{"bob"} }},
		{"host certificate", ca, reasonCertType, func(c *ssh.Certificate) { c.CertType = ssh.HostCert }},
		{"expired", ca, reasonCertExpired, func(c *ssh.Certificate) { c.ValidBefore = uint64(time.Now().Add(-time.Second).Unix()) }},
		{"not yet valid", ca, reasonCertExpired, func(c *ssh.Certificate) { c.ValidAfter = uint64(time.Now().Add(time.Hour).Unix()) }},
		{"unknown critical option", ca, reasonCertOption, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"verify-required": ""} }},
		{"source-address elsewhere", ca, reasonCertSource, func(c *ssh.Certificate) {
			c.CriticalOptions = map[string]string{optionSourceAddress: "10.0.0.0/8"}
		}},
		{"source-address here", ca, "", func(c *ssh.Certificate) {
			c.CriticalOptions = map[string]string{optionSourceAddress: "10.0.0.0/8,127.0.0.1"}
		}},
		{"source-address empty", ca, reasonCertSource, func(c *ssh.Certificate) {
			c.CriticalOptions = map[string]string{optionSourceAddress: ""}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			key := newSigner(t)
			signer, err := ssh.NewCertSigner(certificate(t, c.ca, key.PublicKey(), c.change), key)
			if err != nil {
				t.Fatal(err)
			}
			client, banner, err := g.dialBanner("alice", signer)
			if err == nil {
				client.Close()
			}
			if (err == nil) != (c.reason == "") || !strings.Contains(banner, c.reason) {
				t.Errorf("error %v, banner %q; want reason %q", err, banner, c.reason)
			}
		})
	}
	g.wantEvent(audit.AuthSuccess, "alice on monday", ssh.FingerprintSHA256(ca.PublicKey())[7:])
}

func TestACertificateLimitsWhatItsExtensionsDoNotPermit(t *testing.T) {
	g, ca := certGate(t)
	key := newSigner(t)
	signer, err := ssh.NewCertSigner(certificate(t, ca, key.PublicKey(), func(c *ssh.Certificate) {
		c.Extensions = nil
		c.CriticalOptions = map[string]string{optionForceCommand: "whoami"}
	}), key)
	if err != nil {
		t.Fatal(err)
	}
	client, err := g.dial("alice", signer)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Dial("tcp", "127.0.0.1:4711"); err == nil || !strings.Contains(err.Error(), reasonCertNoForwarding) {
		t.Errorf("a forward: %v", err)
	}
	if out, err := run(client, "help"); err != nil || !strings.HasPrefix(out, "alice via") {
		t.Errorf("the forced command was not run: %q, %v", out, err)
	}
}

func TestKeysOfTheWrongKindAreNamedSo(t *testing.T) {
	g := newGate(t, gateSpec{})
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := ssh.NewSignerFromKey(small)
	if err != nil {
		t.Fatal(err)
	}
	unknown, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := ssh.NewSignerFromKey(unknown)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		user   string
		signer ssh.Signer
		reason string
	}{
		{"vendor", weak, reasonKeySize},
		{"vendor", stranger, "key_unknown"},
		{"nobody", stranger, "key_unknown"}, // as for a user that exists
		{"root", g.keys["vendor"], "user"},
	} {
		if _, banner, err := g.dialBanner(c.user, c.signer); err == nil || !strings.Contains(banner, "(reason: "+c.reason+")") {
			t.Errorf("%s: %v, told %q; want %s", c.user, err, banner, c.reason)
		}
	}
	g.wantEvent(audit.AuthFailure, "key_unknown", `"nobody"`)
}

// offering is a signer whose public key is somebody else's: what a client can
// offer without being able to sign.
type offering struct {
	ssh.Signer
	borrowed ssh.PublicKey
}

func (o offering) PublicKey() ssh.PublicKey { return o.borrowed }

func TestASignatureThatIsNotTheKeysIsItsOwnReason(t *testing.T) {
	g := newGate(t, gateSpec{})
	_, err := g.dial("vendor", offering{g.keys["mallory"], g.keys["vendor"].PublicKey()})
	if err == nil {
		t.Fatal("a borrowed public key got in")
	}
	g.wantEvent(audit.AuthFailure, reasonBadSignature)
	if n := len(g.Sessions()); n != 0 {
		t.Errorf("%d sessions", n)
	}
}

func TestSHA1SignaturesAndOtherMethodsAreRefused(t *testing.T) {
	for _, p := range []Profile{Modern, PostQuantum, Compatible} {
		a, err := p.algorithms()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range append(append(append(userKeyAlgorithms(), a.keyExchanges...), a.macs...), a.ciphers...) {
			if strings.HasSuffix(name, "sha1") || name == ssh.KeyAlgoRSA || name == ssh.HMACSHA1 || strings.HasPrefix(name, "chacha20") {
				t.Errorf("profile %s has %s", p, name)
			}
		}
	}
	if _, err := Profile("fast").algorithms(); err == nil {
		t.Error("an unknown profile is accepted")
	}
	g := newGate(t, gateSpec{})
	_, err := ssh.Dial("tcp", g.addr, &ssh.ClientConfig{
		User: "vendor", Auth: []ssh.AuthMethod{ssh.Password("secret-never-logged")}, HostKeyCallback: ssh.FixedHostKey(g.hostKey.PublicKey()),
	})
	if err == nil {
		t.Fatal("a password got in")
	}
	for r, err := range audit.Read(g.dir+"/audit", 0) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(r.Line), "secret-never-logged") {
			t.Error("a password is in the audit log")
		}
	}
}

func TestNoCommonAlgorithmIsItsOwnReason(t *testing.T) {
	g := newGate(t, gateSpec{})
	config := &ssh.ClientConfig{User: "vendor", HostKeyCallback: ssh.FixedHostKey(g.hostKey.PublicKey())}
	config.KeyExchanges = []string{ssh.InsecureKeyExchangeDH14SHA1}
	if _, err := ssh.Dial("tcp", g.addr, config); err == nil {
		t.Fatal("a SHA-1 key exchange was agreed on")
	}
	g.wantEvent(audit.HandshakeFailed, reasonNoCommon)
}

func TestHostKeysAreMadeOnceAndKept(t *testing.T) {
	dir := t.TempDir()
	paths := []string{dir + "/ssh_host_ed25519_key", dir + "/ssh_host_ecdsa_key", dir + "/ssh_host_rsa_key"}
	made, err := LoadHostKeys(paths)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadHostKeys(paths)
	if err != nil {
		t.Fatal(err)
	}
	for i := range made {
		if string(made[i].PublicKey().Marshal()) != string(again[i].PublicKey().Marshal()) {
			t.Errorf("%s is another key the second time", paths[i])
		}
	}
	for _, none := range [][]string{nil, {dir + "/key_of_no_type"}} {
		if _, err := LoadHostKeys(none); err == nil {
			t.Errorf("%q: no error", none)
		}
	}
}

func FuzzIdentify(f *testing.F) {
	ca := newSigner(f)
	p := mustPolicy(f, policy.Spec{
		Authorities: []policy.Authority{{Name: "corp", Keys: [][]byte{ca.PublicKey().Marshal()}}},
		Identities:  []policy.Identity{{Name: "alice", Authority: "corp", Principal: "alice"}},
	})
	f.Add("alice", certificate(f, newSigner(f), ca.PublicKey(), nil).Marshal())
	f.Add("alice", ca.PublicKey().Marshal())
	f.Fuzz(func(t *testing.T, user string, blob []byte) {
		key, err := ssh.ParsePublicKey(blob)
		if err != nil {
			return
		}
		if perms, ref := identify(&Rules{Policy: p}, user, key, netip.MustParseAddr("10.0.0.1"), time.Now()); ref == nil || perms != nil {
			t.Errorf("%q got in with %x", user, blob) // nothing here is signed by the CA
		}
	})
}

func FuzzChannelPayloads(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01a\x00\x00\x00\x16\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if open, err := parseDirectTCPIP(b); err == nil && open.port == 0 {
			t.Error("port 0 passed")
		}
		parseDirectStreamLocal(b)
		if host, _, err := parseForward(b); err == nil {
			bindAddresses(host)
		}
		parseNetcat(strings.Fields(string(b)))
	})
}
