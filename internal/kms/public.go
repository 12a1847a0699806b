package kms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// maxMessage is what KMS takes of a message that it hashes itself, in bytes
// (AWS KMS API reference, Sign, Message).
const maxMessage = 4096

// publicKey is what KMS says of a key and what that means for a signature.
type publicKey interface {
	key() crypto.PublicKey
	accepts(message []byte, opts crypto.SignerOpts) error
	request(keyID string, message []byte) *kms.SignInput
	verify(message, signature []byte) bool
}

func parsePublicKey(out *kms.GetPublicKeyOutput) (publicKey, error) {
	if out.KeyUsage != types.KeyUsageTypeSignVerify {
		return nil, fmt.Errorf("its KeyUsage is %s: make a key for SIGN_VERIFY", out.KeyUsage)
	}
	parsed, err := x509.ParsePKIXPublicKey(out.PublicKey)
	if err != nil && known(out.KeySpec) {
		return nil, fmt.Errorf("what KMS sent is no public key: %w", err)
	}
	switch k := parsed.(type) {
	case ed25519.PublicKey:
		if out.KeySpec == types.KeySpecEccNistEdwards25519 {
			return ed25519Key(k), nil
		}
	case *ecdsa.PublicKey:
		if s := suiteOf(out.KeySpec); s.curve != nil && s.curve == k.Curve {
			return ecdsaKey{k, s}, nil
		}
	}
	if known(out.KeySpec) {
		return nil, fmt.Errorf("KMS says that it is a %s and sends a %T", out.KeySpec, parsed)
	}
	return nil, fmt.Errorf("its KeySpec is %s: make an ECC_NIST_EDWARDS25519 key, or for SSH one of ECC_NIST_P256, P384 or P521", out.KeySpec)
}

func known(spec types.KeySpec) bool {
	return spec == types.KeySpecEccNistEdwards25519 || suiteOf(spec).curve != nil
}

type ed25519Key ed25519.PublicKey

func (k ed25519Key) key() crypto.PublicKey { return ed25519.PublicKey(k) }

func (k ed25519Key) accepts(message []byte, opts crypto.SignerOpts) error {
	if o, ok := opts.(*ed25519.Options); ok && o.Context != "" {
		return errors.New("KMS knows no context of Ed25519")
	}
	if opts.HashFunc() != 0 {
		return fmt.Errorf("Ed25519 signs the message itself, not its %s", opts.HashFunc())
	}
	if len(message) > maxMessage {
		return fmt.Errorf("the message has %d bytes, KMS takes %d", len(message), maxMessage)
	}
	return nil
}

func (k ed25519Key) request(keyID string, message []byte) *kms.SignInput {
	return &kms.SignInput{KeyId: aws.String(keyID), Message: message,
		MessageType: types.MessageTypeRaw, SigningAlgorithm: types.SigningAlgorithmSpecEd25519Sha512}
}

func (k ed25519Key) verify(message, signature []byte) bool {
	return ed25519.Verify(ed25519.PublicKey(k), message, signature)
}

// suite is the one hash that KMS has for a curve.
type suite struct {
	curve     elliptic.Curve
	hash      crypto.Hash
	algorithm types.SigningAlgorithmSpec
}

func suiteOf(spec types.KeySpec) suite {
	switch spec {
	case types.KeySpecEccNistP256:
		return suite{elliptic.P256(), crypto.SHA256, types.SigningAlgorithmSpecEcdsaSha256}
	case types.KeySpecEccNistP384:
		return suite{elliptic.P384(), crypto.SHA384, types.SigningAlgorithmSpecEcdsaSha384}
	case types.KeySpecEccNistP521:
		return suite{elliptic.P521(), crypto.SHA512, types.SigningAlgorithmSpecEcdsaSha512}
	}
	return suite{}
}

type ecdsaKey struct {
	public *ecdsa.PublicKey
	suite
}

func (k ecdsaKey) key() crypto.PublicKey { return k.public }

func (k ecdsaKey) accepts(digest []byte, opts crypto.SignerOpts) error {
	if opts.HashFunc() != k.hash {
		return fmt.Errorf("KMS signs %s with this key, not %s", k.hash, opts.HashFunc())
	}
	if len(digest) != k.hash.Size() {
		return fmt.Errorf("%d bytes are no digest of %s", len(digest), k.hash)
	}
	return nil
}

func (k ecdsaKey) request(keyID string, digest []byte) *kms.SignInput {
	return &kms.SignInput{KeyId: aws.String(keyID), Message: digest,
		MessageType: types.MessageTypeDigest, SigningAlgorithm: k.algorithm}
}

func (k ecdsaKey) verify(digest, signature []byte) bool {
	return ecdsa.VerifyASN1(k.public, digest, signature)
}
