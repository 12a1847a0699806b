package nlb

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// DefaultMaxConns bounds the connections that a Front passes at a time.
const DefaultMaxConns = 4096

// Front listens where an NLB would and passes each connection to Target. The
// header goes out together with the client's first payload, as an NLB holds it
// back until then.
type Front struct {
	Target   string         // host:port of the gate
	From     netip.Addr     // local address to dial from: the NLB's own; zero = any
	Endpoint string         // endpoint ID to name; "" = none
	Client   netip.AddrPort // client to name; zero = who really connects
	Dialled  netip.AddrPort // address to name as dialled; zero = where it really connected
	MaxConns int            // connections at a time; 0 = DefaultMaxConns
}

// Serve accepts from ln until ctx ends and returns when ln is closed and every
// connection has ended. It returns nil after ctx has ended.
func (f *Front) Serve(ctx context.Context, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	room := make(chan struct{}, f.maxConns())
	for {
		nc, err := ln.Accept()
		if err != nil {
			ln.Close()
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			f.pass(ctx, nc)
		})
	}
}

func (f *Front) maxConns() int {
	if f.MaxConns > 0 {
		return f.MaxConns
	}
	return DefaultMaxConns
}

// pass serves one client until both directions have ended, or ctx has.
func (f *Front) pass(ctx context.Context, client net.Conn) {
	defer client.Close()
	gate, err := Dial(ctx, f.From, f.Target)
	if err != nil {
		return
	}
	defer gate.Close()
	stop := context.AfterFunc(ctx, func() { client.Close(); gate.Close() })
	defer stop()
	relay(client.(*net.TCPConn), gate, f.header(client).Append(nil))
}

func (f *Front) header(client net.Conn) Header {
	h := Header{Client: f.Client, Dialled: f.Dialled, Endpoint: f.Endpoint}
	if !h.Client.IsValid() {
		h.Client = client.RemoteAddr().(*net.TCPAddr).AddrPort()
	}
	if !h.Dialled.IsValid() {
		h.Dialled = client.LocalAddr().(*net.TCPAddr).AddrPort()
	}
	return h
}

// Dial connects to target from a local address, as the NLB's node of that
// address would. The zero from is any address.
func Dial(ctx context.Context, from netip.Addr, target string) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	if from.IsValid() {
		d.LocalAddr = &net.TCPAddr{IP: from.AsSlice()}
	}
	nc, err := d.DialContext(ctx, "tcp", target)
	if err != nil {
		return nil, err
	}
	return nc.(*net.TCPConn), nil
}

// linger is how long a client may go on sending after the gate has closed.
const linger = 10 * time.Second

// relay passes bytes both ways with half-close and returns when both
// directions have ended.
func relay(client, gate *net.TCPConn, header []byte) {
	var wg sync.WaitGroup
	wg.Go(func() {
		SendUp(client, gate, header)
		gate.CloseWrite()
	})
	io.Copy(client, gate)
	client.CloseWrite()
	client.SetReadDeadline(time.Now().Add(linger))
	wg.Wait()
}

// SendUp copies client to gate until its end of file. header goes out in one
// write with the first payload; where there is no payload, nothing is sent.
func SendUp(client io.Reader, gate io.Writer, header []byte) error {
	b := make([]byte, 32<<10)
	n, err := client.Read(b)
	if n == 0 && errors.Is(err, io.EOF) {
		return nil
	}
	if _, werr := gate.Write(append(header, b[:n]...)); werr != nil {
		return werr
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(gate, client)
	return err
}
