package upstream

import (
	"bytes"
	"crypto/ed25519"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func certOf(t *testing.T, c Credential) *ssh.Certificate {
	t.Helper()
	cert, ok := c.Signer.PublicKey().(*ssh.Certificate)
	if !ok {
		t.Fatalf("the credential is a %T", c.Signer.PublicKey())
	}
	return cert
}

func TestACertificateSaysWhatIsGrantedAndNoMore(t *testing.T) {
	ca := newKey(t, "ed25519")
	m, err := NewMinter(MinterOptions{CA: ca, Lifetime: 3 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 5)
	for _, tc := range []struct {
		grant Grant
		want  []string
	}{
		{Grant{Login: "hadoop"}, nil},
		{Grant{Login: "hadoop", PTY: true}, []string{"permit-pty"}},
		{Grant{Login: "hadoop", PTY: true, Forwarding: true, Agent: true, X11: true, UserRC: true},
			[]string{"permit-X11-forwarding", "permit-agent-forwarding", "permit-port-forwarding", "permit-pty", "permit-user-rc"}},
	} {
		tc.grant.KeyID = "alice session=s rule=r"
		c, err := m.Mint(now, tc.grant)
		if err != nil {
			t.Fatal(err)
		}
		cert := certOf(t, c)
		if got := slices.Sorted(maps.Keys(cert.Extensions)); !slices.Equal(got, tc.want) || len(cert.CriticalOptions) != 0 {
			t.Errorf("%+v: %v, %v", tc.grant, got, cert.CriticalOptions)
		}
		if !slices.Equal(cert.ValidPrincipals, []string{"hadoop"}) || cert.CertType != ssh.UserCert || cert.KeyId != tc.grant.KeyID {
			t.Errorf("%+v", cert)
		}
		if cert.ValidAfter != 1_800_000_000-60 || cert.ValidBefore != 1_800_000_000+180 {
			t.Errorf("valid from %d to %d", cert.ValidAfter, cert.ValidBefore)
		}
		if c.KeyID != cert.KeyId || c.Serial != cert.Serial || c.Serial == 0 || uint64(c.ValidBefore.Unix()) != cert.ValidBefore {
			t.Errorf("%+v for %+v", c, cert)
		}
	}
}

func TestEachSessionHasAKeyAndASerialOfItsOwn(t *testing.T) {
	m, err := NewMinter(MinterOptions{CA: newKey(t, "ed25519")})
	if err != nil {
		t.Fatal(err)
	}
	keys, serials := map[string]bool{}, map[uint64]bool{}
	for range 20 {
		c, err := m.Mint(time.Now(), Grant{Login: "x"})
		if err != nil {
			t.Fatal(err)
		}
		cert := certOf(t, c)
		if got := time.Unix(int64(cert.ValidBefore), 0).Sub(time.Unix(int64(cert.ValidAfter), 0)); got != 6*time.Minute {
			t.Errorf("valid for %v", got)
		}
		keys[string(cert.Key.Marshal())], serials[cert.Serial] = true, true
	}
	if len(keys) != 20 || len(serials) != 20 {
		t.Errorf("%d keys, %d serials", len(keys), len(serials))
	}
}

func TestAnRSACANeverSignsWithSHA1(t *testing.T) {
	m, err := NewMinter(MinterOptions{CA: newKey(t, "rsa")})
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.Mint(time.Now(), Grant{Login: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if got := certOf(t, c).Signature.Format; got != ssh.KeyAlgoRSASHA512 {
		t.Errorf("signed with %s", got)
	}
}

func TestMintersThatMakeNothing(t *testing.T) {
	unconfigured, err := NewMinter(MinterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	good, err := NewMinter(MinterOptions{CA: newKey(t, "ed25519")})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		m     *Minter
		login string
	}{
		"nil":               {nil, "x"},
		"zero":              {&Minter{}, "x"},
		"not configured":    {unconfigured, "x"},
		"no login":          {good, ""},
		"a line in a login": {good, "root\nroot"},
		"a NUL in a login":  {good, "root\x00x"},
		"a long login":      {good, strings.Repeat("x", 256)},
	} {
		if c, err := tc.m.Mint(time.Now(), Grant{Login: tc.login}); err == nil || c.Signer != nil {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	key := newKey(t, "ed25519")
	if _, err := NewMinter(MinterOptions{CA: key, Key: key}); err == nil {
		t.Error("both a CA and a key were taken")
	}
	c, err := good.Mint(time.Now(), Grant{Login: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewMinter(MinterOptions{CA: c.Signer}); err == nil {
		t.Error("a certificate was taken for a CA")
	}
}

func TestNoPartOfAKeyIDCanBeTakenForAnother(t *testing.T) {
	for _, tc := range []struct{ identity, session, rule, want string }{
		{"alice", "019", "cluster-shell", "alice session=019 rule=cluster-shell"},
		{"", "", "", "- session=- rule=-"},
		{"eve session=1 rule=admin", "2", "r", "eve_session=1_rule=admin session=2 rule=r"},
		{"eve\nAccepted publickey for root", "2", "r", "eve_Accepted_publickey_for_root session=2 rule=r"},
		{"a\x00\x1b[31m\t\"'\\", "2", "r", "a__[31m____ session=2 rule=r"},
		{"j\u00fcrgen\u202e\xff", "2", "r", "j_rgen__ session=2 rule=r"},
		{strings.Repeat("i", 1000), strings.Repeat("s", 1000), strings.Repeat("r", 1000),
			strings.Repeat("i", 128) + " session=" + strings.Repeat("s", 64) + " rule=" + strings.Repeat("r", 128)},
	} {
		if got := KeyID(tc.identity, tc.session, tc.rule); got != tc.want {
			t.Errorf("%q\nwant %q", got, tc.want)
		}
	}
}

func FuzzKeyID(f *testing.F) {
	f.Add("alice", "019", "r")
	f.Add("a\nb", "\u00e4 ", "x=y")
	f.Fuzz(func(t *testing.T, identity, session, rule string) {
		got := KeyID(identity, session, rule)
		parts := strings.Split(got, " ")
		if len(got) > 340 || len(parts) != 3 || parts[0] == "" || !strings.HasPrefix(parts[1], "session=") || !strings.HasPrefix(parts[2], "rule=") {
			t.Errorf("%q", got)
		}
		if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q", got)
		}
	})
}

func TestSshKeygenReadsAMintedCertificate(t *testing.T) {
	c := mint(t, newKey(t, "ed25519"))
	path := knownHostsFile(t, string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(c.Signer.PublicKey()))))
	got := keygen(t, "-L", "-f", path)
	for _, want := range []string{"user certificate", `Key ID: "alice session=` + aSession + ` rule=cluster-shell"`, "Critical Options: (none)", "permit-pty"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
}

func BenchmarkMint(b *testing.B) {
	ca, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(make([]byte, 32)))
	if err != nil {
		b.Fatal(err)
	}
	m, err := NewMinter(MinterOptions{CA: ca})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := m.Mint(time.Now(), Grant{Login: "x"}); err != nil {
			b.Fatal(err)
		}
	}
}
