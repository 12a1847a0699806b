// Package admission decides which TCP connections may speak SSH at all: the
// peer must be a load balancer, the PROXY v2 header must be whole and name an
// allowed endpoint and an allowed client address, and the limits must have
// room. Everything else is closed without a byte.
package admission

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// ProxyProtocol says where the client's address comes from.
type ProxyProtocol string

const (
	// ProxyRequired takes client and endpoint from a PROXY v2 header that
	// only a load balancer may send.
	ProxyRequired ProxyProtocol = "required"
	// ProxyOff takes the TCP peer itself as the client; there is no endpoint.
	ProxyOff ProxyProtocol = "off"
)

// AnyEndpoint in Options.Endpoints admits every endpoint, and connections
// that name none (a load balancer client inside the VPC). It is never implied.
const AnyEndpoint = "*"

// Options say who may connect. The zero value admits nobody.
type Options struct {
	ProxyProtocol ProxyProtocol  // "" admits nobody
	LoadBalancers []netip.Prefix // peers that may connect; an error with ProxyOff
	Endpoints     []string       // endpoint IDs, or AnyEndpoint; an error with ProxyOff
	Sources       []netip.Prefix // client addresses that may connect
	HeaderTimeout time.Duration  // from accept to the whole header; 0 = 5 s
	Limits        Limits
}

// Limits bound what clients can take. A zero number means the default.
type Limits struct {
	MaxStartups            int  // unauthenticated connections; random early drop from half of it; default 256
	MaxStartupsPerSource   int  // the same per (endpoint, client address); default 10
	MaxSessions            int  // authenticated sessions; default 2000
	MaxSessionsPerIdentity int  // the same per identity; default 200
	Penalties              bool // OpenSSH's PerSourcePenalties, per (endpoint, client address)
}

// Reason is why a connection was not admitted: an audit code and a metric label.
type Reason string

// The reasons of package admission; the set is fixed.
const (
	ReasonPeer                Reason = "peer"
	ReasonHeaderTimeout       Reason = "header_timeout"
	ReasonHeaderMalformed     Reason = "header_malformed"
	ReasonHeaderCRC           Reason = "header_crc"
	ReasonHeaderV1            Reason = "header_v1"
	ReasonHeaderDuplicate     Reason = "header_duplicate"  // one header more than there may be
	ReasonPreheaderEvicted    Reason = "preheader_evicted" // oldest silent connection made room
	ReasonEndpoint            Reason = "endpoint"
	ReasonSource              Reason = "source"
	ReasonMaxStartups         Reason = "max_startups"
	ReasonMaxStartupsSource   Reason = "max_startups_per_source"
	ReasonRate                Reason = "rate"
	ReasonPenalty             Reason = "penalty"
	ReasonMaxSessions         Reason = "max_sessions"
	ReasonMaxSessionsIdentity Reason = "max_sessions_per_identity"
)

// Origin is where a connection comes from.
type Origin struct {
	Peer     netip.AddrPort // the TCP peer: behind PrivateLink an address of the NLB
	Client   netip.AddrPort // the address in the PROXY header; the peer where the protocol is off
	Local    netip.AddrPort // the address that the client dialled, as the header says
	Endpoint string         // VPC endpoint ID; "" when the header names none
}

// Denied is a connection that was not admitted. Err is for the operator.
type Denied struct {
	Reason Reason
	Origin Origin // as far as it was known
	Err    error
}

// Error names reason and cause. It is for the operator, not for the client.
func (d *Denied) Error() string {
	if d.Err == nil {
		return "not admitted: " + string(d.Reason)
	}
	return fmt.Sprintf("not admitted: %s: %v", d.Reason, d.Err)
}

// Unwrap returns Err.
func (d *Denied) Unwrap() error { return d.Err }

// deny makes a Denied whose origin the caller fills in.
func deny(r Reason, format string, args ...any) *Denied {
	return &Denied{Reason: r, Err: fmt.Errorf(format, args...)}
}

// ErrProbe is returned for a load balancer's health check: a LOCAL header, or
// a peer that is a load balancer and sent no byte until it closed or the header
// timeout passed (the NLB holds the header back until the client's first
// payload). It is counted and nothing else: no event, no error line, no penalty.
var ErrProbe = errors.New("load balancer health check")

// Penalty is a behaviour that costs a client time, as in OpenSSH's
// PerSourcePenalties (sshd_config(5)).
type Penalty string

const (
	PenaltyAuthFail      Penalty = "authfail"       // 5 s
	PenaltyInvalidUser   Penalty = "invaliduser"    // 5 s
	PenaltyNoAuth        Penalty = "noauth"         // 1 s
	PenaltyGraceExceeded Penalty = "grace-exceeded" // 10 s
	PenaltyCrash         Penalty = "crash"          // 90 s: the client made this process panic
)
