package admission

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

const (
	lb       = "10.0.1.25:4000"
	endpoint = "vpce-0a1b2c3d4e5f60718"
	other    = "vpce-0ffffffffffffffff"
	banner   = "SSH-2.0-OpenSSH_9.2\r\n"
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func options() Options {
	return Options{
		ProxyProtocol: ProxyRequired,
		LoadBalancers: prefixes("10.0.1.25/32"),
		Endpoints:     []string{endpoint, other},
		Sources:       prefixes("10.20.0.0/16", "fd00:20::/32"),
		Limits:        Limits{Penalties: true},
	}
}

func off(sources ...string) Options {
	return Options{ProxyProtocol: ProxyOff, Sources: prefixes(sources...), Limits: Limits{Penalties: true}}
}

func newGate(t *testing.T, o Options) *Gate {
	t.Helper()
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// headerOf is what the load balancer sends for client through endpoint.
func headerOf(client, id string) []byte {
	src := ap(client)
	r := raw{command: commandProxy, family: familyTCP4, block: blockOf(src, ap("10.20.255.9:22")), crc: true}
	if src.Addr().Is6() {
		r.family, r.block = familyTCP6, blockOf(src, ap("[fd00:20::9]:22"))
	}
	if id != "" {
		r.tlvs = [][]byte{endpointTLV(id), tlv(0x04, strings.Repeat("\x00", 36))}
	}
	return r.bytes()
}

// arrive is a client's connection as it comes from the load balancer.
func arrive(client, id string) *memConn {
	return newMemConn(lb).send(string(headerOf(client, id))).send(banner)
}

func admit(t *testing.T, g *Gate, nc net.Conn) *Conn {
	t.Helper()
	c, err := g.Admit(t.Context(), nc)
	if err != nil {
		t.Fatalf("not admitted: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// refused wants nc to be refused for reason, closed, and not written to.
func refused(t *testing.T, g *Gate, nc *memConn, want Reason) *Denied {
	t.Helper()
	c, err := g.Admit(t.Context(), nc)
	d, ok := errors.AsType[*Denied](err)
	if !ok || d.Reason != want || c != nil {
		t.Fatalf("got %v, %v, want reason %s", c, err, want)
	}
	if s := nc.seen(); !s.closed || s.written > 0 {
		t.Fatalf("after %s: %+v", want, s)
	}
	if d.Err == nil || !strings.Contains(d.Error(), string(want)) {
		t.Fatalf("the operator reads %q", d.Error())
	}
	return d
}

func wantProbe(t *testing.T, g *Gate, nc *memConn) {
	t.Helper()
	if _, err := g.Admit(t.Context(), nc); err != ErrProbe {
		t.Fatalf("got %v, want ErrProbe", err)
	}
	if s := nc.seen(); !s.closed || s.written > 0 {
		t.Fatalf("after a probe: %+v", s)
	}
}

func wantCounts(t *testing.T, g *Gate, preheader, startups, sessions int) {
	t.Helper()
	p, st, se := g.Counts()
	if p != preheader || st != startups || se != sessions {
		t.Fatalf("preheader %d, startups %d, sessions %d; want %d, %d, %d", p, st, se, preheader, startups, sessions)
	}
}

func TestAClientThroughAnAllowedEndpointIsAdmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, options())
		nc := arrive("10.20.0.7:50000", endpoint)
		c := admit(t, g, nc)
		want := Origin{Peer: ap(lb), Client: ap("10.20.0.7:50000"), Local: ap("10.20.255.9:22"), Endpoint: endpoint}
		if c.Origin() != want {
			t.Errorf("origin %+v", c.Origin())
		}
		if a, ok := c.RemoteAddr().(*net.TCPAddr); !ok || a.String() != "10.20.0.7:50000" {
			t.Errorf("remote address %v", c.RemoteAddr())
		}
		if s := nc.seen(); s.written != 0 || !s.deadline.IsZero() {
			t.Errorf("%+v", s)
		}
		got := make([]byte, len(banner))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != banner {
			t.Errorf("read %q, %v", got, err)
		}
	})
}

func TestAHeaderFromAnUnknownPeerIsNotRead(t *testing.T) {
	g := newGate(t, options())
	nc := newMemConn("10.0.1.26:4000").send(string(headerOf("10.20.0.7:50000", endpoint)))
	d := refused(t, g, nc, ReasonPeer)
	if nc.seen().reads != 0 {
		t.Error("it was read")
	}
	if (d.Origin != Origin{Peer: ap("10.0.1.26:4000")}) {
		t.Errorf("origin %+v", d.Origin)
	}
}

func TestAPeerThatIsNotTCPIsRefused(t *testing.T) {
	nc := newMemConn(lb)
	nc.remote = &net.UnixAddr{Name: "@", Net: "unix"}
	refused(t, newGate(t, options()), nc, ReasonPeer)
}

func TestAPeerOnADualStackListenerIsItsIPv4Address(t *testing.T) {
	g := newGate(t, options())
	nc := arrive("10.20.0.7:50000", endpoint)
	nc.remote = &net.TCPAddr{IP: net.ParseIP("::ffff:10.0.1.25"), Port: 4000}
	if c := admit(t, g, nc); c.Origin().Peer != ap(lb) {
		t.Errorf("peer %v", c.Origin().Peer)
	}
}

func TestTheZeroValueAdmitsNobody(t *testing.T) {
	g := newGate(t, Options{})
	refused(t, g, arrive("10.20.0.7:50000", endpoint), ReasonPeer)
	if err := g.Allows(Origin{Client: ap("10.20.0.7:50000"), Endpoint: endpoint}); err == nil {
		t.Error("a live session is allowed")
	}
}

func TestEmptyListsAdmitNobody(t *testing.T) {
	for want, edit := range map[Reason]func(*Options){
		ReasonPeer:     func(o *Options) { o.LoadBalancers = nil },
		ReasonEndpoint: func(o *Options) { o.Endpoints = nil },
		ReasonSource:   func(o *Options) { o.Sources = nil },
	} {
		o := options()
		edit(&o)
		refused(t, newGate(t, o), arrive("10.20.0.7:50000", endpoint), want)
	}
	refused(t, newGate(t, off()), newMemConn("10.20.0.7:50000"), ReasonSource)
}

func TestEndpointAndSourceAreChecked(t *testing.T) {
	any := options()
	any.Endpoints = []string{AnyEndpoint}
	for name, c := range map[string]struct {
		o          Options
		client, id string
		want       Reason
	}{
		"unknown endpoint":             {options(), "10.20.0.7:1", "vpce-0bad", ReasonEndpoint},
		"no endpoint":                  {options(), "10.20.0.7:1", "", ReasonEndpoint},
		"both wrong":                   {options(), "10.21.0.7:1", "vpce-0bad", ReasonEndpoint},
		"client outside":               {options(), "10.21.0.7:1", endpoint, ReasonSource},
		"client outside, any endpoint": {any, "10.21.0.7:1", "", ReasonSource},
		"the load balancer as client":  {options(), "10.0.1.25:1", endpoint, ReasonSource},
		"any endpoint":                 {any, "10.20.0.7:1", "vpce-0bad", ""},
		"any endpoint, none named":     {any, "10.20.0.7:1", "", ""},
		"IPv6":                         {options(), "[fd00:20::7]:1", endpoint, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, c.o)
			if c.want == "" {
				admit(t, g, arrive(c.client, c.id))
				return
			}
			d := refused(t, g, arrive(c.client, c.id), c.want)
			if d.Origin.Client != ap(c.client) || d.Origin.Endpoint != c.id || d.Origin.Peer != ap(lb) {
				t.Errorf("origin %+v", d.Origin)
			}
		})
	}
}

func TestHeaderRefusalsNameThePeer(t *testing.T) {
	g := newGate(t, options())
	for want, sent := range map[Reason][]byte{
		ReasonHeaderV1:        []byte("PROXY TCP4 10.20.0.7 10.0.0.1 1 22\r\n"),
		ReasonHeaderMalformed: []byte(banner),
		ReasonHeaderCRC:       vectors()["V6"],
	} {
		if d := refused(t, g, newMemConn(lb).send(string(sent)), want); d.Origin.Peer != ap(lb) {
			t.Errorf("%s: origin %+v", want, d.Origin)
		}
	}
	wantCounts(t, g, 0, 0, 0)
}

func TestHealthChecksAreProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, options())
		wantProbe(t, g, newMemConn(lb).finish(io.EOF))
		wantProbe(t, g, newMemConn(lb).finish(syscall.ECONNRESET))
		wantProbe(t, g, newMemConn(lb).send(string(vectors()["V3"])).send("GET /readyz HTTP/1.1\r\n"))
		wantCounts(t, g, 0, 0, 0)
	})
}

func TestAConnectionThatStaysSilentIsAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, options())
		start := time.Now()
		wantProbe(t, g, newMemConn(lb))
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("after %v", d)
		}
	})
}

func TestASlowHeaderIsCutOffByOneDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.HeaderTimeout = 3 * time.Second
		g := newGate(t, o)
		nc := newMemConn(lb)
		go func() {
			for _, b := range headerOf("10.20.0.7:50000", endpoint) {
				time.Sleep(100 * time.Millisecond)
				nc.send(string([]byte{b}))
			}
		}()
		start := time.Now()
		refused(t, g, nc, ReasonHeaderTimeout)
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("after %v", d)
		}
		time.Sleep(time.Minute) // until the sender is done
	})
}

func TestTheHeaderMayComeARoundTripAfterTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, options())
		nc := newMemConn(lb)
		time.AfterFunc(4*time.Second, func() { nc.send(string(headerOf("10.20.0.7:50000", endpoint))) })
		c := admit(t, g, nc)
		go func() {
			time.Sleep(time.Minute)
			nc.send(banner)
		}()
		if n, err := c.Read(make([]byte, 100)); n == 0 || err != nil {
			t.Errorf("the header's deadline is still on: %d, %v", n, err)
		}
	})
}

func TestAdmitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, options())
		cause := errors.New("the gate stops")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		nc := newMemConn(lb)
		_, err := g.Admit(ctx, nc)
		if !errors.Is(err, cause) || errors.Is(err, ErrProbe) || !nc.seen().closed {
			t.Errorf("got %v", err)
		}
		wantCounts(t, g, 0, 0, 0)
	})
}

func TestWithoutTheProtocolThePeerIsTheClient(t *testing.T) {
	g := newGate(t, off("10.20.0.0/16"))
	nc := newMemConn("10.20.0.7:50000")
	c := admit(t, g, nc)
	want := Origin{Peer: ap("10.20.0.7:50000"), Client: ap("10.20.0.7:50000"), Local: ap("10.0.1.9:22")}
	if c.Origin() != want || nc.seen().reads != 0 {
		t.Errorf("origin %+v, %+v", c.Origin(), nc.seen())
	}
	refused(t, g, newMemConn("10.21.0.7:50000"), ReasonSource)
}

func TestUpdateAsksLiveSessionsAgain(t *testing.T) {
	g := newGate(t, options())
	c := admit(t, g, arrive("10.20.0.7:50000", endpoint))
	if err := g.Allows(c.Origin()); err != nil {
		t.Fatal(err)
	}
	for want, edit := range map[Reason]func(*Options){
		ReasonEndpoint: func(o *Options) { o.Endpoints = []string{other} },
		ReasonSource:   func(o *Options) { o.Sources = prefixes("10.20.9.0/24") },
	} {
		o := options()
		edit(&o)
		if err := g.Update(o); err != nil {
			t.Fatal(err)
		}
		d, ok := errors.AsType[*Denied](g.Allows(c.Origin()))
		if !ok || d.Reason != want || d.Origin != c.Origin() {
			t.Errorf("got %v, want %s", d, want)
		}
		wantCounts(t, g, 0, 1, 0)
	}
}

func TestABadUpdateKeepsTheOldRules(t *testing.T) {
	g := newGate(t, options())
	if err := g.Update(Options{ProxyProtocol: "v2"}); err == nil {
		t.Fatal("no error")
	}
	admit(t, g, arrive("10.20.0.7:50000", endpoint))
}

func TestRulesOfAnUpdateHoldForHeadersThatAreStillAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, options())
		nc := newMemConn(lb)
		time.AfterFunc(time.Second, func() {
			o := options()
			o.Endpoints = []string{other}
			if err := g.Update(o); err != nil {
				t.Error(err)
			}
			nc.send(string(headerOf("10.20.0.7:50000", endpoint)))
		})
		refused(t, g, nc, ReasonEndpoint)
	})
}

func TestOptionErrorsNameTheFieldAndSayWhatToDo(t *testing.T) {
	for want, o := range map[string]Options{
		`admission.proxy_protocol: "v2" is unknown: use "required" or "off"`:                                         {ProxyProtocol: "v2"},
		"admission.endpoints: not checked with proxy_protocol: off: remove it, or use proxy_protocol: required":      {ProxyProtocol: ProxyOff, Endpoints: []string{endpoint}},
		"admission.load_balancers: not checked with proxy_protocol: off: remove it, or use proxy_protocol: required": {ProxyProtocol: ProxyOff, LoadBalancers: prefixes("10.0.0.0/8")},
		"admission.load_balancers[1]: not a network: write it as 10.0.1.25/32":                                       {LoadBalancers: append(prefixes("10.0.0.0/8"), netip.Prefix{})},
		"admission.sources[0]: ::ffff:10.0.0.0/104 would never match: write it as an IPv4 network":                   {Sources: prefixes("::ffff:10.0.0.0/104")},
		`admission.endpoints[1]: "vpce-*" is not an endpoint ID: write it as vpce-0a1b2c3d4e5f60718, or "*" for any`: {Endpoints: []string{endpoint, "vpce-*"}},
		"admission.header_timeout: -1s is negative: leave it out for 5s":                                             {HeaderTimeout: -time.Second},
		"limits.max_startups: -1 is negative: leave it out for 256":                                                  {Limits: Limits{MaxStartups: -1}},
		"limits.max_startups_per_source: -1 is negative: leave it out for 10":                                        {Limits: Limits{MaxStartupsPerSource: -1}},
		"limits.max_sessions: -1 is negative: leave it out for 2000":                                                 {Limits: Limits{MaxSessions: -1}},
		"limits.max_sessions_per_identity: -1 is negative: leave it out for 200":                                     {Limits: Limits{MaxSessionsPerIdentity: -1}},
	} {
		if g, err := New(o); err == nil || err.Error() != want || g != nil {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}

// The client of a refused TCP connection must not see a byte, whatever it sent.
func TestARefusedClientSeesNoByteOnARealSocket(t *testing.T) {
	o := options()
	o.LoadBalancers = prefixes("127.0.0.0/8")
	g := newGate(t, o)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for want, sent := range map[Reason][]byte{
		ReasonEndpoint:        append(headerOf("10.20.0.7:50000", "vpce-0bad"), banner...),
		ReasonHeaderMalformed: []byte(banner),
	} {
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if _, err := client.Write(sent); err != nil {
			t.Fatal(err)
		}
		nc, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_, err = g.Admit(t.Context(), nc)
		if d, ok := errors.AsType[*Denied](err); !ok || d.Reason != want {
			t.Errorf("got %v, want %s", err, want)
		}
		got, err := io.ReadAll(client)
		if len(got) > 0 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client read %q, %v", got, err)
		}
	}
}

func TestAnAdmittedConnectionOnARealSocketGivesItsBytesUnaltered(t *testing.T) {
	o := options()
	o.LoadBalancers = prefixes("127.0.0.0/8")
	g := newGate(t, o)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	payload := append([]byte(banner), bytes.Repeat([]byte("\r\n\r\n\x00\r\nQUIT\nPROXY "), 1000)...)
	if _, err := client.Write(append(headerOf("10.20.0.7:50000", endpoint), payload...)); err != nil {
		t.Fatal(err)
	}
	client.Close()
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := admit(t, g, nc)
	if c.TCP() != nc {
		t.Error("TCP is not the socket")
	}
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, payload) {
		t.Errorf("%d bytes of %d, %v", len(got), len(payload), err)
	}
}
