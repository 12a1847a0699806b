// Nlbfront plays the load balancer for clients that know no ProxyCommand: it
// listens, prints its address, and passes each connection to the gate behind a
// PROXY v2 header.
//
//	nlbfront -listen 127.0.0.1:0 -to 127.0.0.1:22
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	"postern/internal/nlb"
)

func main() {
	var f nlb.Front
	var from, client string
	listen := flag.String("listen", "127.0.0.1:0", "`address` to listen on")
	flag.StringVar(&f.Target, "to", "", "`address` of the gate")
	flag.StringVar(&f.Endpoint, "endpoint", "vpce-0a1b2c3d4e5f60718", "VPC endpoint `ID`; empty = none")
	flag.StringVar(&from, "from", "127.0.0.7", "local `address` to dial from: the load balancer's")
	flag.StringVar(&client, "client", "10.20.1.5:50222", "the client's `address`; empty = the real one")
	flag.Parse()
	if err := run(&f, *listen, from, client); err != nil {
		fmt.Fprintln(os.Stderr, "nlbfront:", err)
		os.Exit(1)
	}
}

func run(f *nlb.Front, listen, from, client string) (err error) {
	if f.From, err = netip.ParseAddr(from); err != nil {
		return err
	}
	if client != "" {
		if f.Client, err = netip.ParseAddrPort(client); err != nil {
			return err
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	return f.Serve(ctx, ln)
}
