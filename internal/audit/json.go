package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// object appends JSON members to b. Members that say nothing are left out, and
// nothing here can fail, so that a record is never lost on the way to the disk.
type object struct{ b []byte }

// key begins a member. Names in this package need no escaping; those of
// callers go through member.
func (o *object) key(name string) {
	o.comma()
	o.b = append(append(append(o.b, '"'), name...), '"', ':')
}

func (o *object) comma() {
	if n := len(o.b); n > 0 && o.b[n-1] != '{' && o.b[n-1] != '[' {
		o.b = append(o.b, ',')
	}
}

func (o *object) open(name string) {
	if name != "" {
		o.key(name)
	}
	o.b = append(o.b, '{')
}

func (o *object) close() { o.b = append(o.b, '}') }

// array writes objs one after the other, each by its own function.
func (o *object) array(name string, each ...func()) {
	o.key(name)
	o.b = append(o.b, '[')
	for _, write := range each {
		o.comma()
		o.b = append(o.b, '{')
		write()
		o.b = append(o.b, '}')
	}
	o.b = append(o.b, ']')
}

func (o *object) str(name, value string) {
	if value == "" {
		return
	}
	o.key(name)
	o.b = appendString(o.b, value)
}

func (o *object) num(name string, value int64) {
	o.key(name)
	o.b = strconv.AppendInt(o.b, value, 10)
}

func (o *object) truth(name string, value bool) {
	o.key(name)
	o.b = strconv.AppendBool(o.b, value)
}

// id writes the pair of an OCSF enumeration: x_id and its caption x.
func (o *object) id(name string, value int, caption string) {
	o.comma()
	o.b = append(append(append(o.b, '"'), name...), `_id":`...)
	o.b = strconv.AppendInt(o.b, int64(value), 10)
	o.str(name, caption)
}

// moment writes t in milliseconds, and nothing for a time that OCSF can't
// carry: unset, before 2001-09-09, past the year 9999.
func (o *object) moment(name string, t time.Time) {
	if ms := t.UnixMilli(); ms >= 1e12 && ms < 253402300800000 {
		o.num(name, ms)
	}
}

func (o *object) date(name string, t time.Time) {
	o.key(name)
	o.b = append(o.b, '"')
	o.b = t.UTC().AppendFormat(o.b, "2006-01-02T15:04:05.000Z07:00")
	o.b = append(o.b, '"')
}

func (o *object) base64(name, value string) {
	o.comma()
	o.b = append(appendString(o.b, name), ':', '"')
	o.b = append(base64.StdEncoding.AppendEncode(o.b, []byte(value)), '"')
}

// maxValue bounds what one value of Event.Extra may take.
const maxValue = 4 << 10

// member writes a value of a caller's choice under a name of its choice.
func (o *object) member(name string, value any) {
	o.comma()
	o.b = append(appendString(o.b, name), ':')
	switch v := value.(type) {
	case nil:
		o.b = append(o.b, "null"...)
	case bool:
		o.b = strconv.AppendBool(o.b, v)
	case int:
		o.b = strconv.AppendInt(o.b, int64(v), 10)
	case int64:
		o.b = strconv.AppendInt(o.b, v, 10)
	case uint64:
		o.b = strconv.AppendUint(o.b, v, 10)
	case string:
		text, _ := capped(v, maxValue)
		o.b = appendString(o.b, text)
	case map[string]any:
		o.b = append(o.b, '{')
		o.members(v)
		o.b = append(o.b, '}')
	case []string:
		o.strings(v)
	default:
		o.b = appendMarshalled(o.b, v)
	}
}

// members writes m in the order of its keys, so that equal events are equal
// lines.
func (o *object) members(m map[string]any) {
	if len(m) == 0 {
		return
	}
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		o.member(name, m[name])
	}
}

func (o *object) strings(values []string) {
	o.b = append(o.b, '[')
	for _, v := range values {
		o.comma()
		text, _ := capped(v, maxValue)
		o.b = appendString(o.b, text)
	}
	o.b = append(o.b, ']')
}

func appendMarshalled(b []byte, value any) []byte {
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return appendString(b, "cannot be written: "+err.Error())
	}
	if buf.Len() > maxValue {
		return appendString(b, "too long to be written: "+strconv.Itoa(buf.Len())+" bytes")
	}
	return append(b, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...)
}

const hexDigits = "0123456789abcdef"

// appendString quotes s. What a terminal could act on or hide (control
// characters, C1 included, direction marks and other invisible runes) is
// escaped, so that a reviewer can print a line without being fooled by it.
// Invalid UTF-8 turns to U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			b = appendEscaped(b, c)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if unicode.IsPrint(r) && !(r == utf8.RuneError && size == 1) {
			i += size
			continue
		}
		b = append(b, s[start:i]...)
		b = appendRune(b, r)
		i += size
		start = i
	}
	return append(append(b, s[start:]...), '"')
}

func appendEscaped(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	}
	return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}

func appendRune(b []byte, r rune) []byte {
	if r == utf8.RuneError {
		return append(b, "\uFFFD"...)
	}
	if r >= 0x10000 {
		r -= 0x10000
		b = appendUnit(b, 0xd800+r>>10)
		return appendUnit(b, 0xdc00+r&0x3ff)
	}
	return appendUnit(b, r)
}

func appendUnit(b []byte, u rune) []byte {
	return append(b, '\\', 'u', hexDigits[u>>12&15], hexDigits[u>>8&15], hexDigits[u>>4&15], hexDigits[u&15])
}

// capped is s, cut to at most limit bytes between two runes, and whether it
// was cut.
func capped(s string, limit int) (string, bool) {
	if len(s) <= limit {
		return s, false
	}
	end := limit
	for back := 0; back < utf8.UTFMax && !utf8.RuneStart(s[end]); back++ {
		end--
	}
	if !utf8.RuneStart(s[end]) {
		end = limit // no text at all
	}
	return s[:end], true
}
