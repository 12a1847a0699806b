package krl

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"
)

func (l *List) certificateSection(d *decoder) error {
	ca, err := caBlob(d.string())
	d.string() // reserved
	if d.short {
		return errTruncated
	}
	if err != nil {
		return err
	}
	c := l.certificates[ca]
	if c == nil {
		c = &certificates{keyIDs: make(map[string]struct{})}
		l.certificates[ca] = c
	}
	for d.more() {
		kind, body := d.uint8(), d.string()
		if d.short {
			return errTruncated
		}
		if err := c.subsection(kind, &decoder{rest: body}); err != nil {
			return fmt.Errorf("certificate section %#x: %w", kind, err)
		}
	}
	return nil
}

// caBlob returns the CA's key as it is marshalled, so that it can be compared;
// "" stands for every CA. A CA that cannot be read is an error: its
// certificates would stay unrevoked unnoticed.
func caBlob(blob []byte) (string, error) {
	if len(blob) == 0 {
		return "", nil
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return "", fmt.Errorf("CA key: %w", err)
	}
	if isCertificate(key.Type()) {
		return "", errors.New("CA key is a certificate")
	}
	return string(key.Marshal()), nil
}

func (c *certificates) subsection(kind byte, d *decoder) error {
	switch kind {
	case certSerialList:
		return c.serialList(d)
	case certSerialRange:
		return c.serialRange(d)
	case certSerialBitmap:
		return c.serialBitmap(d)
	case certKeyID:
		return c.keyIDList(d)
	case certExtension:
		return extension(d)
	}
	return errors.New("unknown")
}

func (c *certificates) serialList(d *decoder) error {
	for d.more() {
		serial := d.uint64()
		if d.short {
			break
		}
		if err := c.serials.addRange(serial, serial); err != nil {
			return err
		}
	}
	return d.end()
}

func (c *certificates) serialRange(d *decoder) error {
	lo, hi := d.uint64(), d.uint64()
	if err := d.end(); err != nil {
		return err
	}
	return c.serials.addRange(lo, hi)
}

func (c *certificates) serialBitmap(d *decoder) error {
	offset, bitmap := d.uint64(), d.string()
	if err := d.end(); err != nil {
		return err
	}
	if len(bitmap) > maxBitmap {
		return fmt.Errorf("bitmap of %d bytes, over %d", len(bitmap), maxBitmap)
	}
	if len(bitmap) > 0 && bitmap[0]&0x80 != 0 {
		return errors.New("bitmap is negative") // an mpint, RFC 4251 §5
	}
	return c.serials.addBitmap(offset, bitmap)
}

func (c *certificates) keyIDList(d *decoder) error {
	for d.more() {
		id := d.string()
		// OpenSSH reads key IDs as C strings; a NUL would make it and us
		// revoke different certificates.
		if bytes.IndexByte(id, 0) >= 0 {
			return errors.New("key ID with a NUL")
		}
		if !d.short {
			c.keyIDs[string(id)] = struct{}{}
		}
	}
	return d.end()
}
