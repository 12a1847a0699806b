package record

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

const fileKeyLen = 32

// sealer encrypts the blocks of one file with a key of its own. nil seals
// nothing.
type sealer struct {
	aead cipher.AEAD
	aad  [32 + authenticated]byte // hash of the file's prefix, then a block header
}

// newFileKey makes a key for one file, and wraps it to the recipients.
func newFileKey(recipients []age.Recipient) (key, wrapped []byte, err error) {
	key = make([]byte, fileKeyLen)
	rand.Read(key)
	wrapped, err = wrapKey(key, recipients)
	return key, wrapped, err
}

func wrapKey(key []byte, recipients []age.Recipient) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, recipients...)
	if err == nil {
		_, err = w.Write(key)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("wrap the file key: %w", err)
	}
	return out.Bytes(), nil
}

// unwrapKey opens a wrapped file key with one of the identities.
func unwrapKey(wrapped []byte, identities []age.Identity) ([]byte, error) {
	if len(identities) == 0 {
		return nil, ErrSealed
	}
	r, err := age.Decrypt(bytes.NewReader(wrapped), identities...)
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return nil, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: file key: %w", ErrCorrupt, err)
	}
	key, err := io.ReadAll(io.LimitReader(r, fileKeyLen+1))
	if err != nil || len(key) != fileKeyLen {
		return nil, fmt.Errorf("%w: file key", ErrCorrupt)
	}
	return key, nil
}

func newSealer(key []byte, prefix [32]byte) (*sealer, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("file key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("file key: %w", err)
	}
	s := &sealer{aead: aead}
	copy(s.aad[:], prefix[:])
	return s, nil
}

// nonce is unique in a file: blocks of a type are counted. The type is in it
// because the end block may follow a block that failed halfway to disk.
func nonce(kind byte, index uint64) []byte {
	n := make([]byte, 12)
	n[0] = kind
	binary.BigEndian.PutUint64(n[4:], index)
	return n
}

// bind returns the additional data of a block: it ties the block to this file
// and to what its header says.
func (s *sealer) bind(header []byte) []byte {
	copy(s.aad[32:], header[:authenticated])
	return s.aad[:]
}

// seal encrypts payload in place; it has room for the tag.
func (s *sealer) seal(header, payload []byte, index uint64) []byte {
	return s.aead.Seal(payload[:0], nonce(header[0], index), payload, s.bind(header))
}

// open decrypts payload in place.
func (s *sealer) open(header, payload []byte, index uint64) ([]byte, error) {
	out, err := s.aead.Open(payload[:0], nonce(header[0], index), payload, s.bind(header))
	if err != nil {
		return nil, fmt.Errorf("%w: block does not authenticate", ErrCorrupt)
	}
	return out, nil
}

// sign returns the tag over an end block, whose payload stays in clear so that
// a list can be made without an identity.
func (s *sealer) sign(header, payload []byte, index uint64) []byte {
	aad := append(bytes.Clone(s.bind(header)), payload...)
	return s.aead.Seal(nil, nonce(header[0], index), nil, aad)
}

// signed tells whether tag is that of the end block.
func (s *sealer) signed(header, payload, tag []byte, index uint64) bool {
	aad := append(bytes.Clone(s.bind(header)), payload...)
	_, err := s.aead.Open(nil, nonce(header[0], index), tag, aad)
	return err == nil
}
