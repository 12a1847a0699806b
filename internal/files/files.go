// Package files sees what SFTP, scp and rsync do to files. It is pure: bytes
// that pass go in, operations come out. It changes, delays and leaves out
// nothing but what a right forbids, and what it holds in memory is bounded
// whatever the two sides send.
package files

import "time"

// Operation is one thing that a client did to a file, with how it ended.
// Paths, names and texts are bytes as they were on the wire: they need not be
// UTF-8 and may hold control characters.
type Operation struct {
	Action       string // one of the constants below; an open that was refused is a Get, Put or Update that Failed
	Protocol     string // "sftp", "scp"; "rsync" is not decoded, its operation is made from the command line and the bytes
	Path         string // as the client wrote it; for scp the names of the protocol's lines, joined by "/"
	To           string // rename, symlink, link: the second path on the wire, which OpenSSH takes as the new one
	BytesRead    int64  // target to client
	BytesWritten int64  // client to target
	Size         int64  // of the file, as the target (SFTP) or the sender (scp) announced it; -1 = unknown
	SHA256       string // hex, of what moved without a gap from offset 0; "" = nothing did
	Partial      bool   // SHA256 is not known to be of the whole file: seeks, gaps, a cut, an append, a size not reached
	Failed       bool   // the target, or for scp either side, said so at least once
	Status       string // of the first failure: SSH_FX_… name, or scp's error text cut to 256 bytes; Unreadable: why
	StatusCode   uint32 // of the first failure: SFTP's code, or 1 (error) and 2 (fatal) in scp
	Denied       bool   // by the gate; the target never saw the request
	Command      string // the packet or line that decided it: "SSH_FXP_CLOSE", "C0644"
	Entries      int    // List: names that the target sent
	Start, End   time.Time
}

// The actions.
const (
	Get        = "get"
	Put        = "put"
	Update     = "update" // opened for both; SHA256 is of what was written, or of what was read where nothing was
	List       = "list"
	Remove     = "remove"
	Rename     = "rename"
	Mkdir      = "mkdir" // scp -r: the directory was made, or was there before
	Rmdir      = "rmdir"
	Setstat    = "setstat"
	Symlink    = "symlink"
	Link       = "link"
	Extended   = "extended"   // an extension or request that the gate does not know; reported only when Denied
	Unreadable = "unreadable" // the stream stopped making sense; nothing after it was seen. Once a stream, and the last
)

// protocols, as Operation names them.
const (
	protocolSFTP = "sftp"
	protocolSCP  = "scp"
)

// Rights are what a client may do; the zero value is nothing.
type Rights struct{ Read, Write bool }

// covers says whether r has all that need asks for.
func (r Rights) covers(need Rights) bool {
	return (r.Read || !need.Read) && (r.Write || !need.Write)
}

// all says that nothing is forbidden.
func (r Rights) all() bool { return r.Read && r.Write }

// any says that at least something is allowed.
func (r Rights) any() bool { return r.Read || r.Write }

// both are the rights that what the gate cannot judge needs.
var both = Rights{Read: true, Write: true}

// fail notes a failure; the first one stays.
func (o *Operation) fail(status string, code uint32, command string) {
	if o.Failed {
		return
	}
	o.Failed, o.Status, o.StatusCode, o.Command = true, status, code, command
}
