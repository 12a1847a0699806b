package audit

import (
	"slices"
	"strings"
)

// shape is what a code says of the OCSF event that carries it.
type shape struct {
	class    int    // class_uid; its first digit is category_uid
	activity int    // activity_id
	name     string // activity_name, the caption of activity where it has one
	always   bool   // a failure, whatever Event.Failed says
	good     severity
	bad      severity
	decision bool    // something was asked: action and disposition say what came of it
	refusal  verdict // of a decision that failed
	profiles profile
	place    place  // what dst_endpoint is
	means    string // one line of docs/audit-format.md
}

type severity int

const (
	informational severity = 1 + iota
	low
	medium
	high
	critical
)

func (s severity) caption() string {
	return [...]string{"Unknown", "Informational", "Low", "Medium", "High", "Critical"}[s]
}

// verdict is an action with the disposition that goes with it.
type verdict struct {
	action      int
	disposition int
	name        string // caption of disposition
}

var (
	allowed      = verdict{1, 1, "Allowed"}
	blocked      = verdict{2, 2, "Blocked"}       // before anybody spoke SSH
	rejected     = verdict{2, 25, "Rejected"}     // what was said made no sense
	unauthorized = verdict{2, 26, "Unauthorized"} // understood, and not granted
	errored      = verdict{1, 27, "Error"}        // granted, and it did not work
)

func (v verdict) caption() string {
	return [...]string{"Unknown", "Allowed", "Denied"}[v.action]
}

// profile is a set of OCSF profiles beyond datetime and cloud.
type profile uint8

const (
	hostProfile profile = 1 << iota
	loadBalancerProfile
	networkProxyProfile
	securityControlProfile
)

type place uint8

const (
	atNowhere place = iota
	atGate
	atTarget // the gate where the event names no target
)

const (
	sshConnection = hostProfile | loadBalancerProfile | securityControlProfile
	authenticated = hostProfile | securityControlProfile
	forwarded     = hostProfile | networkProxyProfile | securityControlProfile
)

// shapes is the one table of events. It is never written to.
var shapes = map[Code]shape{
	ConnOpen: {class: 4007, activity: 1, name: "Open", good: informational, bad: low, decision: true, refusal: blocked, profiles: sshConnection, place: atGate,
		means: "a connection was admitted: peer, PROXY header, endpoint, source and limits passed; SSH begins"},
	ConnRefused: {class: 4007, activity: 5, name: "Refuse", always: true, good: low, bad: low, decision: true, refusal: blocked, profiles: sshConnection, place: atGate,
		means: "a connection was closed before SSH; with `count`, that many more like it between `start_time` and `end_time`"},
	ConnClose: {class: 4007, activity: 2, name: "Close", good: informational, bad: low, profiles: sshConnection, place: atGate,
		means: "a session ended, with its totals; activity Reset and status Failure when it did not end by itself"},
	HandshakeFailed: {class: 4007, activity: 4, name: "Fail", always: true, good: low, bad: low, decision: true, refusal: rejected, profiles: sshConnection, place: atGate,
		means: "an admitted connection did not get through version exchange, key exchange or the login grace time"},
	AuthSuccess: {class: 3002, activity: 1, name: "Logon", good: informational, bad: medium, decision: true, refusal: unauthorized, profiles: authenticated, place: atGate,
		means: "the holder of a key or certificate proved it and is known by `user.uid`"},
	AuthFailure: {class: 3002, activity: 1, name: "Logon", always: true, good: medium, bad: medium, decision: true, refusal: unauthorized, profiles: authenticated, place: atGate,
		means: "a key, certificate, user name or method was refused"},
	ChannelOpen: {class: 4007, activity: 99, name: "Channel Open", good: informational, bad: medium, decision: true, refusal: unauthorized, profiles: sshConnection, place: atTarget,
		means: "a session channel was opened"},
	ChannelDenied: {class: 4007, activity: 99, name: "Channel Open", always: true, good: medium, bad: medium, decision: true, refusal: unauthorized, profiles: sshConnection, place: atTarget,
		means: "a channel or a request in it was refused"},
	ProcStart: {class: 1007, activity: 1, name: "Launch", good: informational, bad: medium, decision: true, refusal: unauthorized, profiles: securityControlProfile,
		means: "a command, shell or subsystem starts; `device` is where: the target, or the gate for built-in commands"},
	ProcEnd: {class: 1007, activity: 2, name: "Terminate", good: informational, bad: low, profiles: securityControlProfile,
		means: "it ended, with `exit_code`"},
	ForwardOpen: {class: 4001, activity: 1, name: "Open", good: informational, bad: medium, decision: true, refusal: unauthorized, profiles: forwarded, place: atTarget,
		means: "a tunnel to `dst_endpoint` is allowed; written before the target is dialled"},
	ForwardRefused: {class: 4001, activity: 5, name: "Refuse", always: true, good: medium, bad: medium, decision: true, refusal: unauthorized, profiles: forwarded, place: atTarget,
		means: "a tunnel was refused by the policy"},
	ForwardFailed: {class: 4001, activity: 4, name: "Fail", always: true, good: low, bad: low, decision: true, refusal: errored, profiles: forwarded, place: atTarget,
		means: "a tunnel was allowed and the target could not be reached"},
	ForwardClose: {class: 4001, activity: 2, name: "Close", good: informational, bad: low, profiles: forwarded, place: atTarget,
		means: "a tunnel ended, with its bytes"},
	ForwardListen: {class: 4001, activity: 7, name: "Listen", good: low, bad: low, decision: true, refusal: unauthorized, profiles: forwarded, place: atTarget,
		means: "the client asked the gate to listen at `dst_endpoint` for it, and may or may not"},
	Traffic: {class: 4007, activity: 6, name: "Traffic", good: informational, bad: informational, profiles: sshConnection, place: atGate,
		means: "bytes of a live session since the last such event, and its totals"},
	TargetDial: {class: 4007, activity: 1, name: "Open", good: informational, bad: medium, decision: true, refusal: unauthorized, profiles: sshConnection, place: atTarget,
		means: "the gate is about to dial the target that a client named with its user name (`login@target`), and to log in there; what came of it is `target.open` or `target.failed`"},
	TargetOpen: {class: 4007, activity: 1, name: "Open", good: informational, bad: medium, decision: true, refusal: errored, profiles: sshConnection, place: atTarget,
		means: "the gate logged in at the target of an inspected session; `unmapped.postern` has the host key that it showed and what the gate's certificate said"},
	TargetFailed: {class: 4007, activity: 4, name: "Fail", always: true, good: medium, bad: medium, decision: true, refusal: errored, profiles: sshConnection, place: atTarget,
		means: "an inspected session was allowed and the gate could not log in at its target"},
	TargetClose: {class: 4007, activity: 2, name: "Close", good: informational, bad: low, profiles: sshConnection, place: atTarget,
		means: "the gate's connection to the target ended; `start_time`, `end_time` and `duration` (ms) are those of the connection"},
	FileOp: {class: 4008, activity: 99, name: "Other", good: informational, bad: low, decision: true, refusal: errored, profiles: authenticated, place: atTarget,
		means: "something was done to a file at a target, or tried; activity by what: Put, Get, List, Delete, Rename, or 99 (400899) with its own name"},
	RecordingStart: {class: 1008, activity: 6, name: "Start", good: informational, bad: medium,
		means: "what a session channel shows is being written to `file`"},
	RecordingChunk: {class: 1008, activity: 99, name: "Chunk", good: informational, bad: medium,
		means: "so much of a recording is on disk: `file.size` bytes with that SHA-256"},
	RecordingEnd: {class: 1008, activity: 7, name: "Stop", good: informational, bad: medium,
		means: "a recording is complete, with its size and the SHA-256 of the file"},
	RecordingFailed: {class: 1008, activity: 99, name: "Failure", always: true, good: high, bad: high,
		means: "a recording could not be begun or went on no further; unless `unmapped.postern.continue` its session ends"},
	ConfigReload: {class: 3004, activity: 3, name: "Update", good: low, bad: medium, profiles: hostProfile,
		means: "configuration or policy was read again; with status Failure the old one is still in force"},
	AdminAction: {class: 6003, activity: 99, name: "Other", good: medium, bad: medium, profiles: hostProfile,
		means: "somebody on the host did something through the admin socket or a signal; `api.operation` says what"},
	LogAccess: {class: 6003, activity: 2, name: "Read", good: low, bad: medium, profiles: hostProfile,
		means: "somebody read the audit log or a recording"},
	DaemonStart: {class: 6002, activity: 3, name: "Start", good: informational, bad: high, profiles: hostProfile,
		means: "the daemon serves"},
	DaemonStop: {class: 6002, activity: 4, name: "Stop", good: low, bad: high, profiles: hostProfile,
		means: "the daemon stopped"},
	DaemonHeartbeat: {class: 6002, activity: 99, name: "Heartbeat", good: informational, bad: medium, profiles: hostProfile,
		means: "written every five minutes, so that silence shows"},
	LogRotate: {class: 1008, activity: 5, name: "Rotate", good: informational, bad: medium,
		means: "first event of a segment: size, SHA-256 and count of the segment before it"},
	LogRecovered: {class: 1008, activity: 8, name: "Restart", good: medium, bad: medium,
		means: "an unfinished end was cut off the log when it was opened, or the log has room again"},
	LogFailure: {class: 1008, activity: 99, name: "Write Failure", always: true, good: critical, bad: critical,
		means: "a write did not reach the disk; the log went on in the segment that this event begins"},
	LogEpoch: {class: 1008, activity: 99, name: "Epoch", good: high, bad: high,
		means: "first event of a log that goes on from one put aside: why, in `status_detail`, and the last checkpoint of that"},
	LogKey: {class: 1008, activity: 99, name: "Key Change", good: high, bad: high,
		means: "another key signs the log from here on; both verifier keys are in `unmapped.postern`"},
	LogDelete: {class: 1008, activity: 2, name: "Delete", good: low, bad: medium,
		means: "a segment is about to be removed because it is older than `audit.retention_days`; its hashes stay"},
	ClockStep: {class: 6002, activity: 99, name: "Clock Step", good: medium, bad: medium, profiles: hostProfile,
		means: "the clock was set back by more than a second or forward by more than a minute, and by how much"},
	ArchiveFailure: {class: 1008, activity: 4, name: "Archive", always: true, good: high, bad: high,
		means: "the archive does not take what is to be copied to it; that waits on the disk"},
	ArchiveRecovered: {class: 1008, activity: 4, name: "Archive", good: medium, bad: medium,
		means: "the archive takes what is to be copied to it again"},
	AdmissionChange: {class: 3004, activity: 3, name: "Update", good: medium, bad: medium, profiles: hostProfile,
		means: "the addresses or endpoints that may connect change as AWS says; `unmapped.postern` has what is added and removed, and live sessions of what is removed end"},
	EndpointAccept: {class: 6003, activity: 3, name: "Update", good: medium, bad: medium, profiles: hostProfile,
		means: "an endpoint that waits is about to be accepted at the endpoint service, because its account is in `aws.endpoint_owners`"},
	AWSFailure: {class: 6002, activity: 99, name: "AWS Failure", always: true, good: medium, bad: medium, profiles: hostProfile,
		means: "AWS does not say what the gate asks it, `unmapped.postern.what`; what it said before holds"},
	AWSRecovered: {class: 6002, activity: 99, name: "AWS Recovered", good: low, bad: low, profiles: hostProfile,
		means: "AWS says again what the gate asks it"},
	SinkDropped: {class: 1008, activity: 3, name: "Export", always: true, good: medium, bad: medium,
		means: "a sink (syslog, CloudWatch Logs) has dropped `count` events since the last event like this; here they all are"},
}

// unknown keeps an event whose code has no row: written down plainly rather
// than lost.
var unknown = shape{class: 6002, activity: 99, name: "Other", good: medium, bad: medium, profiles: hostProfile}

// Codes are all the events there are, in alphabetical order.
func Codes() []Code {
	codes := make([]Code, 0, len(shapes))
	for code := range shapes {
		codes = append(codes, code)
	}
	slices.Sort(codes)
	return codes
}

func shapeOf(e *Event) shape {
	s, ok := shapes[e.Code]
	if !ok {
		s = unknown
	}
	switch {
	case e.Code == ConnClose && e.Failed:
		s.activity, s.name = 3, "Reset"
	case e.Code == AdminAction && e.Admin != nil:
		s.activity, s.name = apiActivity(e.Admin.Operation)
	case e.Code == FileOp && e.FileOp != nil:
		s.activity, s.name = fileActivity(e.FileOp.Action)
		if e.FileOp.Denied {
			s.always, s.bad, s.refusal = true, medium, unauthorized
		}
	}
	if e.Alert || e.Rule != "" || e.Policy != "" {
		s.profiles |= securityControlProfile
	}
	return s
}

func (s shape) failed(e *Event) bool { return s.always || e.Failed }

func (s shape) severity(e *Event) severity {
	level := s.good
	if s.failed(e) {
		level = s.bad
	}
	if e.Code == ProcStart && e.Terminal != "" {
		level = max(level, low) // somebody sits there and types
	}
	if e.Alert {
		level = max(level, medium)
	}
	return level
}

// fileActivity sorts what is done to files into OCSF's verbs for FTP, which
// lack most.
func fileActivity(action string) (int, string) {
	switch action {
	case "put":
		return 1, "Put"
	case "get":
		return 2, "Get"
	case "remove", "rmdir":
		return 4, "Delete"
	case "rename":
		return 5, "Rename"
	case "list":
		return 6, "List"
	case "update", "mkdir", "setstat", "symlink", "link":
		return 99, strings.ToUpper(action[:1]) + action[1:]
	}
	return 99, "Other"
}

// apiActivity sorts the operations of the admin socket into OCSF's four verbs.
func apiActivity(operation string) (int, string) {
	switch operation {
	case "sessions.kill":
		return 4, "Delete"
	case "freeze", "unfreeze", "drain", "reload":
		return 3, "Update"
	case "sessions", "sessions.list", "status", "ready":
		return 2, "Read"
	}
	return 99, operation
}
