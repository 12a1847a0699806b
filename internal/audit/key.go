package audit

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"

	"postern/internal/durable"
)

// LoadKey reads the Ed25519 key that signs checkpoints: PKCS #8 in PEM, as
// openssl genpkey writes it. A file that everybody may read is refused.
func LoadKey(path string) (crypto.Signer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the key of the audit log: %w", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o007 != 0 {
		return nil, errors.Join(fmt.Errorf("the key of the audit log in %s is open to everybody: chmod it to 0600", path), err)
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%s is no key of an audit log: want one PEM block PRIVATE KEY (PKCS #8)", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s is no key of an audit log: %w", path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is no key of an audit log: want Ed25519, it is %T", path, parsed)
	}
	return key, nil
}

// LoadOrMakeKey is LoadKey, and where there is no file it makes one with mode
// 0600, in a directory 0700. The key is on disk when this returns. A path in
// $CREDENTIALS_DIRECTORY is only read.
func LoadOrMakeKey(path string) (crypto.Signer, error) {
	key, err := LoadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" && filepath.Dir(path) == filepath.Clean(dir) {
		return nil, fmt.Errorf("systemd handed over no credential %s: %w", filepath.Base(path), err)
	}
	if err := makeKey(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the key of the audit log: %w", err)
	}
	return LoadKey(path) // another process may have been first
}

func makeKey(path string) error {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.CreateFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// keySigner signs notes with a key that may be somewhere else, under the name
// of a log. Ed25519 signs the message itself, so the key is told of no hash.
type keySigner struct {
	note.Verifier        // of the key, for the name and the hash
	vkey          string // the same as text
	key           crypto.Signer
}

func newKeySigner(name string, key crypto.Signer) (*keySigner, error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("the key of the audit log must be Ed25519, it is %T", key.Public())
	}
	vkey, err := note.NewEd25519VerifierKey(name, public)
	if err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, err
	}
	return &keySigner{verifier, vkey, key}, nil
}

// Sign makes it a note.Signer.
func (s *keySigner) Sign(text []byte) ([]byte, error) {
	return s.key.Sign(nil, text, crypto.Hash(0))
}
