package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// clientVersion is what targets log (RFC 4253 §4.2).
const clientVersion = "SSH-2.0-Postern"

// rekeyThreshold is after how many bytes keys are exchanged anew (RFC 4253 §9).
const rekeyThreshold = 1 << 30

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
	HostKey  string        // fingerprint, SHA256:…
	HostCA   string        // fingerprint of the CA that certified it, "" = none
	Kex      time.Duration // until the host key was accepted
	Auth     time.Duration // from there until the login was

	host   string // what StillAccepts asks about
	port   uint16
	shown  ssh.PublicKey // a certificate where there was one
	opened time.Time
}

// sshError is why a login failed, with what is known of its kind.
type sshError struct {
	outcome Outcome
	target  Target
	err     error
}

func (e *sshError) Error() string {
	return fmt.Sprintf("log in as %q at %s port %d: %v", e.target.Login, e.target.Host, e.target.Port, e.err)
}

func (e *sshError) Unwrap() error { return e.err }

// SSH logs in over an established connection. When it fails the connection is
// closed, and Classify tells OutcomeHostKeyUnknown, OutcomeHostKeyChanged,
// OutcomeHostKeyRevoked, OutcomeNotSSH, OutcomeLoginRefused, OutcomeHandshake,
// OutcomeTimeout and OutcomeCanceled apart. Key exchange and authentication
// together take at most the Dialer's timeout. ctx is not used by the
// connection afterwards; the caller must serve Channels and Requests.
func (d *Dialer) SSH(ctx context.Context, nc net.Conn, known *KnownHosts, t Target) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	l := &login{target: t, known: known, began: time.Now(), wire: &wire{Conn: nc}}
	c, err := l.run()
	if !stop() && err == nil {
		err = errors.Join(ctx.Err(), c.Close()) // time was up just when it was done
	}
	if err == nil {
		return c, nil
	}
	nc.Close()
	return nil, l.failure(ctx.Err(), err)
}

// login is one attempt to log in; owned by the goroutine that runs it, and by
// the one of x/crypto that asks for the host key's verdict, in turns.
type login struct {
	target  Target
	known   *KnownHosts
	wire    *wire
	began   time.Time
	kexed   time.Time // when the host key was accepted; zero before
	verdict verdict
	refusal error // of the host key
}

// failure is err as the caller gets it; ended is what ended the login from
// outside. A target that waits for words of another protocol ends by time too.
func (l *login) failure(ended, err error) error {
	outcome := l.classify(err)
	if ended != nil {
		err = fmt.Errorf("%w (%w)", ended, err)
		if outcome != OutcomeNotSSH || errors.Is(ended, context.Canceled) {
			outcome = Classify(ended)
		}
	}
	return &sshError{outcome, l.target, l.wire.quote(err)}
}

func (l *login) run() (*Conn, error) {
	if l.target.Credential.Signer == nil {
		return nil, errors.New("no credential")
	}
	sc, channels, requests, err := ssh.NewClientConn(l.wire, net.JoinHostPort(l.target.Host, fmt.Sprint(l.target.Port)), l.config())
	if err != nil {
		return nil, err
	}
	c := &Conn{Conn: sc, Channels: channels, Requests: requests, HostKey: ssh.FingerprintSHA256(l.verdict.key),
		Kex: l.kexed.Sub(l.began), Auth: time.Since(l.kexed),
		host: l.target.Host, port: l.target.Port, shown: l.verdict.shown, opened: l.began}
	if l.verdict.ca != nil {
		c.HostCA = ssh.FingerprintSHA256(l.verdict.ca)
	}
	return c, nil
}

// config asks for the cheapest cipher first, as our order decides (RFC 4253
// §7.1), and goes back as far as the sshd of OpenSSH 7.4 needs. Nothing with
// SHA-1 is in, nor ChaCha20-Poly1305 (CVE-2023-48795).
func (l *login) config() *ssh.ClientConfig {
	return &ssh.ClientConfig{
		Config: ssh.Config{
			RekeyThreshold: rekeyThreshold,
			KeyExchanges: []string{
				ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519,
				ssh.KeyExchangeECDHP256, ssh.KeyExchangeECDHP384, ssh.KeyExchangeECDHP521, ssh.KeyExchangeDH14SHA256,
			},
			Ciphers: []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherAES128CTR, ssh.CipherAES192CTR, ssh.CipherAES256CTR},
			MACs:    []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM, ssh.HMACSHA256, ssh.HMACSHA512},
		},
		User:              l.target.Login,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(l.target.Credential.Signer)},
		HostKeyAlgorithms: l.known.hostKeyAlgorithms(l.target.Host, l.target.Port),
		HostKeyCallback:   l.checkHostKey,
		ClientVersion:     clientVersion,
	}
}

// checkHostKey is asked at each key exchange, those of a live connection
// included: the key must be the one that was accepted first.
func (l *login) checkHostKey(_ string, _ net.Addr, key ssh.PublicKey) error {
	if !l.kexed.IsZero() {
		return l.sameKey(key)
	}
	v, err := l.known.check(l.target.Host, l.target.Port, key, time.Now())
	if err != nil {
		l.refusal = err
		return err
	}
	l.verdict, l.kexed = v, time.Now()
	return nil
}

func (l *login) sameKey(key ssh.PublicKey) error {
	if cert, ok := key.(*ssh.Certificate); ok {
		key = cert.Key
	}
	if !bytes.Equal(key.Marshal(), l.verdict.key.Marshal()) {
		return errors.New("the target showed another host key in the middle of the connection")
	}
	return nil
}

// classify says how far the login got. x/crypto has no types for most of its
// errors.
func (l *login) classify(err error) Outcome {
	refused, ok := errors.AsType[*HostKeyError](l.refusal)
	switch {
	case ok:
		return refused.Outcome
	case !l.kexed.IsZero() && isAuthFailure(err):
		return OutcomeLoginRefused
	case l.wire.spokeOther() && !l.wire.isBusy():
		return OutcomeNotSSH
	}
	return OutcomeHandshake
}

// isAuthFailure reports whether the target said no: by refusing the key, or by
// a disconnect message (RFC 4253 §11.1) in the middle of authentication.
func isAuthFailure(err error) bool {
	text := err.Error()
	return strings.Contains(text, "ssh: unable to authenticate") || strings.Contains(text, "ssh: disconnect, reason ")
}

// wire remembers whether a target that talked has said "SSH-" at the beginning
// of a line, which it must before anything else counts (RFC 4253 §4.2). The
// reader owns it: one goroutine of the SSH connection.
type wire struct {
	net.Conn
	line  []byte // the line so far, at most 4 bytes
	said  []byte // how it began, at most maxSaid bytes
	isSSH bool
}

// maxSaid is how much of what a target said instead the operator gets to see.
const maxSaid = 80

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if !w.isSSH {
		w.hear(p[:n])
	}
	return n, err
}

func (w *wire) hear(p []byte) {
	w.said = append(w.said, p[:min(len(p), maxSaid-len(w.said))]...)
	for _, b := range p {
		switch {
		case b == '\n':
			w.line = w.line[:0]
		case len(w.line) < 4:
			w.line = append(w.line, b)
		}
		if string(w.line) == "SSH-" {
			w.isSSH, w.line, w.said = true, nil, nil
			return
		}
	}
}

func (w *wire) spokeOther() bool { return len(w.said) > 0 && !w.isSSH }

// isBusy reports whether an sshd turned the gate away before it said its
// version: OpenSSH does where MaxStartups or PerSourcePenalties say so.
func (w *wire) isBusy() bool {
	return bytes.HasPrefix(w.said, []byte("Exceeded MaxStartups")) || bytes.HasPrefix(w.said, []byte("Not allowed at this time"))
}

// quote adds to err what the target said instead of a version.
func (w *wire) quote(err error) error {
	if !w.spokeOther() {
		return err
	}
	return fmt.Errorf("%w; the target said %q", err, w.said)
}
