// Package kexinit reads what an SSH client says before any cryptography: its
// identification line (RFC 4253 §4.2) and its first KEXINIT (§7.1), bounded in
// bytes and time, and hands the connection on as if nothing had been read.
package kexinit

// Reason is why a client's first words were refused: an audit code.
type Reason string

const (
	ReasonVersionBad     Reason = "version.bad"       // first line is no SSH-2.0 or 1.99 identification
	ReasonVersionLong    Reason = "version.long"      // over 255 bytes
	ReasonVersionTimeout Reason = "version.timeout"   // no whole line before the deadline
	ReasonKexinitBad     Reason = "kexinit.malformed" // first packet is no KEXINIT within bounds
	ReasonKexTimeout     Reason = "kex.timeout"
	ReasonClosed         Reason = "closed"        // the client closed or reset
	ReasonPreAuthBytes   Reason = "preauth.bytes" // more bytes before authentication than the budget
)

// Error is a client refused by this package. Err is for the operator.
type Error struct {
	Reason Reason
	Err    error
}

// Hello is what the client said. The lists are in the client's order.
type Hello struct {
	Version             string // identification without CR LF
	KexAlgorithms       []string
	HostKeyAlgorithms   []string
	CiphersClientServer []string
	CiphersServerClient []string
	MACsClientServer    []string
	MACsServerClient    []string
	Compression         []string
}
