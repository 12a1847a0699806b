// Nlbdial is an ssh ProxyCommand that plays the load balancer: it dials the
// gate and sends a PROXY v2 header together with the client's first bytes.
//
//	ssh -o 'ProxyCommand=nlbdial -endpoint vpce-0a1b2c3d4e5f60718 127.0.0.1:22' vendor@gate
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"postern/internal/nlb"
)

const usage = `usage: nlbdial [flags] HOST:PORT

-header says what comes before the client's first bytes:
  good      the header an NLB sends
  none      nothing
  local     the header of a health check
  v1        a PROXY v1 line
  then-v1   good, then a PROXY v1 line
  twice     good, then another good one
  bad-crc   good with one bit of the checksum turned
  no-crc    good without the checksum's TLV
  truncated the first 20 bytes of good, and nothing after it
`

type options struct {
	from   string
	kind   string
	split  bool
	header nlb.Header
}

func main() {
	var o options
	var client, dialled string
	flag.StringVar(&o.from, "from", "127.0.0.7", "local `address`: the load balancer's")
	flag.StringVar(&o.header.Endpoint, "endpoint", "vpce-0a1b2c3d4e5f60718", "VPC endpoint `ID`; empty = none")
	flag.StringVar(&client, "client", "10.20.1.5:50222", "the client's `address`")
	flag.StringVar(&dialled, "dialled", "10.20.1.200:22", "the `address` that the client dialled")
	flag.StringVar(&o.kind, "header", "good", "`kind` of header")
	flag.BoolVar(&o.split, "split", false, "send the header in single bytes")
	flag.Usage = func() { fmt.Fprint(os.Stderr, usage, "\nflags:\n"); flag.PrintDefaults() }
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := errors.Join(parse(&o.header.Client, client), parse(&o.header.Dialled, dialled)); err != nil {
		fatal(err)
	}
	if err := run(o, flag.Arg(0)); err != nil {
		fatal(err)
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "nlbdial:", err)
	os.Exit(1)
}

func parse(to *netip.AddrPort, s string) (err error) {
	*to, err = netip.ParseAddrPort(s)
	return err
}

func run(o options, target string) error {
	from, err := netip.ParseAddr(o.from)
	if err != nil {
		return err
	}
	header, err := o.bytes()
	if err != nil {
		return err
	}
	gate, err := nlb.Dial(context.Background(), from, target)
	if err != nil {
		return err
	}
	defer gate.Close()
	var to io.Writer = gate
	if o.split {
		to = &dripper{gate: gate, header: len(header)}
	}
	go func() {
		// The process ends with the gate's side, so nothing waits for this.
		nlb.SendUp(os.Stdin, to, header)
		gate.CloseWrite()
	}()
	_, err = io.Copy(os.Stdout, gate)
	if errors.Is(err, syscall.ECONNRESET) {
		return nil // how a gate closes on a client whose bytes it has not read
	}
	return err
}

// bytes is what goes before the client's first bytes.
func (o options) bytes() ([]byte, error) {
	good := o.header.Append(nil)
	tlvs := 28 // of an IPv4 header
	if good[13] == 0x21 {
		tlvs = 52
	}
	switch o.kind {
	case "good":
		return good, nil
	case "none":
		return nil, nil
	case "local":
		return nlb.AppendLocal(nil), nil
	case "v1":
		return []byte(o.header.V1()), nil
	case "then-v1":
		return append(good, o.header.V1()...), nil
	case "twice":
		return append(good, good...), nil
	case "bad-crc":
		good[tlvs+3] ^= 1
		return good, nil
	case "no-crc":
		good[tlvs] = 0x04 // a NOOP of the same size
		return good, nil
	case "truncated":
		return good[:20], nil
	}
	return nil, fmt.Errorf("unknown kind of header %q", o.kind)
}

// dripper sends the first header bytes one packet each.
type dripper struct {
	gate   net.Conn
	header int
}

func (d *dripper) Write(b []byte) (int, error) {
	n := min(d.header, len(b))
	d.header -= n
	for i := range n {
		if _, err := d.gate.Write(b[i : i+1]); err != nil {
			return i, err
		}
		time.Sleep(time.Millisecond) // or the kernel may join them
	}
	m, err := d.gate.Write(b[n:])
	return n + m, err
}
