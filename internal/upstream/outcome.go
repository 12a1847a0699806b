package upstream

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
)

// Outcome classifies a dial: a metric label and an audit code.
type Outcome string

// The outcomes. Where several addresses failed in different ways, the one that
// says most about the target is taken: refused before timeout before
// unreachable before error.
const (
	OutcomeOK          Outcome = "ok"
	OutcomeRefused     Outcome = "refused"      // a host answered: nobody listens, or its queue is full
	OutcomeTimeout     Outcome = "timeout"      // nothing answered in time
	OutcomeUnreachable Outcome = "unreachable"  // no route, or a router said so
	OutcomeNoName      Outcome = "no_such_name" // the name has no address, the socket's path does not exist
	OutcomeCanceled    Outcome = "canceled"     // the caller gave up
	OutcomeError       Outcome = "error"        // anything else, such as a resolver that fails

	// Of SSH, besides refused to error.
	OutcomeHostKeyUnknown Outcome = "host_key_unknown" // known hosts have no key, or no good certificate, for the target
	OutcomeHostKeyChanged Outcome = "host_key_changed" // known hosts have other keys for the target
	OutcomeHostKeyRevoked Outcome = "host_key_revoked" // the key, or its CA, is @revoked
	OutcomeNotSSH         Outcome = "not_ssh"          // the target talks something else
	OutcomeLoginRefused   Outcome = "login_refused"    // the target does not take the credential for the login
	OutcomeHandshake      Outcome = "handshake"        // no algorithm in common, or the target hung up
)

// Outcomes returns every Outcome there is.
func Outcomes() []Outcome {
	return []Outcome{OutcomeOK, OutcomeRefused, OutcomeTimeout, OutcomeUnreachable, OutcomeNoName, OutcomeCanceled, OutcomeError,
		OutcomeHostKeyUnknown, OutcomeHostKeyChanged, OutcomeHostKeyRevoked, OutcomeNotSSH, OutcomeLoginRefused, OutcomeHandshake}
}

// Classify says what kind of failure err, of this package, is; nil is OutcomeOK.
func Classify(err error) Outcome {
	if e, ok := errors.AsType[*sshError](err); ok {
		return e.outcome
	}
	switch {
	case err == nil:
		return OutcomeOK
	case errors.Is(err, context.Canceled):
		return OutcomeCanceled
	case isAny(err, syscall.ECONNREFUSED, syscall.EAGAIN):
		return OutcomeRefused
	case isTimeout(err):
		return OutcomeTimeout
	case isAny(err, syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EHOSTDOWN, syscall.EADDRNOTAVAIL):
		return OutcomeUnreachable
	case isNoName(err), errors.Is(err, syscall.ENOENT):
		return OutcomeNoName
	}
	return OutcomeError
}

func isAny(err error, codes ...syscall.Errno) bool {
	for _, c := range codes {
		if errors.Is(err, c) {
			return true
		}
	}
	return false
}

// isTimeout looks for any attempt that timed out. net.Error.Timeout would be
// asked of the first attempt only, hence the three errors; a resolver's
// time-out is none of them, hence the flag.
func isTimeout(err error) bool {
	for _, timeout := range []error{context.DeadlineExceeded, os.ErrDeadlineExceeded, syscall.ETIMEDOUT} {
		if errors.Is(err, timeout) {
			return true
		}
	}
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && dns.IsTimeout
}
