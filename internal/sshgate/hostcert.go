package sshgate

import (
	"container/list"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Bounds of the host certificates that are shown in the names of targets. They
// are short because nobody can call one back; clients look at one only while
// they connect and rekey.
const (
	hostCertLifetime = 24 * time.Hour
	hostCertBackdate = 5 * time.Minute // for clients whose clocks are behind
	maxHostCerts     = 1024            // names; the rest is signed anew when it is asked for
)

// hostCerts makes and keeps the host certificates for the names of inspected
// targets. They certify the gate's own host keys: the certificate says whose
// name the key may be shown in, so no key is needed for each. It is safe for
// concurrent use; without a CA it has none.
type hostCerts struct {
	ca   ssh.Signer // nil: no certificates
	keys []ssh.Signer

	mu     sync.Mutex // guards the rest
	byName map[string]*list.Element
	recent list.List // of *hostCert, the last used first
}

// hostCert is one name and a signer for each host key.
type hostCert struct {
	name    string
	signers []ssh.Signer
	renew   time.Time
}

// signers returns what proves the host's name at now, with more than half of
// its validity left: certified host keys, or none without a CA.
func (h *hostCerts) signers(name string, now time.Time) ([]ssh.Signer, error) {
	if h.ca == nil {
		return nil, nil
	}
	if s := h.cached(name, now); s != nil {
		return s, nil
	}
	c := &hostCert{name: name, renew: now.Add(hostCertLifetime / 2)}
	for _, key := range h.keys {
		s, err := h.certify(key, name, now)
		if err != nil {
			return nil, fmt.Errorf("certify a host key for %s: %w", name, err)
		}
		c.signers = append(c.signers, s)
	}
	h.keep(c)
	return c.signers, nil
}

func (h *hostCerts) cached(name string, now time.Time) []ssh.Signer {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.byName[name]
	if e == nil {
		return nil
	}
	c := e.Value.(*hostCert)
	if !now.Before(c.renew) {
		return nil
	}
	h.recent.MoveToFront(e)
	return c.signers
}

func (h *hostCerts) keep(c *hostCert) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := h.byName[c.name]; old != nil {
		h.recent.Remove(old)
	}
	if h.byName == nil {
		h.byName = map[string]*list.Element{}
	}
	h.byName[c.name] = h.recent.PushFront(c)
	if h.recent.Len() > maxHostCerts {
		last := h.recent.Back()
		delete(h.byName, h.recent.Remove(last).(*hostCert).name)
	}
}

// certify signs one host certificate (OpenSSH PROTOCOL.certkeys).
func (h *hostCerts) certify(key ssh.Signer, name string, now time.Time) (ssh.Signer, error) {
	var serial [8]byte
	rand.Read(serial[:]) // never fails (crypto/rand)
	cert := &ssh.Certificate{
		Key: key.PublicKey(), Serial: binary.BigEndian.Uint64(serial[:]), CertType: ssh.HostCert,
		KeyId: "postern for " + name, ValidPrincipals: []string{name},
		ValidAfter:  uint64(now.Add(-hostCertBackdate).Unix()),
		ValidBefore: uint64(now.Add(hostCertLifetime).Unix()),
	}
	if lower := strings.ToLower(name); lower != name {
		cert.ValidPrincipals = append(cert.ValidPrincipals, lower) // what OpenSSH's client looks for
	}
	if err := cert.SignCert(rand.Reader, h.ca); err != nil {
		return nil, err
	}
	return ssh.NewCertSigner(cert, key)
}
