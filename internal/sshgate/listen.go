package sshgate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/policy"
)

// maxForwards is how many remote forwards a session may hold at a time.
const maxForwards = 32

// forward is one tcpip-forward (RFC 4254 §7.1): the ports it holds on the gate's
// host, and who may connect to them.
type forward struct {
	requested   string // bind address as the client wrote it: it goes back in each channel open
	port        uint16 // that the client knows the forward by
	bound       netip.AddrPort
	rule        string
	request     policy.Request // of the first bound address, re-decided when the rules change
	connectFrom []netip.Prefix
	listeners   []net.Listener
	accepting   sync.WaitGroup
	closeOnce   sync.Once
}

func forwardKey(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// parseForward reads the payload of tcpip-forward and cancel-tcpip-forward.
func parseForward(payload []byte) (host string, port uint16, err error) {
	var m struct {
		Host string
		Port uint32
	}
	if err := ssh.Unmarshal(payload, &m); err != nil {
		return "", 0, err
	}
	if m.Port > 65535 {
		return m.Host, 0, fmt.Errorf("port %d", m.Port)
	}
	return m.Host, uint16(m.Port), nil
}

// bindAddresses are the addresses that a bind address of RFC 4254 §7.1 means.
func bindAddresses(host string) ([]netip.Addr, error) {
	switch host {
	case "", "*":
		return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}, nil
	case "localhost":
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Zone() != "" {
		return nil, fmt.Errorf("bind address %q is no IP address", host)
	}
	return []netip.Addr{addr.Unmap()}, nil
}

// tcpipForward answers a tcpip-forward request: the port is open, and the event
// that says so durable, before the client is told.
func (c *session) tcpipForward(ctx context.Context, req *ssh.Request) {
	host, port, err := parseForward(req.Payload)
	e := c.event(audit.ForwardListen, "")
	e.Kind, e.TargetHost, e.Extra = "tcpip-forward", host, map[string]any{}
	asked, _ := netip.ParseAddr(host) // a name or none is in TargetHost
	e.Target = netip.AddrPortFrom(asked, port)
	f, ref := c.bind(ctx, host, port, err, &e)
	if ref != nil {
		e.Message, e.Detail = "tcpip-forward "+forwardKey(host, port)+" refused: "+ref.reason, ref.detail
		c.noteRefusal(ref.reason, e)
		c.reply(req, false, nil)
		return
	}
	c.serveForward(ctx, f)
	var answer []byte
	if port == 0 {
		answer = ssh.Marshal(struct{ Port uint32 }{uint32(f.port)})
	}
	c.reply(req, true, answer)
}

// bind decides about the addresses that are asked for and opens those that are
// allowed. Nobody is served there before the event is durable: until then
// connections wait in the kernel's queue.
func (c *session) bind(ctx context.Context, host string, port uint16, parse error, e *audit.Event) (*forward, *refusal) {
	if parse != nil {
		return nil, refuse(nil, reasonMalformed, "%v", parse)
	}
	if ref := c.roomForForward(host, port); ref != nil {
		return nil, ref
	}
	allowed, d, ref := c.decideBind(host, port)
	if ref != nil {
		return nil, ref
	}
	f := &forward{requested: host, rule: d.Rule, connectFrom: d.ConnectFrom, request: allowed[0]}
	if err := f.listen(allowed, port, d.Ports); err != nil {
		return nil, refuse(nil, reasonBind, "%v", err)
	}
	e.Rule, e.Target, e.Message = d.Rule, f.bound, "tcpip-forward "+forwardKey(host, port)+" listens on "+f.bound.String()
	e.Extra["connect_from"] = prefixStrings(d.ConnectFrom)
	if err := c.server.opt.Audit.Append(ctx, *e); err != nil {
		f.close()
		return nil, c.unwritten(err)
	}
	return f, nil
}

func (c *session) roomForForward(host string, port uint16) *refusal {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending != "" {
		return refuse(nil, c.ending, "the session is ending")
	}
	if len(c.forwards) >= maxForwards {
		return refuse(nil, reasonMaxForwards, "%d are open", maxForwards)
	}
	if _, ok := c.forwards[forwardKey(host, port)]; ok && port != 0 {
		return refuse(nil, reasonAlreadyBound, "%s is forwarded on this connection", forwardKey(host, port))
	}
	return nil
}

// decideBind returns a request for each address that may be bound, and the
// decision about the first.
func (c *session) decideBind(host string, port uint16) ([]policy.Request, policy.Decision, *refusal) {
	addrs, err := bindAddresses(host)
	if err != nil {
		return nil, policy.Decision{}, refuse(nil, reasonMalformed, "%v", err)
	}
	var allowed []policy.Request
	var first, last policy.Decision
	p := c.server.rules.Load().Policy
	for _, a := range addrs {
		req := policy.Request{
			Identity: c.who.identity, Endpoint: c.origin.Endpoint, Client: c.origin.Client.Addr(), Time: time.Now(),
			Verb: policy.Listen, Host: a.String(), Addr: a, Port: port,
		}
		last = p.Decide(req)
		if !last.Allow {
			continue
		}
		if len(allowed) == 0 {
			first = last
		}
		if first.Rule == last.Rule { // one forward has one connect_from
			allowed = append(allowed, req)
		}
	}
	if len(allowed) == 0 {
		return nil, last, c.mayForward(last)
	}
	return allowed, first, c.mayForward(first)
}

// listen binds port, or for 0 a free port of the rule's ranges, on each address.
func (f *forward) listen(allowed []policy.Request, port uint16, ranges []policy.PortRange) error {
	if port != 0 {
		return f.listenOn(allowed, port)
	}
	err := errors.New("the rule has no ports")
	for _, p := range candidates(ranges) {
		if err = f.listenOn(allowed, p); err == nil {
			return nil
		}
	}
	return err
}

// maxBindTries bounds the search for a free port.
const maxBindTries = 256

// candidates are up to maxBindTries ports of the ranges, from a random place on.
func candidates(ranges []policy.PortRange) []uint16 {
	var total int
	for _, r := range ranges {
		total += int(r.Last) - int(r.First) + 1
	}
	if total <= 0 {
		return nil
	}
	var ports []uint16
	for i, at := 0, rand.IntN(total); i < min(total, maxBindTries); i++ {
		ports = append(ports, portAt(ranges, (at+i)%total))
	}
	return ports
}

func portAt(ranges []policy.PortRange, i int) uint16 {
	for _, r := range ranges {
		n := int(r.Last) - int(r.First) + 1
		if i < n {
			return r.First + uint16(i)
		}
		i -= n
	}
	return 0
}

// listenOn binds one port on all addresses that the host has; the first must
// succeed, another family's absence is no failure.
func (f *forward) listenOn(allowed []policy.Request, port uint16) error {
	for i, req := range allowed {
		network := "tcp4"
		if req.Addr.Is6() {
			network = "tcp6"
		}
		ln, err := net.Listen(network, netip.AddrPortFrom(req.Addr, port).String())
		if err != nil && i == 0 {
			return err
		}
		if err != nil {
			continue
		}
		f.listeners = append(f.listeners, ln)
	}
	f.port, f.bound = port, netip.AddrPortFrom(allowed[0].Addr, port)
	f.request = allowed[0]
	f.request.Port = port
	return nil
}

// serveForward accepts on the forward's listeners until it is closed.
func (c *session) serveForward(ctx context.Context, f *forward) {
	c.mu.Lock()
	if c.forwards == nil {
		c.forwards = map[string]*forward{}
	}
	c.forwards[forwardKey(f.requested, f.port)] = f
	ending := c.ending != ""
	c.mu.Unlock()
	for _, ln := range f.listeners {
		f.accepting.Add(1)
		c.channels.Go(func() {
			defer f.accepting.Done()
			defer c.recoverPanic()
			c.acceptForwarded(ctx, f, ln)
		})
	}
	if ending {
		c.closeForward(f, reasonKilled)
	}
}

func (c *session) acceptForwarded(ctx context.Context, f *forward, ln net.Listener) {
	for {
		nc, err := accept(ctx, ln)
		if err != nil || nc == nil {
			return
		}
		conn := nc.(*net.TCPConn)
		if reason := c.mayConnect(f, conn); reason != "" {
			conn.Close()
			e := c.event(audit.ForwardRefused, "connection to "+f.bound.String()+" refused: "+reason)
			from, _ := addrPort(conn.RemoteAddr())
			e.Kind, e.TargetHost, e.Target = typeForwardedTCPIP, f.requested, from
			c.noteRefusal(reason, e)
			continue
		}
		ctx, ch := c.addChannel(ctx, typeForwardedTCPIP)
		c.channels.Go(func() {
			defer c.removeChannel(ch)
			defer c.recoverPanic()
			defer conn.Close()
			c.forwardedTCPIP(ctx, f, ch, conn)
		})
	}
}

func (c *session) mayConnect(f *forward, conn net.Conn) string {
	from, ok := addrPort(conn.RemoteAddr())
	if !ok || !contains(f.connectFrom, from.Addr()) {
		return reasonConnectFrom
	}
	return c.roomForChannel(typeForwardedTCPIP)
}

// forwardedTCPIP brings one connection that came in on a forwarded port to the
// client (RFC 4254 §7.2).
func (c *session) forwardedTCPIP(ctx context.Context, f *forward, ch *channel, conn *net.TCPConn) {
	from, _ := addrPort(conn.RemoteAddr())
	e := c.forwardEvent(audit.ForwardOpen, typeForwardedTCPIP, ch)
	e.TargetHost, e.Target, e.Rule = f.requested, from, f.rule
	e.Message = "forwarded-tcpip from " + from.String()
	e.Extra = map[string]any{"originator": from.String(), "bound": f.bound.String()}
	if err := c.server.opt.Audit.Append(ctx, e); err != nil {
		c.unwritten(err)
		return
	}
	if !ch.allowed(f.request, f.rule, from.String()) {
		return
	}
	t := &tunnel{session: c, conn: conn, opened: time.Now(), event: e}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	sc, reqs, err := c.ssh.OpenChannel(typeForwardedTCPIP, ssh.Marshal(struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}{f.requested, uint32(f.port), from.Addr().String(), uint32(from.Port())}))
	if err != nil {
		c.log.Debug("forwarded-tcpip not taken", zap.Error(err))
		t.close(0, 0, time.Since(t.opened), reasonClientRejected)
		return
	}
	defer c.served(typeForwardedTCPIP)()
	t.run(ctx, sc, reqs)
}

// cancelForward answers cancel-tcpip-forward.
func (c *session) cancelForward(req *ssh.Request) {
	host, port, err := parseForward(req.Payload)
	c.mu.Lock()
	f := c.forwards[forwardKey(host, port)]
	c.mu.Unlock()
	if err != nil || f == nil {
		c.reply(req, false, nil)
		return
	}
	c.closeForward(f, reasonClient)
	c.reply(req, true, nil)
}

// closeForward frees the forward's ports; connections through it go on.
func (c *session) closeForward(f *forward, reason string) {
	f.closeOnce.Do(func() {
		f.close()
		c.mu.Lock()
		delete(c.forwards, forwardKey(f.requested, f.port))
		c.mu.Unlock()
		e := c.event(audit.ForwardClose, "tcpip-forward "+f.bound.String()+" closed")
		e.Kind, e.TargetHost, e.Target, e.Rule, e.Reason = "tcpip-forward", f.requested, f.bound, f.rule, reason
		c.server.opt.Audit.Note(e)
	})
}

func (f *forward) close() {
	for _, ln := range f.listeners {
		ln.Close()
	}
}

// closeForwards frees all ports of a session that has ended.
func (c *session) closeForwards() {
	c.mu.Lock()
	var all []*forward
	for _, f := range c.forwards {
		all = append(all, f)
	}
	c.mu.Unlock()
	for _, f := range all {
		c.closeForward(f, reasonClient)
	}
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func prefixStrings(prefixes []netip.Prefix) []string {
	out := make([]string, len(prefixes))
	for i, p := range prefixes {
		out[i] = p.String()
	}
	return out
}
