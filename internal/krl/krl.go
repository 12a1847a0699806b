// Package krl reads OpenSSH key revocation lists (PROTOCOL.krl, format 1) and
// answers whether a key or certificate is revoked.
package krl

import "golang.org/x/crypto/ssh"

// List is a parsed key revocation list. It is immutable and safe for
// concurrent use.
type List struct{}

// Parse reads a binary KRL. Unknown sections and anything malformed are errors.
func Parse(data []byte) (*List, error) { panic("stub") }

// Revoked reports whether key, a plain key or an *ssh.Certificate, is revoked:
// itself, by its CA's serials or key IDs, its certified key, or its CA.
func (l *List) Revoked(key ssh.PublicKey) bool { panic("stub") }
