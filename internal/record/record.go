// Package record writes and reads recordings: what one inspected session
// channel showed, byte for byte, in the order in which it was passed on.
package record

import (
	"context"
	"net/netip"
	"time"

	"filippo.io/age"
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

// Header says whose recording it is, so that a lone file explains itself.
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
	Term       string    `json:"term,omitempty"` // "" = no terminal
	Columns    uint32    `json:"columns,omitempty"`
	Rows       uint32    `json:"rows,omitempty"`
	Started    time.Time `json:"started"`
	InputToo   bool      `json:"input,omitempty"`
	Sealed     bool      `json:"sealed,omitempty"`
	Recipients []string  `json:"recipients,omitempty"`
}

// Options configure a Store. The zero value records nothing: Open refuses it.
type Options struct {
	Dir        string          // made with mode 0750 where missing
	Recipients []age.Recipient // recordings are sealed to them; nil = readable
	Names      []string        // of the Recipients, for headers
	MinFree    int64           // bytes that must be free to begin a recording
}

// Chunk is a statement about a recording's file: its first Size bytes have
// this hash. They are durable when the Store says so.
type Chunk struct {
	Size    int64 // of the file so far
	SHA256  string
	Records int64
}

// Summary is what is known of a recording that has ended.
type Summary struct {
	Chunk
	ID, Path              string
	Duration              time.Duration
	Stdout, Stderr, Stdin int64 // bytes
	Complete              bool  // false: it broke off
}

// Store is a directory of recordings. It is safe for concurrent use.
type Store struct{ opt Options }

// Open checks the directory and recipients and returns the Store; Run must be
// running while recordings are written.
func Open(o Options) (*Store, error) { panic("stub") }

// Run flushes what writers hold at least every 100 ms and syncs it every
// second, until ctx ends.
func (s *Store) Run(ctx context.Context) error { panic("stub") }

// Ready is nil while a recording can begin.
func (s *Store) Ready() error { panic("stub") }

// Events are what a Writer reports while it writes. They are called from
// Store.Run or the writer's own calls, never at the same time.
type Events struct {
	Chunk  func(Chunk) // each MiB or minute, durable when called
	Failed func(error) // once; the recording takes no more
}

// Create begins a recording and makes its header durable. The id is unique in
// the Store and begins with the session and channel.
func (s *Store) Create(h Header, e Events) (*Writer, error) { panic("stub") }

// Writer is one recording that is being written. It is safe for concurrent use.
type Writer struct{}

// ID names the recording; Path is its file.
func (w *Writer) ID() string   { panic("stub") }
func (w *Writer) Path() string { panic("stub") }

// Write takes one record; when it returns nil, p has been copied and is on its
// way to the file within 100 ms. After an error the recording has ended.
func (w *Writer) Write(k Kind, p []byte) error { panic("stub") }

// Close writes the end record, syncs, and returns the final hash. It uses space
// that was reserved, so it works on a full disk. complete is false where the
// session was cut before its end was seen.
func (w *Writer) Close(complete bool) (Summary, error) { panic("stub") }

// AppendSize appends the payload of a Resize record.
func AppendSize(b []byte, columns, rows uint32) []byte { panic("stub") }

// Client returns addresses as headers write them.
func Client(a netip.AddrPort) string { return a.String() }
