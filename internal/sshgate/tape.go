package sshgate

import (
	"errors"
	"net"
	"strconv"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"postern/internal/audit"
	"postern/internal/record"
)

var (
	errRecording  = errors.New(reasonRecording)
	errNoRecorder = errors.New("no directory for recordings is configured")
)

// tape is the recording of one program. What SFTP and scp move is not on it,
// since it is digested and reported file by file: only their requests, their
// standard error and their exit are. Methods are safe for concurrent use.
type tape struct {
	channel *inspectedChannel
	rule    string
	id      string                        // "" = not recorded
	writer  *record.Writer                // nil = not recorded
	live    atomic.Pointer[record.Writer] // writer, until it has failed where the program goes on
	goOn    bool                          // without a recording, if it fails
	input   bool
	echo    echo
	failed  sync.Once
	counted int64 // bytes of the file, in the metrics; of Chunk and Close, which don't meet
}

// openTape begins the recording of a program that is about to start. Its
// events are for the caller to make durable.
func (s *inspectedChannel) openTape(p *program) ([]audit.Event, *refusal) {
	want, opt := p.grant.recording, &s.session.server.opt
	t := &tape{
		channel: s, rule: p.grant.rule, goOn: want.Continue || opt.Continue,
		input: want.Input,
	}
	t.echo.off = s.pty != nil && echoOff(s.pty.Modes)
	p.tape = t
	if want.Off {
		return nil, nil
	}
	err := t.create(s.header(p))
	if err == nil {
		return []audit.Event{t.event(audit.RecordingStart, "recording started")}, nil
	}
	e := t.failure(err)
	if t.goOn {
		return []audit.Event{e}, nil
	}
	opt.Audit.Note(e)
	return nil, refuse(nil, reasonRecording, "%v", err)
}

func (t *tape) create(h record.Header) error {
	store := t.channel.session.server.opt.Recordings
	if store == nil {
		return errNoRecorder
	}
	w, err := store.Create(h, record.Events{Chunk: t.chunk, Failed: t.fail})
	if err != nil {
		return err
	}
	t.writer, t.id = w, w.ID()
	t.live.Store(w)
	return nil
}

func (s *inspectedChannel) header(p *program) record.Header {
	c, i := s.session, s.inspection
	h := record.Header{
		Session: c.id, Channel: strconv.Itoa(s.ch.number), Identity: c.who.identity, Endpoint: c.origin.Endpoint,
		Client: record.Client(c.origin.Client), Login: i.login, Target: net.JoinHostPort(i.host, strconv.Itoa(int(i.addr.Port()))),
		Address: i.addr.String(), Rule: p.grant.rule, Kind: p.kind, Command: p.command, Started: p.started,
		InputToo: p.grant.recording.Input,
	}
	if s.pty != nil {
		h.Term, h.Columns, h.Rows = printable(s.pty.Term), s.pty.Columns, s.pty.Rows
	}
	return h
}

// output records what the target sent, before it is passed on. It reports
// false if that must not be.
func (t *tape) output(k record.Kind, p []byte) bool {
	if t.input {
		t.echo.shown(p)
	}
	return t.write(k, p)
}

// typed records what the client sent, where the rules say so, but for what is
// typed while nothing is echoed.
func (t *tape) typed(p []byte) {
	if !t.input {
		return
	}
	if p = t.echo.typed(p); len(p) > 0 {
		t.write(record.Stdin, p)
	}
}

func (t *tape) resized(columns, rows uint32) {
	t.write(record.Resize, record.AppendSize(nil, columns, rows))
}

func (t *tape) request(words string) { t.write(record.Request, []byte(words)) }
func (t *tape) exit(words string)    { t.write(record.Exit, []byte(words)) }

func (t *tape) write(k record.Kind, p []byte) bool {
	w := t.live.Load()
	if w == nil {
		return true
	}
	err := w.Write(k, p)
	if err == nil || errors.Is(err, record.ErrClosed) { // the end was seen: what comes is the gate's own text
		return true
	}
	t.fail(err)
	return t.goOn
}

// fail is called when the recording takes no more: the program goes on without
// it or ends, as the rule says.
func (t *tape) fail(err error) {
	t.failed.Do(func() {
		t.channel.session.server.opt.Audit.Note(t.failure(err))
		if t.goOn {
			t.live.Store(nil)
			return
		}
		t.channel.ch.end(errRecording)
	})
}

// close seals the recording. complete says that the program's end was seen.
func (t *tape) close(complete bool) {
	if t.writer == nil {
		return
	}
	t.live.Store(nil)
	sum, err := t.writer.Close(complete)
	t.countBytes(sum.Size)
	if err != nil {
		t.fail(err)
		return
	}
	e := t.event(audit.RecordingEnd, "recording ended")
	e.FileSize, e.FileHash = sum.Size, sum.SHA256
	e.Extra["records"], e.Extra["complete"] = sum.Records, sum.Complete
	e.Extra["duration_ms"] = sum.Duration.Milliseconds()
	e.Extra["stdout"], e.Extra["stderr"], e.Extra["stdin"] = sum.Stdout, sum.Stderr, sum.Stdin
	t.channel.session.server.opt.Audit.Note(e)
}

func (t *tape) chunk(c record.Chunk) {
	t.countBytes(c.Size)
	e := t.event(audit.RecordingChunk, "recording goes on")
	e.FileSize, e.FileHash = c.Size, c.SHA256
	e.Extra["records"] = c.Records
	t.channel.session.server.opt.Audit.Note(e)
}

func (t *tape) countBytes(size int64) {
	t.channel.session.server.opt.Metrics.RecordingBytes(size - t.counted)
	t.counted = size
}

func (t *tape) event(code audit.Code, message string) audit.Event {
	e := t.channel.event(code, message+": "+t.channel.inspection.place())
	e.Rule, e.Extra = t.rule, map[string]any{"recording": t.id, "input": t.input}
	if t.writer != nil {
		e.File = t.writer.Path()
	}
	return e
}

func (t *tape) failure(err error) audit.Event {
	e := t.event(audit.RecordingFailed, "recording failed")
	e.Failed, e.Reason, e.Detail, e.Alert = true, reasonRecording, err.Error(), true
	e.Extra["on_failure"] = "terminate"
	if t.goOn {
		e.Extra["on_failure"] = "continue"
	}
	t.channel.session.server.opt.Metrics.RecordingFailed()
	t.channel.session.log.Error("recording failed", zap.String("recording", t.id), zap.Error(err))
	return e
}
