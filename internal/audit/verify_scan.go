package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

// lineFields are the members of a line that verifying looks at. Strings are as
// they stand in the line, escapes included; nil = not there.
type lineFields struct {
	sequence, time, logged int64 // -1 = not there, or no whole number
	status                 int64 // status_id
	code, uid, session     []byte
	channel                []byte // unmapped.postern.channel, with its quotes if it is a string
	path, hash             []byte // file.path and the last of file.hashes[].value
	size                   int64  // file.size
	first, records         int64  // unmapped.postern.first_index and .records
}

var (
	errNotJSON = errors.New("it is not JSON")
	errTooDeep = errors.New("it is nested too deep")
	errNotUTF8 = errors.New("it is not UTF-8")
)

// maxDepth bounds the nesting of a line; events have 6.
const maxDepth = 64

// scanLine checks that line is one JSON object (RFC 8259) in UTF-8 and finds its
// fields in one pass, without taking memory. Of members with the same name the
// last counts.
func scanLine(line []byte, f *lineFields) error {
	*f = lineFields{sequence: -1, time: -1, logged: -1, status: -1, size: -1, first: -1, records: -1}
	if !utf8.Valid(line) {
		return errNotUTF8
	}
	s := lineScanner{b: line, f: f}
	s.space()
	if s.peek() != '{' {
		return errNotJSON
	}
	if err := s.value(inRoot, 0); err != nil {
		return err
	}
	s.space()
	if s.i != len(line) {
		return errNotJSON
	}
	return nil
}

// where is the object, or array, that the scanner is in.
type where uint8

const (
	elsewhere where = iota
	inRoot
	inMetadata
	inUnmapped
	inPostern
	inFile
	inHashes
)

type lineScanner struct {
	b []byte
	i int
	f *lineFields
}

func (s *lineScanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *lineScanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// value passes over one value; w is where its members would be.
func (s *lineScanner) value(w where, depth int) error {
	if depth > maxDepth {
		return errTooDeep
	}
	switch c := s.peek(); c {
	case '{':
		return s.object(w, depth)
	case '[':
		return s.array(w, depth)
	case '"':
		return s.str()
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	default:
		return s.number()
	}
}

func (s *lineScanner) word(w string) error {
	if !bytes.HasPrefix(s.b[s.i:], []byte(w)) {
		return errNotJSON
	}
	s.i += len(w)
	return nil
}

func (s *lineScanner) object(w where, depth int) error {
	s.i++
	s.space()
	if s.peek() == '}' {
		s.i++
		return nil
	}
	for {
		if err := s.member(w, depth); err != nil {
			return err
		}
		s.space()
		switch s.peek() {
		case ',':
			s.i++
			s.space()
		case '}':
			s.i++
			return nil
		default:
			return errNotJSON
		}
	}
}

func (s *lineScanner) member(w where, depth int) error {
	start := s.i
	if err := s.str(); err != nil {
		return err
	}
	name := s.b[start+1 : s.i-1]
	s.space()
	if s.peek() != ':' {
		return errNotJSON
	}
	s.i++
	s.space()
	start = s.i
	if err := s.value(inside(w, name), depth+1); err != nil {
		return err
	}
	s.take(w, name, s.b[start:s.i])
	return nil
}

func (s *lineScanner) array(w where, depth int) error {
	s.i++
	s.space()
	if s.peek() == ']' {
		s.i++
		return nil
	}
	for {
		if err := s.value(w, depth+1); err != nil {
			return err
		}
		s.space()
		switch s.peek() {
		case ',':
			s.i++
			s.space()
		case ']':
			s.i++
			return nil
		default:
			return errNotJSON
		}
	}
}

// str passes over a string, quotes included.
func (s *lineScanner) str() error {
	if s.peek() != '"' {
		return errNotJSON
	}
	b := s.b
	for i := s.i + 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			s.i = i + 1
			return nil
		case c == '\\':
			n := escape(b[i:])
			if n == 0 {
				return errNotJSON
			}
			i += n - 1
		case c < ' ':
			return errNotJSON
		}
	}
	return errNotJSON
}

// escape is the length of the escape that b begins with; 0 = it is none.
func escape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) < 6 {
			return 0
		}
		for _, c := range b[2:6] {
			if !isHex(c) {
				return 0
			}
		}
		return 6
	}
	return 0
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func (s *lineScanner) number() error {
	if s.peek() == '-' {
		s.i++
	}
	switch first := s.peek(); {
	case first == '0':
		s.i++
	case !s.digits():
		return errNotJSON
	}
	if s.peek() == '.' {
		s.i++
		if !s.digits() {
			return errNotJSON
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.i++
		if c := s.peek(); c == '+' || c == '-' {
			s.i++
		}
		if !s.digits() {
			return errNotJSON
		}
	}
	return nil
}

func (s *lineScanner) digits() bool {
	start := s.i
	for c := s.peek(); '0' <= c && c <= '9'; c = s.peek() {
		s.i++
	}
	return s.i > start
}

// inside is where the members of the member name of w are.
func inside(w where, name []byte) where {
	switch w {
	case inRoot:
		switch string(name) {
		case "metadata":
			return inMetadata
		case "unmapped":
			return inUnmapped
		case "file":
			return inFile
		}
	case inUnmapped:
		if string(name) == "postern" {
			return inPostern
		}
	case inFile:
		if string(name) == "hashes" {
			return inHashes
		}
	}
	return elsewhere
}

// take keeps a member that is one of the fields.
func (s *lineScanner) take(w where, name, value []byte) {
	switch w {
	case inRoot:
		switch string(name) {
		case "time":
			s.f.time = whole(value)
		case "status_id":
			s.f.status = whole(value)
		}
	case inMetadata:
		s.takeMetadata(name, value)
	case inPostern:
		switch string(name) {
		case "channel":
			s.f.channel = value
		case "first_index":
			s.f.first = whole(value)
		case "records":
			s.f.records = whole(value)
		}
	case inFile:
		switch string(name) {
		case "path":
			s.f.path = unquoted(value)
		case "size":
			s.f.size = whole(value)
		}
	case inHashes:
		if string(name) == "value" {
			s.f.hash = unquoted(value)
		}
	}
}

func (s *lineScanner) takeMetadata(name, value []byte) {
	switch string(name) {
	case "sequence":
		s.f.sequence = whole(value)
	case "logged_time":
		s.f.logged = whole(value)
	case "event_code":
		s.f.code = unquoted(value)
	case "uid":
		s.f.uid = unquoted(value)
	case "correlation_uid":
		s.f.session = unquoted(value)
	}
}

func unquoted(value []byte) []byte {
	if len(value) < 2 || value[0] != '"' {
		return nil
	}
	return value[1 : len(value)-1]
}

// whole is the number that value is, -1 if it is none of 0 to 2^63-1 in plain
// digits.
func whole(value []byte) int64 {
	if len(value) == 0 || len(value) > 19 || value[0] == '-' {
		return -1
	}
	var n uint64
	for _, c := range value {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + uint64(c-'0')
	}
	if n > 1<<63-1 {
		return -1
	}
	return int64(n)
}

// unescaped is a string of a line with its escapes resolved.
func unescaped(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw)
	}
	var s string
	if err := json.Unmarshal([]byte(`"`+string(raw)+`"`), &s); err != nil {
		return string(raw)
	}
	return s
}
