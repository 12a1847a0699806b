package sshgate

import (
	"context"
	"net/netip"

	"golang.org/x/crypto/ssh"

	"postern/internal/policy"
	"postern/internal/upstream"
)

// inspection is one SSH connection whose inside the gate sees: the client's
// SSH connection on one side, the target's on the other. Whichever door the
// client came through (ProxyJump or login@target), this is the same.
type inspection struct {
	session *session
	channel *channel       // the direct-tcpip channel it came through; nil where the client's own connection is the inspected one
	client  ssh.Conn       // to the client: the server that runs inside the direct-tcpip channel, or the session's own
	target  *upstream.Conn // to the target
	login   string
	host    string // as the client wrote it
	addr    netip.AddrPort
	own     bool // addr belongs to the gate's own host
}

// request is what the rules are asked about an act in this inspection.
func (i *inspection) request(verb policy.Verb) policy.Request { panic("stub") }

// serve relays channels and requests both ways until either connection ends,
// and closes both. Every goroutine it started has ended when it returns. The
// result is the reason code of the end.
func (i *inspection) serve(ctx context.Context, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) string {
	panic("stub")
}
