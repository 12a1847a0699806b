package files

import (
	"errors"
	"fmt"
)

var (
	errStray      = errors.New("data moved through a handle that was never given out")
	errHandle     = errors.New("a handle that is no handle, or is open already")
	errUnknown    = errors.New("a packet that no server sends")
	errNotAgreed  = errors.New("an answer before SSH_FXP_VERSION")
	errMismatched = errors.New("an answer that does not fit its request")
)

// fromServer takes the next answer's prefix, or what has come of the rest.
func (s *SFTP) fromServer(p []byte) (rest []byte, err error) {
	if s.server.left > 0 {
		n := min(int64(len(p)), s.server.left)
		data := s.down.take(p[:n])
		if s.down.file != nil {
			s.down.file.op.BytesRead += int64(data)
		}
		s.server.left -= n
		return p[n:], nil
	}
	prefix, rest, err := s.server.prefix(p)
	if prefix == nil {
		return rest, err
	}
	s.down = transfer{}
	f := fields{rest: prefix[5:]}
	switch prefix[4] {
	case fxpVersion:
		return rest, s.version(&f)
	case fxpStatus, fxpHandle, fxpData, fxpName, fxpAttrs, fxpExtendedReply:
		if !s.agreed {
			return nil, errNotAgreed
		}
		return rest, s.answer(prefix[4], &f)
	}
	return nil, errUnknown // a shell's greeting, most likely
}

// version reads the version that both sides speak from now on. Below 3 the
// packets are the same, only fewer.
func (s *SFTP) version(f *fields) error {
	spoken := f.uint32()
	if spoken > version {
		return fmt.Errorf("protocol version %d, not %d", spoken, version)
	}
	s.agreed = true
	return f.err
}

// answer ends the request that a packet answers. An answer to a request that
// nobody made says nothing.
func (s *SFTP) answer(kind byte, f *fields) error {
	id := f.uint32()
	r, ok := s.requests[id]
	if !ok || f.err != nil {
		return f.err
	}
	s.forget(id, r)
	if err := r.check(kind); err != nil {
		return err
	}
	switch kind {
	case fxpData:
		return s.data(r, f)
	case fxpHandle:
		return s.handle(r, f)
	case fxpName:
		return r.listing(f)
	case fxpAttrs:
		s.attrs(r, f)
		return f.err
	case fxpStatus:
		code := f.uint32()
		if f.err != nil {
			return f.err
		}
		return s.status(r, code)
	}
	return nil // EXTENDED_REPLY: what was asked for only looked
}

// forget lets go of a request. A map never shrinks, so one that was large is
// replaced.
func (s *SFTP) forget(id uint32, r request) {
	s.paths -= r.held()
	delete(s.requests, id)
	if len(s.requests) == 0 && s.peak > 1024 {
		s.requests, s.peak = make(map[uint32]request), 0
	}
}

// check says whether a packet of this kind can answer r. Where it cannot, what
// the target did is unknown.
func (r request) check(kind byte) error {
	fits := true
	switch r.kind {
	case fxpRead:
		fits = kind == fxpData || kind == fxpStatus
	case fxpOpen, fxpOpendir:
		fits = kind == fxpHandle || kind == fxpStatus
	case fxpReaddir:
		fits = kind == fxpName || kind == fxpStatus
	case fxpWrite, fxpClose, fxpRemove, fxpMkdir, fxpRmdir, fxpSetstat, fxpFsetstat, fxpRename, fxpSymlink:
		fits = kind == fxpStatus
	default:
		fits = kind != fxpHandle && kind != fxpData
	}
	if !fits {
		return errMismatched
	}
	return nil
}

// data starts the data that answers a READ.
func (s *SFTP) data(r request, f *fields) error {
	n := int64(f.uint32())
	if f.err != nil {
		return f.err
	}
	if n > s.server.left {
		return errDataCount
	}
	if r.file == nil {
		return errStray
	}
	if n < int64(r.number) {
		r.file.short = r.offset + uint64(n)
	}
	s.down = transfer{file: r.file, flow: r.file.in.begin(r.offset, n)}
	return nil
}

// handle opens the file or directory of an OPEN or OPENDIR.
func (s *SFTP) handle(r request, f *fields) error {
	name := f.string()
	_, open := s.handles[name]
	if f.err != nil || open || name == "" || len(name) > 256 {
		return errHandle
	}
	opened := newFile(r.about, name, r.number, &s.early)
	if r.about.Action == Get && r.about.Path == s.sized.path {
		opened.op.Size = s.sized.size
	}
	s.paths += len(opened.op.Path)
	if len(s.handles) == maxFiles || s.paths > maxPaths {
		return errTooMuch
	}
	s.handles[name] = opened
	return nil
}

// listing counts the names that answer a READDIR.
func (r request) listing(f *fields) error {
	n := f.uint32()
	if r.kind != fxpReaddir || f.err != nil {
		return f.err
	}
	if r.file == nil {
		return errStray
	}
	r.file.op.Entries += int(n)
	return nil
}

// attrs notes a size that the target told.
func (s *SFTP) attrs(r request, f *fields) {
	size, ok := f.size()
	if !ok || int64(size) < 0 {
		return
	}
	if r.file != nil {
		r.file.op.Size = int64(size)
	}
	if r.about != nil && r.about.Action == "" && len(r.about.Path) <= 4096 {
		s.sized = sizedPath{path: r.about.Path, size: int64(size)}
	}
}

// status ends a request with the target's word on it.
func (s *SFTP) status(r request, code uint32) error {
	switch r.kind {
	case fxpRead:
		r.statusRead(code)
	case fxpReaddir:
		r.statusReaddir(code)
	case fxpWrite:
		return r.statusWrite(code)
	case fxpClose:
		s.statusClose(r, code)
	default:
		return s.statusOther(r, code)
	}
	return nil
}

func (r request) statusRead(code uint32) {
	switch {
	case r.file == nil:
	case code == fxEOF:
		r.file.end = min(r.file.end, r.offset)
	default:
		r.fail(code)
	}
}

func (r request) statusReaddir(code uint32) {
	switch {
	case r.file == nil:
	case code == fxEOF:
		r.file.listed = true
	default:
		r.fail(code)
	}
}

func (r request) statusWrite(code uint32) error {
	if r.file == nil {
		if code == fxOK {
			return errStray
		}
		return nil
	}
	r.file.writes--
	r.fail(code)
	return nil
}

// fail notes what the target said of a request to an open file.
func (r request) fail(code uint32) {
	if code != fxOK {
		r.file.op.fail(statusName(code), code, packetName(r.kind))
	}
}

// statusClose ends the file, whatever the code: no handle outlives its CLOSE.
func (s *SFTP) statusClose(r request, code uint32) {
	f := r.file
	if f == nil || s.handles[f.handle] != f {
		return
	}
	r.fail(code)
	if !f.op.Failed {
		f.op.Command = packetName(fxpClose)
	}
	delete(s.handles, f.handle)
	s.paths -= len(f.op.Path)
	s.end(f.result())
}

// statusOther ends requests that are an operation by themselves, or about an
// open file.
func (s *SFTP) statusOther(r request, code uint32) error {
	if code == fxOK && r.names && r.file == nil {
		return errStray
	}
	if r.file != nil && r.kind == fxpExtended {
		r.fail(code)
	}
	if r.about == nil || r.about.Action == "" {
		return nil
	}
	if code == fxOK && (r.kind == fxpOpen || r.kind == fxpOpendir) {
		return errMismatched
	}
	if code != fxOK {
		r.about.fail(statusName(code), code, r.about.Command)
		r.notResized()
	}
	s.end(*r.about)
	return nil
}

// notResized notes that the target did not set a size after all.
func (r request) notResized() {
	if r.kind == fxpFsetstat && r.file != nil && r.number&attrSize != 0 {
		r.file.mixed = true
	}
}
