package upstream

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
)

// HostKeyError is why a target's host key was refused. Its text is for the
// operator.
type HostKeyError struct {
	Outcome     Outcome  // OutcomeHostKeyUnknown, OutcomeHostKeyChanged or OutcomeHostKeyRevoked
	Host        string   // as the client wrote it
	Port        uint16   //
	Type        string   // of the key shown, such as ssh-ed25519
	Fingerprint string   // of the key shown, SHA256:…
	Lines       []string // file:line of the entries for the host, or of the one that revokes
	Err         error    // what is wrong with the certificate, or that there is none; nil where keys alone are listed
}

func (e *HostKeyError) Error() string {
	text := fmt.Sprintf("host key of %s port %d: %s, %s %s", e.Host, e.Port, e.what(), e.Type, e.Fingerprint)
	if len(e.Lines) > 0 {
		text += fmt.Sprintf(" (see %q)", e.Lines)
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *HostKeyError) what() string {
	switch e.Outcome {
	case OutcomeHostKeyChanged:
		return "known hosts list other keys than the one shown"
	case OutcomeHostKeyRevoked:
		return "the key shown is revoked"
	}
	return "no known hosts entry vouches for the key shown"
}

func (e *HostKeyError) Unwrap() error { return e.Err }

// verdict is what known hosts say of a key that they accept.
type verdict struct {
	key   ssh.PublicKey // without its certificate
	ca    ssh.PublicKey // nil = the key itself is listed
	shown ssh.PublicKey // with it
}

// StillAccepts reports whether a login would be accepted that showed the host
// key of a live connection when the connection was made: false where the key
// or its CA has been revoked or taken out since. A certificate that has expired
// meanwhile is no reason.
func (k *KnownHosts) StillAccepts(c *Conn) bool {
	if c.shown == nil {
		return false
	}
	_, err := k.check(c.host, c.port, c.shown, c.opened)
	return err == nil
}

// check says whether the target may show key. A certificate must come from a
// CA that is listed for the host, name the host, be of the right kind, valid
// now and not signed with SHA-1; one from another CA counts as the plain key
// in it, as in OpenSSH. The error is a *HostKeyError.
func (k *KnownHosts) check(host string, port uint16, key ssh.PublicKey, now time.Time) (verdict, error) {
	lines, shown := k.of(host, port), key
	cert, certified := key.(*ssh.Certificate)
	if certified {
		key = cert.Key
	}
	refuse := func(o Outcome, where []string, err error) (verdict, error) {
		return verdict{}, &HostKeyError{Outcome: o, Host: host, Port: port, Type: key.Type(),
			Fingerprint: ssh.FingerprintSHA256(key), Lines: where, Err: err}
	}
	if where := k.revokes(key, cert); where != "" {
		return refuse(OutcomeHostKeyRevoked, []string{where}, nil)
	}
	if certified && has(lines, true, cert.SignatureKey) {
		if err := checkHostCert(canonicalHost(host), cert, now); err != nil {
			return refuse(OutcomeHostKeyUnknown, nil, err)
		}
		return verdict{key, cert.SignatureKey, shown}, nil
	}
	if has(lines, false, key) {
		return verdict{key, nil, shown}, nil
	}
	if listed := plainLines(lines); len(listed) > 0 {
		return refuse(OutcomeHostKeyChanged, listed, nil)
	}
	return refuse(OutcomeHostKeyUnknown, nil, missingCertificate(lines, cert))
}

// missingCertificate says why a CA that is listed was of no use; nil where
// none is.
func missingCertificate(lines []knownLine, cert *ssh.Certificate) error {
	switch {
	case len(lines) == 0: // all of them are of CAs
		return nil
	case cert == nil:
		return errors.New("a CA is listed, but no certificate was shown")
	}
	return fmt.Errorf("the certificate shown is of another CA, %s", ssh.FingerprintSHA256(cert.SignatureKey))
}

// revokes returns the line that revokes the key or the CA that certified it.
func (k *KnownHosts) revokes(key ssh.PublicKey, cert *ssh.Certificate) string {
	if k == nil {
		return ""
	}
	if where := k.revoked[string(key.Marshal())]; where != "" || cert == nil {
		return where
	}
	return k.revoked[string(cert.SignatureKey.Marshal())]
}

// has reports whether a line lists key, as a CA or for itself: a CA's key is
// no host key.
func has(lines []knownLine, ca bool, key ssh.PublicKey) bool {
	blob := string(key.Marshal())
	return slices.ContainsFunc(lines, func(l knownLine) bool { return l.ca == ca && string(l.key.Marshal()) == blob })
}

func plainLines(lines []knownLine) []string {
	var where []string
	for _, l := range lines {
		if !l.ca {
			where = append(where, l.where)
		}
	}
	return where
}

const keyAlgoDSA = "ssh-dss"

// checkHostCert checks all of a certificate but its CA. OpenSSH before 10.0
// took one that names nobody as good for every host; here it is good for none.
func checkHostCert(name string, cert *ssh.Certificate, now time.Time) error {
	if cert.CertType != ssh.HostCert {
		return errors.New("it is not a host certificate")
	}
	if f := cert.Signature.Format; f == ssh.KeyAlgoRSA || f == keyAlgoDSA {
		return fmt.Errorf("its CA signed with SHA-1 (%s)", f)
	}
	if !slices.ContainsFunc(cert.ValidPrincipals, func(p string) bool { return wildcard(p, name) }) {
		return fmt.Errorf("the certificate is for %q", cert.ValidPrincipals)
	}
	checker := ssh.CertChecker{Clock: func() time.Time { return now }}
	return checker.CheckCert(cert.ValidPrincipals[0], cert) // validity, critical options, signature
}

// plainHostKeyAlgorithms are those that a target may prove its key with, in
// the order asked for; certified ones have the same order. RSA is SHA-2 only.
func plainHostKeyAlgorithms() []string {
	return []string{
		ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
		ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
	}
}

func certHostKeyAlgorithms() []string {
	return []string{
		ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
		ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
	}
}

// hostKeyAlgorithms orders what a target is asked to show: certificates where
// a CA is listed for it, then the key types that are listed, then the others,
// which can only be refused but tell the operator the key that is there.
func (k *KnownHosts) hostKeyAlgorithms(host string, port uint16) []string {
	var first, rest []string
	lines := k.of(host, port)
	if slices.ContainsFunc(lines, func(l knownLine) bool { return l.ca }) {
		first = certHostKeyAlgorithms()
	}
	for _, algo := range plainHostKeyAlgorithms() {
		listed := func(l knownLine) bool { return !l.ca && l.key.Type() == keyType(algo) }
		if slices.ContainsFunc(lines, listed) {
			first = append(first, algo)
		} else {
			rest = append(rest, algo)
		}
	}
	return append(first, rest...)
}

// keyType is the type of key that a signature algorithm is for.
func keyType(algo string) string {
	if algo == ssh.KeyAlgoRSASHA512 || algo == ssh.KeyAlgoRSASHA256 {
		return ssh.KeyAlgoRSA
	}
	return algo
}
