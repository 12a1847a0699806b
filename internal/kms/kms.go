// Package kms signs with keys that AWS KMS holds, so that no private key is on
// the host.
package kms

import (
	"context"
	"crypto"
	"io"
	"time"
)

// Options name a key.
type Options struct {
	Key      string        // ARN of the key or of its alias
	Region   string        // "" = that of the ARN
	Endpoint string        // URL of another server; "" = AWS, or what the environment says
	Timeout  time.Duration // of one call with its repetitions; 0 = 5 s
}

// IsKey reports whether a reference in a configuration names a key in KMS and
// no file.
func IsKey(reference string) bool { panic("stub") }

// Signer is a crypto.Signer whose private key is in KMS. It may be used from any
// goroutine.
type Signer struct{}

// New asks KMS for the public key. It refuses a key that isn't for signing, or
// of a kind that neither checkpoints (Ed25519) nor SSH (Ed25519, ECDSA) takes.
func New(ctx context.Context, o Options) (*Signer, error) { panic("stub") }

// Public is the public key.
func (s *Signer) Public() crypto.PublicKey { panic("stub") }

// Sign signs message, or for ECDSA its digest, as crypto.Signer says.
func (s *Signer) Sign(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	panic("stub")
}
