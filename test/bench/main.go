// Bench runs OpenSSH's sshd as a jump host and the gate side by side, in turns,
// and prints what the gate takes as a share of what sshd takes; and what
// inspection, recording and decoding cost. CPU seconds and memory are the
// kernel's account of the server processes alone; clients and targets are other
// processes. It writes bin/bench.json. Linux only.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	rounds = 3
	limit  = 20 * time.Minute // of the whole run
)

// samples holds what each round measured, by name of the measure and of what
// was measured: a server, or a way through one.
type samples map[string]map[string][]float64

func (s samples) add(measure, server string, value float64) {
	if s[measure] == nil {
		s[measure] = map[string][]float64{}
	}
	s[measure][server] = append(s[measure][server], value)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	start, got := time.Now(), samples{}
	for n := range rounds {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", n+1, rounds)
		if err := oneRound(ctx, n, got); err != nil {
			return fmt.Errorf("round %d: %w", n+1, err)
		}
	}
	r := newReport(got, start)
	r.print(os.Stdout)
	return r.write("bin/bench.json")
}

// oneRound measures what a jump host does, and then what only the gate does,
// each with servers that are freshly started. Who comes first changes from
// round to round.
func oneRound(ctx context.Context, n int, got samples) error {
	for _, measures := range []func(context.Context, *bench) error{jumpHost, inspected} {
		if err := inWorld(ctx, n%2 == 1, got, measures); err != nil {
			return err
		}
	}
	return nil
}

func inWorld(ctx context.Context, swap bool, got samples, measures func(context.Context, *bench) error) error {
	w, err := newWorld()
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.start(ctx); err != nil {
		return err
	}
	if swap {
		w.jumps[0], w.jumps[1] = w.jumps[1], w.jumps[0]
	}
	return measures(ctx, &bench{world: w, got: got})
}

func jumpHost(ctx context.Context, b *bench) error {
	if err := b.memory(ctx, b.jumps); err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	for _, measure := range []func(context.Context, *server) error{b.handshakes, b.firstByte, b.bulk} {
		for _, s := range b.jumps {
			if err := measure(ctx, s); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return nil
}
