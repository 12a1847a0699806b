package sshgate

import (
	"context"
	"path"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/policy"
)

// fromClient handles one of the client's channel requests (RFC 4254 §6) and
// answers it with what the target says, or with what the rules do.
func (s *inspectedChannel) fromClient(ctx context.Context, req *ssh.Request) {
	switch req.Type {
	case "shell", "exec", "subsystem":
		s.start(ctx, req)
	case "pty-req":
		s.ptyReq(req)
	case "window-change":
		s.windowChange(req)
	case "env":
		s.setEnv(req)
	case "signal", "break", "eow@openssh.com", "xon-xoff":
		s.noteRequest(req)
		s.pass(req)
	case "auth-agent-req@openssh.com":
		if s.assist(ctx, req, policy.Agent) {
			s.inspection.agent.Store(true)
		}
	case "x11-req":
		if s.assist(ctx, req, policy.X11) {
			s.inspection.x11.Store(true)
		}
	case "keepalive@openssh.com":
		req.Reply(false, nil)
	default:
		s.refuse(req, reasonRequestNotAllowed, "")
	}
}

// pass sends a request on and answers with the target's answer.
func (s *inspectedChannel) pass(req *ssh.Request) bool {
	ok, err := s.target.SendRequest(req.Type, req.WantReply, req.Payload)
	ok = ok && err == nil
	req.Reply(ok, nil)
	return ok
}

// refuse denies a request: an event, and the first time a text, since most
// clients don't say that a request was denied.
func (s *inspectedChannel) refuse(req *ssh.Request, reason, detail string) {
	e := s.event(audit.ChannelDenied, "request refused: "+printable(req.Type))
	e.Kind, e.Detail = printable(req.Type), detail
	s.session.noteRefusal(reason, e)
	if s.told == nil {
		s.told = map[string]bool{}
	}
	if !s.told[req.Type] && len(s.told) < maxTold {
		s.told[req.Type] = true
		s.say(text(reason) + ": " + printable(req.Type))
	}
	req.Reply(false, nil)
}

// maxTold is how many kinds of requests a channel is told about.
const maxTold = 8

// event is inspection.event with the channel's number.
func (s *inspectedChannel) event(code audit.Code, message string) audit.Event {
	e := s.inspection.event(code, message)
	e.Channel = strconv.Itoa(s.ch.number)
	return e
}

func (s *inspectedChannel) ptyReq(req *ssh.Request) {
	var p pty
	if ssh.Unmarshal(req.Payload, &p) != nil {
		req.Reply(false, nil)
		return
	}
	if s.session.who.noPTY {
		s.refuse(req, reasonCertNoPTY, "the certificate lacks permit-pty")
		return
	}
	// Of a client that wants no answer it is not known whether it got one.
	if s.pass(req) || !req.WantReply {
		s.pty = &p
	}
}

func (s *inspectedChannel) windowChange(req *ssh.Request) {
	var m struct{ Columns, Rows, Width, Height uint32 }
	if ssh.Unmarshal(req.Payload, &m) != nil {
		req.Reply(false, nil)
		return
	}
	if s.pty != nil {
		s.pty.Columns, s.pty.Rows = m.Columns, m.Rows
	}
	if p := s.current(); p != nil {
		p.tape.resized(m.Columns, m.Rows)
	}
	s.pass(req)
}

// noteRequest records a request that is passed on.
func (s *inspectedChannel) noteRequest(req *ssh.Request) {
	p := s.current()
	if p == nil {
		return
	}
	var signal struct{ Name string }
	if req.Type == "signal" && ssh.Unmarshal(req.Payload, &signal) == nil {
		p.tape.request("signal " + printable(signal.Name))
		return
	}
	p.tape.request(req.Type)
}

// variable is an environment variable that waits for the decision about the
// program: which may be passed on is up to the rule that allows that.
type variable struct {
	name    string
	payload []byte
}

const maxHeldEnv = 64

// setEnv passes LANG and LC_* on. Others wait for the program, unless the
// client waits for the answer.
func (s *inspectedChannel) setEnv(req *ssh.Request) {
	var m struct{ Name, Value string }
	switch err := ssh.Unmarshal(req.Payload, &m); {
	case err != nil:
		req.Reply(false, nil)
	case m.Name == "LANG", strings.HasPrefix(m.Name, "LC_"), req.WantReply && s.inspection.mayPassEnv(m.Name):
		s.pass(req)
	case !req.WantReply && len(s.env) < maxHeldEnv:
		s.env = append(s.env, variable{m.Name, req.Payload})
	default:
		s.dropEnv(m.Name)
		req.Reply(false, nil)
	}
}

func (s *inspectedChannel) dropEnv(name string) {
	if len(s.envRefused) < maxHeldEnv {
		s.envRefused = append(s.envRefused, printable(name))
	}
}

// mayPassEnv reports whether any program that could follow may have a variable.
func (i *inspection) mayPassEnv(name string) bool {
	for _, verb := range []policy.Verb{policy.Shell, policy.Exec, policy.SFTPRead, policy.SFTPWrite} {
		if d := i.decide(i.request(verb)); d.Allow && matchesEnv(d.Env, name) {
			return true
		}
	}
	return false
}

func matchesEnv(globs []string, name string) bool {
	for _, g := range globs {
		if ok, err := path.Match(g, name); ok && err == nil {
			return true
		}
	}
	return false
}

// sendEnv passes the variables on that waited and may be, and writes down
// which may not.
func (s *inspectedChannel) sendEnv(allowed []string) {
	for _, v := range s.env {
		if !matchesEnv(allowed, v.name) {
			s.dropEnv(v.name)
			continue
		}
		s.target.SendRequest("env", false, v.payload)
	}
	if n := len(s.envRefused); n > 0 {
		e := s.event(audit.ChannelDenied, strconv.Itoa(n)+" environment variables refused")
		e.Kind, e.Detail = "env", strings.Join(s.envRefused, " ")
		s.session.noteRefusal(reasonEnv, e)
	}
	s.env, s.envRefused = nil, nil
}

// assist decides about agent or X11 forwarding and asks the target for it.
func (s *inspectedChannel) assist(ctx context.Context, req *ssh.Request, verb policy.Verb) bool {
	c := s.session
	d := s.inspection.decide(s.inspection.request(verb))
	if !d.Allow {
		s.refuse(req, reasonNotGranted, "policy says "+string(d.Reason))
		return false
	}
	e := s.event(audit.ChannelOpen, verb.String()+" forwarding to "+s.inspection.place())
	e.Kind, e.Rule = req.Type, d.Rule
	if err := c.server.opt.Audit.Append(ctx, e); err != nil {
		c.unwritten(err)
		req.Reply(false, nil)
		return false
	}
	ok, err := s.target.SendRequest(req.Type, true, req.Payload)
	ok = ok && err == nil
	req.Reply(ok, nil)
	return ok
}
