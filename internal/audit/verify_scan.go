package audit

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/bits"
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
	newKey                 []byte // unmapped.postern.new_vkey
}

var (
	errNotJSON = errors.New("it is not JSON")
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
	if s.peek() != '{' || !s.value(inRoot, 0) {
		return errNotJSON
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
	for s.i < len(s.b) && s.b[s.i] <= ' ' {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// value passes over one value; w is where its members would be. Like the others
// it returns false if there is none.
func (s *lineScanner) value(w where, depth int) bool {
	switch s.peek() {
	case '"':
		return s.str()
	case '{':
		return depth < maxDepth && s.object(w, depth)
	case '[':
		return depth < maxDepth && s.array(w, depth)
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	}
	return s.number()
}

func (s *lineScanner) word(w string) bool {
	if len(s.b)-s.i < len(w) || string(s.b[s.i:s.i+len(w)]) != w {
		return false
	}
	s.i += len(w)
	return true
}

func (s *lineScanner) object(w where, depth int) bool {
	s.i++
	s.space()
	if s.peek() == '}' {
		s.i++
		return true
	}
	for s.member(w, depth) {
		s.space()
		switch s.peek() {
		case ',':
			s.i++
			s.space()
		case '}':
			s.i++
			return true
		default:
			return false
		}
	}
	return false
}

func (s *lineScanner) member(w where, depth int) bool {
	start := s.i
	if !s.str() {
		return false
	}
	name := s.b[start+1 : s.i-1]
	if s.peek() != ':' {
		s.space()
	}
	if s.peek() != ':' {
		return false
	}
	s.i++
	s.space()
	if w == elsewhere {
		return s.value(elsewhere, depth+1)
	}
	start = s.i
	if !s.value(inside(w, name), depth+1) {
		return false
	}
	s.take(w, name, s.b[start:s.i])
	return true
}

func (s *lineScanner) array(w where, depth int) bool {
	s.i++
	s.space()
	if s.peek() == ']' {
		s.i++
		return true
	}
	for s.value(w, depth+1) {
		s.space()
		switch s.peek() {
		case ',':
			s.i++
			s.space()
		case ']':
			s.i++
			return true
		default:
			return false
		}
	}
	return false
}

// str passes over a string, quotes included.
func (s *lineScanner) str() bool {
	b, i := s.b, s.i
	if i >= len(b) || b[i] != '"' {
		return false
	}
	for i = plainRun(b, i+1); i < len(b); i = plainRun(b, i) {
		if b[i] == '"' {
			s.i = i + 1
			return true
		}
		n := escape(b[i:])
		if n == 0 {
			return false
		}
		i += n
	}
	return false
}

// plainRun is where the bytes from i on end that stand for themselves in a
// string: at a quote, a backslash, a control character or the end. It looks at
// eight at a time, since most of a line is strings.
func plainRun(b []byte, i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		quote, slash := x^('"'*ones), x^('\\'*ones)
		// A byte of v that is zero gets its high bit in (v-ones)&^v, and one
		// below ' ' in (x-' '*ones)&^x; the lowest such bit is never wrong.
		if found := ((quote-ones)&^quote | (slash-ones)&^slash | (x-' '*ones)&^x) & highs; found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for i < len(b) && b[i] >= ' ' && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return i
}

// escape is the length of the escape that b begins with; 0 = it is none.
func escape(b []byte) int {
	if len(b) < 2 || b[0] != '\\' {
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

func (s *lineScanner) number() bool {
	if s.peek() == '-' {
		s.i++
	}
	if s.peek() == '0' {
		s.i++
	} else if !s.digits() {
		return false
	}
	if s.peek() == '.' {
		s.i++
		if !s.digits() {
			return false
		}
	}
	if c := s.peek(); c != 'e' && c != 'E' {
		return true
	}
	s.i++
	if c := s.peek(); c == '+' || c == '-' {
		s.i++
	}
	return s.digits()
}

func (s *lineScanner) digits() bool {
	i := s.i
	for i < len(s.b) && s.b[i]-'0' <= 9 {
		i++
	}
	found := i > s.i
	s.i = i
	return found
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
		case "new_vkey":
			s.f.newKey = unquoted(value)
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
