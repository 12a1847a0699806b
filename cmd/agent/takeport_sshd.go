package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// runner runs a program and returns what it printed.
type runner func(ctx context.Context, name string, args ...string) (string, error)

func runProgram(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// checkConfig has sshd read its configuration, and wants it to listen at the
// new address and no longer at the old port.
func (m *mover) checkConfig(ctx context.Context) error {
	if _, err := m.ask(ctx, "-t"); err != nil {
		return err
	}
	at, err := m.listeners(ctx)
	if err != nil {
		return err
	}
	if !slices.Contains(at, m.address) {
		return fmt.Errorf("%s does not read %s: write \"Include %s\" at its top", m.config, m.dropIn, strings.TrimSuffix(m.dropIn, "05-postern.conf")+"*.conf")
	}
	others, err := m.otherListeners(ctx)
	if err == nil && len(others) > 0 {
		err = fmt.Errorf("sshd would still listen at %s: take the ListenAddress out of %s or the files that it includes", others[0], m.config)
	}
	return err
}

// ask runs sshd on its configuration. sshd refuses even that without its folder,
// which systemd removes when ssh.service stops; where it can't be made, sshd says so.
func (m *mover) ask(ctx context.Context, what string) (string, error) {
	_ = os.MkdirAll(m.runDir, 0o755)
	return m.run(ctx, m.sshd, what, "-f", m.config)
}

// listeners are the addresses that sshd's configuration makes it listen at.
func (m *mover) listeners(ctx context.Context) ([]netip.AddrPort, error) {
	out, err := m.ask(ctx, "-T")
	if err != nil {
		return nil, err
	}
	var at []netip.AddrPort
	for line := range strings.Lines(out) {
		if a, ok := strings.CutPrefix(strings.TrimSpace(line), "listenaddress "); ok {
			address, err := netip.ParseAddrPort(a)
			if err != nil {
				return nil, fmt.Errorf("read what sshd -T says: %w", err)
			}
			at = append(at, address)
		}
	}
	return at, nil
}

// otherListeners are those of them on the port that is to be given up.
func (m *mover) otherListeners(ctx context.Context) ([]netip.AddrPort, error) {
	at, err := m.listeners(ctx)
	return slices.DeleteFunc(at, func(a netip.AddrPort) bool { return a.Port() != m.port }), err
}

// reachable is where this host finds sshd by its configuration.
func (m *mover) reachable(ctx context.Context) (string, error) {
	at, err := m.listeners(ctx)
	if err != nil {
		return "", err
	}
	if len(at) == 0 {
		return "", errors.New("sshd -T names no address to listen at")
	}
	first := at[0]
	if first.Addr().IsUnspecified() {
		first = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), first.Port())
	}
	return first.String(), nil
}

// trial runs an sshd of its own with the new configuration until it has
// answered.
func (m *mover) trial(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, m.sshd, "-D", "-e", "-f", m.config, "-o", "PidFile=none")
	cmd.Stderr = &stderr
	if ln, err := net.Listen("tcp", m.address.String()); err != nil {
		return fmt.Errorf("the new address is not free: %w", err)
	} else if err := ln.Close(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("try sshd: %w", err)
	}
	err := answers(ctx, m.address.String(), m.patience)
	stop()
	cmd.Wait() // it was killed
	if err != nil {
		return fmt.Errorf("an sshd with the new configuration does not answer at %s: %w: %s", m.address, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return nil
}

// answers is nil as soon as an SSH server identifies itself at address.
func answers(ctx context.Context, address string, patience time.Duration) error {
	return retry(ctx, patience, func() error {
		nc, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return err
		}
		defer nc.Close()
		if err := nc.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		line, err := bufio.NewReader(nc).ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.HasPrefix(line, "SSH-2.0-") {
			return fmt.Errorf("%q is no SSH server", strings.TrimSpace(line))
		}
		return nil
	})
}

// retry calls do until it is nil, for as long as patience, and returns its last
// error.
func retry(ctx context.Context, patience time.Duration, do func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		err := do()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-again.C:
		}
	}
}
