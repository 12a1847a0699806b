package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"postern/internal/nlb"
)

type demoCmd struct {
	Dir  string `placeholder:"DIR" help:"Folder to keep everything in, made if it is missing; a temporary one if left out."`
	Keep bool   `help:"Leave the temporary folder behind."`
}

// Help has the examples of the command.
func (demoCmd) Help() string {
	return `Everything is on loopback: keys and a CA, targets, a front that plays the load balancer, and a gate that runs as serve runs it, from files that are made for it. The commands to try are printed. Ctrl-C ends it and removes what was made.

Examples:

    postern demo
    postern demo --dir ./demo`
}

// Run runs the demo until Ctrl-C.
func (c *demoCmd) Run(e *env) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	dir, remove, err := c.folder()
	if err != nil {
		return undecided(fmt.Errorf("make the folder of the demo: %w", err))
	}
	defer remove()
	d, err := newDemo(dir)
	if err != nil {
		return wrong(fmt.Errorf("set up the demo: %w", err))
	}
	return d.run(ctx, e.stdout)
}

// folder makes the folder; what it returns removes it again, if it is to be.
func (c *demoCmd) folder() (dir string, remove func(), err error) {
	if c.Dir == "" {
		if dir, err = os.MkdirTemp("", "postern-demo-"); err != nil {
			return "", nil, err
		}
		if c.Keep {
			return dir, func() {}, nil
		}
		return dir, func() { os.RemoveAll(dir) }, nil
	}
	if dir, err = filepath.Abs(c.Dir); err != nil {
		return "", nil, err
	}
	// The path stands in ssh_config and in the commands that are printed,
	// where other characters would mean something.
	if !regexp.MustCompile(`^[A-Za-z0-9/._+-]+$`).MatchString(dir) {
		return "", nil, fmt.Errorf("%q has characters other than letters, digits and /._+-", dir)
	}
	return dir, func() {}, os.MkdirAll(dir, 0o700)
}

// demo is a gate, what stands before it and what stands behind it.
type demo struct {
	demoPlaces
	machine demoMachine
	lns     demoListeners
	program string // how the user calls this binary
}

func newDemo(dir string) (*demo, error) {
	d := &demo{program: programName()}
	var err error
	if d.lns, err = openDemoListeners(); err != nil {
		return nil, err
	}
	d.demoPlaces = d.lns.places(dir)
	keys, err := makeDemoKeys(dir)
	if err != nil {
		return nil, err
	}
	d.machine = demoMachine{hostKey: keys.target, userCA: keys.userCA.PublicKey()}
	return d, d.writeFiles(keys)
}

// programName is this binary as a shell in any folder finds it.
func programName() string {
	if filepath.Base(os.Args[0]) == os.Args[0] {
		return os.Args[0] // found in PATH
	}
	if path, err := os.Executable(); err == nil {
		return path
	}
	return os.Args[0]
}

// run serves until ctx ends and returns when all has ended.
func (d *demo) run(ctx context.Context, stdout io.Writer) error {
	logFile, err := os.Create(filepath.Join(d.Dir, "postern.log"))
	if err != nil {
		return err
	}
	defer logFile.Close()

	parts, failed := errgroup.WithContext(ctx)
	around, stopAround := context.WithCancel(context.WithoutCancel(ctx)) // front and targets outlive the gate
	defer stopAround()
	front := nlb.Front{Target: d.Gate, Endpoint: demoEndpoint}
	stranger := nlb.Front{Target: d.Gate, Endpoint: demoStranger}
	parts.Go(func() error { return front.Serve(around, d.lns.front) })
	parts.Go(func() error { return stranger.Serve(around, d.lns.stranger) })
	parts.Go(func() error { return d.machine.serve(around, d.lns.ssh) })
	parts.Go(func() error { return serveDemoWeb(around, d.lns.web) })
	parts.Go(func() error { return serveDemoBanner(around, d.lns.banner) })

	signals := make(chan os.Signal, 1)
	parts.Go(func() error {
		defer stopAround()
		return run(context.WithoutCancel(ctx), process{config: d.path("postern.yaml"), inherited: d.lns.gate, signals: signals, stderr: logFile})
	})
	parts.Go(func() error {
		<-failed.Done() // Ctrl-C, or a part that failed
		signals <- syscall.SIGTERM
		return nil
	})
	if err := d.awaitReady(failed); err == nil {
		d.printText(stdout)
	}
	err = parts.Wait()
	if err == nil {
		fmt.Fprintln(stdout, "\nThe demo has ended.")
	}
	return err
}

// awaitReady returns when the gate says that it is ready.
func (d *demo) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	client := http.Client{Timeout: time.Second}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		resp, err := client.Get("http://" + d.Health + "/readyz")
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
	}
}
