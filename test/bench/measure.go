package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	parallel   = 4
	firstBytes = 100
	bulkBytes  = 1 << 30
	settle     = 25 * time.Second // the gate gives idle memory back after 10 to 20 s
)

// handshakeCount: the gate's handshakes are so cheap that as few as sshd's
// would drown in the 10 ms of the kernel's account.
var handshakeCount = map[string]int{"sshd": 150, "postern": 2000}

// sessionCount: more of sshd's two processes would take minutes to start.
var sessionCount = map[string]int{"sshd": 200, "postern": 1000}

type bench struct {
	*world
	got samples
}

// handshakes measures CPU seconds of 1,000 connections that authenticate and
// are closed.
func (b *bench) handshakes(ctx context.Context, s *server) error {
	n := handshakeCount[s.name]
	before, err := cpuSeconds(s.cmd.Process.Pid)
	if err != nil {
		return err
	}
	clients, err := b.dialMany(ctx, s, n, func(c *ssh.Client) error { return c.Close() })
	if err != nil {
		return err
	}
	closeAll(clients)
	if err := alone(ctx, s); err != nil {
		return err
	}
	after, err := cpuSeconds(s.cmd.Process.Pid)
	b.got.add("handshake", s.name, (after-before)*1000/float64(n))
	return err
}

// alone returns when s has no child left, so that its account is complete, and
// has had time to write down that the connections ended.
func alone(ctx context.Context, s *server) error {
	for deadline := time.Now().Add(patience); ; {
		all, err := tree(s.cmd.Process.Pid)
		if err != nil {
			return err
		}
		if err := wait(ctx, 300*time.Millisecond); err != nil {
			return err
		}
		if len(all) == 1 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d children are still there", len(all)-1)
		}
	}
}

// dialMany opens n connections, a few at a time, and calls then on each.
func (b *bench) dialMany(ctx context.Context, s *server, n int, then func(*ssh.Client) error) ([]*ssh.Client, error) {
	return b.openMany(n, func(from net.IP) (*ssh.Client, error) { return b.dialFrom(ctx, s, from) }, then)
}

func (b *bench) openMany(n int, dial func(from net.IP) (*ssh.Client, error), then func(*ssh.Client) error) ([]*ssh.Client, error) {
	clients, errs := make([]*ssh.Client, n), make([]error, n)
	var wg sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for i := range n {
		from := b.source()
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if clients[i], errs[i] = dial(from); errs[i] == nil {
				errs[i] = then(clients[i])
			}
		})
	}
	wg.Wait()
	return clients, errors.Join(errs...)
}

func closeAll(clients []*ssh.Client) {
	for _, c := range clients {
		if c != nil {
			c.Close()
		}
	}
}

// memory measures the memory of a session that has one open channel and has
// been idle for a while; a server's own is shared out among its sessions. Both
// servers rest at the same time.
func (b *bench) memory(ctx context.Context, servers []*server) error {
	t, err := listen(greet)
	if err != nil {
		return err
	}
	defer t.Close()
	var clients []*ssh.Client
	defer func() { closeAll(clients) }()
	for _, s := range servers {
		opened, err := b.dialMany(ctx, s, sessionCount[s.name], func(c *ssh.Client) error { return hello(c, t) })
		clients = append(clients, opened...)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if err := wait(ctx, settle); err != nil {
		return err
	}
	for _, s := range servers {
		pss, err := pssBytes(s.cmd.Process.Pid)
		if err != nil {
			return err
		}
		b.got.add("memory", s.name, pss/float64(sessionCount[s.name])/1024)
	}
	closeAll(clients)
	return errors.Join(alone(ctx, servers[0]), alone(ctx, servers[1]))
}

// firstByte measures the milliseconds from opening a channel until the
// target's greeting is there, on one connection.
func (b *bench) firstByte(ctx context.Context, s *server) error {
	t, err := listen(greet)
	if err != nil {
		return err
	}
	defer t.Close()
	c, err := b.dial(ctx, s)
	if err != nil {
		return err
	}
	defer c.Close()
	var took []float64
	for range firstBytes {
		start := time.Now()
		ch, err := opened(c, t)
		if err != nil {
			return err
		}
		took = append(took, float64(time.Since(start).Microseconds())/1000)
		ch.Close()
	}
	b.got.add("first byte", s.name, median(took))
	return nil
}

// hello opens a channel to t, which stays open, and reads the greeting.
func hello(c *ssh.Client, t net.Listener) error {
	_, err := opened(c, t)
	return err
}

func opened(c *ssh.Client, t net.Listener) (net.Conn, error) {
	ch, err := c.Dial("tcp", t.Addr().String())
	if err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(ch, make([]byte, len(greeting))); err != nil {
		return nil, err
	}
	return ch, nil
}

// bulk measures CPU seconds per gigabyte of the real ssh, both ways, with its
// own choice of cipher and with AES.
func (b *bench) bulk(ctx context.Context, s *server) error {
	for name, options := range map[string][]string{"unconfigured": nil, "aes128-gcm": {"-c", "aes128-gcm@openssh.com"}} {
		up, err := b.up(ctx, s, options)
		if err != nil {
			return fmt.Errorf("%s up: %w", name, err)
		}
		b.got.add(name+" up", s.name, up/bulkBytes*1e9)
		down, err := b.down(ctx, s, options)
		if err != nil {
			return fmt.Errorf("%s down: %w", name, err)
		}
		b.got.add(name+" down", s.name, down/bulkBytes*1e9)
	}
	return nil
}

// up returns the CPU seconds from the target's accept to its last byte, so
// that the handshake is not in them.
func (b *bench) up(ctx context.Context, s *server, options []string) (float64, error) {
	var used float64
	t, err := listen(func(c net.Conn) error {
		var err error
		used, err = during(s, func() error { return discard(c) })
		return err
	})
	if err != nil {
		return 0, err
	}
	cmd := b.ssh(ctx, s, t, options)
	cmd.Stdin = io.LimitReader(zeros{}, bulkBytes)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("ssh: %w: %s", err, out)
	}
	return used, errors.Join(err, t.Close())
}

// down is like up; the last byte is the one that ssh wrote to its output.
func (b *bench) down(ctx context.Context, s *server, options []string) (float64, error) {
	var used float64
	received := make(chan error, 1)
	t, err := listen(func(c net.Conn) error {
		var err error
		used, err = during(s, func() error {
			if _, err := io.Copy(c, io.LimitReader(zeros{}, bulkBytes)); err != nil {
				return err
			}
			return <-received
		})
		return err
	})
	if err != nil {
		return 0, err
	}
	cmd := b.ssh(ctx, s, t, options)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return 0, errors.Join(err, t.Close())
	}
	received <- discard(out)
	return used, errors.Join(cmd.Wait(), t.Close())
}

// ssh is the client as Debian ships it, without anybody's configuration.
func (b *bench) ssh(ctx context.Context, s *server, t net.Listener, options []string) *exec.Cmd {
	host, port, _ := net.SplitHostPort(s.addr)
	args := append([]string{"-F", "none", "-i", b.path("client"), "-b", b.source().String(), "-p", port,
		"-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR",
		"-o", "UserKnownHostsFile=/dev/null", "-l", b.user, "-W", t.Addr().String()}, options...)
	return exec.CommandContext(ctx, "ssh", append(args, host)...)
}

// during returns the CPU seconds that s used while f ran.
func during(s *server, f func() error) (float64, error) {
	before, err := cpuSeconds(s.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := cpuSeconds(s.cmd.Process.Pid)
	return after - before, err
}
