package sshgate

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/files"
	"postern/internal/policy"
)

// program is what runs in an inspected session channel.
type program struct {
	asked
	grant    permit
	tape     *tape
	transfer *transfer // nil where no files move
	started  time.Time
	in, out  atomic.Int64 // to the target, to the client

	answered chan struct{} // closed once the client has the target's answer
	refused  bool          // by the target; valid once answered

	// Owned by the goroutine of the target's requests.
	exited bool
	status uint32
	signal string
}

// digested reports whether what moves is reported file by file, and so needs no
// place on the tape.
func (p *program) digested() bool { return p.transfer != nil && p.transfer.digested() }

// asked is a request for a program, as it is passed on.
type asked struct {
	kind    string // "shell", "exec", "subsystem"
	command string // exec: the command line, subsystem: the name
	instead string // what the client asked for where force-command took its place
}

func (a asked) payload() []byte {
	if a.kind == "shell" {
		return nil
	}
	return ssh.Marshal(struct{ S string }{a.command})
}

const sftpSubsystem = "sftp"

// readAsked reads a shell, exec or subsystem request. forced is the command of
// the client's certificate that stands for all of them (sshd_config(5),
// ForceCommand).
func readAsked(req *ssh.Request, forced string) (asked, error) {
	a := asked{kind: req.Type}
	if a.kind != "shell" {
		var m struct{ S string }
		if err := ssh.Unmarshal(req.Payload, &m); err != nil {
			return a, err
		}
		a.command = m.S
	}
	if forced == "" {
		return a, nil
	}
	instead := a.kind
	if a.command != "" {
		instead += " " + a.command
	}
	if forced == "internal-sftp" {
		return asked{kind: "subsystem", command: sftpSubsystem, instead: instead}, nil
	}
	return asked{kind: "exec", command: forced, instead: instead}, nil
}

// permit is what the rules say of a program.
type permit struct {
	requests  []policy.Request // each of which was allowed
	rule      string
	env       []string
	recording policy.Recording
	files     files.CommandKind
	rights    files.Rights
	paths     []string
}

// add joins another decision: the program is recorded if either rule wants
// that, and goes on unrecorded only if both let it.
func (g *permit) add(r policy.Request, d policy.Decision) {
	if len(g.requests) == 0 {
		g.rule, g.recording = d.Rule, d.Recording
	}
	g.requests = append(g.requests, r)
	g.env = append(g.env, d.Env...)
	g.recording.Off = g.recording.Off && d.Recording.Off
	g.recording.Input = g.recording.Input || d.Recording.Input
	g.recording.Continue = g.recording.Continue && d.Recording.Continue
}

// decideProgram decides with the rules of now. A command that only moves files
// needs the rights to those, or else, like any other, exec.
func (i *inspection) decideProgram(a asked) (permit, *refusal) {
	switch a.kind {
	case "shell":
		return i.decideOne(i.request(policy.Shell))
	case "subsystem":
		if a.command != sftpSubsystem {
			return permit{}, refuse(nil, reasonSubsystem, "subsystem %q", printable(a.command))
		}
		return i.decideFiles(files.Command{Kind: files.SFTPServer})
	}
	cmd := files.Classify(a.command)
	if cmd.Kind != files.Other {
		if g, ref := i.decideFiles(cmd); ref == nil {
			return g, nil
		}
	}
	r := i.request(policy.Exec)
	r.Command = a.command
	g, ref := i.decideOne(r)
	g.files, g.rights, g.paths = cmd.Kind, files.Rights{Read: true, Write: true}, cmd.Paths
	return g, ref
}

func (i *inspection) decideOne(r policy.Request) (permit, *refusal) {
	d := i.decide(r)
	if !d.Allow {
		return permit{}, denial(d)
	}
	var g permit
	g.add(r, d)
	return g, nil
}

// decideFiles wants every right that the command needs. SFTP takes what it
// gets: operations are denied one by one.
func (i *inspection) decideFiles(cmd files.Command) (permit, *refusal) {
	g := permit{files: cmd.Kind, paths: cmd.Paths}
	var denied policy.Decision
	right := func(verb policy.Verb) bool {
		r := i.request(verb)
		d := i.decide(r)
		if !d.Allow {
			denied = d
			return false
		}
		g.add(r, d)
		return true
	}
	if cmd.Kind == files.SFTPServer || cmd.Needs.Write {
		g.rights.Write = right(policy.SFTPWrite)
	}
	if cmd.Kind == files.SFTPServer || cmd.Needs.Read {
		g.rights.Read = right(policy.SFTPRead)
	}
	if len(g.requests) == 0 || cmd.Kind != files.SFTPServer && denied.Reason != "" {
		return permit{}, denial(denied)
	}
	return g, nil
}

// current returns the program that has been asked for, or nil.
func (s *inspectedChannel) current() *program {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.program
}

// running waits until what has been asked for is answered and returns the
// program if it runs.
func (s *inspectedChannel) running() *program {
	p := s.current()
	if p == nil {
		return nil
	}
	<-p.answered
	if p.refused {
		return nil
	}
	return p
}

// start decides about a program, writes that down and asks the target for it.
func (s *inspectedChannel) start(ctx context.Context, req *ssh.Request) {
	a, err := readAsked(req, s.session.who.forceCommand)
	if err != nil || s.current() != nil { // a channel has one (RFC 4254 §6.5)
		req.Reply(false, nil)
		return
	}
	g, ref := s.inspection.decideProgram(a)
	if ref != nil {
		s.refuseProgram(req, a, ref)
		return
	}
	p := &program{asked: a, grant: g, started: time.Now(), answered: make(chan struct{})}
	if ref := s.prepare(ctx, p); ref != nil {
		s.turnAway(req, ref.reason, exitByGate)
		return
	}
	s.launch(req, p)
}

// refuseProgram denies a program with an event and a text. The request is
// answered with success all the same: clients show the text of a program that
// fails, and drop that of a request that does.
func (s *inspectedChannel) refuseProgram(req *ssh.Request, a asked, ref *refusal) {
	e := s.procEvent(audit.ProcStart, a, " refused: "+ref.reason)
	e.Detail = ref.detail
	s.session.noteRefusal(ref.reason, e)
	if ref.reason == reasonSubsystem {
		s.say(text(ref.reason))
		req.Reply(false, nil)
		return
	}
	s.turnAway(req, ref.reason, 1)
}

// turnAway ends the channel as a program would that says why it can't run.
func (s *inspectedChannel) turnAway(req *ssh.Request, reason string, status uint32) {
	req.Reply(true, nil)
	s.say(text(reason))
	s.exit(status)
	s.target.Close()
}

// prepare opens the recording and makes the program's start durable.
func (s *inspectedChannel) prepare(ctx context.Context, p *program) *refusal {
	c := s.session
	events, ref := s.openTape(p)
	if ref != nil {
		return ref
	}
	p.transfer = s.newTransfer(p)
	e := s.procEvent(audit.ProcStart, p.asked, " at "+s.inspection.place())
	e.Rule, e.Extra = p.grant.rule, map[string]any{}
	if s.pty != nil {
		e.Terminal = s.pty.String()
	}
	if p.tape.id != "" {
		e.Extra["recording"] = p.tape.id
	}
	if p.instead != "" {
		e.Extra["original_command"] = p.instead
	}
	if err := c.server.opt.Audit.Append(ctx, append(events, e)...); err != nil {
		p.tape.close(false)
		return c.unwritten(err)
	}
	if !s.ch.allowed(p.grant.requests[0], p.grant.rule, s.inspection.place()) {
		p.tape.close(false)
		return refuse(nil, c.isEnding(), "the session is ending")
	}
	s.ch.alsoAllowed(p.grant.requests[1:])
	return nil
}

func (s *inspectedChannel) procEvent(code audit.Code, a asked, message string) audit.Event {
	e := s.event(code, a.kind+message)
	e.Kind, e.Command = a.kind, a.command
	return e
}

// launch asks the target for the program. Nothing that the program sends is
// passed on before the client has the answer.
func (s *inspectedChannel) launch(req *ssh.Request, p *program) {
	s.sendEnv(p.grant.env)
	s.setProgram(p)
	ok, err := s.target.SendRequest(p.kind, true, p.payload())
	p.refused = !ok || err != nil
	if p.refused {
		s.setProgram(nil) // the client may ask for another
	}
	req.Reply(!p.refused, nil)
	close(p.answered)
	if p.refused {
		s.noteEnd(p, reasonTargetRefused)
		p.tape.close(false)
		return
	}
	s.input.Go(func() {
		defer s.session.recoverPanic()
		s.stdin(p)
	})
}

func (s *inspectedChannel) setProgram(p *program) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.program = p
}

// fromTarget passes the target's requests on, and its EOF after everything that
// came before. When the target has closed the channel it closes the client's,
// after the last byte and request.
//
// A client that has sent its own EOF answers ours with CLOSE at once. sshd keeps
// its CLOSE back until the exit status is out; x/crypto answers with one of its
// own before anybody else sees the client's, and from then on sends nothing more
// on the channel. So EOF waits for the exit, but not for long where the client
// still has things to say: it may wait for EOF before it ends its input, and a
// program that only closed its output may never exit. What is lost is the exit
// status of a program that closed its output more than eofGrace before its exit,
// while the client's input was open, where that ends before the exit does.
// Neither ssh.Channel nor ssh.Conn has a call that would hold the answer back,
// and below them the packets are encrypted.
func (s *inspectedChannel) fromTarget(ctx context.Context) {
	done := s.outputDone
	var grace <-chan time.Time
	for open := true; open; {
		select {
		case req, ok := <-s.targetReqs:
			open = ok && s.targetRequest(req)
		case <-done:
			done, grace = nil, time.After(eofGrace)
			open = s.pendingRequests()
		case <-grace:
			grace = nil
			if !s.inputEnded.Load() {
				s.sendEOF()
			}
		}
		if open && done == nil && s.exited() {
			s.sendEOF()
		}
	}
	<-s.outputDone
	if p := s.running(); p != nil {
		s.ended(ctx, p)
	}
	if ctx.Err() != nil {
		<-s.aborted // which has something to say
	}
	s.sendEOF()
	s.client.Close()
}

// eofGrace is how long the EOF of a program that has not exited is held back.
const eofGrace = time.Second

// exited reports whether the exit has been passed on, or there is none to come.
// It is for the goroutine of the target's requests.
func (s *inspectedChannel) exited() bool {
	p := s.current()
	return p == nil || p.exited
}

// pendingRequests passes on what came before the EOF, and reports whether the
// channel is still open.
func (s *inspectedChannel) pendingRequests() bool {
	for {
		select {
		case req, ok := <-s.targetReqs:
			if !ok {
				return false
			}
			s.targetRequest(req)
		default:
			return true
		}
	}
}

// targetRequest handles one of the target's channel requests. It returns true.
func (s *inspectedChannel) targetRequest(req *ssh.Request) bool {
	switch req.Type {
	case "exit-status", "exit-signal", "eow@openssh.com", "xon-xoff":
		if p := s.running(); p != nil {
			p.noteExit(req)
			s.client.SendRequest(req.Type, false, req.Payload)
		}
		req.Reply(true, nil)
	default: // keepalive@openssh.com too: any answer will do
		req.Reply(false, nil)
	}
	return true
}

// noteExit remembers and records how the program ended (RFC 4254 §6.10).
func (p *program) noteExit(req *ssh.Request) {
	switch req.Type {
	case "exit-status":
		var m struct{ Status uint32 }
		if ssh.Unmarshal(req.Payload, &m) == nil {
			p.exited, p.status = true, m.Status
			p.tape.exit(strconv.FormatUint(uint64(m.Status), 10))
		}
	case "exit-signal":
		var m struct {
			Name    string
			Core    bool
			Message string
			Lang    string
		}
		if ssh.Unmarshal(req.Payload, &m) == nil {
			p.exited, p.signal = true, printable(m.Name)
			p.tape.exit("SIG:" + p.signal)
		}
	default:
		p.tape.request(req.Type)
	}
}

// ended writes a program's end down and seals its recording.
func (s *inspectedChannel) ended(ctx context.Context, p *program) {
	reason := s.endReason(ctx, p)
	if reason == reasonTargetClosed {
		s.say(text(reason))
	}
	if p.transfer != nil {
		p.transfer.close()
	}
	s.noteEnd(p, reason)
	p.tape.close(reason == "")
}

// endReason says why a program's end is not its own, or "".
func (s *inspectedChannel) endReason(ctx context.Context, p *program) string {
	switch cause := context.Cause(ctx); {
	case p.exited:
		return ""
	case cause != nil && s.session.isEnding() != "":
		return s.session.isEnding()
	case cause != nil && !errors.Is(cause, context.Canceled):
		return endOf(cause)
	case s.clientGone.Load():
		return reasonClient
	}
	// Some servers end programs without an exit status. Whether the whole
	// connection is gone is known a moment after its channels are.
	select {
	case <-s.inspection.targetGone:
		return reasonTargetClosed
	case <-time.After(lastWords):
		return ""
	}
}

func (s *inspectedChannel) noteEnd(p *program, reason string) {
	e := s.procEvent(audit.ProcEnd, p.asked, " ended")
	e.Rule, e.Reason, e.Failed = p.grant.rule, reason, reason != ""
	e.ExitCode = int(p.status)
	e.BytesIn, e.BytesOut = p.in.Load(), p.out.Load()
	e.Start, e.End = p.started, e.Time
	e.Extra = map[string]any{}
	if p.signal != "" {
		e.Extra["signal"] = p.signal
	}
	if p.tape.id != "" {
		e.Extra["recording"] = p.tape.id
	}
	s.session.server.opt.Audit.Note(e)
}
