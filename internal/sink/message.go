package sink

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Lengths of header fields (RFC 5424 section 6).
const (
	maxHostname = 255
	maxMsgID    = 32
)

// Severities of syslog (RFC 5424 section 6.2.1).
const (
	alert         = 1
	critical      = 2
	errorSeverity = 3
	warning       = 4
	notice        = 5
	informational = 6
)

// header is the constant part of a message's header.
type header struct {
	facility int
	hostname string
	procID   string
}

// message is the syslog message for an event: its own time, its code as MSGID,
// no structured data (the line has it all), and the line.
func (h header) message(line []byte) []byte {
	f := readFacts(line)
	b := make([]byte, 0, len(line)+128)
	b = append(b, '<')
	b = strconv.AppendInt(b, int64(h.facility*8+syslogSeverity(f)), 10)
	b = append(b, ">1 "...)
	b = appendTimestamp(b, f)
	b = append(b, ' ')
	b = append(b, h.hostname...)
	b = append(b, " postern "...)
	b = append(b, h.procID...)
	b = append(b, ' ')
	b = append(b, printable(f.code, maxMsgID)...)
	b = append(b, " - "...)
	return append(b, line...)
}

func appendTimestamp(b []byte, f facts) []byte {
	if year := f.time.Year(); f.time.IsZero() || year < 1 || year > 9999 {
		return append(b, '-')
	}
	return f.time.AppendFormat(b, "2006-01-02T15:04:05.000Z")
}

// syslogSeverity is OCSF's severity_id in syslog's words. An alert is one that
// somebody should act on now, which is what syslog means by it.
func syslogSeverity(f facts) int {
	if f.alert {
		return alert
	}
	switch f.severity {
	case 2:
		return notice
	case 3:
		return warning
	case 4:
		return errorSeverity
	case 5:
		return critical
	case 6:
		return alert
	}
	return informational
}

// printable makes a header field of text: printable ASCII without spaces, at
// most so long, and "-" for nothing.
func printable(text []byte, longest int) []byte {
	if len(text) == 0 {
		return []byte("-")
	}
	text = slices.Clone(text[:min(len(text), longest)])
	for i, c := range text {
		if c < '!' || c > '~' {
			text[i] = '?'
		}
	}
	return text
}

// facilityCode knows the names of RFC 5424 table 1 as syslog.conf writes them.
func facilityCode(name string) (int, error) {
	names := [...]string{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
		"ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"}
	code := slices.Index(names[:], name)
	if code < 0 {
		return 0, fmt.Errorf("there is no facility %q; use one of %s", name, strings.Join(names[:], " "))
	}
	return code, nil
}
