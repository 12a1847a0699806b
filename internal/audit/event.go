package audit

import (
	"net/netip"
	"time"
)

// Code names an event for ever: metadata.event_code.
type Code string

// The events that exist by now; docs and samples list what each carries.
const (
	ConnOpen         Code = "ssh.conn.open"
	ConnRefused      Code = "ssh.conn.refused"
	ConnClose        Code = "ssh.conn.close"
	HandshakeFailed  Code = "ssh.handshake.failed"
	AuthSuccess      Code = "auth.success"
	AuthFailure      Code = "auth.failure"
	ChannelOpen      Code = "ssh.channel.open"
	ChannelDenied    Code = "ssh.channel.denied"
	ProcStart        Code = "proc.start"
	ProcEnd          Code = "proc.end"
	ForwardOpen      Code = "forward.open"
	ForwardRefused   Code = "forward.refused"
	ForwardFailed    Code = "forward.failed"
	ForwardClose     Code = "forward.close"
	ForwardListen    Code = "forward.listen"
	Traffic          Code = "ssh.traffic"
	TargetDial       Code = "target.dial"   // the gate is about to dial and log in at a target
	TargetOpen       Code = "target.open"   // the gate has logged in at a target of an inspected session
	TargetFailed     Code = "target.failed" // it could not
	TargetClose      Code = "target.close"
	FileOp           Code = "sftp.op" // whatever the protocol; Kind says which
	RecordingStart   Code = "recording.start"
	RecordingChunk   Code = "recording.chunk"
	RecordingEnd     Code = "recording.end"
	RecordingFailed  Code = "recording.failed"
	ConfigReload     Code = "config.reload"
	AdminAction      Code = "admin.action"
	LogAccess        Code = "log.access"
	DaemonStart      Code = "daemon.start"
	DaemonStop       Code = "daemon.stop"
	DaemonHeartbeat  Code = "daemon.heartbeat"
	LogRotate        Code = "log.rotate"
	LogRecovered     Code = "log.recovered"
	LogFailure       Code = "log.failure"
	LogEpoch         Code = "log.epoch"  // a new epoch begins
	LogKey           Code = "log.key"    // another key signs it
	LogDelete        Code = "log.delete" // a segment is removed, because it is old enough
	ClockStep        Code = "clock.step"
	ArchiveFailure   Code = "archive.failure"   // the archive does not take what the gate has
	ArchiveRecovered Code = "archive.recovered" // it does again
	AdmissionChange  Code = "admission.change"  // who may connect follows what AWS says
	EndpointAccept   Code = "endpoint.accept"   // an endpoint that waits is about to be accepted
	AWSFailure       Code = "aws.failure"       // AWS does not say what the gate asks
	AWSRecovered     Code = "aws.recovered"     // it does again
	SinkDropped      Code = "sink.dropped"      // a sink let events go since the last such event; Count says how many
)

// Event is the facts of one audit record in plain values; the log turns them
// into an OCSF 1.8.0 object. Fields that say nothing about the event stay zero.
type Event struct {
	Code    Code
	Time    time.Time // zero = now
	Message string    // one sentence for a reader
	Failed  bool      // status Failure, action Denied where the class has one
	Reason  string    // status_code, from a fixed set
	Detail  string    // status_detail: what the operator needs to know
	Alert   bool      // is_alert: somebody should look now

	Session  string         // session ID
	Opened   time.Time      // when the session authenticated
	Channel  string         // channel number in the session, "" = none
	Kind     string         // channel type or request: "direct-tcpip", "session", "exec" ...
	Peer     netip.AddrPort // the load balancer's node
	Client   netip.AddrPort
	Endpoint string
	Gate     netip.AddrPort // where the client arrived

	User       string // SSH user name presented, raw
	Identity   string
	Auth       *Auth // auth.success and auth.failure; conn.close for the method
	Hello      *Hello
	TargetHost string         // as the client wrote it: name, address or socket path
	Target     netip.AddrPort // the address dialled, bound or refused; a port alone where no address is known
	Login      string         // the account at the target
	Rule       string
	Policy     string // policy version

	Command  string // proc.*
	ExitCode int    // proc.end
	Terminal string // proc.start with a pty: "xterm-256color 120x40"

	BytesIn, BytesOut int64     // client to target, target to client
	TotalIn, TotalOut int64     // cumulative, ssh.traffic and ssh.conn.close
	Start, End        time.Time // of the span that bytes or Count are of
	Count             int       // aggregated refusals; sink.dropped: the events

	Admin    *Admin         // admin.action, config.reload, log.access
	File     string         // log.*, recording.* and config.reload: the file's path
	FileSize int64          // log.rotate and recording.*: bytes; recording.chunk: of the file so far
	FileHash string         // log.rotate and recording.*: SHA-256 of those bytes in hex
	FileOp   *FileOperation // sftp.op
	Entity   string         // config.reload: its version; admin.action: the resource

	Extra map[string]any // unmapped.postern.*; read before Append, Note or Refuse returns
}

// FileOperation is one thing that a client did to a file at a target. BytesIn,
// BytesOut, Start and End of the event are those of the operation, Kind is the
// protocol ("sftp", "scp", "rsync"), and Failed is how it ended. Where Reason is
// "", status_code of one that failed is its SSH_FX_ name or, in protocols that
// have none, file_denied or file_failed.
type FileOperation struct {
	Action  string // "get", "put", "update", "list", "remove", "rename", "mkdir", "rmdir", "setstat", "symlink", "link"
	Path    string
	To      string // rename, symlink, link
	Size    int64  // -1 = unknown
	SHA256  string // hex, of what moved; "" = none
	Partial bool   // the hash is not of a whole file
	Denied  bool   // by the gate; the target never saw it
	Status  string // what the target or the gate answered, such as SSH_FX_…; "" = nothing
	Code    uint32 // with an SSH_FX_… Status
	Command string // SSH_FXP_… or the line that decided it
	Entries int    // list
}

// Auth is how somebody authenticated, or tried to.
type Auth struct {
	Method                  string // "publickey"
	Certificate             bool
	Fingerprint             string // SHA256:… of the key
	Algorithm               string // of the key
	CA                      string // SHA256:… of the CA key
	KeyID                   string
	Serial                  uint64
	ValidAfter, ValidBefore time.Time
	Principal               string
}

// Hello is the negotiation as the client offered it.
type Hello struct {
	Version                string // client's identification
	HASSH, HASSHAlgorithms string
	ServerHASSH            string
}

// Admin is who did something on the host: SO_PEERCRED of the admin socket, or
// a signal.
type Admin struct {
	Name      string
	UID, GID  int
	PID       int
	Operation string // "sessions.kill"
	Via       string // "unix:/run/postern/admin.sock", "SIGHUP"
}
