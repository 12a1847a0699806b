package files

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"
	"sync"
	"time"
)

// What one scp stream may hold.
const (
	maxLine  = 8 << 10 // bytes of a line; OpenSSH's sink takes 2048
	maxPath  = 8 << 10 // bytes of the names of directories in each other
	maxAwait = 1024    // lines that the receiver has not answered, for senders that do not wait
	maxText  = 256     // bytes of an error text that are kept
)

var (
	errLine      = errors.New("a line that is none of the protocol's")
	errLongLine  = errors.New("a line longer than any program sends")
	errAnswer    = errors.New("an answer to nothing, or that is none")
	errRefused   = errors.New("data of a file or directory that was refused")
	errTooDeep   = errors.New("more directories than any tree has")
	errNotWaited = errors.New("more lines without an answer than any program sends")
)

// SCP decodes the legacy scp protocol of one exec channel, as OpenSSH's scp.c
// speaks it in source() and sink(). It is passive: it sees bytes and changes
// none. It holds at most 8 KiB each way, 8 KiB of directory names, and up
// to 17 KiB for each of 1024 lines that the receiver has not answered; programs
// wait after each.
//
// Each file is one Get or Put, and with SCPSink each directory one Mkdir. A
// Path is the names of the lines: the path of the command line, which the
// protocol does not repeat, is not in it, and it is "" where one side reports
// an error outside a file.
//
// Client and Server may be called from two goroutines, each from one at a time;
// bytes must be given to it before they are sent on.
type SCP struct {
	action string
	report func(Operation)

	mu      sync.Mutex // guards all that follows, and is held while report runs
	err     error
	closed  bool
	line    []byte // the sender's, so far
	answer  []byte // the receiver's, so far
	dirs    []string
	file    *scpFile
	awaited []awaited // what the receiver has yet to answer, oldest first
	ended   []Operation
}

// scpFile is a file whose data is passing, or about to.
type scpFile struct {
	op     Operation
	left   int64
	sum    hash.Hash
	moving bool // its first byte has come
	status bool // all data has come; the sender's word on it is next
}

// awaited is what one answer of the receiver's is about.
type awaited struct {
	kind byte // 'R' ready at the start; 'T', 'D', 'E', 'C' lines; 'F' a file's end
	file *scpFile
	dir  *Operation
}

// NewSCP returns a decoder that reports each operation once the receiver has
// answered for it, before the call returns that passes the answer. kind is
// SCPSource or SCPSink. report must not call the decoder.
func NewSCP(kind CommandKind, report func(Operation)) *SCP {
	s := &SCP{action: Get, report: report, awaited: []awaited{{kind: 'R'}}}
	if kind == SCPSink {
		s.action = Put
	}
	return s
}

// Client takes bytes that the client sent.
func (s *SCP) Client(p []byte) { s.take(p, s.action == Put) }

// Server takes bytes that the target sent.
func (s *SCP) Server(p []byte) { s.take(p, s.action == Get) }

func (s *SCP) take(p []byte, sender bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	step := s.received
	if sender {
		step = s.sent
	}
	for len(p) > 0 && s.err == nil && !s.closed {
		rest, err := step(p)
		if err != nil {
			s.stop(err)
			break
		}
		p = rest
	}
	s.deliver()
}

// Err is why the stream can no longer be read, or nil while it can.
func (s *SCP) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close reports what was still moving, as partial. Bytes that come after it are
// not decoded. Calling it again does nothing.
func (s *SCP) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abandon()
	s.closed = true
	s.deliver()
}

func (s *SCP) stop(err error) {
	s.err = fmt.Errorf("read scp: %w", err)
	s.abandon()
	s.end(Operation{Action: Unreadable, Size: -1, Failed: true, Partial: true, Status: err.Error(), Start: time.Now()})
}

// abandon reports what the receiver has not answered for.
func (s *SCP) abandon() {
	for _, a := range s.awaited {
		if a.dir != nil {
			a.dir.Partial = true
			s.end(*a.dir)
		}
		if a.kind == 'F' {
			s.endFile(a.file, true)
		}
	}
	if s.file != nil {
		s.endFile(s.file, true)
	}
	s.file, s.awaited, s.line, s.answer, s.dirs = nil, nil, nil, nil, nil
}

func (s *SCP) end(o Operation) {
	o.Protocol, o.End = protocolSCP, time.Now()
	s.ended = append(s.ended, o)
}

func (s *SCP) deliver() {
	for _, o := range s.ended {
		s.report(o)
	}
	s.ended = s.ended[:0]
}

// await expects one more answer of the receiver's.
func (s *SCP) await(a awaited) error {
	if len(s.awaited) == maxAwait {
		return errNotWaited
	}
	s.awaited = append(s.awaited, a)
	return nil
}

// sent takes from the sender's stream.
func (s *SCP) sent(p []byte) (rest []byte, err error) {
	f := s.file
	switch {
	case f == nil:
		return s.sentLine(p)
	case f.status && p[0] == 0 && len(s.line) == 0:
		s.file = nil
		return p[1:], s.await(awaited{kind: 'F', file: f})
	case f.status:
		return s.sentLine(p)
	}
	return s.sentData(f, p), nil
}

// sentData takes data of a file.
func (s *SCP) sentData(f *scpFile, p []byte) (rest []byte) {
	n := min(f.left, int64(len(p)))
	f.sum.Write(p[:n])
	f.moving = true
	f.left -= n
	f.status = f.left == 0
	if s.action == Get {
		f.op.BytesRead += n
		return p[n:]
	}
	f.op.BytesWritten += n
	return p[n:]
}

// sentLine gathers a line of the sender's, and reads it once it is whole.
func (s *SCP) sentLine(p []byte) (rest []byte, err error) {
	line, rest, err := gather(&s.line, p)
	if line == nil {
		return nil, err
	}
	if s.file != nil {
		return rest, s.sentTrouble(line)
	}
	switch line[0] {
	case 1, 2:
		return rest, s.sentTrouble(line)
	case 'T':
		return rest, s.readTimes(line)
	case 'C':
		return rest, s.readFile(string(line))
	case 'D':
		return rest, s.readDir(string(line))
	case 'E':
		return rest, s.readEnd(line)
	}
	return nil, errLine
}

// gather moves bytes of p to held until a line is whole, which it returns
// without its newline; nil until then.
func gather(held *[]byte, p []byte) (line, rest []byte, err error) {
	i := 0
	for i < len(p) && p[i] != '\n' {
		i++
	}
	*held = append(*held, p[:min(i, maxLine+1)]...)
	if len(*held) > maxLine {
		return nil, nil, errLongLine
	}
	if i == len(p) {
		return nil, nil, nil
	}
	line = *held
	*held = line[:0]
	if len(line) == 0 {
		return nil, nil, errLine
	}
	return line, p[i+1:], nil
}

// sentTrouble reads the sender's error. After a file's data it is the file's.
func (s *SCP) sentTrouble(line []byte) error {
	if line[0] != 1 && line[0] != 2 {
		return errLine
	}
	if f := s.file; f != nil {
		s.file = nil
		f.op.fail(text(line), uint32(line[0]), f.op.Command)
		return s.await(awaited{kind: 'F', file: f})
	}
	o := operation(s.action, "", "", "")
	o.Partial = true
	o.fail(text(line), uint32(line[0]), "")
	s.end(*o)
	return nil
}

// text is the text of an error line.
func text(line []byte) string {
	return strings.TrimSpace(string(line[1:min(len(line), 1+maxText)]))
}

// received takes from the receiver's stream: one answer, or a part of one.
func (s *SCP) received(p []byte) (rest []byte, err error) {
	if len(s.answer) == 0 && p[0] == 0 {
		return p[1:], s.answered(nil)
	}
	if len(s.answer) == 0 && p[0] != 1 && p[0] != 2 {
		return nil, errAnswer
	}
	line, rest, err := gather(&s.answer, p)
	if line == nil {
		return nil, err
	}
	return rest, s.answered(line)
}

// answered ends what the receiver's oldest missing answer is about; trouble is
// its error line, or nil.
func (s *SCP) answered(trouble []byte) error {
	if len(s.awaited) == 0 {
		return errAnswer
	}
	a := s.awaited[0]
	s.awaited = s.awaited[1:]
	switch a.kind {
	case 'C':
		return s.answeredFile(a.file, trouble)
	case 'D':
		return s.answeredDir(a.dir, trouble)
	case 'F':
		if trouble != nil {
			a.file.op.fail(text(trouble), uint32(trouble[0]), a.file.op.Command)
		}
		s.endFile(a.file, false)
	default:
		s.answeredOther(trouble)
	}
	return nil
}

// answeredFile reads the answer to a C line: on an error the sender leaves the
// file's data out.
func (s *SCP) answeredFile(f *scpFile, trouble []byte) error {
	if trouble == nil {
		return nil
	}
	f.op.fail(text(trouble), uint32(trouble[0]), f.op.Command)
	if s.file != f || f.moving || len(s.line) > 0 {
		return errRefused // the sender did not wait: what it sent is now read as something else
	}
	s.file = nil
	s.endFile(f, true)
	return nil
}

// answeredDir reads the answer to a D line: on an error the sender leaves the
// directory out.
func (s *SCP) answeredDir(dir *Operation, trouble []byte) error {
	if trouble != nil {
		dir.fail(text(trouble), uint32(trouble[0]), dir.Command)
		if len(s.awaited) > 0 || len(s.line) > 0 {
			s.end(*dir)
			return errRefused
		}
		if err := s.leave(); err != nil {
			return err
		}
	}
	if s.action == Put {
		s.end(*dir)
	}
	return nil
}

// answeredOther reads the answer to what is no operation: only an error counts.
func (s *SCP) answeredOther(trouble []byte) {
	if trouble == nil {
		return
	}
	o := operation(s.action, "", "", "")
	o.Partial = true
	o.fail(text(trouble), uint32(trouble[0]), "")
	s.end(*o)
}

// endFile reports a file.
func (s *SCP) endFile(f *scpFile, cut bool) {
	o := f.op
	o.Partial = cut || o.Failed || f.left > 0
	if o.BytesRead+o.BytesWritten > 0 || !o.Partial {
		o.SHA256 = hex.EncodeToString(f.sum.Sum(nil))
	}
	s.end(o)
}

func newSCPFile(action, path, command string, size int64) *scpFile {
	f := &scpFile{op: *operation(action, path, "", command), left: size, sum: sha256.New(), status: size == 0}
	f.op.Size = size
	return f
}
