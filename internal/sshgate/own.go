package sshgate

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// ownAddresses knows which addresses are this host's: targets that a client
// could otherwise use to reach the gate's own services from inside.
type ownAddresses struct {
	listeners []netip.AddrPort

	mu    sync.Mutex // guards local and until
	local []netip.Addr
	until time.Time
}

// ownAddressesAge is how long the host's address list is believed; an
// interface that comes up later is known after this long.
const ownAddressesAge = 10 * time.Second

// has reports whether addr is this host's, or addr and port one of the gate's
// listeners. Other loopback addresses are policy's to judge.
func (o *ownAddresses) has(addr netip.Addr, port uint16) bool {
	addr = addr.Unmap()
	for _, l := range o.listeners {
		if l.Port() == port && (l.Addr().Unmap() == addr || l.Addr().IsUnspecified() && addr.IsLoopback()) {
			return true
		}
	}
	return !addr.IsLoopback() && slices.Contains(o.addresses(), addr)
}

func (o *ownAddresses) addresses() []netip.Addr {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if now.Before(o.until) {
		return o.local
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return o.local // the last good list; never fewer
	}
	o.local = o.local[:0:0]
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				o.local = append(o.local, ip.Unmap())
			}
		}
	}
	o.until = now.Add(ownAddressesAge)
	return o.local
}

func addrPort(a net.Addr) (netip.AddrPort, bool) {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), true
}
