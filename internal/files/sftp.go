package files

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// What one stream may hold. A request takes about 100 bytes, an open file about
// 1 KiB. paramiko asks for a whole file at once, as far as the channel's window
// lets it, hence the many requests.
const (
	maxRequests = 1 << 16 // that the target has not answered
	maxFiles    = 4096    // handles open at once
	maxPaths    = 4 << 20 // bytes of the paths of both, and what goes with them
	maxAnswers  = 1 << 20 // bytes of answers that the client does not fetch
)

var errTooMuch = errors.New("more open at once than any client has")

// SFTP decodes one subsystem channel of SFTP version 3
// (draft-ietf-secsh-filexfer-02) with OpenSSH's extensions. It holds at most
// 16 MiB, most of it only for a client that sets out to make it so: 2 MiB of
// data that came out of order, 256 KiB of a packet each way, 4 MiB of paths,
// 65536 requests, 4096 open files and 1 MiB of answers. Data in order is hashed
// as it passes and never held.
//
// With both rights it is passive: every byte passes as it came, in the same
// call, and where the stream makes no sense decoding ends with an Unreadable
// operation while the bytes go on passing. With fewer rights a stream that
// makes no sense cannot be judged: nothing passes from there on, and Err says
// why; its owner then ends the channel.
//
// Client and Server may be called from two goroutines, each from one at a time;
// what one direction's bytes mean depends on the other's, so bytes must be given
// to it before they are sent on. Everything else may be called from any.
type SFTP struct {
	rights  Rights
	report  func(Operation)
	pending chan struct{}

	reporting sync.Mutex // held while report runs, so that it runs once at a time

	mu       sync.Mutex // guards all that follows
	err      error      // why decoding ended
	closed   bool
	begun    bool // the client's INIT has passed
	agreed   bool // the target's VERSION has passed
	client   framer
	server   framer
	up       transfer // the WRITE that is passing
	down     transfer // the DATA that is passing
	requests map[uint32]request
	peak     int // most requests since the map was made
	handles  map[string]*file
	paths    int // of maxPaths
	early    window
	sized    sizedPath
	ended    []Operation // to report before the bytes that ended them pass
	answers  []byte      // to forbidden requests, whole packets
	leaving  bool        // the request that is passing is left out
	toTarget []byte      // what Client returned last, where something may be left out
	toClient []byte      // what Server returned last, where answers were put in
}

// transfer is the data of one packet as it passes, and whom it is counted for.
type transfer struct {
	flow
	file *file // nil: nobody
}

// sizedPath is the last path whose size the target told, for clients that ask
// before they open.
type sizedPath struct {
	path string
	size int64
}

// NewSFTP returns a decoder that reports each operation once it has ended, and
// before the call returns that passes the answer which ended it. report runs
// in that call, once at a time, and must not call the decoder.
func NewSFTP(r Rights, report func(Operation)) *SFTP {
	s := &SFTP{
		rights:   r,
		report:   report,
		pending:  make(chan struct{}, 1),
		client:   framer{want: clientPrefix},
		server:   framer{want: serverPrefix},
		requests: make(map[uint32]request),
		handles:  make(map[string]*file),
	}
	return s
}

// Client takes bytes that the client sent and returns those to pass on to the
// target, valid until the next call. With both rights they are p. Otherwise a
// forbidden request is left out and answered with SSH_FX_PERMISSION_DENIED by
// Server's next bytes, or by Answers if the target is silent (Pending says so);
// an allowed one passes as soon as what it is about is known, a WRITE before
// its data has come. A client's offer of a version above 3 passes as 3.
func (s *SFTP) Client(p []byte) (pass []byte) {
	s.mu.Lock()
	defer s.unlock()
	if s.rights.all() {
		s.decode(p, s.fromClient)
		return p
	}
	s.toTarget = s.toTarget[:0]
	s.decode(p, s.fromClient)
	if s.err != nil {
		return nil
	}
	return s.toTarget
}

// Server takes bytes that the target sent and returns those to pass on to the
// client, valid until the next call. With both rights they are p; otherwise
// answers to forbidden requests are put in between two packets.
func (s *SFTP) Server(p []byte) (pass []byte) {
	s.mu.Lock()
	defer s.unlock()
	cut := -1 // where in p a packet ends
	if s.boundary() {
		cut = 0
	}
	s.decode(p, func(rest []byte) ([]byte, error) {
		rest, err := s.fromServer(rest)
		if s.boundary() {
			cut = len(p) - len(rest)
		}
		return rest, err
	})
	if s.rights.all() {
		return p
	}
	if s.err != nil {
		return nil
	}
	if len(s.answers) == 0 || cut < 0 {
		return p
	}
	s.toClient = append(append(append(s.toClient[:0], p[:cut]...), s.answers...), p[cut:]...)
	s.answers = s.answers[:0]
	return s.toClient
}

// decode feeds p to one direction's step, which takes what it understands and
// returns the rest.
func (s *SFTP) decode(p []byte, step func([]byte) ([]byte, error)) {
	for len(p) > 0 && s.err == nil && !s.closed {
		rest, err := step(p)
		if err != nil {
			s.stop(err)
			return
		}
		p = rest
	}
}

// boundary says that answers may be put into the stream to the client: it is
// between packets, and the target's VERSION came first.
func (s *SFTP) boundary() bool { return s.agreed && s.server.between() }

// Answers returns answers that are waiting, to be sent to the client, or nil if
// there are none or the stream to the client is within a packet; Server then
// puts them in. The caller must not let Server run until they are on their way.
func (s *SFTP) Answers() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.boundary() || len(s.answers) == 0 || s.err != nil {
		return nil
	}
	waiting := s.answers
	s.answers = nil
	return waiting
}

// Pending is sent on when answers have come to wait. It is never closed.
func (s *SFTP) Pending() <-chan struct{} { return s.pending }

// Err is why the stream can no longer be read, or nil while it can. With fewer
// than both rights the owner must end the channel when it is not nil.
func (s *SFTP) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close reports what was still open, as partial. Bytes that come after it are
// not decoded. Calling it again does nothing.
func (s *SFTP) Close() {
	s.mu.Lock()
	defer s.unlock()
	s.abandon()
	s.closed = true
}

// stop ends the decoding, since what follows cannot be understood.
func (s *SFTP) stop(err error) {
	s.err = fmt.Errorf("read sftp: %w", err)
	s.abandon()
	s.end(Operation{Action: Unreadable, Size: -1, Failed: true, Partial: true, Status: err.Error(), Start: time.Now()})
}

// abandon reports all that is open as partial, and lets go of it.
func (s *SFTP) abandon() {
	for _, r := range s.requests {
		if r.about != nil && r.about.Action != "" {
			r.about.Partial = true
			s.end(*r.about)
		}
	}
	for _, f := range s.handles {
		f.cut = true
		s.end(f.result())
	}
	s.requests, s.handles = nil, nil
	s.up, s.down = transfer{}, transfer{}
	s.client.held, s.server.held = nil, nil
}

// end has o reported.
func (s *SFTP) end(o Operation) {
	o.Protocol, o.End = protocolSFTP, time.Now()
	s.ended = append(s.ended, o)
}

// unlock gives s free and reports what has ended. The order is kept since
// reporting is taken first; it is taken only where there is something to
// report, so that bytes of the other direction do not wait for the audit log.
func (s *SFTP) unlock() {
	ended := s.ended
	s.ended = nil
	if len(ended) == 0 {
		s.mu.Unlock()
		return
	}
	s.reporting.Lock()
	defer s.reporting.Unlock()
	s.mu.Unlock()
	for _, o := range ended {
		s.report(o)
	}
}
