// Manyssh makes many short connections, as a vendor's control plane does: each
// authenticates, opens one tunnel, echoes a line and closes. Each is another
// client to the gate. With -acks it writes down who saw a tunnel open, so that
// a test can ask for the events after the gate was killed.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"postern/test/gateclient"
)

type load struct {
	gateclient.Options
	target   string
	n        int
	parallel int
	channels int
	until    time.Duration // stop after it even when n is not reached
	same     bool

	failed atomic.Int64
	mu     sync.Mutex // guards the rest
	acks   *os.File
	took   []time.Duration
	first  error
}

func main() {
	l := &load{}
	l.Flags()
	acks := flag.String("acks", "", "`file` that gets a line for each tunnel that opened")
	flag.StringVar(&l.target, "target", "", "`address` of an echo server")
	flag.IntVar(&l.n, "n", 1000, "`connections` in all")
	flag.IntVar(&l.parallel, "parallel", 8, "`connections` at a time")
	flag.IntVar(&l.channels, "channels", 1, "`tunnels` in each connection")
	flag.DurationVar(&l.until, "for", 5*time.Minute, "give up after it")
	flag.BoolVar(&l.same, "same", false, "all from one client address")
	may := flag.Int("may-fail", 0, "`connections` that may fail")
	l.Gate = gateclient.Usage("manyssh [flags] -target HOST:PORT GATE")
	if err := l.open(*acks); err != nil {
		fatal(err)
	}
	l.run()
	l.print()
	if int(l.failed.Load()) > *may {
		fatal(fmt.Errorf("first failure: %w", l.first))
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "manyssh:", err)
	os.Exit(1)
}

func (l *load) open(path string) (err error) {
	if path == "" {
		path = os.DevNull
	}
	l.acks, err = os.Create(path)
	return err
}

func (l *load) run() {
	ctx, cancel := context.WithTimeout(context.Background(), l.until)
	defer cancel()
	var wg sync.WaitGroup
	var next atomic.Int64
	for range l.parallel {
		wg.Go(func() {
			for n := int(next.Add(1)); n <= l.n && ctx.Err() == nil; n = int(next.Add(1)) {
				l.one(ctx, n)
			}
		})
	}
	wg.Wait()
}

func (l *load) one(ctx context.Context, n int) {
	client := gateclient.Client(n)
	if l.same {
		client = netip.AddrPortFrom(gateclient.Client(0).Addr(), uint16(1024+n))
	}
	start := time.Now()
	err := l.connection(ctx, client)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.took = append(l.took, time.Since(start))
		return
	}
	l.failed.Add(1)
	if l.first == nil {
		l.first = fmt.Errorf("connection %d: %w", n, err)
	}
}

func (l *load) connection(ctx context.Context, client netip.AddrPort) error {
	c, err := l.Dial(ctx, client, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	var wg sync.WaitGroup
	errs := make([]error, l.channels)
	for i := range errs {
		wg.Go(func() {
			errs[i] = l.tunnel(client, func() (io.ReadWriteCloser, error) { return c.Dial("tcp", l.target) })
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (l *load) tunnel(client netip.AddrPort, dial func() (io.ReadWriteCloser, error)) error {
	ch, err := dial()
	if err != nil {
		return err
	}
	defer ch.Close()
	l.ack(client)
	line := client.String() + "\n"
	if _, err := io.WriteString(ch, line); err != nil {
		return err
	}
	got, err := bufio.NewReader(ch).ReadString('\n')
	if err != nil {
		return fmt.Errorf("read echo: %w", err)
	}
	if got != line {
		return fmt.Errorf("sent %q, got %q", line, got)
	}
	return nil
}

func (l *load) ack(client netip.AddrPort) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(l.acks, client)
}

func (l *load) print() {
	slices.Sort(l.took)
	if len(l.took) == 0 {
		fmt.Printf("0 fine, %d failed\n", l.failed.Load())
		return
	}
	at := func(q float64) time.Duration {
		return l.took[int(q*float64(len(l.took)-1))].Round(time.Microsecond)
	}
	fmt.Printf("%d fine, %d failed, median %s, 99 %% %s, worst %s\n",
		len(l.took), l.failed.Load(), at(0.5), at(0.99), at(1))
}
