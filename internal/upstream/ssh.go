package upstream

import (
	"context"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

// Credential is how the gate logs in at a target.
type Credential struct {
	Signer ssh.Signer
	// Of a minted certificate, for the audit log; zero with a plain key.
	KeyID       string
	Serial      uint64
	ValidBefore time.Time
}

// Grant is what a minted certificate is for.
type Grant struct {
	Login              string // the one principal
	KeyID              string // names the person: see Minter.Mint
	PTY, Forwarding    bool   // permit-pty, permit-port-forwarding
	Agent, X11, UserRC bool
}

// Minter makes credentials: a certificate for each session, or one key for all.
// It is safe for concurrent use.
type Minter struct{}

// MinterOptions configure a Minter: CA or Key, not both.
type MinterOptions struct {
	CA       ssh.Signer    // signs a certificate over a fresh key for each session
	Lifetime time.Duration // of certificates; 0 = 5 min
	Key      ssh.Signer    // for targets that can't trust a CA
}

// NewMinter returns a Minter; with neither CA nor Key its Mint fails.
func NewMinter(o MinterOptions) (*Minter, error) { panic("stub") }

// Mint returns the credential for one session, valid from now (less a minute of
// clock skew) for the lifetime.
func (m *Minter) Mint(now time.Time, g Grant) (Credential, error) { panic("stub") }

// KnownHosts says which keys targets may show (sshd(8), SSH_KNOWN_HOSTS FILE
// FORMAT): hashed names, @cert-authority and @revoked lines included. It is
// immutable; the zero value and nil know nobody, and so refuse every key.
type KnownHosts struct{}

// LoadKnownHosts reads files; a missing or malformed one is an error.
func LoadKnownHosts(paths []string) (*KnownHosts, error) { panic("stub") }

// Target is whom the gate logs in to.
type Target struct {
	Host       string // as the client wrote it: the name that known_hosts is asked for
	Port       uint16
	Login      string
	Credential Credential
}

// Conn is an SSH connection to a target.
type Conn struct {
	ssh.Conn
	Channels <-chan ssh.NewChannel
	Requests <-chan *ssh.Request
	HostKey  string // fingerprint, SHA256:…
	HostCA   string // fingerprint of the CA that certified it, "" = none
	Kex      time.Duration
	Auth     time.Duration
}

// SSH logs in over an established connection. When it fails the connection is
// closed, and Classify tells OutcomeHostKeyUnknown, OutcomeHostKeyChanged,
// OutcomeHostKeyRevoked, OutcomeNotSSH, OutcomeLoginRefused, OutcomeTimeout ...
// apart. The whole takes at most the Dialer's timeout.
func (d *Dialer) SSH(ctx context.Context, nc net.Conn, known *KnownHosts, t Target) (*Conn, error) {
	panic("stub")
}
