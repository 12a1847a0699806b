package sshgate

import (
	"fmt"
	"slices"

	"golang.org/x/crypto/ssh"

	"postern/internal/kexinit"
)

// Profile names a set of algorithms. docs/algorithms.md says why each is in.
type Profile string

// The profiles. No profile has SHA-1, CBC, ChaCha20-Poly1305 (the one cipher
// with which an unpatched client stays open to Terrapin, CVE-2023-48795) or
// finite-field groups above 2048 bits (a client could burn our CPU with them).
const (
	Modern      Profile = "modern"       // the default
	PostQuantum Profile = "post-quantum" // hybrid key exchange only
	Compatible  Profile = "compatible"   // adds what JSch 0.1.5x and dropbear need
)

// algorithms are the lists of one profile, in our order of preference; the
// client's order decides (RFC 4253 §7.1).
type algorithms struct {
	keyExchanges []string
	ciphers      []string
	macs         []string
}

func (p Profile) algorithms() (algorithms, error) {
	a := algorithms{
		keyExchanges: []string{ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519},
		ciphers:      []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherAES256CTR, ssh.CipherAES192CTR, ssh.CipherAES128CTR},
		macs:         []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM},
	}
	switch p {
	case Modern, "":
	case PostQuantum:
		a.keyExchanges = a.keyExchanges[:1]
	case Compatible:
		a.keyExchanges = append(a.keyExchanges, ssh.KeyExchangeECDHP256, ssh.KeyExchangeECDHP384, ssh.KeyExchangeDH14SHA256)
		a.macs = append(a.macs, ssh.HMACSHA256, ssh.HMACSHA512)
	default:
		return algorithms{}, fmt.Errorf("ssh.algorithms: %q is not one of modern, post-quantum, compatible", p)
	}
	return a, nil
}

// userKeyAlgorithms are the signature algorithms that a user key may use, in
// every profile: RSA with SHA-2 only, no DSA.
func userKeyAlgorithms() []string {
	return []string{
		ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256,
		ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
		ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
	}
}

// adapt narrows the ciphers to AES-GCM where the client has it. The client's
// order would otherwise choose ChaCha20 or CTR, which cost x/crypto several
// times the CPU of GCM; only leaving the others out changes that.
func (a algorithms) adapt(hello kexinit.Hello) []string {
	var gcm []string
	for _, name := range []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM} {
		if slices.Contains(hello.CiphersClientServer, name) && slices.Contains(hello.CiphersServerClient, name) {
			gcm = append(gcm, name)
		}
	}
	if len(gcm) == 0 {
		return a.ciphers
	}
	return gcm
}
