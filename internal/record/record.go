// Package record writes and reads recordings: what one inspected session
// channel showed, byte for byte, in the order in which it was passed on.
// docs/recording-format.md specifies the file.
package record

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Kind is what one record of a recording holds.
type Kind uint8

// The kinds of records. Their numbers are on disk.
const (
	Stdout  Kind = 1 // bytes that the target sent
	Stderr  Kind = 2 // extended data that the target sent
	Stdin   Kind = 3 // bytes that the client sent, where policy says so
	Resize  Kind = 4 // columns and rows, as AppendSize writes them
	Request Kind = 5 // a channel request that was passed on, as text for a reader
	Exit    Kind = 6 // exit status or signal, as text: "0", "SIG:TERM"
)

// Header says whose recording it is, so that a lone file explains itself. It
// is in clear in sealed recordings too.
type Header struct {
	Session    string    `json:"session"`
	Channel    string    `json:"channel"` // number in the session
	Identity   string    `json:"identity"`
	Endpoint   string    `json:"endpoint,omitempty"`
	Client     string    `json:"client"`
	Login      string    `json:"login"`
	Target     string    `json:"target"`  // host:port as the client named it
	Address    string    `json:"address"` // that was dialled
	Rule       string    `json:"rule"`
	Kind       string    `json:"kind"` // "shell", "exec", "subsystem"
	Command    string    `json:"command,omitempty"`
	CommandRaw []byte    `json:"command_b64,omitempty"` // set by Create where Command is not UTF-8
	Term       string    `json:"term,omitempty"`        // "" = no terminal
	Columns    uint32    `json:"columns,omitempty"`
	Rows       uint32    `json:"rows,omitempty"`
	Started    time.Time `json:"started"` // zero: Create sets it
	InputToo   bool      `json:"input,omitempty"`
	Sealed     bool      `json:"sealed,omitempty"`     // set by Create
	Recipients []string  `json:"recipients,omitempty"` // set by Create
	SealedKey  []byte    `json:"key,omitempty"`        // the file key as an age file; set by Create
}

// Chunk is a statement about a recording's file: its first Size bytes have
// this hash. They are durable when the Store says so.
type Chunk struct {
	Size    int64  // of the file so far
	SHA256  string // hexadecimal
	Records int64
}

// Totals are what a recording holds, as its end block states it.
type Totals struct {
	Stdout, Stderr, Stdin int64 // bytes
	Records               int64
	Blocks                int64 // of records
	Duration              time.Duration
	Complete              bool // the session's end was seen
}

// Summary is what is known of a recording that has ended.
type Summary struct {
	Chunk
	ID, Path              string
	Duration              time.Duration
	Stdout, Stderr, Stdin int64 // bytes
	Complete              bool  // false: it broke off
}

// AppendSize appends the payload of a Resize record.
func AppendSize(b []byte, columns, rows uint32) []byte {
	b = binary.LittleEndian.AppendUint32(b, columns)
	return binary.LittleEndian.AppendUint32(b, rows)
}

// ParseSize reads the payload of a Resize record; ok is false where it is none.
func ParseSize(b []byte) (columns, rows uint32, ok bool) {
	if len(b) != 8 {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), true
}

// Client returns addresses as headers write them.
func Client(a netip.AddrPort) string { return a.String() }
