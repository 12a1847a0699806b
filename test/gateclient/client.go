// Package gateclient is an SSH client of the gate for the test tools: it plays
// the load balancer itself, so that each connection can name its own client.
package gateclient

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/crypto/ssh"

	"postern/internal/nlb"
)

// Options say where the gate is and who connects.
type Options struct {
	Gate     string        // host:port
	From     string        // local address: the load balancer's
	Endpoint string        // VPC endpoint ID
	User     string        // SSH user name
	Key      string        // path of the private key
	Timeout  time.Duration // of the connection and its handshake
}

// Flags registers the options as command line flags.
func (o *Options) Flags() {
	flag.StringVar(&o.From, "from", "127.0.0.7", "local `address`: the load balancer's")
	flag.StringVar(&o.Endpoint, "endpoint", "vpce-0a1b2c3d4e5f60718", "VPC endpoint `ID`; empty = none")
	flag.StringVar(&o.User, "user", "vendor", "SSH user `name`")
	flag.StringVar(&o.Key, "key", "vendor", "private key `file`")
	flag.DurationVar(&o.Timeout, "timeout", 20*time.Second, "of connection and handshake")
}

// Raw connects and sends the header of client, and first in the same write.
func (o Options) Raw(ctx context.Context, client netip.AddrPort, first []byte) (*net.TCPConn, error) {
	nc, err := o.dial(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := nc.Write(append(o.Header(client), first...)); err != nil {
		nc.Close()
		return nil, err
	}
	return nc, nil
}

// Header is what the load balancer says of client.
func (o Options) Header(client netip.AddrPort) []byte {
	dialled := netip.MustParseAddrPort("10.20.1.200:22")
	return nlb.Header{Client: client, Dialled: dialled, Endpoint: o.Endpoint}.Append(nil)
}

// Silent connects and sends nothing.
func (o Options) Silent(ctx context.Context) (*net.TCPConn, error) { return o.dial(ctx) }

func (o Options) dial(ctx context.Context) (*net.TCPConn, error) {
	from, err := netip.ParseAddr(o.From)
	if err != nil {
		return nil, err
	}
	return nlb.Dial(ctx, from, o.Gate)
}

// Dial returns an authenticated connection. wrap, if not nil, gets the TCP
// connection after the header is on its way.
func (o Options) Dial(ctx context.Context, client netip.AddrPort, wrap func(net.Conn) net.Conn) (*ssh.Client, error) {
	signer, err := o.signer()
	if err != nil {
		return nil, err
	}
	nc, err := o.dial(ctx)
	if err != nil {
		return nil, err
	}
	var conn net.Conn = &headed{TCPConn: nc, header: o.Header(client)}
	if wrap != nil {
		conn = wrap(conn)
	}
	conn.SetDeadline(time.Now().Add(o.Timeout))
	c, chans, reqs, err := ssh.NewClientConn(conn, o.Gate, &ssh.ClientConfig{
		User:            o.User,
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), // tests of the host key use OpenSSH
	})
	if err != nil {
		nc.Close()
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	return ssh.NewClient(c, chans, reqs), nil
}

func (o Options) signer() (ssh.Signer, error) {
	pem, err := os.ReadFile(o.Key)
	if err != nil {
		return nil, err
	}
	return ssh.ParsePrivateKey(pem)
}

// headed sends the header with the first write.
type headed struct {
	*net.TCPConn
	header []byte
}

func (h *headed) Write(b []byte) (int, error) {
	if h.header == nil {
		return h.TCPConn.Write(b)
	}
	sent, err := h.TCPConn.Write(append(h.header, b...))
	n := max(sent-len(h.header), 0)
	h.header = nil
	return n, err
}

// Client is the n-th client address, each different, all in 10.20.0.0/16.
func Client(n int) netip.AddrPort {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 10<<24|20<<16|uint32(1+n%65000))
	return netip.AddrPortFrom(netip.AddrFrom4(b), uint16(1024+n/65000))
}

// Usage prints what the flags are and exits 2 unless one argument is left,
// which it returns.
func Usage(what string) string {
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage:", what)
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	return flag.Arg(0)
}
