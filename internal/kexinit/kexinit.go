// Package kexinit reads what an SSH client says before any cryptography: its
// identification line (RFC 4253 §4.2) and its first KEXINIT (§7.1), bounded in
// bytes and time, and hands the connection on as if nothing had been read.
package kexinit

import (
	"crypto/md5"
	"encoding/hex"
	"slices"
	"strings"
)

// Reason is why a client's first words were refused: an audit code.
type Reason string

const (
	ReasonVersionBad     Reason = "version.bad"       // first line is no SSH-2.0 or 1.99 identification
	ReasonVersionLong    Reason = "version.long"      // over 255 bytes
	ReasonVersionTimeout Reason = "version.timeout"   // no whole line before the deadline
	ReasonKexinitBad     Reason = "kexinit.malformed" // first packet is no KEXINIT within bounds
	ReasonKexTimeout     Reason = "kex.timeout"       // the deadline came between the line and the KEXINIT
	ReasonClosed         Reason = "closed"            // the client closed or reset, or the connection failed
	ReasonPreAuthBytes   Reason = "preauth.bytes"     // more bytes before authentication than the budget
)

// Error is a client refused by this package. Err is for the operator; it wraps
// what the connection returned, if that was the cause.
type Error struct {
	Reason Reason
	Err    error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return string(e.Reason)
	}
	return string(e.Reason) + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Hello is what one side said. The lists are in the sender's order and all
// empty if its KEXINIT was not seen.
type Hello struct {
	Version             string // identification without CR LF
	KexAlgorithms       []string
	HostKeyAlgorithms   []string
	CiphersClientServer []string
	CiphersServerClient []string
	MACsClientServer    []string
	MACsServerClient    []string
	Compression         []string // of the direction in which the sender sends
}

// OffersCipher reports whether the sender lists name for both directions.
func (h Hello) OffersCipher(name string) bool {
	return slices.Contains(h.CiphersClientServer, name) && slices.Contains(h.CiphersServerClient, name)
}

// HASSH returns the client fingerprint of github.com/corelight/hassh and the
// algorithm string it is the MD5 of, for a client's Hello. Both are empty if
// there was no KEXINIT.
func (h Hello) HASSH() (fingerprint, algorithms string) {
	return hassh(h.KexAlgorithms, h.CiphersClientServer, h.MACsClientServer, h.Compression)
}

// ServerHASSH is HASSH for a server's Hello.
func (h Hello) ServerHASSH() (fingerprint, algorithms string) {
	return hassh(h.KexAlgorithms, h.CiphersServerClient, h.MACsServerClient, h.Compression)
}

func hassh(kex, ciphers, macs, compression []string) (fingerprint, algorithms string) {
	if len(kex) == 0 {
		return "", ""
	}
	lists := make([]string, 0, 4)
	for _, list := range [][]string{kex, ciphers, macs, compression} {
		lists = append(lists, strings.Join(list, ","))
	}
	algorithms = strings.Join(lists, ";")
	sum := md5.Sum([]byte(algorithms)) // the fingerprint's definition, not a safeguard
	return hex.EncodeToString(sum[:]), algorithms
}
