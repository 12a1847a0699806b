package krl

import (
	"encoding/binary"
	"errors"
)

var (
	errTruncated = errors.New("ends too early")
	errTrailing  = errors.New("has bytes after its end")
)

// decoder takes RFC 4251 values from the front of rest. Once rest was too short
// it stays so, and every value is zero.
type decoder struct {
	rest  []byte
	short bool
}

func (d *decoder) more() bool { return !d.short && len(d.rest) > 0 }

// end reports what is wrong if a body was not exactly its values.
func (d *decoder) end() error {
	if d.short {
		return errTruncated
	}
	if len(d.rest) > 0 {
		return errTrailing
	}
	return nil
}

func (d *decoder) take(n int) []byte {
	if d.short || n > len(d.rest) {
		d.short = true
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) uint8() byte {
	b := d.take(1)
	if b == nil {
		return 0
	}
	return b[0]
}

func (d *decoder) uint32() uint32 {
	b := d.take(4)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

func (d *decoder) uint64() uint64 {
	b := d.take(8)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func (d *decoder) string() []byte {
	n := d.uint32()
	if uint64(n) > uint64(len(d.rest)) {
		d.short = true
		return nil
	}
	return d.take(int(n))
}
