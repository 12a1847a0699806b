package krl

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
)

const (
	magic         = "SSHKRL\n\x00"
	formatVersion = 1

	// MaxSize is the longest list that Parse reads, in bytes.
	MaxSize = 16 << 20
	// maxBitmap is the longest bitmap of serials, in bytes. ssh-keygen writes
	// at most 2 KiB.
	maxBitmap = 64 << 10
)

// Section types of PROTOCOL.krl.
const (
	sectionCertificates = 1
	sectionExplicitKey  = 2
	sectionSHA1         = 3
	sectionSignature    = 4
	sectionSHA256       = 5
	sectionExtension    = 255

	certSerialList   = 0x20
	certSerialRange  = 0x21
	certSerialBitmap = 0x22
	certKeyID        = 0x23
	certExtension    = 0x39
)

// Parse reads a binary KRL, as ssh-keygen -k writes it. Unknown sections,
// unknown critical extensions and anything malformed are errors, so that no
// revocation is overlooked. Signatures are passed over, not verified, as
// OpenSSH does since 9.4: the list must come from where only its author writes.
// The list shares no memory with data.
func Parse(data []byte) (*List, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("key revocation list of %d bytes, over %d", len(data), MaxSize)
	}
	l := &List{
		parsed:       true,
		certificates: make(map[string]*certificates),
		keys:         make(map[string]struct{}),
		sha1:         make(map[[sha1.Size]byte]struct{}),
		sha256:       make(map[[sha256.Size]byte]struct{}),
	}
	d := &decoder{rest: data}
	if err := l.header(d); err != nil {
		return nil, fmt.Errorf("key revocation list: %w", err)
	}
	if err := l.sections(d); err != nil {
		return nil, fmt.Errorf("key revocation list: %w", err)
	}
	for _, c := range l.certificates {
		c.serials.settle()
	}
	return l, nil
}

func (l *List) header(d *decoder) error {
	if !bytes.Equal(d.take(len(magic)), []byte(magic)) {
		return errors.New("does not begin as a binary one; ssh-keygen -k makes it from a list of keys")
	}
	if v := d.uint32(); !d.short && v != formatVersion {
		return fmt.Errorf("format %d, known is %d", v, formatVersion)
	}
	l.number = d.uint64()
	l.generated = d.uint64()
	d.uint64() // flags: none are defined
	d.string() // reserved
	l.comment = string(d.string())
	if d.short {
		return fmt.Errorf("header %w", errTruncated)
	}
	return nil
}

func (l *List) sections(d *decoder) error {
	signed := false
	for d.more() {
		kind, body := d.uint8(), d.string()
		if kind == sectionSignature {
			d.string() // body is the key, the signature follows it
			signed = true
		}
		if d.short {
			return fmt.Errorf("section %d %w", kind, errTruncated)
		}
		if signed && kind != sectionSignature {
			return fmt.Errorf("section %d comes after a signature", kind)
		}
		if err := l.section(kind, &decoder{rest: body}); err != nil {
			return fmt.Errorf("section %d: %w", kind, err)
		}
	}
	return nil
}

func (l *List) section(kind byte, d *decoder) error {
	switch kind {
	case sectionCertificates:
		return l.certificateSection(d)
	case sectionExplicitKey:
		return l.keySection(d)
	case sectionSHA1:
		return hashSection(d, sha1.Size, func(h []byte) { l.sha1[[sha1.Size]byte(h)] = struct{}{} })
	case sectionSHA256:
		return hashSection(d, sha256.Size, func(h []byte) { l.sha256[[sha256.Size]byte(h)] = struct{}{} })
	case sectionSignature:
		return nil
	case sectionExtension:
		return extension(d)
	}
	return errors.New("unknown")
}

func (l *List) keySection(d *decoder) error {
	for d.more() {
		blob := d.string()
		if d.short {
			break
		}
		name := (&decoder{rest: blob}).string()
		if len(name) == 0 {
			return errors.New("holds what is no key")
		}
		if isCertificate(string(name)) {
			return fmt.Errorf("holds a certificate (%.40q) where only keys can be", name)
		}
		l.keys[string(blob)] = struct{}{}
	}
	return d.end()
}

func hashSection(d *decoder, size int, add func([]byte)) error {
	for d.more() {
		hash := d.string()
		if !d.short && len(hash) != size {
			return fmt.Errorf("hash of %d bytes, not %d", len(hash), size)
		}
		if !d.short {
			add(hash)
		}
	}
	return d.end()
}

// extension passes over one that is not critical; none is known.
func extension(d *decoder) error {
	name := d.string()
	critical := d.uint8()
	d.string()
	if err := d.end(); err != nil {
		return fmt.Errorf("extension %w", err)
	}
	if critical != 0 {
		return fmt.Errorf("unknown critical extension %.40q", name)
	}
	return nil
}
