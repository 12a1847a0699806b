package sshgate

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"postern/internal/durable"
)

// LoadSigner returns the private key at path, in any format that ssh-keygen
// writes, without a passphrase. An RSA key signs with SHA-2 only.
func LoadSigner(path string) (ssh.Signer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	signer, err := ParseSigner(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return signer, nil
}

// ParseSigner is LoadSigner for a key that is not in a file.
func ParseSigner(data []byte) (ssh.Signer, error) {
	signer, err := ssh.ParsePrivateKey(data)
	if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked {
		return nil, errors.New("it has a passphrase, and nobody is there to type it")
	}
	if err != nil {
		return nil, err
	}
	return sha2Only(signer)
}

// LoadCA is LoadSigner for the key of a CA. One that is missing is made, an
// ed25519 key, durable with mode 0600 and its public half beside it when LoadCA
// returns; not where systemd hands over credentials, which it alone fills.
func LoadCA(path string) (ssh.Signer, error) {
	return loadOrMake(path, func() (crypto.Signer, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	})
}

func loadOrMake(path string, generate func() (crypto.Signer, error)) (ssh.Signer, error) {
	signer, err := LoadSigner(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return signer, err
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" && filepath.Dir(path) == filepath.Clean(dir) {
		return nil, fmt.Errorf("systemd handed over no credential %s: %w", filepath.Base(path), err)
	}
	key, err := generate()
	if err != nil {
		return nil, err
	}
	if err := writeKey(path, key); err != nil {
		return nil, err
	}
	return LoadSigner(path)
}

// writeKey writes the public half last: where it is, the key is whole.
func writeKey(path string, key crypto.Signer) error {
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return err
	}
	signer, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := durable.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return err
	}
	return durable.WriteFile(path+".pub", ssh.MarshalAuthorizedKey(signer.PublicKey()), 0o644)
}
