package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	fileBytes         = 256 << 20
	keystrokes        = 500
	keystrokePause    = 2 * time.Millisecond
	inspectedSessions = 1000
)

// inspected measures sessions whose inside the gate sees, through the door
// login@target, and what sshd takes to pass the same bytes on unseen.
func inspected(ctx context.Context, b *bench) error {
	if err := os.WriteFile(b.path("text"), terminalText(fileBytes), 0o644); err != nil {
		return err
	}
	for _, measure := range []func(context.Context) error{b.idleInspected, b.keystroke, b.streams, b.sftp} {
		if err := measure(ctx); err != nil {
			return fmt.Errorf("inspected: %w", err)
		}
	}
	return nil
}

// terminalText is what a build prints: lines with numbers and colours.
func terminalText(size int) []byte {
	var out bytes.Buffer
	for i := 0; out.Len() < size; i++ {
		fmt.Fprintf(&out, "\x1b[32m[%7d]\x1b[0m compiling module %x of the cluster agent, %d warnings, 0 errors\r\n", i, i*2654435761, i%7)
	}
	return out.Bytes()[:size]
}

func (b *bench) gate() *server { return b.jump("postern") }

func (b *bench) jump(name string) *server {
	for _, s := range b.jumps {
		if s.name == name {
			return s
		}
	}
	panic("no server is called " + name)
}

// gateUser is the user name that leads through the gate to a target.
func (b *bench) gateUser(host string) string { return b.login + "@" + host + ":" + b.port }

// way is a way to the target and the server that is measured on it.
type way struct {
	name   string
	server *server
	args   []string // of ssh and sftp, up to and with the destination
}

func (b *bench) through(name, host string) way {
	gate := b.gate()
	_, port, _ := net.SplitHostPort(gate.addr)
	return way{name, gate, append(b.options(), "-o", "BindAddress="+b.source().String(), "-o", "Port="+port,
		"-o", "User="+b.gateUser(host), "127.0.0.1")}
}

// past is the way through sshd, which sees nothing but the outer connection.
func (b *bench) past() way {
	sshd := b.jump("sshd")
	_, port, _ := net.SplitHostPort(sshd.addr)
	proxy := append([]string{"ssh"}, b.options()...)
	proxy = append(proxy, "-b", b.source().String(), "-p", port, "-l", b.user, "-W", "[%h]:%p", "127.0.0.1")
	return way{"sshd", sshd, append(b.options(), "-o", "ProxyCommand="+strings.Join(proxy, " "), "-o", "Port="+b.port,
		"-o", "User="+b.login, "127.0.0.2")}
}

// options are of the client as Debian ships it; all ways use the same cipher,
// so that it is the work that is compared.
func (b *bench) options() []string {
	return []string{"-F", "none", "-i", b.path("client"), "-c", "aes128-gcm@openssh.com", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
		"-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR", "-o", "UserKnownHostsFile=/dev/null"}
}

// streams measures CPU seconds per gigabyte of a command's output and input.
func (b *bench) streams(ctx context.Context) error {
	text := b.path("text")
	for range bulkBytes / fileBytes / 2 {
		for _, w := range []way{b.through("recorded", "127.0.0.2"), b.through("unrecorded", "127.0.0.3"), b.past()} {
			down, err := b.stream(ctx, w, "cat "+text+" "+text, nil, 2*fileBytes)
			if err != nil {
				return fmt.Errorf("%s down: %w", w.name, err)
			}
			up, err := b.stream(ctx, w, "cat > /dev/null; echo done", []string{text, text}, int64(len("done\n")))
			if err != nil {
				return fmt.Errorf("%s up: %w", w.name, err)
			}
			b.got.add("inspected down", w.name, down/(2*fileBytes)*1e9)
			b.got.add("inspected up", w.name, up/(2*fileBytes)*1e9)
			b.got.add("recording", w.name, down/(2*fileBytes)*1e9)
		}
	}
	return nil
}

// stream runs a command at the target and returns the CPU seconds that the
// server took until its answer of so many bytes was there. The command lingers:
// sshd's account lacks a process that it did not wait for.
func (b *bench) stream(ctx context.Context, w way, command string, input []string, answer int64) (used float64, err error) {
	cmd := exec.CommandContext(ctx, "ssh", append(w.args, command+"; sleep 1")...)
	in, closeAll, err := openAll(input)
	if err != nil {
		return 0, err
	}
	defer closeAll()
	cmd.Stdin = in
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	if err := alone(ctx, w.server); err != nil { // the last session's processes are out of the account
		return 0, err
	}
	used, err = during(w.server, func() error {
		if err := cmd.Start(); err != nil {
			return err
		}
		_, err := io.CopyN(io.Discard, out, answer)
		return err
	})
	if err := errors.Join(err, cmd.Wait()); err != nil {
		return 0, fmt.Errorf("ssh: %w: %s", err, complaint.String())
	}
	return used, nil
}

// openAll returns what is in the files, one after the other.
func openAll(paths []string) (io.Reader, func(), error) {
	var files []io.Reader
	closeAll := func() {
		for _, f := range files {
			f.(*os.File).Close()
		}
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		files = append(files, f)
	}
	return io.MultiReader(files...), closeAll, nil
}

// sftp measures CPU seconds per gigabyte of files. The same server is decoded
// as a subsystem, and is any program at all when a shell runs it.
func (b *bench) sftp(ctx context.Context) error {
	batch := map[string]string{"SFTP get": "get " + b.path("text") + " /dev/null\n", "SFTP put": "put " + b.path("text") + " " + b.path("put") + "\n"}
	servers := map[string]string{"decoded": "sftp", "undecoded": "exec /usr/lib/openssh/sftp-server"}
	for measure, commands := range batch {
		for range bulkBytes / fileBytes / 2 {
			for name, subsystem := range servers {
				w := b.through(name, "127.0.0.3")
				cmd := exec.CommandContext(ctx, "sftp", append([]string{"-b", "-", "-s", subsystem}, w.args...)...)
				cmd.Stdin = strings.NewReader(strings.Repeat(commands, 2))
				var said []byte
				used, err := during(w.server, func() (err error) { said, err = cmd.CombinedOutput(); return err })
				if err != nil {
					return fmt.Errorf("%s %s: sftp: %w: %s", measure, name, err, said)
				}
				b.got.add(measure, name, used/(2*fileBytes)*1e9)
			}
		}
	}
	return nil
}

// keystroke measures the microseconds until a terminal's echo is there, with
// and without the gate in between.
func (b *bench) keystroke(ctx context.Context) error {
	ways := []struct{ name, addr, user string }{
		{"recorded", b.gate().addr, b.gateUser("127.0.0.2")},
		{"no gate", net.JoinHostPort("127.0.0.2", b.port), b.login},
	}
	for _, w := range ways {
		took, err := b.echo(ctx, w.addr, w.user)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		b.got.add("keystroke", w.name, took)
	}
	return nil
}

func (b *bench) echo(ctx context.Context, addr, user string) (float64, error) {
	c, err := b.dialAs(ctx, addr, user, b.source())
	if err != nil {
		return 0, err
	}
	defer c.Close()
	s, err := c.NewSession()
	if err != nil {
		return 0, err
	}
	if err := s.RequestPty("xterm", 24, 80, ssh.TerminalModes{ssh.ECHO: 1}); err != nil {
		return 0, err
	}
	in, err := s.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := s.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := s.Start("cat"); err != nil {
		return 0, err
	}
	return typeKeys(ctx, in, out)
}

// typeKeys types letters, at most a line of them, and returns the median of the
// times until each came back.
func typeKeys(ctx context.Context, in io.Writer, out io.Reader) (float64, error) {
	var took []float64
	key := []byte("x")
	for range keystrokes {
		began := time.Now()
		if _, err := in.Write(key); err != nil {
			return 0, err
		}
		if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
			return 0, err
		}
		took = append(took, float64(time.Since(began).Nanoseconds())/1e3)
		if err := wait(ctx, keystrokePause); err != nil {
			return 0, err
		}
	}
	return median(took), nil
}

// idleTarget accepts whoever comes and holds each session channel open. It
// stands in for sshd where a thousand of its processes would be in the way.
func idleTarget(addr string, hostKey ssh.Signer) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(hostKey)
	go func() { // ends when the listener is closed
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go holdOpen(nc, config)
		}
	}()
	return ln, nil
}

// holdOpen ends when the gate closes the connection.
func holdOpen(nc net.Conn, config *ssh.ServerConfig) {
	defer nc.Close()
	_, chans, reqs, err := ssh.NewServerConn(nc, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(reqs)
	var wg sync.WaitGroup
	for nc := range chans {
		ch, reqs, err := nc.Accept()
		if err != nil {
			continue
		}
		wg.Go(func() {
			for req := range reqs {
				req.Reply(true, nil)
			}
			ch.Close()
		})
	}
	wg.Wait()
}

// idleInspected measures the memory of a recorded session that has been idle
// for a while; the gate's own is shared out among its sessions.
func (b *bench) idleInspected(ctx context.Context) error {
	ln, err := idleTarget(net.JoinHostPort("127.0.0.4", b.port), b.hostKey)
	if err != nil {
		return err
	}
	defer ln.Close()
	clients, err := b.openMany(inspectedSessions, func(from net.IP) (*ssh.Client, error) {
		return b.dialAs(ctx, b.gate().addr, b.gateUser("127.0.0.4"), from)
	}, startShell)
	defer closeAll(clients)
	if err != nil {
		return err
	}
	if err := wait(ctx, settle); err != nil {
		return err
	}
	pss, err := pssBytes(b.gate().cmd.Process.Pid)
	b.got.add("inspected memory", "postern", pss/inspectedSessions/1024)
	return err
}

func startShell(c *ssh.Client) error {
	s, err := c.NewSession()
	if err != nil {
		return err
	}
	return s.Shell()
}
