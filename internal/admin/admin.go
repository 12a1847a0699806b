// Package admin is the gate's local control: a unix socket that speaks JSON
// over HTTP, and the client of it that the subcommands use.
//
//	GET  /v1/sessions                  {"sessions": [...]}
//	POST /v1/sessions/{id}/kill        {"reason": "..."}
//	POST /v1/identities/{name}/freeze
//	POST /v1/identities/{name}/thaw
//	POST /v1/drain
//	POST /v1/reload
//	POST /v1/access                    {"operation": "...", "recordings": [...], "count": 1, "detail": "..."}
//	GET  /v1/version
//
// What succeeds is 200 with a JSON object; anything else has the object
// {"error": "...", "hint": "...", "code": "..."}.
package admin

import (
	"context"
	"errors"
	"time"
)

// SessionInfo describes one live session.
type SessionInfo struct {
	ID        string        `json:"id"`
	Identity  string        `json:"identity"`
	User      string        `json:"user"`
	Endpoint  string        `json:"endpoint,omitempty"`
	Client    string        `json:"client"`
	Since     time.Time     `json:"since"`
	Channels  []ChannelInfo `json:"channels"`
	BytesIn   int64         `json:"bytes_in"`
	BytesOut  int64         `json:"bytes_out"`
	RTTMillis float64       `json:"rtt_ms"`
}

// ChannelInfo describes one open channel.
type ChannelInfo struct {
	Type   string `json:"type"`
	Target string `json:"target,omitempty"`
	Rule   string `json:"rule,omitempty"`
}

// VersionInfo describes the process at the socket.
type VersionInfo struct {
	Version  string    `json:"version"`
	Revision string    `json:"revision"`
	PID      int       `json:"pid"`
	Started  time.Time `json:"started"`
}

// Access is somebody's look at what was recorded. The gate does not serve
// recordings, whoever may read their files reads them; it writes that down.
type Access struct {
	Operation  string   `json:"operation"`            // one of Operations
	Recordings []string `json:"recordings,omitempty"` // IDs, at most MaxRecordings
	Count      int      `json:"count"`                // of the recordings, also of those not named
	Session    string   `json:"session,omitempty"`    // whose they all are
	Detail     string   `json:"detail,omitempty"`     // what was asked for, in words
}

// MaxRecordings is how many recordings an Access may name.
const MaxRecordings = 100

// Operations are those of an Access, in alphabetical order.
func Operations() []string {
	return []string{"recordings.export", "recordings.play", "recordings.search", "recordings.show", "sessions.watch"}
}

// Caller is the process at the other end of the socket (SO_PEERCRED).
type Caller struct {
	Name          string // of the account; "uid N" where it has none
	UID, GID, PID int
}

// Gate is what the socket controls. Each method writes its own audit event
// before it acts and returns an error that is fit to be shown to the operator:
// its text is sent, and ErrNoSuchSession or ErrNoSuchIdentity in it is told
// apart. ctx does not end when the caller goes away, but after 30 s.
type Gate interface {
	Sessions() []SessionInfo
	Kill(ctx context.Context, by Caller, id, reason string) error
	Freeze(ctx context.Context, by Caller, identity string, frozen bool) error
	Drain(ctx context.Context, by Caller) error
	Reload(ctx context.Context, by Caller) error

	// Access returns once the event is durable; until then nothing is shown.
	Access(ctx context.Context, by Caller, a Access) error
}

// What errors of the Client wrap, and what a Gate may wrap for it.
var (
	ErrNotRunning     = errors.New("postern is not running")
	ErrNotAllowed     = errors.New("not allowed to use the admin socket")
	ErrNoSuchSession  = errors.New("no such session")
	ErrNoSuchIdentity = errors.New("no such identity")
)

// Error is what went wrong at the socket or in the gate.
type Error struct {
	Text string // one line
	Hint string // what to do about it; may be empty
	Err  error  // wraps one of the errors above, and what the system said; may be nil
}

func (e *Error) Error() string { return e.Text }

func (e *Error) Unwrap() error { return e.Err }

// fault is the JSON form of an Error.
type fault struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
	Code  string `json:"code,omitempty"`
}

// The codes of a fault.
const (
	codeNoSuchSession  = "no_such_session"
	codeNoSuchIdentity = "no_such_identity"
)

type sessionList struct {
	Sessions []SessionInfo `json:"sessions"`
}

type killRequest struct {
	Reason string `json:"reason,omitempty"`
}
