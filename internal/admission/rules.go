package admission

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

const defaultHeaderTimeout = 5 * time.Second

// rules are Options that were checked, with their defaults. They are not
// changed after compile.
type rules struct {
	proxy         ProxyProtocol
	loadBalancers []netip.Prefix
	endpoints     []string
	anyEndpoint   bool
	sources       []netip.Prefix
	headerTimeout time.Duration
	limits        Limits
}

// compile checks o. Its errors name the field as the configuration file does
// and say what to do.
func compile(o Options) (*rules, error) {
	if err := checkProxy(o); err != nil {
		return nil, err
	}
	if err := checkPrefixes("admission.load_balancers", o.LoadBalancers); err != nil {
		return nil, err
	}
	if err := checkEndpoints(o.Endpoints); err != nil {
		return nil, err
	}
	if err := checkPrefixes("admission.sources", o.Sources); err != nil {
		return nil, err
	}
	if o.HeaderTimeout < 0 {
		return nil, fmt.Errorf("admission.header_timeout: %v is negative: leave it out for %v", o.HeaderTimeout, defaultHeaderTimeout)
	}
	limits, err := o.Limits.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &rules{
		proxy:         o.ProxyProtocol,
		loadBalancers: slices.Clone(o.LoadBalancers),
		endpoints:     slices.Clone(o.Endpoints),
		anyEndpoint:   slices.Contains(o.Endpoints, AnyEndpoint),
		sources:       slices.Clone(o.Sources),
		headerTimeout: o.HeaderTimeout,
		limits:        limits,
	}
	if r.headerTimeout == 0 {
		r.headerTimeout = defaultHeaderTimeout
	}
	return r, nil
}

// checkProxy refuses lists that would not be looked at: who writes endpoints
// believes that they are checked.
func checkProxy(o Options) error {
	switch o.ProxyProtocol {
	case "", ProxyRequired:
		return nil
	case ProxyOff:
	default:
		return fmt.Errorf("admission.proxy_protocol: %q is unknown: use %q or %q", o.ProxyProtocol, ProxyRequired, ProxyOff)
	}
	if len(o.Endpoints) > 0 {
		return errors.New("admission.endpoints: not checked with proxy_protocol: off: remove it, or use proxy_protocol: required")
	}
	if len(o.LoadBalancers) > 0 {
		return errors.New("admission.load_balancers: not checked with proxy_protocol: off: remove it, or use proxy_protocol: required")
	}
	return nil
}

func checkPrefixes(field string, list []netip.Prefix) error {
	for i, p := range list {
		if !p.IsValid() {
			return fmt.Errorf("%s[%d]: not a network: write it as 10.0.1.25/32", field, i)
		}
		if p.Addr().Is4In6() {
			return fmt.Errorf("%s[%d]: %v would never match: write it as an IPv4 network", field, i, p)
		}
	}
	return nil
}

func checkEndpoints(list []string) error {
	for i, e := range list {
		if e != AnyEndpoint && !validEndpoint(e) {
			return fmt.Errorf("admission.endpoints[%d]: %q is not an endpoint ID: write it as vpce-0a1b2c3d4e5f60718, or %q for any", i, e, AnyEndpoint)
		}
	}
	return nil
}

// withDefaults returns l with its zero numbers filled in.
func (l Limits) withDefaults() (Limits, error) {
	for _, f := range []struct {
		name  string
		value *int
		def   int
	}{
		{"max_startups", &l.MaxStartups, 256},
		{"max_startups_per_source", &l.MaxStartupsPerSource, 10},
		{"max_sessions", &l.MaxSessions, 2000},
		{"max_sessions_per_identity", &l.MaxSessionsPerIdentity, 200},
	} {
		if *f.value < 0 {
			return Limits{}, fmt.Errorf("limits.%s: %d is negative: leave it out for %d", f.name, *f.value, f.def)
		}
		if *f.value == 0 {
			*f.value = f.def
		}
	}
	return l, nil
}

// admitsPeer decides before a byte is read. Without a PROXY header the peer is
// the client, which admitsOrigin judges.
func (r *rules) admitsPeer(peer netip.Addr) *Denied {
	switch r.proxy {
	case ProxyOff:
		return nil
	case ProxyRequired:
		if contains(r.loadBalancers, peer) {
			return nil
		}
		return deny(ReasonPeer, "peer %v is not in load_balancers", peer)
	}
	return deny(ReasonPeer, "proxy_protocol is not set: nobody is admitted")
}

// admitsOrigin decides on endpoint and client address.
func (r *rules) admitsOrigin(o Origin) *Denied {
	if r.proxy == "" {
		return deny(ReasonPeer, "proxy_protocol is not set: nobody is admitted")
	}
	if r.proxy == ProxyRequired && !r.anyEndpoint {
		if o.Endpoint == "" {
			return deny(ReasonEndpoint, "the header names no endpoint: the client did not come through PrivateLink")
		}
		if !slices.Contains(r.endpoints, o.Endpoint) {
			return deny(ReasonEndpoint, "%s is not in endpoints", o.Endpoint)
		}
	}
	if !contains(r.sources, o.Client.Addr()) {
		return deny(ReasonSource, "client %v is not in sources", o.Client.Addr())
	}
	return nil
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// addrPort is the address of a TCP connection in the one notation that rules
// are written in: IPv4 as IPv4, also on a dual-stack socket, and no zone.
func addrPort(a net.Addr) (netip.AddrPort, bool) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()), ap.IsValid()
}
