// Attack misbehaves towards a gate, within bounds, and prints one line of what
// it got. It never judges: the test does, from that line.
//
// Before authentication (raw.go): silent half-open slow-header slow-version
// random random-after-header huge-version pre-version-lines huge-kexinit
// kexinit-flood no-newkeys probe local.
//
// After it (session.go): channels channel-storm global-requests stalled-reader
// unknown-channel auth-failures.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"postern/test/gateclient"
)

type attack struct {
	gateclient.Options
	kind   string
	target string
	count  int
	limit  time.Duration
	same   bool
}

func main() {
	var a attack
	a.Flags()
	flag.StringVar(&a.kind, "kind", "", "`kind` of attack")
	flag.StringVar(&a.target, "target", "127.0.0.1:1", "`address` for tunnels")
	flag.IntVar(&a.count, "count", 1, "`n` connections, or channels or requests in one")
	flag.DurationVar(&a.limit, "limit", 20*time.Second, "give up after it")
	flag.BoolVar(&a.same, "same", false, "all connections from one client address")
	a.Gate = gateclient.Usage("attack -kind KIND [flags] GATE")
	ctx, cancel := context.WithTimeout(context.Background(), a.limit)
	defer cancel()
	if err := a.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "attack:", err)
		os.Exit(1)
	}
}

func (a attack) run(ctx context.Context) error {
	if first, ok := a.payload(); ok {
		return a.connections(ctx, first)
	}
	if a.kind == "auth-failures" {
		return a.authFailures(ctx)
	}
	return a.session(ctx)
}

// outcome is how one connection went.
type outcome struct {
	closed bool // by the gate, within the limit
	after  time.Duration
	got    int // bytes from the gate
	err    error
}

// connections makes count connections at once and prints how many the gate
// closed, how long the slowest took and how many bytes it said.
func (a attack) connections(ctx context.Context, p payload) error {
	outcomes := make([]outcome, a.count)
	var wg sync.WaitGroup
	for i := range outcomes {
		wg.Go(func() { outcomes[i] = a.connection(ctx, i, p) })
	}
	wg.Wait()
	summarize(a.kind, outcomes)
	return nil
}

func summarize(kind string, outcomes []outcome) {
	var closed, refused, bytes int
	var slowest time.Duration
	for _, o := range outcomes {
		if o.err != nil {
			refused++
			continue
		}
		if o.closed {
			closed++
		}
		slowest = max(slowest, o.after)
		bytes += o.got
	}
	fmt.Printf("%s: %d connections, %d closed by the gate, %d not connected, slowest %.1f s, %d bytes from the gate\n",
		kind, len(outcomes), closed, refused, slowest.Seconds(), bytes)
}

// tally prints how often each result came.
func tally(kind string, results map[string]int) {
	names := make([]string, 0, len(results))
	for name := range results {
		names = append(names, name)
	}
	slices.Sort(names)
	fmt.Printf("%s:", kind)
	for _, name := range names {
		fmt.Printf(" %s=%d", name, results[name])
	}
	fmt.Println()
}
