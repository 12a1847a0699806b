// Package krl reads OpenSSH key revocation lists (PROTOCOL.krl, format 1) and
// answers whether a key or certificate is revoked.
package krl

import (
	"crypto/sha1"
	"crypto/sha256"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// List is a parsed key revocation list. It is immutable and safe for
// concurrent use. A nil List, and the zero value, revoke everything.
type List struct {
	parsed    bool
	number    uint64
	generated uint64
	comment   string

	certificates map[string]*certificates // by the blob of their CA; "" is every CA
	keys         map[string]struct{}      // by blob
	sha1         map[[sha1.Size]byte]struct{}
	sha256       map[[sha256.Size]byte]struct{}
}

// certificates are the revoked ones of one CA.
type certificates struct {
	serials serials
	keyIDs  map[string]struct{}
}

// Number returns the list's own version number, which its author raises.
func (l *List) Number() uint64 { return l.number }

// Generated returns when the list was made, to the second.
func (l *List) Generated() time.Time { return time.Unix(int64(l.generated), 0).UTC() }

// Comment returns the comment in the list's header.
func (l *List) Comment() string { return l.comment }

// Revoked reports whether key is revoked. A plain key is looked for among the
// keys and fingerprints; a certificate by its CA's serials and key IDs too, and
// with its certified key and its CA as plain keys. Serial 0 is no serial: such
// a certificate is revoked by key ID or key alone. A key that is nil, or a
// certificate that is no *ssh.Certificate, counts as revoked.
func (l *List) Revoked(key ssh.PublicKey) bool {
	if l == nil || !l.parsed || key == nil {
		return true
	}
	if cert, ok := key.(*ssh.Certificate); ok {
		return l.revokedCertificate(cert)
	}
	return isCertificate(key.Type()) || l.revokedKey(key.Marshal())
}

func isCertificate(keyType string) bool { return strings.Contains(keyType, "-cert-v") }

func (l *List) revokedCertificate(cert *ssh.Certificate) bool {
	if cert == nil || cert.Key == nil || cert.SignatureKey == nil {
		return true
	}
	ca := cert.SignatureKey.Marshal()
	return l.revokedKey(cert.Key.Marshal()) || l.revokedKey(ca) ||
		l.certificates[string(ca)].contain(cert) || l.certificates[""].contain(cert)
}

func (l *List) revokedKey(blob []byte) bool {
	if _, ok := l.keys[string(blob)]; ok {
		return true
	}
	if len(l.sha1) > 0 {
		if _, ok := l.sha1[sha1.Sum(blob)]; ok {
			return true
		}
	}
	if len(l.sha256) > 0 {
		if _, ok := l.sha256[sha256.Sum256(blob)]; ok {
			return true
		}
	}
	return false
}

func (c *certificates) contain(cert *ssh.Certificate) bool {
	if c == nil {
		return false
	}
	if _, ok := c.keyIDs[cert.KeyId]; ok {
		return true
	}
	return cert.Serial != 0 && c.serials.contain(cert.Serial)
}
