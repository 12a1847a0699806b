package sshgate

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"postern/internal/audit"
	"postern/internal/files"
	"postern/internal/metrics"
)

// errUnreadable ends a transfer whose rights can't be kept to.
var errUnreadable = errors.New(reasonUnreadable)

// transfer sees what a program does to files, and keeps it within its rights.
type transfer struct {
	channel *inspectedChannel
	program *program
	sftp    *files.SFTP // or
	scp     *files.SCP  // or neither: rsync

	terminal bool // asked for, which no file transfer does
	ended    bool // set by close: what is reported then was still open

	// The gate answers what SFTP must not do, in between the target's packets.
	restricted bool
	answers    sync.Mutex // held while writing to the client, where restricted
}

// newTransfer returns nil where the program moves no files that the gate could
// make out.
func (s *inspectedChannel) newTransfer(p *program) *transfer {
	t := &transfer{channel: s, program: p, terminal: s.pty != nil}
	switch kind := p.grant.files; kind {
	case files.SFTPServer:
		t.restricted = p.grant.rights != files.Rights{Read: true, Write: true}
		t.sftp = files.NewSFTP(p.grant.rights, t.report)
	case files.SCPSource, files.SCPSink:
		t.scp = files.NewSCP(kind, t.report)
	case files.RsyncSender, files.RsyncReceiver:
	default:
		return nil
	}
	return t
}

// digested reports whether the gate can make out what moves, so that the
// transfer's bytes need not be kept. What only claims to be a file transfer,
// and rsync, whose protocol is not decoded, is recorded like anything else.
func (t *transfer) digested() bool {
	switch {
	case t.terminal:
		return false
	case t.scp != nil:
		return t.scp.Err() == nil
	case t.sftp != nil:
		return t.sftp.Err() == nil
	}
	return false
}

// check ends the channel where rights are limited and can't be kept to, since
// the stream makes no sense.
func (t *transfer) check() {
	if t.restricted && t.sftp.Err() != nil {
		t.channel.ch.end(errUnreadable)
	}
}

// toTarget decodes what the client sent and passes on what it may send.
func (t *transfer) toTarget(target io.Writer, b []byte) error {
	switch {
	case t.scp != nil:
		t.scp.Client(b)
	case t.sftp != nil:
		b = t.sftp.Client(b)
		t.check()
	}
	if err := writeAll(target, b); err != nil {
		return err
	}
	if !t.restricted {
		return nil
	}
	t.answers.Lock()
	defer t.answers.Unlock()
	return writeAll(t.channel.client, t.sftp.Answers())
}

// fromTarget decodes what the target sent and returns what the client gets.
// Where the transfer is restricted, answers is held until it has been written.
func (t *transfer) fromTarget(b []byte) []byte {
	switch {
	case t.scp != nil:
		t.scp.Server(b)
	case t.sftp != nil:
		b = t.sftp.Server(b)
		t.check()
	}
	return b
}

func writeAll(w io.Writer, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_, err := w.Write(b)
	return err
}

// close reports what was still open. Neither stream moves any more.
func (t *transfer) close() {
	t.ended = true
	switch {
	case t.scp != nil:
		t.scp.Close()
	case t.sftp != nil:
		t.sftp.Close()
	default:
		t.report(t.rsync())
	}
}

// rsync is one operation: which files moved is compressed and in a protocol of
// many versions, so what is known is the command line and how much moved.
func (t *transfer) rsync() files.Operation {
	p := t.program
	action := files.Put
	if p.grant.files == files.RsyncSender {
		action = files.Get
	}
	return files.Operation{
		Action: action, Protocol: "rsync", Path: strings.Join(p.grant.paths, " "), Size: -1,
		BytesRead: p.out.Load(), BytesWritten: p.in.Load(), Partial: !p.exited || p.status != 0,
		Failed: !p.exited || p.status != 0, Status: "exit " + strconv.FormatUint(uint64(p.status), 10),
		Command: p.command, Start: p.started, End: time.Now(),
	}
}

// report writes one operation down. It waits while the log's queue is full, and
// so slows the transfer down rather than lose an event.
func (t *transfer) report(op files.Operation) {
	e := t.channel.event(audit.FileOp, op.Protocol+" "+op.Action+" "+op.Path)
	e.Kind, e.Rule, e.Time = op.Protocol, t.program.grant.rule, op.End
	e.BytesIn, e.BytesOut, e.Start, e.End = op.BytesWritten, op.BytesRead, op.Start, op.End
	if t.scp != nil {
		e.Extra = map[string]any{"operands": t.program.grant.paths} // op.Path is relative to one of them
	}
	e.FileOp = &audit.FileOperation{
		Action: op.Action, Path: op.Path, To: op.To, Size: op.Size, SHA256: op.SHA256, Partial: op.Partial, Denied: op.Denied,
		Status: op.Status, Code: op.StatusCode, Command: op.Command, Entries: op.Entries,
	}
	c, result := t.channel.session, metrics.ResultOK
	switch {
	case op.Denied:
		result = metrics.ResultDenied
		c.countDenied()
	case op.Failed:
		result = metrics.ResultFailed
	case t.ended && op.Partial && op.Action != files.List:
		result, e.Reason, e.Detail = metrics.ResultFailed, reasonFileFailed, "the session ended before the file was closed"
	}
	if e.Failed = result != metrics.ResultOK; e.Failed {
		e.Message += " " + result
	}
	if e.Failed && e.Reason == "" && (op.Protocol != "sftp" || op.Action == files.Unreadable) {
		// What is said there is free text, not one of SFTP's codes.
		e.Reason, e.Detail, e.FileOp.Status = reasonFileFailed, op.Status, ""
	}
	c.server.opt.Metrics.FileOperation(op.Protocol, op.Action, result)
	c.server.opt.Audit.Note(e)
}
