package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/term"
)

// demoLogin is the account of the demo's machine.
const demoLogin = "demo"

// demoMachine is the machine behind the demo's gate: an SSH server that lets
// in who has a certificate of the gate's user CA, with a shell of a few words
// and files in memory. It runs no programs.
type demoMachine struct {
	hostKey ssh.Signer
	userCA  ssh.PublicKey
}

// config accepts certificates as sshd does by TrustedUserCAKeys.
func (m demoMachine) config() *ssh.ServerConfig {
	checker := &ssh.CertChecker{IsUserAuthority: func(key ssh.PublicKey) bool { return bytes.Equal(key.Marshal(), m.userCA.Marshal()) }}
	c := &ssh.ServerConfig{PublicKeyCallback: func(conn ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if conn.User() != demoLogin {
			return nil, errors.New("no such account")
		}
		return checker.Authenticate(conn, key)
	}}
	c.AddHostKey(m.hostKey)
	return c
}

// serve answers the connections of ln until ctx ends.
func (m demoMachine) serve(ctx context.Context, ln net.Listener) error {
	c, files := m.config(), sftp.InMemHandler()
	return serveEach(ctx, ln, func(nc net.Conn) {
		conn, channels, requests, err := ssh.NewServerConn(nc, c)
		if err != nil {
			return // the client's business; the demo shows the gate
		}
		defer conn.Close()
		serveChannels(channels, requests, files)
	})
}

// serveChannels returns when the connection and all its sessions have ended.
func serveChannels(channels <-chan ssh.NewChannel, requests <-chan *ssh.Request, files sftp.Handlers) {
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { ssh.DiscardRequests(requests) })
	for nc := range channels {
		if nc.ChannelType() != "session" {
			nc.Reject(ssh.UnknownChannelType, "the demo's machine has sessions only")
			continue
		}
		ch, reqs, err := nc.Accept()
		if err != nil {
			return
		}
		parts.Go(func() {
			defer ch.Close()
			s := demoSession{ch: ch, files: files}
			s.serve(reqs)
		})
	}
}

// demoSession is one session channel.
type demoSession struct {
	ch       ssh.Channel
	files    sftp.Handlers
	terminal *term.Terminal // nil without a pty
}

// serve answers requests until a program was started, and runs it.
func (s *demoSession) serve(reqs <-chan *ssh.Request) {
	for r := range reqs {
		program := s.program(r)
		r.Reply(program != nil || r.Type == "pty-req" || r.Type == "env", nil)
		if program == nil {
			continue
		}
		var parts sync.WaitGroup
		parts.Go(func() { s.resize(reqs) })
		status := program()
		s.ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
		s.ch.Close() // ends reqs
		parts.Wait()
		return
	}
}

// program returns what a request asks to run, nil for any other request.
func (s *demoSession) program(r *ssh.Request) func() (status uint32) {
	switch r.Type {
	case "pty-req":
		s.terminal = term.NewTerminal(s.ch, "demo$ ")
		s.size(r.Payload, true)
	case "shell":
		return s.shell
	case "exec", "subsystem":
		var asked struct{ Text string }
		if ssh.Unmarshal(r.Payload, &asked) != nil {
			return nil
		}
		if r.Type == "exec" {
			return func() uint32 { return s.run(s.ch, asked.Text) }
		}
		if asked.Text == "sftp" {
			return s.sftp
		}
	}
	return nil
}

// resize follows the client's window until the channel ends.
func (s *demoSession) resize(reqs <-chan *ssh.Request) {
	for r := range reqs {
		if r.Type == "window-change" && s.terminal != nil {
			s.size(r.Payload, false)
		}
		r.Reply(false, nil)
	}
}

// size takes columns and rows from the payload of a pty-req, where the
// terminal's name stands before them, or of a window-change (RFC 4254 §6.2,
// §6.7). The terminal keeps its 80 columns where it makes no sense.
func (s *demoSession) size(payload []byte, named bool) {
	if named {
		var pty struct {
			Term string
			Rest []byte `ssh:"rest"`
		}
		if ssh.Unmarshal(payload, &pty) != nil {
			return
		}
		payload = pty.Rest
	}
	var window struct {
		Columns, Rows uint32
		Rest          []byte `ssh:"rest"`
	}
	if ssh.Unmarshal(payload, &window) == nil && window.Columns > 0 && window.Columns < 1000 && window.Rows < 1000 {
		s.terminal.SetSize(int(window.Columns), int(window.Rows))
	}
}

// shell reads lines until "exit" or the end of the input.
func (s *demoSession) shell() uint32 {
	in, out := s.lines()
	fmt.Fprintln(out, "This is the demo's machine. It knows a few words: help lists them.")
	for {
		line, err := in()
		if err != nil || strings.TrimSpace(line) == "exit" {
			return 0
		}
		s.run(out, line)
	}
}

// lines returns a reader of lines and where to write: the terminal, which
// echoes, or the channel as it is.
func (s *demoSession) lines() (in func() (string, error), out io.Writer) {
	if s.terminal != nil {
		return s.terminal.ReadLine, s.terminal
	}
	return plainLines(s.ch), s.ch
}

// plainLines reads lines of at most 4 KiB.
func plainLines(r io.Reader) func() (string, error) {
	return func() (string, error) {
		var line []byte
		for one := make([]byte, 1); len(line) < 4096; line = append(line, one[0]) {
			if _, err := io.ReadFull(r, one); err != nil {
				return "", err
			}
			if one[0] == '\n' {
				break
			}
		}
		return string(line), nil
	}
}

// run does what a command line says and returns its exit status.
func (s *demoSession) run(out io.Writer, line string) uint32 {
	words := strings.Fields(line)
	if len(words) == 0 {
		return 0
	}
	switch words[0] {
	case "help":
		fmt.Fprintln(out, "hostname, whoami, uptime, date, echo TEXT, rainbow, help, exit")
	case "hostname":
		fmt.Fprintln(out, "demo-machine")
	case "whoami":
		fmt.Fprintln(out, demoLogin)
	case "uptime":
		fmt.Fprintln(out, "up 42 days, the demo's machine answers")
	case "date":
		fmt.Fprintln(out, time.Now().UTC().Format(time.UnixDate))
	case "echo":
		fmt.Fprintln(out, strings.Join(words[1:], " "))
	case "rainbow":
		for color := 31; color <= 36; color++ {
			fmt.Fprintf(out, "\x1b[%dm%s\x1b[0m\n", color, strings.Repeat("#", 2*(color-30)))
		}
	default:
		fmt.Fprintf(s.errors(out), "%s: not found; help lists what there is\n", words[0])
		return 127
	}
	return 0
}

// errors is where a command complains.
func (s *demoSession) errors(out io.Writer) io.Writer {
	if s.terminal != nil {
		return out
	}
	return s.ch.Stderr()
}

// sftp serves files that live as long as the demo.
func (s *demoSession) sftp() uint32 {
	server := sftp.NewRequestServer(s.ch, s.files)
	if err := server.Serve(); err != nil && !errors.Is(err, io.EOF) {
		return 1
	}
	return 0
}
