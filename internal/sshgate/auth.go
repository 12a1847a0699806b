package sshgate

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/policy"
)

// principal is who a verified key belongs to, and what the key itself limits.
// It travels in ssh.Permissions.ExtraData, so it is the key that signed, never
// one that was only offered (CVE-2024-45337).
type principal struct {
	identity string
	user     string
	key      ssh.PublicKey // as presented: a plain key or a certificate
	auth     audit.Auth

	destination *destination // that the user name is; nil for a plain one

	// From the certificate, as in OpenSSH: without the permit-* extension the
	// feature is off, and force-command replaces what the client asks for.
	forceCommand string
	noForwarding bool
	noPTY        bool
}

type principalKey struct{}

func (p *principal) permissions(critical, extensions map[string]string) *ssh.Permissions {
	return &ssh.Permissions{
		CriticalOptions: critical,
		Extensions:      extensions,
		ExtraData:       map[any]any{principalKey{}: p},
	}
}

// refusal is why a key was not accepted: a reason code, the operator's detail,
// and the key's facts for the audit log.
type refusal struct {
	reason string
	detail string
	auth   *audit.Auth
}

func (r *refusal) Error() string { return r.reason + ": " + r.detail }

func refuse(a *audit.Auth, reason, format string, args ...any) *refusal {
	return &refusal{reason: reason, detail: fmt.Sprintf(format, args...), auth: a}
}

// identify finds out whose key it is. It is a pure function of its arguments:
// x/crypto calls it for keys that a client merely offers.
func identify(r *Rules, user string, key ssh.PublicKey, client netip.Addr, now time.Time) (*ssh.Permissions, *refusal) {
	a := describeKey(key)
	if err := checkKeySize(key); err != nil {
		return nil, refuse(a, reasonKeySize, "%v", err)
	}
	for _, l := range r.Revoked {
		if l.Revoked(key) {
			return nil, refuse(a, reasonKeyRevoked, "%s is in a revocation list", a.Fingerprint)
		}
	}
	if cert, ok := key.(*ssh.Certificate); ok {
		return identifyCertificate(r, user, cert, a, client, now)
	}
	id, k, reason := r.Policy.Key(user, key.Marshal(), client, now)
	to, ref := destinationOf(user, reason, a)
	if ref != nil {
		return nil, ref
	}
	if to != nil {
		id, k, reason = r.Policy.KeyOf(key.Marshal(), client, now)
	}
	if reason != "" {
		return nil, refuse(a, string(reason), "key %s as %q", a.Fingerprint, user)
	}
	p := &principal{identity: id.Name, user: user, key: key, auth: *a, destination: to}
	var extensions map[string]string
	if k.NoTouchRequired {
		extensions = map[string]string{extensionNoTouch: ""}
	}
	return p.permissions(nil, extensions), nil
}

// destinationOf reads a user name that the key's owner may not present: it may
// say where to instead of who. A name that an identity may present is only
// ever that, whatever it looks like.
func destinationOf(user string, reason policy.Reason, a *audit.Auth) (*destination, *refusal) {
	if reason != policy.ReasonUser {
		return nil, nil
	}
	d, ok, err := parseDestination(user)
	if err != nil {
		return nil, refuse(a, string(policy.ReasonTarget), "user name %q: %v", user, err)
	}
	if !ok {
		return nil, nil
	}
	return &d, nil
}

// Certificate options and extensions of OpenSSH (PROTOCOL.certkeys).
const (
	optionForceCommand  = "force-command"
	optionSourceAddress = "source-address"
	extensionNoTouch    = "no-touch-required"
	extensionForwarding = "permit-port-forwarding"
	extensionPTY        = "permit-pty"
)

func identifyCertificate(r *Rules, user string, cert *ssh.Certificate, a *audit.Auth, client netip.Addr, now time.Time) (*ssh.Permissions, *refusal) {
	if ref := checkCertificateForm(cert, a); ref != nil {
		return nil, ref
	}
	id, reason := r.Policy.Certificate(user, cert.SignatureKey.Marshal(), cert.ValidPrincipals)
	to, ref := destinationOf(user, reason, a)
	if ref != nil {
		return nil, ref
	}
	if to != nil {
		id, reason = r.Policy.CertificateOf(cert.SignatureKey.Marshal(), cert.ValidPrincipals)
	}
	if reason != "" {
		return nil, refuse(a, string(reason), "certificate %q of CA %s as %q", cert.KeyId, a.CA, user)
	}
	a.Principal = id.Principal
	if ref := checkCertificate(cert, id.Principal, a, client, now); ref != nil {
		return nil, ref
	}
	_, forwarding := cert.Extensions[extensionForwarding]
	_, pty := cert.Extensions[extensionPTY]
	p := &principal{
		identity: id.Name, user: user, key: cert, auth: *a, destination: to,
		forceCommand: cert.CriticalOptions[optionForceCommand],
		noForwarding: !forwarding, noPTY: !pty,
	}
	return p.permissions(cert.CriticalOptions, nil), nil
}

// checkCertificateForm refuses what x/crypto would let pass.
func checkCertificateForm(cert *ssh.Certificate, a *audit.Auth) *refusal {
	switch {
	case cert.CertType != ssh.UserCert:
		return refuse(a, reasonCertType, "it is not a user certificate")
	case len(cert.ValidPrincipals) == 0:
		// x/crypto reads an empty list as "any user"; OpenSSH refuses it.
		return refuse(a, reasonCertPrincipals, "it lists no principals")
	case cert.Signature == nil || !slices.Contains(userKeyAlgorithms(), cert.Signature.Format):
		return refuse(a, reasonCertSHA1, "its CA signed with an algorithm that is not accepted")
	case isSecurityKey(cert.Key) && hasKey(cert.Extensions, extensionNoTouch):
		// x/crypto would waive the touch on the certificate's word; only the
		// policy may waive it.
		return refuse(a, reasonCertNoTouch, "it waives the touch of the security key")
	}
	return nil
}

// checkCertificate checks validity, critical options, principal and signature.
// source-address is checked here too, so that its refusal has a reason.
func checkCertificate(cert *ssh.Certificate, principal string, a *audit.Auth, client netip.Addr, now time.Time) *refusal {
	for name := range cert.CriticalOptions {
		if name != optionForceCommand && name != optionSourceAddress {
			return refuse(a, reasonCertOption, "critical option %q is not supported", name)
		}
	}
	if list, ok := cert.CriticalOptions[optionSourceAddress]; ok && !sourceAllowed(list, client) {
		return refuse(a, reasonCertSource, "client %s is not in source-address %s", client, list)
	}
	unix := uint64(now.Unix())
	if unix < cert.ValidAfter || unix >= cert.ValidBefore {
		return refuse(a, reasonCertExpired, "it is valid from %s to %s", certTime(cert.ValidAfter), certTime(cert.ValidBefore))
	}
	checker := ssh.CertChecker{
		SupportedCriticalOptions: []string{optionForceCommand, optionSourceAddress},
		IsUserAuthority: func(ca ssh.PublicKey) bool {
			return bytes.Equal(ca.Marshal(), cert.SignatureKey.Marshal())
		},
		Clock: func() time.Time { return now },
	}
	if err := checker.CheckCert(principal, cert); err != nil {
		return refuse(a, reasonCertInvalid, "%v", err)
	}
	return nil
}

func sourceAllowed(list string, client netip.Addr) bool {
	for item := range strings.SplitSeq(list, ",") {
		if p, err := netip.ParsePrefix(item); err == nil && p.Masked().Contains(client) {
			return true
		}
		if ip, err := netip.ParseAddr(item); err == nil && ip.Unmap() == client {
			return true
		}
	}
	return false
}

func isSecurityKey(k ssh.PublicKey) bool {
	return k.Type() == ssh.KeyAlgoSKED25519 || k.Type() == ssh.KeyAlgoSKECDSA256
}

func hasKey(m map[string]string, k string) bool {
	_, ok := m[k]
	return ok
}

// RSA keys of users and CAs: smaller ones are weak, larger ones cost the gate
// CPU before anybody is authenticated (CVE-2026-39829).
const minRSABits, maxRSABits = 2048, 8192

func checkKeySize(key ssh.PublicKey) error {
	if cert, ok := key.(*ssh.Certificate); ok {
		return errors.Join(checkKeySize(cert.Key), checkKeySize(cert.SignatureKey))
	}
	ck, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return nil
	}
	if k, ok := ck.CryptoPublicKey().(*rsa.PublicKey); ok {
		if n := k.N.BitLen(); n < minRSABits || n > maxRSABits {
			return fmt.Errorf("RSA key of %d bits, not %d to %d", n, minRSABits, maxRSABits)
		}
	}
	return nil
}

func describeKey(key ssh.PublicKey) *audit.Auth {
	a := &audit.Auth{Method: "publickey", Algorithm: key.Type(), Fingerprint: ssh.FingerprintSHA256(key)}
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return a
	}
	a.Certificate = true
	a.Fingerprint = ssh.FingerprintSHA256(cert.Key)
	a.CA = ssh.FingerprintSHA256(cert.SignatureKey)
	a.KeyID, a.Serial = cert.KeyId, cert.Serial
	a.ValidAfter, a.ValidBefore = certTime(cert.ValidAfter), certTime(cert.ValidBefore)
	return a
}

// certTime turns a certificate's seconds into a time; "forever" has no time.
func certTime(s uint64) time.Time {
	if s == 0 || s > 253402300799 { // past the year 9999: ssh.CertTimeInfinity and its like
		return time.Time{}
	}
	return time.Unix(int64(s), 0).UTC()
}

// authenticator runs the authentication of one connection, with one snapshot of
// the rules. It belongs to the goroutine that runs the handshake.
type authenticator struct {
	session *session
	ctx     context.Context
	rules   *Rules
	now     time.Time
	progress
	failures int
	unknown  bool            // a failure was for an unknown key or user
	told     map[string]bool // reasons already shown in the banner
	who      *principal      // durable in the audit log as authenticated
	lastUser string          // SSH user name of the last attempt
}

// progress is how far a handshake has come after the client's hello.
type progress struct {
	begun   bool // the key exchange is over
	offered bool // a key was accepted for signing
}

func (a *authenticator) config() *ssh.ServerConfig {
	c := a.session.server.config
	c.Ciphers = a.session.server.algorithms.adapt(a.session.wire.Hello())
	c.PreAuthConnCallback = func(ssh.ServerPreAuthConn) { a.begun = true }
	c.PublicKeyCallback = a.publicKey
	c.VerifiedPublicKeyCallback = a.verified
	c.AuthLogCallback = a.logged
	return &c
}

func (a *authenticator) publicKey(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	a.lastUser = meta.User()
	perms, ref := identify(a.rules, meta.User(), key, a.session.origin.Client.Addr(), a.now)
	a.offered = ref == nil
	if ref != nil {
		return nil, a.tell(ref)
	}
	return perms, nil
}

// verified runs once the signature has proven the key. What it writes is
// durable before the client learns that it is in.
func (a *authenticator) verified(meta ssh.ConnMetadata, _ ssh.PublicKey, perms *ssh.Permissions, sigAlg string) (*ssh.Permissions, error) {
	p := perms.ExtraData[principalKey{}].(*principal)
	if ref := a.admit(p); ref != nil {
		return nil, a.tell(ref)
	}
	c := a.session
	c.opened = time.Now()
	c.who = p
	open := c.event(audit.ConnOpen, "connection from "+c.place()+" accepted")
	open.Identity, open.User = "", ""
	in := c.event(audit.AuthSuccess, p.identity+" authenticated with "+p.auth.Fingerprint)
	in.Extra = negotiated(meta, sigAlg, a.failures)
	if err := c.server.opt.Audit.Append(a.ctx, open, in); err != nil {
		c.who = nil
		return nil, a.tell(refuse(&p.auth, reasonAuditUnavailable, "%v", err))
	}
	a.who = p
	return perms, nil
}

// admit checks what only somebody who has proven the key may learn.
func (a *authenticator) admit(p *principal) *refusal {
	s := a.session.server
	if err := s.opt.Audit.Ready(); err != nil {
		return refuse(&p.auth, reasonAuditUnavailable, "%v", err)
	}
	if s.opt.Archived != nil {
		if err := s.opt.Archived(); err != nil {
			return refuse(&p.auth, reasonArchiveBehind, "%v", err)
		}
	}
	if s.draining.Load() {
		return refuse(&p.auth, reasonDraining, "the gate is draining")
	}
	if reason := a.rules.Policy.StillValid(p.identity); reason != "" {
		return refuse(&p.auth, string(reason), "identity %s", p.identity)
	}
	if err := a.session.tcp.Authenticated(p.identity); err != nil {
		return refuse(&p.auth, denialReason(err), "%v", err)
	}
	return nil
}

// tell shows the client each reason once, in a banner.
func (a *authenticator) tell(r *refusal) error {
	if a.told[r.reason] {
		return r
	}
	if a.told == nil {
		a.told = map[string]bool{}
	}
	a.told[r.reason] = true
	return &ssh.BannerError{Err: r, Message: text(r.reason) + "\r\n"}
}

// logged writes down each failed attempt. A successful one is already durable,
// and asking which methods there are ("none") is no attempt.
func (a *authenticator) logged(meta ssh.ConnMetadata, method string, err error) {
	if err == nil {
		a.session.server.opt.Metrics.Auth(method, "ok")
		return
	}
	if errors.Is(err, ssh.ErrNoAuth) {
		return
	}
	var r *refusal
	if !errors.As(err, &r) {
		r = refuse(nil, attemptReason(method), "%v", err)
	}
	a.fail(meta.User(), method, r)
}

func attemptReason(method string) string {
	if method == "publickey" {
		return reasonKeyAlgorithm
	}
	return reasonMethod
}

func (a *authenticator) fail(user, method string, r *refusal) {
	a.failures++
	a.unknown = a.unknown || r.reason == string(policy.ReasonKeyUnknown)
	c := a.session
	c.server.opt.Metrics.Auth(method, r.reason)
	c.server.countLimit(r.reason)
	c.log.Info("authentication refused", zap.String("user", user), zap.String("method", method), zap.Error(r))
	e := c.event(audit.AuthFailure, "authentication refused: "+r.reason)
	e.User, e.Failed, e.Reason, e.Detail, e.Auth = user, true, r.reason, r.detail, r.auth
	if e.Auth == nil {
		e.Auth = &audit.Auth{Method: method}
	}
	e.Extra = map[string]any{"attempt": a.failures, "max": c.server.opt.MaxAuthTries}
	c.server.opt.Audit.Refuse(e)
}

func negotiated(meta ssh.ConnMetadata, sigAlg string, failures int) map[string]any {
	extra := map[string]any{"sig_alg": sigAlg, "attempts": failures + 1}
	if m, ok := meta.(ssh.AlgorithmsConnMetadata); ok {
		n := m.Algorithms()
		extra["kex"], extra["host_key"] = n.KeyExchange, n.HostKey
		extra["cipher"], extra["mac"] = n.Read.Cipher, n.Read.MAC
	}
	return extra
}
