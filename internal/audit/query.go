package audit

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// Query says which events are meant: those that fulfil each condition that is
// set. The zero value means all.
//
// Of a list of patterns one must match. In a pattern * stands for any text, all
// else for itself, and the pattern "" for events that have no such thing.
type Query struct {
	Codes, Identities, Users []string
	Targets                  []string // host, host:port, or a CIDR; the host by its name or address
	Logins, Endpoints        []string
	Clients                  []string // address, address:port, or a CIDR
	Sessions                 []string // the ID or its beginning; what was done to a session counts as well
	Reasons, Rules           []string

	Since, Until   time.Time // Since <= time < Until
	Text           string    // part of one of the event's values that are strings
	Failed, Alerts bool      // only those
}

// condition is one of a query's.
type condition struct {
	match func(line []byte, f *eventFields) bool
	// needles: a line without backslash that has none of these can't match; nil =
	// any may.
	needles [][]byte
}

// matcher is a query that is ready to be asked.
type matcher struct {
	conditions []condition
	needles    [][]byte // of the condition that lets the fewest lines through
	since      time.Time
	until      time.Time
}

func (q *Query) matcher() (*matcher, error) {
	if !q.Since.IsZero() && !q.Until.IsZero() && !q.Since.Before(q.Until) {
		return nil, errors.New("the time looked at ends before it begins")
	}
	m := &matcher{since: q.Since, until: q.Until}
	m.texts(q)
	m.add(q.Targets, patternAddress, func(p pattern, f *eventFields) bool { return f.atTarget(p) })
	m.add(q.Clients, patternAddress, func(p pattern, f *eventFields) bool { return f.fromClient(p) })
	m.marks(q)
	m.times()
	m.choose()
	return m, nil
}

// texts adds the conditions that are about one string.
func (m *matcher) texts(q *Query) {
	m.about(q.Codes, func(f *eventFields) text { return f.code })
	m.about(q.Identities, (*eventFields).identity)
	m.about(q.Users, func(f *eventFields) text { return f.who().name })
	m.about(q.Logins, (*eventFields).login)
	m.about(q.Endpoints, (*eventFields).endpoint)
	m.about(q.Reasons, func(f *eventFields) text { return f.reason })
	m.about(q.Rules, func(f *eventFields) text { return f.rule })
	m.add(q.Sessions, patternBeginning, func(p pattern, f *eventFields) bool {
		return len(f.session) > 0 && p.match(f.session.decode()) || len(f.resource) > 0 && p.match(f.resource.decode())
	})
}

func (m *matcher) about(patterns []string, of func(*eventFields) text) {
	m.add(patterns, patternWhole, func(p pattern, f *eventFields) bool { return p.match(of(f).decode()) })
}

func (m *matcher) add(patterns []string, kind patternKind, match func(pattern, *eventFields) bool) {
	if len(patterns) == 0 {
		return
	}
	var ps []pattern
	c := condition{needles: [][]byte{}}
	for _, s := range patterns {
		p := newPattern(s, kind)
		ps = append(ps, p)
		if p.needle == nil {
			c.needles = nil
		}
		if c.needles != nil {
			c.needles = append(c.needles, p.needle)
		}
	}
	c.match = func(_ []byte, f *eventFields) bool {
		for _, p := range ps {
			if match(p, f) {
				return true
			}
		}
		return false
	}
	m.conditions = append(m.conditions, c)
}

// marks adds the conditions that are no patterns.
func (m *matcher) marks(q *Query) {
	if q.Failed {
		m.conditions = append(m.conditions, condition{
			match: func(_ []byte, f *eventFields) bool { return f.failed() }, needles: [][]byte{[]byte(`"Failure"`)}})
	}
	if q.Alerts {
		m.conditions = append(m.conditions, condition{
			match: func(_ []byte, f *eventFields) bool { return f.alert }, needles: [][]byte{[]byte(`"is_alert"`)}})
	}
	if q.Text == "" {
		return
	}
	wanted := []byte(strings.ToValidUTF8(q.Text, "\ufffd"))
	c := condition{match: func(line []byte, _ *eventFields) bool {
		w := walker{b: line}
		return w.anyString(func(t text) bool { return bytes.Contains(t.decode(), wanted) })
	}}
	if n := needle(string(wanted)); n != nil {
		c.needles = [][]byte{n}
	}
	m.conditions = append(m.conditions, c)
}

func (m *matcher) times() {
	if m.since.IsZero() && m.until.IsZero() {
		return
	}
	m.conditions = append(m.conditions, condition{match: func(_ []byte, f *eventFields) bool {
		t := f.when()
		return !t.Before(m.since) && (m.until.IsZero() || t.Before(m.until))
	}})
}

// choose takes the needles of the condition whose shortest is the longest.
func (m *matcher) choose() {
	best := 0
	for _, c := range m.conditions {
		if len(c.needles) == 0 {
			continue
		}
		shortest := len(c.needles[0])
		for _, n := range c.needles[1:] {
			shortest = min(shortest, len(n))
		}
		if shortest > best {
			best, m.needles = shortest, c.needles
		}
	}
}

// match says whether line, whose fields are f, is meant.
func (m *matcher) match(line []byte, f *eventFields) bool {
	for _, c := range m.conditions {
		if !c.match(line, f) {
			return false
		}
	}
	return true
}

// atTarget says whether the event is about a target as in p.
func (f *eventFields) atTarget(p pattern) bool {
	if len(f.own.requested) > 0 && p.match(f.own.requested.decode()) {
		return true
	}
	s := f.target()
	if s == nil {
		return p.matchesNothing()
	}
	none := true
	for _, host := range []text{s.hostname, s.name, s.ip} {
		if len(host) > 0 {
			none = false
			if p.matchAddress(host, s.port) {
				return true
			}
		}
	}
	return none && p.matchesNothing()
}

func (f *eventFields) fromClient(p pattern) bool {
	if len(f.src.ip) > 0 {
		return p.matchAddress(f.src.ip, f.src.port)
	}
	client := f.own.client.decode()
	if p.match(client) {
		return true
	}
	a, err := netip.ParseAddrPort(string(client))
	return err == nil && (p.match([]byte(a.Addr().String())) || p.contains(a.Addr()))
}

type patternKind int

const (
	patternWhole     patternKind = iota
	patternBeginning             // the text may go on
	patternAddress               // host, host:port, CIDR
)

// pattern is text with *.
type pattern struct {
	parts  [][]byte // between the *
	prefix netip.Prefix
	needle []byte // what a line must have to match, unless it has a backslash; nil = nothing
}

func newPattern(s string, kind patternKind) pattern {
	if prefix, err := netip.ParsePrefix(s); kind == patternAddress && err == nil {
		return pattern{prefix: prefix}
	}
	if kind == patternBeginning {
		s += "*"
	}
	p := pattern{parts: bytes.Split([]byte(s), []byte("*"))}
	p.needle = p.findNeedle(kind)
	return p
}

// findNeedle looks for the longest text that stands in each line that matches.
// The two ends of a text that is not cut into parts have the quotes of JSON.
func (p *pattern) findNeedle(kind patternKind) []byte {
	var pieces []string
	for i, part := range p.parts {
		piece := string(part)
		if kind == patternAddress { // host and port stand apart in a line
			pieces = append(pieces, strings.FieldsFunc(piece, func(r rune) bool { return r == ':' || r == '[' || r == ']' })...)
			continue
		}
		if piece != "" && i == 0 && kind == patternWhole {
			piece = `"` + piece
		}
		if len(part) > 0 && i == len(p.parts)-1 && kind == patternWhole {
			piece += `"`
		}
		pieces = append(pieces, piece)
	}
	longest := ""
	for _, piece := range pieces {
		if len(piece) > len(longest) {
			longest = piece
		}
	}
	return needle(longest)
}

// needle is s as bytes, if it is enough to look for and stands in lines as it
// is. What is not UTF-8 reads as U+FFFD and so stands for more than itself.
func needle(s string) []byte {
	const short = 3
	if len(s) < short || !utf8.ValidString(s) || strings.ContainsRune(s, utf8.RuneError) {
		return nil
	}
	return []byte(s)
}

func (p *pattern) match(s []byte) bool {
	if p.prefix.IsValid() {
		return false
	}
	if len(p.parts) == 1 {
		return bytes.Equal(s, p.parts[0])
	}
	s, ok := bytes.CutPrefix(s, p.parts[0])
	if !ok {
		return false
	}
	last := len(p.parts) - 1
	for _, part := range p.parts[1:last] {
		i := bytes.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return bytes.HasSuffix(s, p.parts[last])
}

func (p *pattern) matchesNothing() bool { return p.match(nil) }

func (p *pattern) matchAddress(host text, port int64) bool {
	if p.prefix.IsValid() {
		a, err := netip.ParseAddr(string(host.decode()))
		return err == nil && p.contains(a)
	}
	return p.match(host.decode()) || port != 0 && p.match(host.withPort(port))
}

func (p *pattern) contains(a netip.Addr) bool {
	return p.prefix.IsValid() && p.prefix.Contains(a.Unmap().WithZone(""))
}
