package files

import (
	"encoding/binary"
	"errors"
	"math"
)

// maxRequest is how long a packet may be that has to be read whole: requests
// other than WRITE, and answers that hold a handle. It is the most that OpenSSH
// takes (SFTP_MAX_MSG_LENGTH, sftp-common.h). Data and names may be longer:
// they are not gathered.
const maxRequest = 256 << 10

var (
	errEmptyPacket = errors.New("a packet of no bytes")
	errLongPacket  = errors.New("a packet longer than any server takes")
)

// framer cuts one direction of an SFTP stream into packets: of each first the
// prefix that has to be understood, then the rest in pieces as they come.
type framer struct {
	want func(packet []byte) int // bytes of the packet, length field included, that its prefix has; called with 5 or more of them
	held []byte                  // the prefix so far, of a packet whose prefix came in pieces
	left int64                   // bytes of the packet after its prefix, still to come
}

// between says that no packet has begun.
func (f *framer) between() bool { return f.left == 0 && len(f.held) == 0 }

// prefix takes bytes from p until the next packet's prefix is whole. It is nil
// when p was too short; then all of p is held. The prefix may be part of p or
// of what is held, and is valid until the next call.
func (f *framer) prefix(p []byte) (prefix, rest []byte, err error) {
	for {
		have := f.held
		if len(have) == 0 {
			have = p // the usual case: nothing is copied
		}
		n, err := f.need(have)
		if err != nil {
			return nil, p, err
		}
		if len(have) >= n {
			return f.cut(have, p, n)
		}
		if len(p) == 0 {
			return nil, nil, nil
		}
		take := min(n-len(f.held), len(p))
		f.held = append(f.held, p[:take]...)
		p = p[take:]
	}
}

// cut ends the prefix at n bytes.
func (f *framer) cut(have, p []byte, n int) (prefix, rest []byte, err error) {
	f.left = 4 + int64(binary.BigEndian.Uint32(have)) - int64(n)
	if len(f.held) == 0 {
		return have[:n], p[n:], nil
	}
	f.held = f.held[:0]
	if cap(f.held) > 4096 {
		f.held = nil // a rare long one; have keeps it alive until the caller is done
	}
	return have[:n], p, nil
}

// need is how many bytes of a packet have to be there before it is understood,
// as far as those that are there tell.
func (f *framer) need(have []byte) (int, error) {
	if len(have) < 5 {
		return 5, nil
	}
	length := binary.BigEndian.Uint32(have)
	if length == 0 {
		return 0, errEmptyPacket
	}
	n := min(int64(f.want(have)), 4+int64(length))
	if n > 4+maxRequest {
		return 0, errLongPacket
	}
	return int(n), nil
}

// clientPrefix is framer.want for requests: all of it but a WRITE's data.
func clientPrefix(packet []byte) int {
	if packet[4] != fxpWrite {
		return math.MaxInt32
	}
	if len(packet) < 13 {
		return 13
	}
	return int(min(13+int64(binary.BigEndian.Uint32(packet[9:]))+12, math.MaxInt32))
}

// serverPrefix is framer.want for answers: what is understood of them.
func serverPrefix(packet []byte) int {
	switch packet[4] {
	case fxpHandle:
		return math.MaxInt32
	case fxpAttrs:
		return 4 + 1 + 4 + 4 + 8 // as far as the size
	case fxpVersion, fxpExtendedReply:
		return 4 + 1 + 4
	}
	return 4 + 1 + 4 + 4 // as far as a status code, a data length, a count of names
}
