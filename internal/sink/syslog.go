package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

const (
	// syslogBatch is how many bytes go into one write to a server. All of them are
	// sent again if it fails.
	syslogBatch  = 64 << 10
	syslogEvents = 256
	dialTime     = 10 * time.Second
	writeTime    = 10 * time.Second
	// settleTime is how long a new TLS connection waits for a refusal.
	settleTime = 200 * time.Millisecond
	// closeTime is how long the end of a connection may take.
	closeTime = 200 * time.Millisecond
)

// SyslogOptions are of a syslog server (RFC 5424).
type SyslogOptions struct {
	Address    string // tls://HOST:PORT (RFC 5425) or unix:/PATH; "" = none
	CA         string // file with the certificates that the server's must come from; "" = the system's
	Cert, Key  string // files of the client's certificate; "" = none
	ServerName string // "" = the address's host
	Facility   string // "" = authpriv
	Hostname   string // "" = the system's
	Queue      int    // bytes that may wait; 0 = 8 MiB
}

// Syslog makes a sink. Nothing is sent before Run. The files of certificates are
// read here to find mistakes, and again for each connection.
//
// A message's MSG is the event's line without its newline, as MSG-ANY of RFC
// 5424 section 6.4: there is no byte order mark, with which it would be no JSON
// for its reader (RFC 8259 section 8.1). TLS counts octets (RFC 5425 section
// 4.3). A unix socket is a datagram socket with one message each, or a stream,
// where a line feed ends each (RFC 6587 section 3.4.2); JSON has none in it.
//
// rsyslog reads this on a datagram socket with useSpecialParser="off" of
// imuxsock, on a stream with imptcp, and cuts messages of more than 8 KiB unless
// maxMessageSize, and for TLS maxFrameSize of imtcp, say otherwise.
func Syslog(o SyslogOptions) (*Sink, error) {
	out, err := newSyslog(o)
	if err != nil {
		return nil, fmt.Errorf("set up the syslog sink: %w", err)
	}
	s := newSink("syslog", o.Queue)
	s.out = out
	out.lost = s.lost
	return s, nil
}

func newSyslog(o SyslogOptions) (*syslog, error) {
	dial, err := dialer(o)
	if err != nil {
		return nil, err
	}
	code, err := facilityCode(cmp.Or(o.Facility, "authpriv"))
	if err != nil {
		return nil, err
	}
	host := o.Hostname
	if host == "" {
		if host, err = os.Hostname(); err != nil {
			return nil, err
		}
	}
	h := header{facility: code, hostname: string(printable([]byte(host), maxHostname)), procID: strconv.Itoa(os.Getpid())}
	return &syslog{header: h, dial: dial}, nil
}

// syslog is an outlet to a syslog server. It is owned by the goroutine in Run.
type syslog struct {
	header header
	dial   func(context.Context) (*conn, error)
	lost   func(error) // told when the server ends the connection

	conn *conn // nil = none
}

func (s *syslog) limits() limits {
	return limits{events: syslogEvents, bytes: syslogBatch, longest: int(^uint(0) >> 1)}
}

func (s *syslog) send(ctx context.Context, lines [][]byte) (outcome, error) {
	if s.conn != nil && s.conn.hasEnded() {
		s.close()
	}
	if s.conn == nil {
		c, err := s.connect(ctx)
		if err != nil {
			return outcome{}, err
		}
		s.conn = c
	}
	done, err := s.write(ctx, lines)
	if err != nil {
		s.conn.abort()
		s.conn = nil
	}
	return done, err
}

func (s *syslog) connect(ctx context.Context) (*conn, error) {
	c, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	c.watch(s.lost)
	if err := c.settle(ctx); err != nil {
		c.abort()
		return nil, err
	}
	return c, nil
}

func (s *syslog) write(ctx context.Context, lines [][]byte) (outcome, error) {
	if s.conn.framing == datagrams {
		return s.writeEach(ctx, lines)
	}
	var frames []byte
	for _, line := range lines {
		frames = s.conn.framing.frame(frames, s.header.message(line))
	}
	if err := s.conn.write(ctx, frames); err != nil {
		return outcome{}, fmt.Errorf("write to the syslog server: %w", err)
	}
	return outcome{sent: len(lines)}, nil
}

func (s *syslog) writeEach(ctx context.Context, lines [][]byte) (done outcome, err error) {
	for _, line := range lines {
		switch err := s.conn.write(ctx, s.header.message(line)); {
		case errors.Is(err, syscall.EMSGSIZE):
			done.tooLarge++
		case err != nil:
			return done, fmt.Errorf("write to the syslog socket: %w", err)
		default:
			done.sent++
		}
	}
	return done, nil
}

func (s *syslog) close() {
	if s.conn != nil {
		s.conn.close()
		s.conn = nil
	}
}
