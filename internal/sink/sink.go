// Package sink sends a second copy of the audit events to where a security team
// gathers them: a syslog server or CloudWatch Logs. It does what it can: the
// audit log is the truth, and is never held up.
package sink

import (
	"context"
	"time"
)

// SyslogOptions are of a syslog server (RFC 5424).
type SyslogOptions struct {
	Address    string // tls://HOST:PORT (RFC 5425) or unix:/PATH; "" = none
	CA         string // file with the certificates that the server's must come from; "" = the system's
	Cert, Key  string // files of the client's certificate; "" = none
	ServerName string // "" = the address's host
	Facility   string // "" = authpriv
	Hostname   string
	Queue      int // bytes that may wait; 0 = 8 MiB
}

// CloudWatchOptions are of a log stream in CloudWatch Logs.
type CloudWatchOptions struct {
	Group    string // "" = none
	Stream   string
	Region   string
	Endpoint string
	Queue    int // bytes that may wait; 0 = 8 MiB
}

// Stats are what a sink has done.
type Stats struct {
	Sent        uint64 // events
	Dropped     uint64 // events, by reason
	Reasons     map[string]uint64
	Queued      int   // events
	QueuedBytes int64 //
	Connected   bool
	LastError   string
	LastSent    time.Time
}

// Sink is a bounded queue and what empties it. Its methods may be called from
// any goroutine.
type Sink struct{}

// Syslog makes a sink. Nothing is sent before Run.
func Syslog(o SyslogOptions) (*Sink, error) { panic("stub") }

// CloudWatch makes a sink. Nothing is sent before Run.
func CloudWatch(ctx context.Context, o CloudWatchOptions) (*Sink, error) { panic("stub") }

// Name is "syslog" or "cloudwatch".
func (s *Sink) Name() string { panic("stub") }

// Offer copies events, each a line with its newline, into the queue, and drops
// those for which there is no room. It never waits.
func (s *Sink) Offer(lines []byte) { panic("stub") }

// Run sends what is queued until ctx ends, and then, for at most a second, what
// is left. It returns nil.
func (s *Sink) Run(ctx context.Context) error { panic("stub") }

// Stats are what the sink has done by now.
func (s *Sink) Stats() Stats { panic("stub") }
