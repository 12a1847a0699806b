package sshgate

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"

	"postern/internal/audit"
)

// sessionChannel is a channel of type "session" (RFC 4254 §6) on the gate
// itself: no shell and no programs, only the built-in commands.
type sessionChannel struct {
	session *session
	ch      *channel
	ssh     ssh.Channel
	closed  chan *ssh.Request // never sent on; closed once the client has closed the channel
	running sync.WaitGroup    // the one program of the channel

	mu       sync.Mutex // guards the rest
	started  bool
	pty      *pty
	terminal *term.Terminal // of an interactive shell
}

// pty is what pty-req asked for (RFC 4254 §6.2).
type pty struct {
	Term          string
	Columns, Rows uint32
	Width, Height uint32
	Modes         string
}

// String is the terminal as events show it: "xterm-256color 120x40".
func (p *pty) String() string {
	return printable(p.Term) + " " + strconv.Itoa(int(p.Columns)) + "x" + strconv.Itoa(int(p.Rows))
}

// exitAuditUnavailable is the exit status of what could not be written down;
// 1, 127 and 255 mean other things to ssh's users.
const exitAuditUnavailable = 254

// sessionChannel serves a session channel to its end.
func (c *session) sessionChannel(ctx context.Context, nc ssh.NewChannel, ch *channel) {
	e := c.event(audit.ChannelOpen, "session channel opened")
	e.Kind, e.Channel = typeSession, strconv.Itoa(ch.number)
	if err := c.server.opt.Audit.Append(ctx, e); err != nil {
		nc.Reject(ssh.ResourceShortage, text(c.unwritten(err).reason))
		return
	}
	sc, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	defer c.served(typeSession)()
	defer sc.Close()
	stop := context.AfterFunc(ctx, func() { sc.Close() })
	defer stop()
	s := &sessionChannel{session: c, ch: ch, ssh: sc, closed: make(chan *ssh.Request)}
	c.mu.Lock()
	ch.tell = func(text string) { io.WriteString(sc.Stderr(), text+"\r\n") }
	c.mu.Unlock()
	for req := range reqs {
		ok := s.request(ctx, req)
		if req.WantReply {
			req.Reply(ok, nil)
		}
	}
	close(s.closed)
	s.running.Wait()
}

// request handles one channel request and reports whether it was granted.
func (s *sessionChannel) request(ctx context.Context, req *ssh.Request) bool {
	switch req.Type {
	case "pty-req":
		return s.ptyReq(req.Payload)
	case "window-change":
		return s.windowChange(req.Payload)
	case "env", "signal":
		return false // there is no program that could make use of either
	case "shell":
		return s.start(func() { s.shell(ctx) })
	case "exec":
		var m struct{ Command string }
		if err := ssh.Unmarshal(req.Payload, &m); err != nil {
			return false
		}
		return s.start(func() { s.exit(s.exec(ctx, m.Command)) })
	case "subsystem":
		var m struct{ Name string }
		ssh.Unmarshal(req.Payload, &m) // a malformed name is refused like any other
		return s.refuse("subsystem", m.Name, reasonSubsystem)
	}
	return s.refuse(req.Type, "", reasonRequestNotAllowed)
}

// refuse writes a request down that the gate does not offer, and says so.
func (s *sessionChannel) refuse(kind, name, reason string) bool {
	c := s.session
	e := c.event(audit.ChannelDenied, "request refused: "+printable(kind))
	e.Kind, e.Channel, e.Command = printable(kind), strconv.Itoa(s.ch.number), name
	c.noteRefusal(reason, e)
	if kind == "subsystem" {
		io.WriteString(s.ssh.Stderr(), text(reason)+"\r\n")
	}
	return false
}

func (s *sessionChannel) ptyReq(payload []byte) bool {
	var p pty
	if s.session.who.noPTY || ssh.Unmarshal(payload, &p) != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pty = &p
	return true
}

func (s *sessionChannel) windowChange(payload []byte) bool {
	var m struct{ Columns, Rows, Width, Height uint32 }
	if ssh.Unmarshal(payload, &m) != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terminal != nil {
		setSize(s.terminal, m.Columns, m.Rows)
	}
	return true
}

// setSize passes a window size on within the bounds that the terminal code is
// made for.
func setSize(t *term.Terminal, columns, rows uint32) {
	if columns > 0 && columns <= 1000 && rows > 0 && rows <= 1000 {
		t.SetSize(int(columns), int(rows))
	}
}

// start runs the channel's program; a channel has one (RFC 4254 §6.5).
func (s *sessionChannel) start(program func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started {
		return false
	}
	s.started = true
	s.running.Go(func() {
		defer s.session.recoverPanic()
		program()
	})
	return true
}

// exit ends the channel in the order of RFC 4254 §6.10: status, EOF, CLOSE.
func (s *sessionChannel) exit(status uint32) {
	s.exitStatus(status)
	s.ssh.CloseWrite()
	s.ssh.Close()
}

// out is where a program writes: with a terminal, lines end with CR LF.
func (s *sessionChannel) out(w io.Writer) io.Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pty == nil {
		return w
	}
	return crlf{w}
}

type crlf struct{ w io.Writer }

func (c crlf) Write(p []byte) (int, error) {
	_, err := io.WriteString(c.w, strings.ReplaceAll(string(p), "\n", "\r\n"))
	return len(p), err
}

// exec runs one command, written down before it starts and when it has ended.
func (s *sessionChannel) exec(ctx context.Context, command string) uint32 {
	if forced := s.session.who.forceCommand; forced != "" {
		command = forced
	}
	words := strings.Fields(command)
	known := len(words) > 0 && isCommand(words[0])
	if err := s.writeStart(ctx, "exec", command, known); err != nil {
		io.WriteString(s.ssh.Stderr(), text(reasonAuditUnavailable)+"\r\n")
		return exitAuditUnavailable
	}
	var status uint32 = 1
	switch host, port, err := parseNetcat(words); {
	case err == nil:
		status = s.netcat(ctx, host, port)
	case !errors.Is(err, errNotNetcat):
		io.WriteString(s.out(s.ssh.Stderr()), "postern: "+err.Error()+"\n")
	default:
		status = s.session.builtin(words, s.out(s.ssh), s.out(s.ssh.Stderr()))
	}
	s.writeEnd("exec", command, status)
	return status
}

// shell reads built-in commands line by line. It is there for people who look
// around, and for clients that open a shell beside their forwards and end
// everything when it ends.
func (s *sessionChannel) shell(ctx context.Context) {
	if s.session.who.forceCommand != "" {
		s.exit(s.exec(ctx, ""))
		return
	}
	if err := s.writeStart(ctx, "shell", "", true); err != nil {
		io.WriteString(s.ssh.Stderr(), text(reasonAuditUnavailable)+"\r\n")
		s.exit(exitAuditUnavailable)
		return
	}
	var status uint32
	read, out := s.lines()
	io.WriteString(out, greeting(s.session.who.identity))
	for {
		line, err := read()
		words := strings.Fields(line)
		if err != nil || len(words) == 1 && (words[0] == "exit" || words[0] == "logout" || words[0] == "quit") {
			break
		}
		if len(words) > 0 {
			status = s.session.builtin(words, out, out)
		}
	}
	s.writeEnd("shell", "", status)
	s.exit(status)
}

// maxLine is the longest line that the shell reads without a terminal.
const maxLine = 4 << 10

// lines returns how the shell reads lines and where it writes.
func (s *sessionChannel) lines() (read func() (string, error), out io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pty != nil {
		s.terminal = term.NewTerminal(s.ssh, "postern> ")
		setSize(s.terminal, s.pty.Columns, s.pty.Rows)
		return s.terminal.ReadLine, s.terminal
	}
	in := bufio.NewScanner(s.ssh)
	in.Buffer(make([]byte, 0, 256), maxLine)
	return func() (string, error) {
		if !in.Scan() {
			return "", errors.Join(in.Err(), io.EOF)
		}
		return in.Text(), nil
	}, s.ssh
}

// writeStart makes the start of a program durable.
func (s *sessionChannel) writeStart(ctx context.Context, kind, command string, known bool) error {
	c := s.session
	e := c.event(audit.ProcStart, kind+" on the gate")
	e.Kind, e.Channel, e.Command = kind, strconv.Itoa(s.ch.number), command
	if !known {
		e.Failed, e.Reason = true, reasonCommand
	}
	s.mu.Lock()
	if s.pty != nil {
		e.Terminal = s.pty.String()
	}
	s.mu.Unlock()
	err := c.server.opt.Audit.Append(ctx, e)
	if err != nil {
		c.unwritten(err)
	}
	return err
}

func (s *sessionChannel) writeEnd(kind, command string, status uint32) {
	e := s.session.event(audit.ProcEnd, kind+" on the gate ended")
	e.Kind, e.Channel, e.Command, e.ExitCode = kind, strconv.Itoa(s.ch.number), command, int(status)
	s.session.server.opt.Audit.Note(e)
}

// netcat is direct-tcpip by another name: what "ssh gate nc HOST PORT" has
// meant to ProxyCommands for decades, decided and written down in the same way.
func (s *sessionChannel) netcat(ctx context.Context, host string, port uint16) uint32 {
	c := s.session
	w, ref := c.connect(ctx, s.ch, typeDirectTCPIP, host, port, map[string]any{"alias": "exec nc"})
	if ref != nil {
		io.WriteString(s.ssh.Stderr(), text(ref.reason)+"\r\n")
		return 1
	}
	w.run(ctx, beforeClose{s.ssh, func() { s.exitStatus(0) }}, s.closed)
	return 0
}

func (s *sessionChannel) exitStatus(status uint32) {
	s.ssh.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
}

// beforeClose is a channel that says something before its CLOSE.
type beforeClose struct {
	ssh.Channel
	say func()
}

func (b beforeClose) Close() error {
	b.say()
	return b.Channel.Close()
}

var errNotNetcat = errors.New("not nc")

// parseNetcat reads "nc [-4|-6|-v|-n|-N|-w SECONDS|-q SECONDS] HOST PORT". It
// returns errNotNetcat where words are another command.
func parseNetcat(words []string) (host string, port uint16, err error) {
	if len(words) == 0 || !isNetcat(words[0]) {
		return "", 0, errNotNetcat
	}
	rest := words[1:]
	for len(rest) > 0 && strings.HasPrefix(rest[0], "-") {
		switch rest[0] {
		case "-4", "-6", "-v", "-n", "-N", "--":
			rest = rest[1:]
		case "-w", "-q", "-i":
			if len(rest) < 2 {
				return "", 0, errors.New(rest[0] + " wants a number")
			}
			rest = rest[2:]
		default:
			return "", 0, errors.New("nc option " + printable(rest[0]) + " is not supported; use: nc HOST PORT")
		}
	}
	if len(rest) != 2 {
		return "", 0, errors.New("usage: nc HOST PORT")
	}
	p, err := strconv.ParseUint(rest[1], 10, 16)
	if err != nil || p == 0 {
		return "", 0, errors.New("the port must be a number from 1 to 65535")
	}
	return rest[0], uint16(p), nil
}

func isNetcat(word string) bool {
	switch word[strings.LastIndexByte(word, '/')+1:] {
	case "nc", "ncat", "netcat":
		return true
	}
	return false
}
