package files

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
)

// Packet types, draft-ietf-secsh-filexfer-02 section 3.
const (
	fxpInit          = 1
	fxpVersion       = 2
	fxpOpen          = 3
	fxpClose         = 4
	fxpRead          = 5
	fxpWrite         = 6
	fxpLstat         = 7
	fxpFstat         = 8
	fxpSetstat       = 9
	fxpFsetstat      = 10
	fxpOpendir       = 11
	fxpReaddir       = 12
	fxpRemove        = 13
	fxpMkdir         = 14
	fxpRmdir         = 15
	fxpRealpath      = 16
	fxpStat          = 17
	fxpRename        = 18
	fxpReadlink      = 19
	fxpSymlink       = 20
	fxpStatus        = 101
	fxpHandle        = 102
	fxpData          = 103
	fxpName          = 104
	fxpAttrs         = 105
	fxpExtended      = 200
	fxpExtendedReply = 201
)

// Open flags, section 6.3.
const (
	fxfRead   = 1 << 0
	fxfWrite  = 1 << 1
	fxfAppend = 1 << 2
	fxfCreat  = 1 << 3
	fxfTrunc  = 1 << 4
	fxfExcl   = 1 << 5

	fxfChanges = fxfWrite | fxfAppend | fxfCreat | fxfTrunc
)

// Status codes, section 7, and the one attribute flag that matters here,
// section 5.
const (
	fxOK               = 0
	fxEOF              = 1
	fxPermissionDenied = 3

	attrSize = 1 << 0
)

const version = 3 // the protocol version that is decoded

// OpenSSH's PROTOCOL section 4 and draft-ietf-secsh-filexfer-extensions-00.
const (
	extPosixRename = "posix-rename@openssh.com"
	extHardlink    = "hardlink@openssh.com"
	extLsetstat    = "lsetstat@openssh.com"
	extFsync       = "fsync@openssh.com"
	extCopyData    = "copy-data"
	extStatvfs     = "statvfs@openssh.com"
	extFstatvfs    = "fstatvfs@openssh.com"
	extLimits      = "limits@openssh.com"
	extExpandPath  = "expand-path@openssh.com"
	extUsersGroups = "users-groups-by-id@openssh.com"
	extHome        = "home-directory"
)

// packetName is the draft's name of a packet type.
func packetName(kind byte) string {
	switch kind {
	case fxpOpen:
		return "SSH_FXP_OPEN"
	case fxpClose:
		return "SSH_FXP_CLOSE"
	case fxpRead:
		return "SSH_FXP_READ"
	case fxpWrite:
		return "SSH_FXP_WRITE"
	case fxpSetstat:
		return "SSH_FXP_SETSTAT"
	case fxpFsetstat:
		return "SSH_FXP_FSETSTAT"
	case fxpOpendir:
		return "SSH_FXP_OPENDIR"
	case fxpReaddir:
		return "SSH_FXP_READDIR"
	case fxpRemove:
		return "SSH_FXP_REMOVE"
	case fxpMkdir:
		return "SSH_FXP_MKDIR"
	case fxpRmdir:
		return "SSH_FXP_RMDIR"
	case fxpRename:
		return "SSH_FXP_RENAME"
	case fxpSymlink:
		return "SSH_FXP_SYMLINK"
	case fxpExtended:
		return "SSH_FXP_EXTENDED"
	}
	return "SSH_FXP_" + strconv.Itoa(int(kind))
}

// statusName is the draft's name of a status code.
func statusName(code uint32) string {
	names := [...]string{"SSH_FX_OK", "SSH_FX_EOF", "SSH_FX_NO_SUCH_FILE", "SSH_FX_PERMISSION_DENIED", "SSH_FX_FAILURE",
		"SSH_FX_BAD_MESSAGE", "SSH_FX_NO_CONNECTION", "SSH_FX_CONNECTION_LOST", "SSH_FX_OP_UNSUPPORTED"}
	if code < uint32(len(names)) {
		return names[code]
	}
	return fmt.Sprintf("SSH_FX_%d", code)
}

var errShort = errors.New("a field runs past the end of its packet")

// fields reads the fields of one packet. After a field that does not fit, err
// is set and every further field is zero.
type fields struct {
	rest []byte
	err  error
}

func (f *fields) take(n uint64) []byte {
	if uint64(len(f.rest)) < n {
		f.rest, f.err = nil, errShort
		return nil
	}
	b := f.rest[:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) uint32() uint32 {
	b := f.take(4)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

func (f *fields) uint64() uint64 {
	b := f.take(8)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// bytes reads a string field; the result is part of the packet.
func (f *fields) bytes() []byte { return f.take(uint64(f.uint32())) }

func (f *fields) string() string { return string(f.bytes()) }

// size reads the size out of an ATTRS structure, if it has one.
func (f *fields) size() (size uint64, ok bool) {
	if f.uint32()&attrSize == 0 {
		return 0, false
	}
	size = f.uint64()
	return size, f.err == nil
}
