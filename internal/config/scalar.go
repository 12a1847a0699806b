package config

import (
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// quoted reports whether v is text because the file says so with quotes or a
// block, whatever it looks like.
func (v value) quoted() bool {
	return v.node.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
}

// text returns text. What YAML would take for a number, a boolean or a date
// must be in quotes, so that 0123 can't turn into 83.
func (v value) text() (string, bool) {
	if !v.is(yaml.ScalarNode) {
		return "", false
	}
	if !v.quoted() && v.node.Tag != "!!str" {
		v.fault("want text; write it in quotes: %s", strconv.Quote(v.node.Value))
		return "", false
	}
	return v.node.Value, true
}

// word returns a scalar that is written as is, without quotes or with them,
// and has a form of its own: a duration, a size, a date.
func (v value) word() (string, bool) {
	if !v.is(yaml.ScalarNode) {
		return "", false
	}
	return v.node.Value, true
}

// scalar makes a reader that keeps in dst what parse makes of the value.
func scalar[T any](dst *T, parse func(value) (T, bool)) func(value) {
	return func(v value) {
		if got, ok := parse(v); ok {
			*dst = got
		}
	}
}

// listOf makes a reader of a list whose elements parse understands. An empty
// list leaves dst empty and not nil.
func listOf[T any](dst *[]T, parse func(value) (T, bool)) func(value) {
	return func(v value) {
		*dst = []T{}
		v.list(func(e value) {
			if got, ok := parse(e); ok {
				*dst = append(*dst, got)
			}
		})
	}
}

func text(v value) (string, bool) { return v.text() }

// checked reads text that check has nothing against.
func checked(check func(string) error) func(value) (string, bool) {
	return func(v value) (string, bool) {
		s, ok := v.text()
		if !ok {
			return "", false
		}
		if err := check(s); err != nil {
			v.fault("%v", err)
			return "", false
		}
		return s, true
	}
}

// form reads text that the whole of pattern matches; what says what is wanted.
func form(pattern, what string) func(value) (string, bool) {
	re := regexp.MustCompile(`^(?:` + pattern + `)$`)
	return checked(func(s string) error {
		if !re.MatchString(s) {
			return fmt.Errorf("%s is not %s", shown(s), what)
		}
		return nil
	})
}

// orNothing lets "" through besides what parse accepts.
func orNothing(parse func(value) (string, bool)) func(value) (string, bool) {
	return func(v value) (string, bool) {
		if v.node.Kind == yaml.ScalarNode && v.quoted() && v.node.Value == "" {
			v.d.at[v.path] = v.node
			return "", true
		}
		return parse(v)
	}
}

// oneOf reads one of a few words.
func oneOf[T ~string](words ...T) func(value) (T, bool) {
	var names []string
	for _, w := range words {
		names = append(names, string(w))
	}
	return func(v value) (T, bool) {
		s, ok := v.word()
		if !ok {
			return "", false
		}
		if !slices.Contains(names, s) {
			v.fault("%s is none of %s%s", shown(s), strings.Join(names, ", "), nearest(s, names))
			return "", false
		}
		return T(s), true
	}
}

// onOff reads on or off, and true or false for them.
func onOff(v value) (bool, bool) {
	s, ok := v.word()
	switch {
	case !ok:
		return false, false
	case v.quoted():
		v.fault("want on or off, without quotes")
		return false, false
	case !slices.Contains([]string{"on", "off", "true", "false"}, s):
		v.fault("want on or off, not %s", shown(s))
		return false, false
	}
	return s == "on" || s == "true", true
}

var digits = regexp.MustCompile(`^(?:0|[1-9][0-9]{0,9})$`)

// number reads a decimal number from least to most.
func number(least, most int) func(value) (int, bool) {
	return func(v value) (int, bool) {
		s, ok := v.word()
		if !ok {
			return 0, false
		}
		n, err := strconv.Atoi(s)
		switch {
		case v.quoted():
			v.fault("want a number, without quotes")
		case len(s) > 1 && s[0] == '0' && err == nil:
			v.fault("%s begins with 0; write a decimal number without it", shown(s))
		case !digits.MatchString(s):
			v.fault("want a whole number, not %s", shown(s))
		case err != nil || n < least || n > most:
			v.fault("%s is not between %d and %d", s, least, most)
		default:
			return n, true
		}
		return 0, false
	}
}

// duration reads a duration with its unit, such as 30s or 1h30m, from least to
// most.
func duration(least, most time.Duration) func(value) (time.Duration, bool) {
	return func(v value) (time.Duration, bool) {
		s, ok := v.word()
		if !ok {
			return 0, false
		}
		d, err := time.ParseDuration(s)
		switch {
		case digits.MatchString(s):
			v.fault("%s has no unit; write %ss for seconds, %sm for minutes", s, s, s)
		case err != nil || strings.ContainsAny(s, "+-"):
			v.fault("want a duration such as 500ms, 30s, 5m or 8h, not %s", shown(s))
		case d < least || d > most:
			v.fault("%s is not between %s and %s", s, brief(least), brief(most))
		default:
			return d, true
		}
		return 0, false
	}
}

// brief is d as one would write it: 8h, not 8h0m0s.
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

var sizeForm = regexp.MustCompile(`^(0|[1-9][0-9]{0,18})(KiB|MiB|GiB|TiB)$`)

// size reads a number of bytes: 512MiB.
func size(v value) (uint64, bool) {
	s, ok := v.word()
	if !ok {
		return 0, false
	}
	m := sizeForm.FindStringSubmatch(s)
	if m == nil {
		v.fault("want a size such as 64KiB, 512MiB or 2GiB, not %s", shown(s))
		return 0, false
	}
	n, err := strconv.ParseUint(m[1], 10, 64)
	shift := map[string]uint{"KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}[m[2]]
	if err != nil || n > math.MaxInt64>>shift {
		v.fault("%s is too large", s)
		return 0, false
	}
	return n << shift, true
}

// signedSize is size for those who count in int64, which holds every size.
func signedSize(v value) (int64, bool) {
	n, ok := size(v)
	return int64(n), ok
}

// prefix reads a CIDR, or an address, which stands for itself alone.
func prefix(v value) (netip.Prefix, bool) {
	s, ok := v.word()
	if !ok {
		return netip.Prefix{}, false
	}
	p, err := parsePrefix(s)
	if err != nil {
		v.fault("%v", err)
	}
	return p, err == nil
}

// parsePrefix parses a CIDR without host bits, or an address, which it makes
// into a prefix that holds it alone.
func parsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("%s is not a CIDR or an address, such as 10.20.0.0/16 or 10.0.1.25", shown(s))
		}
		if addr.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%s has a zone; write the address without it", shown(s))
		}
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	switch {
	case p.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%s is an IPv4 address in IPv6 form; write it as IPv4", shown(s))
	case p != p.Masked():
		return netip.Prefix{}, fmt.Errorf("%s has bits set beyond its length; write %s, or %s for the one address", shown(s), p.Masked(), p.Addr())
	}
	return p, nil
}

// hostPort reads where to listen: address:port, :port for every address.
func hostPort(v value) (string, bool) {
	s, ok := v.text()
	if !ok {
		return "", false
	}
	if _, err := parseListen(s); err != nil {
		v.fault("%v", err)
		return "", false
	}
	return s, true
}

var portForm = regexp.MustCompile(`^(?:0|[1-9][0-9]{0,4})$`)

// parseListen parses address:port or :port. The address of the latter is zero.
func parseListen(s string) (netip.AddrPort, error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || !portForm.MatchString(s[i+1:]) {
		return netip.AddrPort{}, fmt.Errorf("%s is not address:port, such as :22, 127.0.0.1:9722 or [::1]:9722", shown(s))
	}
	port, err := strconv.ParseUint(s[i+1:], 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%s: there is no port over 65535", shown(s))
	}
	if i == 0 {
		return netip.AddrPortFrom(netip.Addr{}, uint16(port)), nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%s has no address before the port, such as :22, 127.0.0.1:9722 or [::1]:9722; names are not resolved here", shown(s))
	}
	return ap, nil
}

const credential = "credential:"

// file reads the path of a file that is only read, or credential:NAME, which
// is the file NAME in $CREDENTIALS_DIRECTORY (systemd's LoadCredential=).
func file(v value) (string, bool) {
	s, ok := v.text()
	if !ok {
		return "", false
	}
	name, isCredential := strings.CutPrefix(s, credential)
	if !isCredential {
		return v.resolve(s)
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	switch {
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		v.fault("%s is not the name of a credential", shown(name))
	case !filepath.IsAbs(dir):
		v.faultHint("add LoadCredential="+name+":/path/to/the/file to the unit; outside systemd, set CREDENTIALS_DIRECTORY to the folder that holds "+name,
			"there is no folder of credentials: CREDENTIALS_DIRECTORY is not set")
	default:
		return filepath.Join(dir, name), true
	}
	return "", false
}

// place reads the path of something that the gate writes: a folder, a socket,
// a file of its own.
func place(v value) (string, bool) {
	s, ok := v.text()
	switch {
	case !ok:
		return "", false
	case strings.HasPrefix(s, credential):
		v.fault("a credential can't be written; name a path")
		return "", false
	}
	return v.resolve(s)
}

// resolve makes path absolute; a relative one starts where the file lies.
func (v value) resolve(path string) (string, bool) {
	switch {
	case path == "" || strings.ContainsRune(path, 0):
		v.fault("want a path, not %s", shown(path))
		return "", false
	case strings.HasPrefix(path, "~"):
		v.fault("~ is not expanded; write the whole path")
		return "", false
	case filepath.IsAbs(path):
		return filepath.Clean(path), true
	}
	return filepath.Join(v.d.dir, path), true
}
