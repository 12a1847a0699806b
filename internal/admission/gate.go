package admission

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Gate admits connections. All methods are safe for concurrent use.
type Gate struct {
	rules     atomic.Pointer[rules]
	preheader *preheader
	random    func() float64 // in [0, 1); set once by New

	mu        sync.Mutex // guards the rest and the state of each Conn
	in        occupancy
	rates     rates
	known     known
	penalties *penalties
}

// New returns a gate that admits whom o says. Options that contradict
// themselves are an error that names the field and says what to do; lists that
// are empty admit nobody and are none.
func New(o Options) (*Gate, error) {
	g := &Gate{
		preheader: newPreheader(maxPreheader),
		random:    rand.Float64,
		in:        newOccupancy(),
		rates:     newRates(),
		known:     newKnown(),
		penalties: newPenalties(maxTableSize),
	}
	if err := g.Update(o); err != nil {
		return nil, err
	}
	return g, nil
}

// Update swaps rules and limits; on an error the old ones stay. Who is in
// stays and is counted: a lower limit holds from the next connection on. The
// caller asks Allows about live sessions.
func (g *Gate) Update(o Options) error {
	r, err := compile(o)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rules.Store(r)
	if !r.limits.Penalties {
		g.penalties = newPenalties(maxTableSize)
	}
	return nil
}

// Admit decides about nc before a byte is written to it. It blocks until the
// header is there, at most Options.HeaderTimeout or until ctx ends, so the
// caller runs it in the connection's own goroutine. When it returns, the
// connection counts as a startup until Conn.Authenticated or Conn.Close, and
// no read deadline is set.
//
// The error is ErrProbe, a *Denied, or one that wraps the cause of ctx. nc is
// then closed.
func (g *Gate) Admit(ctx context.Context, nc net.Conn) (*Conn, error) {
	o, err := g.origin(ctx, nc)
	if errors.Is(err, ErrProbe) {
		// An orderly close: whether a load balancer takes a reset for an
		// unhealthy target is not documented.
		_ = nc.Close()
		return nil, ErrProbe
	}
	if err != nil {
		closeAtOnce(nc)
		return nil, err
	}
	c, denied := g.enter(nc, o)
	if denied != nil {
		closeAtOnce(nc)
		return nil, denied
	}
	return c, nil
}

// Allows decides again about a connection that was admitted before an Update:
// nil, or the *Denied that it would get now for its endpoint or its client
// address.
func (g *Gate) Allows(o Origin) error {
	if denied := g.rules.Load().admitsOrigin(o); denied != nil {
		denied.Origin = o
		return denied
	}
	return nil
}

// Counts returns how many connections wait for their header, how many are
// admitted and not authenticated, and how many are authenticated.
func (g *Gate) Counts() (preheader, startups, sessions int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.preheader.len(), g.in.startups, g.in.sessions
}

// origin checks the peer and then finds out who stands behind it.
func (g *Gate) origin(ctx context.Context, nc net.Conn) (Origin, error) {
	peer, ok := addrPort(nc.RemoteAddr())
	if !ok {
		return Origin{}, deny(ReasonPeer, "%v is not a TCP address", nc.RemoteAddr())
	}
	r := g.rules.Load()
	if denied := r.admitsPeer(peer.Addr()); denied != nil {
		denied.Origin.Peer = peer
		return Origin{}, denied
	}
	if r.proxy == ProxyOff {
		local, _ := addrPort(nc.LocalAddr())
		return Origin{Peer: peer, Client: peer, Local: local}, nil
	}
	h, err := g.awaitHeader(ctx, nc, r.headerTimeout)
	if denied, ok := errors.AsType[*Denied](err); ok {
		denied.Origin.Peer = peer
	}
	return Origin{Peer: peer, Client: h.src, Local: h.dst, Endpoint: h.endpoint}, err
}

// awaitHeader reads the header while nc is in the preheader pool.
func (g *Gate) awaitHeader(ctx context.Context, nc net.Conn, timeout time.Duration) (header, error) {
	w := g.preheader.add(nc)
	h, err := readHeaderWithin(ctx, nc, timeout)
	switch evicted := g.preheader.remove(w); {
	case evicted:
		return header{}, deny(ReasonPreheaderEvicted, "oldest of %d connections without a header", maxPreheader)
	case err == nil && h.local, errors.Is(err, errSilent):
		return header{}, ErrProbe
	}
	return h, err
}

// readHeaderWithin reads the header until timeout or the end of ctx, and
// leaves no deadline behind.
func readHeaderWithin(ctx context.Context, nc net.Conn, timeout time.Duration) (header, error) {
	if err := nc.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return header{}, fmt.Errorf("%w: set the deadline of the header: %w", errSilent, err)
	}
	// Registered after the deadline was set, so that it is not overwritten.
	stop := context.AfterFunc(ctx, func() { _ = nc.SetReadDeadline(time.Unix(1, 0)) })
	h, err := readHeader(nc)
	if !stop() {
		return header{}, fmt.Errorf("wait for the PROXY header: %w", context.Cause(ctx))
	}
	if err != nil {
		return header{}, err
	}
	if err := nc.SetReadDeadline(time.Time{}); err != nil {
		return header{}, deny(ReasonHeaderMalformed, "connection ended with its header: %w", err)
	}
	return h, nil
}

// enter judges o by the rules that hold now and counts the connection.
func (g *Gate) enter(nc net.Conn, o Origin) (*Conn, *Denied) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.rules.Load()
	k := sourceOf(o)
	denied := r.admitsOrigin(o)
	if denied == nil {
		denied = g.room(k, r.limits, time.Now())
	}
	if denied != nil {
		denied.Origin = o
		return nil, denied
	}
	g.in.addStartup(k)
	return &Conn{Conn: nc, gate: g, origin: o, proxied: r.proxy == ProxyRequired}, nil
}
