package sshgate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// LoadHostKeys returns the host keys at paths. A key that is missing is made,
// of the type its file name says (ssh_host_ed25519_key, ssh_host_ecdsa_key,
// ssh_host_rsa_key), and is durable with mode 0600, its public half beside it,
// when LoadHostKeys returns. RSA keys sign with SHA-2 only.
func LoadHostKeys(paths []string) ([]ssh.Signer, error) {
	if len(paths) == 0 {
		return nil, errors.New("no host keys are configured")
	}
	var signers []ssh.Signer
	for _, path := range paths {
		signer, err := loadHostKey(path)
		if err != nil {
			return nil, fmt.Errorf("host key %s: %w", path, err)
		}
		signers = append(signers, signer)
	}
	return signers, nil
}

func loadHostKey(path string) (ssh.Signer, error) {
	return loadOrMake(path, func() (crypto.Signer, error) { return generateHostKey(filepath.Base(path)) })
}

// sha2Only keeps an RSA key from ever signing with SHA-1.
func sha2Only(signer ssh.Signer) (ssh.Signer, error) {
	if signer.PublicKey().Type() != ssh.KeyAlgoRSA {
		return signer, nil
	}
	as, ok := signer.(ssh.AlgorithmSigner)
	if !ok {
		return nil, errors.New("the RSA key can't choose its signature algorithm")
	}
	return ssh.NewSignerWithAlgorithms(as, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256})
}

func generateHostKey(name string) (crypto.Signer, error) {
	switch {
	case strings.Contains(name, "ed25519"):
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case strings.Contains(name, "ecdsa"):
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case strings.Contains(name, "rsa"):
		return rsa.GenerateKey(rand.Reader, 3072)
	}
	return nil, errors.New("it doesn't exist, and its name has none of ed25519, ecdsa and rsa that would say which type to make")
}

// The host key extension of OpenSSH (PROTOCOL §2.5): after authentication the
// server names all its keys, so that clients learn a rotation, and proves those
// that the client asks about.
const (
	requestHostKeys      = "hostkeys-00@openssh.com"
	requestHostKeysProve = "hostkeys-prove-00@openssh.com"
)

// hostKeysPayload is the payload of hostkeys-00: one string per public key.
func hostKeysPayload(keys []ssh.Signer) []byte {
	var out []byte
	for _, k := range keys {
		out = append(out, ssh.Marshal(struct{ Blob []byte }{k.PublicKey().Marshal()})...)
	}
	return out
}

// proveHostKeys answers hostkeys-prove-00: a signature per key asked about, over
// the request's name, the session identifier and the key.
func proveHostKeys(keys []ssh.Signer, sessionID, payload []byte) ([]byte, error) {
	var out []byte
	for len(payload) > 0 {
		var asked struct {
			Blob []byte
			Rest []byte `ssh:"rest"`
		}
		if err := ssh.Unmarshal(payload, &asked); err != nil {
			return nil, err
		}
		payload = asked.Rest
		sig, err := proveHostKey(keys, sessionID, asked.Blob)
		if err != nil {
			return nil, err
		}
		out = append(out, ssh.Marshal(struct{ Signature []byte }{ssh.Marshal(sig)})...)
	}
	if len(out) == 0 {
		return nil, errors.New("no key was asked about")
	}
	return out, nil
}

func proveHostKey(keys []ssh.Signer, sessionID, blob []byte) (*ssh.Signature, error) {
	for _, k := range keys {
		if string(k.PublicKey().Marshal()) != string(blob) {
			continue
		}
		signed := ssh.Marshal(struct {
			Name           string
			SessionID, Key []byte
		}{requestHostKeysProve, sessionID, blob})
		return signSHA2(k, signed)
	}
	return nil, errors.New("the key asked about is not ours")
}

// signSHA2 signs with the key's own algorithm, or rsa-sha2-512 for RSA, whose
// own algorithm would be SHA-1.
func signSHA2(k ssh.Signer, data []byte) (*ssh.Signature, error) {
	if as, ok := k.(ssh.AlgorithmSigner); ok && k.PublicKey().Type() == ssh.KeyAlgoRSA {
		return as.SignWithAlgorithm(rand.Reader, data, ssh.KeyAlgoRSASHA512)
	}
	return k.Sign(rand.Reader, data)
}
