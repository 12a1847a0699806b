package upstream

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	defaultLifetime = 5 * time.Minute
	clockSkew       = time.Minute // that a target's clock may be behind ours
	maxLogin        = 255         // bytes
)

// Credential is how the gate logs in at a target.
type Credential struct {
	Signer ssh.Signer
	// Of a minted certificate, for the audit log; zero with a plain key.
	KeyID       string
	Serial      uint64
	ValidBefore time.Time
}

// Grant is what a minted certificate is for. PTY to UserRC become the
// permit-* extensions of the certificate (PROTOCOL.certkeys); what is false is
// refused by the target too.
type Grant struct {
	Login              string // the one principal
	KeyID              string // names the person: see KeyID
	PTY, Forwarding    bool   // permit-pty, permit-port-forwarding
	Agent, X11, UserRC bool
}

func (g Grant) extensions() map[string]string {
	e := map[string]string{}
	for name, granted := range map[string]bool{
		"permit-pty":              g.PTY,
		"permit-port-forwarding":  g.Forwarding,
		"permit-agent-forwarding": g.Agent,
		"permit-X11-forwarding":   g.X11,
		"permit-user-rc":          g.UserRC,
	} {
		if granted {
			e[name] = ""
		}
	}
	return e
}

// Minter makes credentials: a certificate for each session, or one key for all.
// It is safe for concurrent use. The zero value and nil make none.
type Minter struct {
	ca, key  ssh.Signer
	lifetime time.Duration
}

// MinterOptions configure a Minter: CA or Key, not both.
type MinterOptions struct {
	CA       ssh.Signer    // signs a certificate over a fresh key for each session
	Lifetime time.Duration // of certificates; 0 = 5 min
	Key      ssh.Signer    // for targets that can't trust a CA
}

// NewMinter returns a Minter; with neither CA nor Key its Mint fails. RSA keys
// sign with SHA-2 only. A CA that is itself a certificate, and one of a type
// that OpenSSH no longer trusts, is an error.
func NewMinter(o MinterOptions) (*Minter, error) {
	if o.CA != nil && o.Key != nil {
		return nil, errors.New("a CA and a private key are configured: want one of them")
	}
	if o.Lifetime <= 0 {
		o.Lifetime = defaultLifetime
	}
	ca, err := signsSHA2(o.CA)
	if err != nil {
		return nil, fmt.Errorf("user CA: %w", err)
	}
	if ca != nil {
		if _, ok := ca.PublicKey().(*ssh.Certificate); ok {
			return nil, errors.New("user CA: it is a certificate, want a key")
		}
	}
	key, err := signsSHA2(o.Key)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	return &Minter{ca: ca, key: key, lifetime: o.Lifetime}, nil
}

// signsSHA2 keeps an RSA key from ever signing with SHA-1.
func signsSHA2(s ssh.Signer) (ssh.Signer, error) {
	if s == nil {
		return nil, nil
	}
	switch s.PublicKey().Type() {
	case keyAlgoDSA:
		return nil, errors.New("DSA keys are refused everywhere")
	case ssh.KeyAlgoRSA:
		as, ok := s.(ssh.AlgorithmSigner)
		if !ok {
			return nil, errors.New("the RSA key can't choose its signature algorithm")
		}
		return ssh.NewSignerWithAlgorithms(as, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256})
	}
	return s, nil
}

// Mint returns the credential for one session, valid from now (less a minute of
// clock skew) for the lifetime: an ed25519 key made for it, under a
// certificate with a random serial, one principal, and no critical option (a
// source-address would have to be the gate's as the target sees it, which the
// gate can't know). A login that is no principal is an error.
func (m *Minter) Mint(now time.Time, g Grant) (Credential, error) {
	if g.Login == "" || len(g.Login) > maxLogin || strings.ContainsFunc(g.Login, isControl) {
		return Credential{}, fmt.Errorf("mint a credential: %.64q is no login", g.Login)
	}
	switch {
	case m == nil || m.ca == nil && m.key == nil:
		return Credential{}, errors.New("mint a credential: neither a user CA nor a private key is configured")
	case m.key != nil:
		return Credential{Signer: m.key}, nil
	}
	c, err := m.certify(now, g)
	if err != nil {
		return Credential{}, fmt.Errorf("mint a certificate for %q: %w", g.Login, err)
	}
	return c, nil
}

func (m *Minter) certify(now time.Time, g Grant) (Credential, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Credential{}, err
	}
	signer, err := ssh.NewSignerFromSigner(private)
	if err != nil {
		return Credential{}, err
	}
	until := now.Add(m.lifetime)
	cert := &ssh.Certificate{
		Key: signer.PublicKey(), CertType: ssh.UserCert, Serial: serial(), KeyId: g.KeyID, ValidPrincipals: []string{g.Login},
		ValidAfter: uint64(now.Add(-clockSkew).Unix()), ValidBefore: uint64(until.Unix()),
		Permissions: ssh.Permissions{Extensions: g.extensions()},
	}
	if err := cert.SignCert(rand.Reader, m.ca); err != nil {
		return Credential{}, err
	}
	certified, err := ssh.NewCertSigner(cert, signer)
	if err != nil {
		return Credential{}, err
	}
	return Credential{Signer: certified, KeyID: cert.KeyId, Serial: cert.Serial, ValidBefore: time.Unix(until.Unix(), 0)}, nil
}

// serial is random and never 0, which stands for a CA that does not number.
// Two gates that share a CA need not know of each other.
func serial() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails: crypto/rand
	return max(binary.BigEndian.Uint64(b[:]), 1)
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// Bounds of the parts of a key ID, so that sshd's log line, which ends at 1 KiB,
// holds all of them and what follows.
const (
	maxKeyIDIdentity = 128
	maxKeyIDSession  = 64
	maxKeyIDRule     = 128
)

// KeyID is the key ID of a session's certificate, which the target's sshd
// writes to its log: "alice session=019… rule=cluster-shell". It is always
// three fields of printable ASCII with one blank between, at most 340 bytes:
// whatever else a part holds becomes an underscore, so that no part can be
// taken for another, nor end the line.
func KeyID(identity, session, rule string) string {
	return plainField(identity, maxKeyIDIdentity) + " session=" + plainField(session, maxKeyIDSession) +
		" rule=" + plainField(rule, maxKeyIDRule)
}

func plainField(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || strings.ContainsRune(`"'\`, r) {
			return '_'
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), limit)]
}
