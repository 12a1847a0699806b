package sshgate

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/policy"
)

// token is a security key in software: what a FIDO authenticator signs for
// sk-ssh-ed25519@openssh.com (OpenSSH PROTOCOL.u2f).
type token struct {
	key   ed25519.PrivateKey
	touch bool
}

const application = "ssh:"

func newToken(t testing.TB, touch bool) token {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return token{key, touch}
}

func (k token) PublicKey() ssh.PublicKey {
	key, err := ssh.ParsePublicKey(ssh.Marshal(struct {
		Name        string
		Key         []byte
		Application string
	}{ssh.KeyAlgoSKED25519, k.key.Public().(ed25519.PublicKey), application}))
	if err != nil {
		panic(err)
	}
	return key
}

func (k token) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	var flags byte
	if k.touch {
		flags = 1
	}
	app, message := sha256.Sum256([]byte(application)), sha256.Sum256(data)
	rest := []byte{flags, 0, 0, 0, 9} // flags and counter
	signed := append(append(append([]byte{}, app[:]...), rest...), message[:]...)
	return &ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(k.key, signed), Rest: rest}, nil
}

func TestASecurityKeyMustBeTouchedUnlessThePolicyWaivesIt(t *testing.T) {
	touched, untouched, waived := newToken(t, true), newToken(t, false), newToken(t, false)
	g := newGate(t, gateSpec{spec: func(s *policy.Spec) {
		s.Identities = append(s.Identities,
			policy.Identity{Name: "touched", Keys: []policy.Key{{Blob: touched.PublicKey().Marshal()}}},
			policy.Identity{Name: "untouched", Keys: []policy.Key{{Blob: untouched.PublicKey().Marshal()}}},
			policy.Identity{Name: "waived", Keys: []policy.Key{{Blob: waived.PublicKey().Marshal(), NoTouchRequired: true}}})
	}})
	for name, c := range map[string]struct {
		key token
		in  bool
	}{"touched": {touched, true}, "untouched": {untouched, false}, "waived": {waived, true}} {
		client, err := g.dial(name, c.key)
		if err == nil {
			client.Close()
		}
		if (err == nil) != c.in {
			t.Errorf("%s: %v, want in: %v", name, err, c.in)
		}
	}
	g.wantEvent(audit.AuthFailure, reasonBadSignature)
}

func TestACertificateDoesNotWaiveTheTouch(t *testing.T) {
	g, ca := certGate(t)
	key := newToken(t, false)
	signer, err := ssh.NewCertSigner(certificate(t, ca, key.PublicKey(), func(c *ssh.Certificate) {
		c.Extensions[extensionNoTouch] = ""
	}), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, banner, err := g.dialBanner("alice", signer); err == nil || !strings.Contains(banner, reasonCertNoTouch) {
		t.Errorf("%v, told %q", err, banner)
	}
}

// The lists are what JSch 0.1.54 has in common with an OpenSSH of today.
func TestCompatibleServesWhatJSch0154Offers(t *testing.T) {
	for _, c := range []struct {
		profile Profile
		served  bool
	}{{Compatible, true}, {Modern, false}} {
		hostKeys, err := LoadHostKeys([]string{t.TempDir() + "/ssh_host_ecdsa_key"})
		if err != nil {
			t.Fatal(err)
		}
		g := newGate(t, gateSpec{options: func(o *Options) { o.Algorithms, o.HostKeys = c.profile, hostKeys }})
		config := &ssh.ClientConfig{
			User: "vendor", Auth: []ssh.AuthMethod{ssh.PublicKeys(g.keys["vendor"])},
			HostKeyCallback: ssh.FixedHostKey(hostKeys[0].PublicKey()), HostKeyAlgorithms: []string{ssh.KeyAlgoECDSA256},
		}
		config.KeyExchanges = []string{ssh.KeyExchangeECDHP256}
		config.Ciphers = []string{ssh.CipherAES128CTR}
		config.MACs = []string{ssh.HMACSHA256}
		client, err := ssh.Dial("tcp", g.addr, config)
		if err == nil {
			client.Close()
		}
		if (err == nil) != c.served {
			t.Errorf("profile %s: %v, want served: %v", c.profile, err, c.served)
		}
	}
}

func TestWhoeverNeverAuthenticatesIsCutAtTheGraceTime(t *testing.T) {
	g := newGate(t, gateSpec{options: func(o *Options) { o.LoginGraceTime = 300 * time.Millisecond }})
	blocked := make(chan struct{})
	defer close(blocked)
	began := time.Now()
	_, err := ssh.Dial("tcp", g.addr, &ssh.ClientConfig{
		User: "vendor", HostKeyCallback: ssh.FixedHostKey(g.hostKey.PublicKey()),
		Auth: []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) {
			select { // longer than the gate waits
			case <-blocked:
			case <-time.After(2 * time.Second):
			}
			return nil, nil
		})},
	})
	if err == nil {
		t.Fatal("got in")
	}
	g.wantEvent(audit.HandshakeFailed, reasonGrace)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestAdaptiveCiphersGiveGCMToWhoeverHasIt(t *testing.T) {
	g := newGate(t, gateSpec{})
	for offer, want := range map[string]string{
		"chacha20-poly1305@openssh.com,aes256-ctr,aes256-gcm@openssh.com": "aes256-gcm@openssh.com",
		"aes192-ctr,aes128-ctr": "aes192-ctr",
	} {
		config := &ssh.ClientConfig{
			User: "vendor", Auth: []ssh.AuthMethod{ssh.PublicKeys(g.keys["vendor"])}, HostKeyCallback: ssh.FixedHostKey(g.hostKey.PublicKey()),
		}
		config.Ciphers = strings.Split(offer, ",")
		client, err := ssh.Dial("tcp", g.addr, config)
		if err != nil {
			t.Fatal(err)
		}
		if got := client.Conn.(ssh.AlgorithmsConnMetadata).Algorithms().Write.Cipher; got != want {
			t.Errorf("%s: %s was agreed on, want %s", offer, got, want)
		}
		client.Close()
	}
}
