package sink

import (
	"bytes"
	"strconv"
	"time"
)

// facts are what a sink needs to know of an event.
type facts struct {
	time     time.Time // zero = the line has none
	severity int       // severity_id of OCSF
	code     []byte    // metadata.event_code
	alert    bool
}

// readFacts finds them in a line without decoding it: what is not asked for is
// only skipped. A line that is no JSON object yields what stands before the
// place where it isn't.
func readFacts(line []byte) facts {
	var f facts
	members(line, func(name, value []byte) {
		switch string(name) {
		case "time":
			if ms, err := strconv.ParseInt(string(value), 10, 64); err == nil {
				f.time = time.UnixMilli(ms).UTC()
			}
		case "severity_id":
			f.severity, _ = strconv.Atoi(string(value)) // 0 is Unknown
		case "is_alert":
			f.alert = string(value) == "true"
		case "metadata":
			members(value, func(name, value []byte) {
				if string(name) == "event_code" {
					f.code = bytes.Trim(value, `"`)
				}
			})
		}
	})
	return f
}

// members calls f for each member of a JSON object, with the name as it is
// written between its quotes and the text of the value.
func members(object []byte, f func(name, value []byte)) {
	rest, ok := bytes.CutPrefix(object, []byte("{"))
	for ok && len(rest) > 0 && rest[0] == '"' {
		n := textSize(rest)
		if n < 2 || n >= len(rest) || rest[n] != ':' {
			return
		}
		name := rest[1 : n-1]
		rest = rest[n+1:]
		v := valueSize(rest)
		if v >= len(rest) {
			return // the object does not end
		}
		f(name, rest[:v])
		rest, ok = bytes.CutPrefix(rest[v:], []byte(","))
	}
}

// valueSize is how long the value is with which s begins: up to the comma or
// bracket behind it, or len(s) where there is none.
func valueSize(s []byte) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			i += textSize(s[i:]) - 1
		case '{', '[':
			depth++
		case ',':
			if depth == 0 {
				return i
			}
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
		}
	}
	return len(s)
}

// textSize is how long the string is with which s begins, its quotes included,
// or len(s) where it does not end.
func textSize(s []byte) int {
	for i := 1; i < len(s); i++ {
		next := bytes.IndexByte(s[i:], '"')
		if next < 0 {
			return len(s)
		}
		i += next
		if backslashes(s[1:i])%2 == 0 {
			return i + 1
		}
	}
	return len(s)
}

// backslashes counts those at the end of s.
func backslashes(s []byte) int { return len(s) - len(bytes.TrimRight(s, `\`)) }
