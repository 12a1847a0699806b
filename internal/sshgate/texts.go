package sshgate

// Reasons that arise in this package; those of admission, kexinit, policy and
// upstream come on top. Each is an audit code and a metric label.
const (
	reasonAuditUnavailable  = "audit_unavailable"
	reasonArchiveBehind     = "archive_behind"
	reasonDraining          = "draining"
	reasonKilled            = "killed"
	reasonKeepalive         = "keepalive_timeout"
	reasonInternal          = "internal_error"
	reasonClient            = "client_disconnect"
	reasonReset             = "connection_lost"
	reasonGrace             = "grace_timeout"
	reasonNoCommon          = "kex.no_common"
	reasonKexError          = "kex.error"
	reasonProtocol          = "protocol_error"
	reasonNoAuth            = "no_auth"
	reasonBadSignature      = "bad_signature"
	reasonMethod            = "method"
	reasonKeyAlgorithm      = "key_algorithm"
	reasonKeySize           = "key_size"
	reasonKeyRevoked        = "key_revoked"
	reasonCertType          = "cert_type"
	reasonCertPrincipals    = "cert_no_principals"
	reasonCertSHA1          = "cert_sha1"
	reasonCertSource        = "cert_source_address"
	reasonCertOption        = "cert_critical_option"
	reasonCertNoTouch       = "cert_no_touch"
	reasonCertExpired       = "cert_expired"
	reasonCertInvalid       = "cert_invalid"
	reasonCertNoForwarding  = "cert_no_port_forwarding"
	reasonMaxChannels       = "max_channels"
	reasonChannelRate       = "channel_rate"
	reasonChannelType       = "channel_type"
	reasonNoMoreSessions    = "no_more_sessions"
	reasonMalformed         = "malformed"
	reasonInspection        = "inspection_unavailable"
	reasonConnectFrom       = "connect_from"
	reasonBind              = "bind_failed"
	reasonCommand           = "command_unknown"
	reasonSubsystem         = "subsystem"
	reasonPolicyChanged     = "policy_changed"
	reasonIdle              = "idle_timeout"
	reasonEOF               = "eof"
	reasonClientRejected    = "client_rejected"
	reasonAlreadyBound      = "already_forwarded"
	reasonMaxForwards       = "max_forwards"
	reasonRequestNotAllowed = "request_not_supported"
	reasonRecording         = "recording_failed"
	reasonTargetClosed      = "target_closed"
	reasonUnreadable        = "sftp_unreadable"
	reasonTargetSilent      = "target_keepalive_timeout"
	reasonTargetRefused     = "target_refused"
	reasonOpenFailed        = "open_failed"
	reasonNotGranted        = "not_granted"
	reasonCertNoPTY         = "cert_no_pty"
	reasonEnv               = "environment"
	reasonFileFailed        = "file_failed"
)

// text is the sentence that a client is shown for a reason. It names no
// address, no error and nothing of our network; the reason code is what the
// client's operator tells ours.
func text(reason string) string {
	return "postern: " + sentence(reason) + " (reason: " + reason + ")"
}

func sentence(reason string) string {
	switch reason {
	case reasonAuditUnavailable:
		return "this gate can't write its audit log, so it lets nobody through"
	case reasonArchiveBehind:
		return "this gate's audit log is not archived as it must be, so nobody new is let through"
	case reasonDraining:
		return "this gate is shutting down; please connect again"
	case reasonKilled:
		return "this session was ended by an operator"
	case reasonKeepalive:
		return "this session was ended because its client no longer answers"
	case "frozen":
		return "access for this identity is suspended"
	case "max_sessions", "max_sessions_per_identity":
		return "too many sessions are open"
	case "key_unknown", "user":
		return "this key and user name are not known here"
	case "key_source", reasonCertSource:
		return "this key may not be used from this address"
	case "key_expired", reasonCertExpired:
		return "this key or certificate is not valid now"
	case reasonKeyRevoked:
		return "this key or certificate has been revoked"
	case reasonKeySize, reasonKeyAlgorithm:
		return "this kind of key is not accepted; use ed25519, ECDSA, or RSA of 2048 to 8192 bits with SHA-2"
	case reasonCertType, reasonCertPrincipals, reasonCertSHA1, reasonCertOption, reasonCertNoTouch, reasonCertInvalid:
		return "this certificate is not accepted"
	case reasonMethod:
		return "only public key authentication is accepted"
	case reasonCertNoForwarding:
		return "this certificate does not permit port forwarding"
	case reasonMaxChannels, reasonChannelRate, reasonMaxForwards:
		return "too many channels are open or being opened on this connection"
	case reasonChannelType, reasonSubsystem, reasonRequestNotAllowed:
		return "this gate does not offer that; it leads to targets (ssh -J GATE LOGIN@TARGET, or ssh LOGIN@TARGET@GATE)"
	case reasonNoMoreSessions:
		return "the client said that it would open no more sessions"
	case reasonMalformed, "target_malformed":
		return "the request can't be understood; name the target by address or host name and a port from 1 to 65535"
	case reasonInspection:
		return "sessions to this target must be inspected, and this gate is not set up for that"
	case "no_rule":
		return "no rule allows this"
	case "login":
		return "this account at the target is not allowed; the command \"targets\" on the gate lists which are"
	case "command":
		return "this command is not allowed"
	case "via":
		return "this target may not be reached through that one"
	case "inspected_elsewhere":
		return "sessions to this target must be inspected; reach it through the gate, not through another target"
	case "endpoint", "source", "identity_unknown":
		return "access from here is not allowed"
	case "hours":
		return "this is outside the allowed hours"
	case "expired":
		return "the permission for this has ended"
	case "special_address":
		return "addresses of this kind are never forwarded to"
	case reasonPolicyChanged:
		return "this is no longer allowed"
	case reasonRecording:
		return "this session can't be recorded, so it can't go on"
	case reasonTargetClosed:
		return "the target closed the connection"
	case reasonUnreadable:
		return "what moved on this channel is not SFTP, so your rights can't be kept to"
	case reasonTargetSilent:
		return "this session was ended because its target no longer answers"
	case reasonTargetRefused, reasonOpenFailed:
		return "the target refused it"
	case reasonNotGranted:
		return "no rule grants this"
	case reasonCertNoPTY:
		return "this certificate does not permit a terminal"
	case reasonBind, reasonAlreadyBound:
		return "the port can't be opened"
	case reasonIdle:
		return "the connection was idle for too long"
	case "refused":
		return "the target refused the connection"
	case "timeout":
		return "the target did not answer in time"
	case "unreachable":
		return "the target can't be reached"
	case "no_such_name":
		return "the target's name can't be resolved"
	case "not_ssh":
		return "what answers at the target is no SSH server"
	case "handshake":
		return "the target and this gate could not agree on how to talk"
	case "login_refused":
		return "the target does not let this gate log in to that account"
	case "host_key_unknown":
		return "this gate does not know the target's host key, so it does not connect; an operator must add it"
	case "host_key_changed":
		return "the target shows another host key than the one this gate knows; it may not be the target, so nothing was sent"
	case "host_key_revoked":
		return "the target's host key has been revoked"
	}
	return "the connection can't be served"
}
