// Package files sees what SFTP, scp and rsync do to files. It is pure: bytes
// that pass go in, operations come out; it holds nothing up and changes nothing
// but what a right forbids.
package files

import "time"

// Operation is one thing that a client did to a file, with how it ended.
type Operation struct {
	Action       string // "open-failed" is none: a failed get is a Get that Failed; see the constants
	Protocol     string // "sftp", "scp", "rsync"
	Path         string // as the client wrote it
	To           string // rename, symlink, link: the other path
	BytesRead    int64  // target to client
	BytesWritten int64  // client to target
	Size         int64  // as announced; -1 = unknown
	SHA256       string // hex, of what moved; "" = nothing moved in order
	Partial      bool   // the hash is not of the whole: seeks, gaps, a cut
	Failed       bool
	Status       string // SSH_FX_… name or "" ; scp's error text cut to 256 bytes
	StatusCode   uint32
	Denied       bool   // by the gate, never seen by the target
	Command      string // the packet or line that decided it: "SSH_FXP_CLOSE", "C0644"
	Entries      int    // listings
	Start, End   time.Time
}

// The actions.
const (
	Get     = "get"
	Put     = "put"
	Update  = "update" // opened for both
	List    = "list"
	Remove  = "remove"
	Rename  = "rename"
	Mkdir   = "mkdir"
	Rmdir   = "rmdir"
	Setstat = "setstat"
	Symlink = "symlink"
	Link    = "link"
)

// Rights are what a client may do; the zero value is nothing.
type Rights struct{ Read, Write bool }

// SFTP decodes one subsystem channel of SFTP version 3 (draft-ietf-secsh-filexfer-02).
// Client and Server may be called from two goroutines.
type SFTP struct{}

// NewSFTP returns a decoder that reports each operation once it has ended. With
// both rights no byte is changed or held back.
func NewSFTP(r Rights, report func(Operation)) *SFTP { panic("stub") }

// Client takes bytes that the client sent and returns those to pass on to the
// target. What a right forbids is left out and answered by Server's next bytes
// or, if the target is silent, by a call of wake (see NewSFTP's owner): answer
// is then non-empty and must be sent to the client when the stream is between
// packets, which Server and Answers see to.
func (s *SFTP) Client(p []byte) (pass []byte) { panic("stub") }

// Server takes bytes that the target sent and returns those to pass on to the
// client, with answers to forbidden requests put in between packets.
func (s *SFTP) Server(p []byte) (pass []byte) { panic("stub") }

// Answers returns answers that are waiting, if the stream to the client is
// between packets; nil otherwise. Call it when Pending says so.
func (s *SFTP) Answers() []byte { panic("stub") }

// Pending is sent on when answers have come to wait. It is never closed.
func (s *SFTP) Pending() <-chan struct{} { panic("stub") }

// Close reports what was still open, as partial.
func (s *SFTP) Close() { panic("stub") }

// Command is what an exec command line moves, read strictly: anything that a
// shell could read differently is Other.
type Command struct {
	Kind  CommandKind
	Paths []string
	Needs Rights // to run it as a file transfer
}

// CommandKind is the kind of a server command line.
type CommandKind int

// The kinds.
const (
	Other     CommandKind = iota
	SCPSource             // scp -f: the target sends
	SCPSink               // scp -t: the target receives
	RsyncSender
	RsyncReceiver
	SFTPServer // /usr/lib/openssh/sftp-server and its like
)

// Classify reads an exec command line.
func Classify(command string) Command { panic("stub") }

// SCP decodes the legacy scp protocol of one exec channel; it is passive.
type SCP struct{}

// NewSCP returns a decoder. kind is SCPSource or SCPSink.
func NewSCP(kind CommandKind, report func(Operation)) *SCP { panic("stub") }

// Client and Server take the bytes of each direction.
func (s *SCP) Client(p []byte) { panic("stub") }
func (s *SCP) Server(p []byte) { panic("stub") }

// Close reports what was still moving, as partial.
func (s *SCP) Close() { panic("stub") }
