package files

import (
	"encoding/binary"
	"errors"
)

var (
	errNotBegun  = errors.New("a request before SSH_FXP_INIT")
	errSameID    = errors.New("two requests with one id")
	errDataCount = errors.New("more data announced than its packet has")
	errAnswers   = errors.New("answers to forbidden requests are not fetched")
)

// fromClient takes the next request's prefix, or what has come of its data.
func (s *SFTP) fromClient(p []byte) (rest []byte, err error) {
	if s.client.left > 0 {
		return s.requestData(p), nil
	}
	prefix, rest, err := s.client.prefix(p)
	if prefix == nil {
		return rest, err
	}
	if prefix[4] == fxpInit {
		return rest, s.init(prefix)
	}
	if !s.begun {
		return nil, errNotBegun
	}
	allowed, err := s.request(prefix)
	s.leaving = !allowed
	s.forward(prefix)
	return rest, err
}

// init passes the client's offer of a version on, lowered where the gate has
// to understand each packet that follows as the target will.
func (s *SFTP) init(packet []byte) error {
	f := fields{rest: packet[5:]}
	offered := f.uint32()
	s.begun, s.leaving = true, false
	s.forward(packet)
	if !s.rights.all() && offered > version {
		binary.BigEndian.PutUint32(s.toTarget[len(s.toTarget)-len(packet)+5:], version)
	}
	return f.err
}

// requestData takes data of the WRITE that is passing.
func (s *SFTP) requestData(p []byte) (rest []byte) {
	n := min(int64(len(p)), s.client.left)
	data := s.up.take(p[:n])
	if s.up.file != nil {
		s.up.file.op.BytesWritten += int64(data)
	}
	s.client.left -= n
	s.forward(p[:n])
	return p[n:]
}

// forward passes bytes of a request on, unless it is left out.
func (s *SFTP) forward(p []byte) {
	if !s.rights.all() && !s.leaving {
		s.toTarget = append(s.toTarget, p...)
	}
}

// request reads one request, and remembers it until it is answered. Where it
// is not allowed the answer is made here.
func (s *SFTP) request(packet []byte) (allowed bool, err error) {
	f := fields{rest: packet[5:]}
	id := f.uint32()
	r := request{kind: packet[4]}
	need := s.read(&r, &f)
	if f.err != nil {
		return false, f.err
	}
	s.up = transfer{}
	if !s.rights.any() && r.kind != fxpClose || !s.rights.covers(need) {
		return false, s.deny(id, r)
	}
	if r.kind == fxpWrite {
		err = s.write(&r, f.rest)
	}
	if err != nil {
		return false, err
	}
	return true, s.await(id, r)
}

// await remembers a request until it is answered.
func (s *SFTP) await(id uint32, r request) error {
	if _, ok := s.requests[id]; ok {
		return errSameID
	}
	s.paths += r.held()
	if len(s.requests) == maxRequests || s.paths > maxPaths {
		return errTooMuch
	}
	s.requests[id] = r
	s.peak = max(s.peak, len(s.requests))
	return nil
}

// write starts the data of a WRITE; tail is its offset and length.
func (s *SFTP) write(r *request, tail []byte) error {
	f := fields{rest: tail}
	offset, n := f.uint64(), int64(f.uint32())
	if f.err != nil {
		return f.err
	}
	if n > s.client.left {
		return errDataCount
	}
	if r.file == nil {
		return nil // answered with a failure, or the stream is not to be believed; see answer
	}
	r.file.writes++
	s.up = transfer{file: r.file, flow: r.file.out.begin(offset, n)}
	return nil
}

// read reads the fields of a request that matter here, and says which rights
// it needs. What only looks needs none in particular: with either right a
// client has to find its way around.
func (s *SFTP) read(r *request, f *fields) (need Rights) {
	switch r.kind {
	case fxpRead:
		s.named(r, f)
		r.offset, r.number = f.uint64(), f.uint32()
		return Rights{Read: true}
	case fxpWrite:
		s.named(r, f)
		return Rights{Write: true}
	case fxpClose, fxpFstat, fxpReaddir:
		s.named(r, f)
		return Rights{}
	case fxpLstat, fxpStat:
		r.about = &Operation{Path: f.string()}
		return Rights{}
	case fxpRealpath, fxpReadlink:
		return Rights{}
	case fxpOpen:
		return r.readOpen(f)
	case fxpOpendir:
		r.about = operation(List, f.string(), "", packetName(r.kind))
		return Rights{}
	case fxpExtended:
		return s.readExtended(r, f)
	}
	return s.readChange(r, f)
}

// named reads the handle that a request names.
func (s *SFTP) named(r *request, f *fields) {
	r.names = true
	r.file = s.handles[string(f.bytes())]
}

// readOpen reads an OPEN. OpenSSH opens for reading whatever is not opened for
// writing, and so do others: the rights are of what can be done with the handle.
func (r *request) readOpen(f *fields) (need Rights) {
	path := f.string()
	r.number = f.uint32()
	need.Read = r.number&fxfRead != 0 || r.number&fxfWrite == 0
	need.Write = r.number&fxfChanges != 0
	action := Get
	switch {
	case need.Read && need.Write:
		action = Update
	case need.Write:
		action = Put
	}
	r.about = operation(action, path, "", packetName(r.kind))
	return need
}

// readChange reads a request that changes something by its path or handle.
func (s *SFTP) readChange(r *request, f *fields) (need Rights) {
	command := packetName(r.kind)
	switch r.kind {
	case fxpRemove:
		r.about = operation(Remove, f.string(), "", command)
	case fxpMkdir:
		r.about = operation(Mkdir, f.string(), "", command)
	case fxpRmdir:
		r.about = operation(Rmdir, f.string(), "", command)
	case fxpSetstat:
		r.about = operation(Setstat, f.string(), "", command)
	case fxpRename:
		r.about = operation(Rename, f.string(), f.string(), command)
	case fxpSymlink:
		r.about = operation(Symlink, f.string(), f.string(), command)
	case fxpFsetstat:
		s.readFsetstat(r, f)
	default:
		r.about = operation("", "", "", command)
		return both
	}
	return Rights{Write: true}
}

func (s *SFTP) readFsetstat(r *request, f *fields) {
	s.named(r, f)
	r.about = operation(Setstat, "", "", packetName(r.kind))
	if r.file == nil {
		return
	}
	r.about.Path = r.file.op.Path
	if size, ok := f.size(); ok {
		r.number = attrSize
		r.file.resized(size)
	}
}

// readExtended reads an extended request.
func (s *SFTP) readExtended(r *request, f *fields) (need Rights) {
	name := f.string()
	command := "SSH_FXP_EXTENDED " + name[:min(len(name), 64)]
	switch name {
	case extPosixRename:
		r.about = operation(Rename, f.string(), f.string(), command)
	case extHardlink:
		r.about = operation(Link, f.string(), f.string(), command)
	case extLsetstat:
		r.about = operation(Setstat, f.string(), "", command)
	case extFsync:
		s.named(r, f)
	case extCopyData:
		s.readCopyData(r, f)
	case extStatvfs, extFstatvfs, extLimits, extExpandPath, extUsersGroups, extHome:
		return Rights{}
	default:
		r.about = operation("", "", "", command)
		return both
	}
	return Rights{Write: true}
}

// readCopyData reads a copy from one handle to another, which the target does
// on its own: what the file then holds was not seen.
func (s *SFTP) readCopyData(r *request, f *fields) {
	f.bytes()
	f.uint64()
	f.uint64()
	s.named(r, f)
	if r.file != nil {
		r.file.mixed = true
	}
}

// deny answers a request in the target's place.
func (s *SFTP) deny(id uint32, r request) error {
	s.answers = append(s.answers, permissionDenied(id)...)
	if len(s.answers) > maxAnswers {
		return errAnswers
	}
	select {
	case s.pending <- struct{}{}:
	default: // it has been said already
	}
	name := statusName(fxPermissionDenied)
	switch {
	case r.about != nil && r.about.Start.IsZero(): // only looked
	case r.about != nil:
		o := *r.about
		if o.Action == "" {
			o.Action = Extended
		}
		o.Denied = true
		o.fail(name, fxPermissionDenied, o.Command)
		s.end(o)
	case r.file != nil:
		r.file.op.Denied = true
		r.file.op.fail(name, fxPermissionDenied, packetName(r.kind))
	}
	return nil
}

// permissionDenied is a STATUS packet, section 7.
func permissionDenied(id uint32) []byte {
	const text = "Permission denied by the gate"
	p := binary.BigEndian.AppendUint32(nil, 1+4+4+4+uint32(len(text))+4)
	p = append(p, fxpStatus)
	p = binary.BigEndian.AppendUint32(p, id)
	p = binary.BigEndian.AppendUint32(p, fxPermissionDenied)
	p = binary.BigEndian.AppendUint32(p, uint32(len(text)))
	p = append(p, text...)
	return binary.BigEndian.AppendUint32(p, 0)
}
