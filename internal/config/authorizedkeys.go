package config

import (
	"bytes"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"postern/internal/policy"
)

// The sizes of RSA keys that are accepted, in bits. Less is too weak; more
// costs whoever verifies a signature more than it protects.
const (
	minRSA = 2048
	maxRSA = 8192
)

// ParseAuthorizedKey reads one line in the format of sshd(8), AUTHORIZED_KEYS
// FILE FORMAT: options, key type, key, comment. The options from="CIDR,...",
// expiry-time="YYYYMMDD[HHMM[SS]][Z]" (without Z in the zone of the host, as
// sshd reads it), no-touch-required and restrict are understood; every other
// one is an error that says what to write in policy.yaml instead. RSA keys
// have 2048 to 8192 bits; certificates and DSA keys are errors.
func ParseAuthorizedKey(line string) (key policy.Key, comment string, err error) {
	line = strings.Trim(line, " \t\r")
	if err := notAKeyLine(line); err != nil {
		return policy.Key{}, "", err
	}
	if word, _ := cutWord(line); !isKeyType(word) {
		options, rest, err := cutOptions(line)
		if err != nil {
			return policy.Key{}, "", err
		}
		if err := setOptions(&key, options); err != nil {
			return policy.Key{}, "", err
		}
		line = rest
	}
	key.Blob, comment, err = parsePublicKey(line)
	if err != nil {
		return policy.Key{}, "", err
	}
	return key, comment, nil
}

// notAKeyLine names the usual mistakes.
func notAKeyLine(line string) error {
	switch {
	case line == "":
		return errors.New("no key; want a line such as: ssh-ed25519 AAAA... comment")
	case strings.ContainsAny(line, "\n\r\x00"):
		return errors.New("more than one line; write one key for each element")
	case strings.HasPrefix(line, "-----BEGIN") && strings.Contains(line, "PRIVATE"):
		return errors.New("a private key; it must never be here: write the public key (the .pub file), and replace the key if others could read this")
	case strings.HasPrefix(line, "---"):
		return errors.New("not in OpenSSH's format; convert it: ssh-keygen -i -f FILE")
	}
	return nil
}

// isKeyType tells a key type from options, none of which begins like one.
func isKeyType(word string) bool {
	return !strings.ContainsAny(word, `=",`) && slices.ContainsFunc([]string{"ssh-", "ecdsa-", "sk-", "rsa-sha2-", "webauthn-"},
		func(p string) bool { return strings.HasPrefix(word, p) })
}

func cutWord(s string) (word, rest string) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " \t")
}

// parsePublicKey reads type, key and comment and returns the key in wire
// format.
func parsePublicKey(line string) (blob []byte, comment string, err error) {
	typ, rest := cutWord(line)
	if err := checkKeyType(typ); err != nil {
		return nil, "", err
	}
	encoded, comment := cutWord(rest)
	blob, err = base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(blob) == 0 {
		return nil, "", errors.New("the key after its type is not base64; is the line cut?")
	}
	pub, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil, "", fmt.Errorf("the key is not a whole and valid key of type %s (%s); is the line cut?", typ, shown(strings.TrimPrefix(err.Error(), "ssh: ")))
	}
	if pub.Type() != typ || !bytes.Equal(pub.Marshal(), blob) {
		return nil, "", fmt.Errorf("the key is not a well-formed key of type %s", typ)
	}
	return blob, comment, checkStrength(pub)
}

var keyTypes = [...]string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSA,
	ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256,
}

func checkKeyType(typ string) error {
	switch {
	case slices.Contains(keyTypes[:], typ):
		return nil
	case strings.Contains(typ, "-cert-v0"):
		return errors.New("a certificate where a key is wanted; put the key of its CA under authorities and set authority and principal on the identity")
	case typ == "ssh-dss":
		return errors.New("a DSA key; it is too weak and refused: make one with ssh-keygen -t ed25519")
	case strings.HasPrefix(typ, "rsa-sha2-"):
		return fmt.Errorf("%s is how an RSA key signs; the type of the key is ssh-rsa", shown(typ))
	case typ == "":
		return errors.New("no key after the options")
	}
	return fmt.Errorf("%s is not a known key type; want one of %s", shown(typ), strings.Join(keyTypes[:], ", "))
}

// checkStrength refuses RSA keys that are too short, or so long that verifying
// a signature is an attack.
func checkStrength(pub ssh.PublicKey) error {
	c, ok := pub.(ssh.CryptoPublicKey)
	if !ok {
		return nil
	}
	k, ok := c.CryptoPublicKey().(*rsa.PublicKey)
	if !ok {
		return nil
	}
	if n := k.N.BitLen(); k.N.Sign() <= 0 || n < minRSA || n > maxRSA {
		return fmt.Errorf("an RSA key of %d bits; want %d to %d, or an ed25519 key", n, minRSA, maxRSA)
	}
	return nil
}

// option is one element before the key type; Value is without its quotes.
type option struct {
	name, value string
	valued      bool
}

// cutOptions splits the comma-separated options off the front of line. Spaces
// and commas in quotes belong to the value, \" is a quote in it.
func cutOptions(line string) ([]option, string, error) {
	var options []option
	for {
		end := strings.IndexAny(line, "=, \t")
		if end < 0 {
			return nil, "", fmt.Errorf("%s is neither a key type nor followed by a key", shown(line))
		}
		if end == 0 {
			return nil, "", errors.New("an option without a name; options are separated by commas, without spaces")
		}
		o := option{name: strings.ToLower(line[:end])}
		line = line[end:]
		if value, ok := strings.CutPrefix(line, "="); ok {
			var err error
			if o.value, line, err = cutQuoted(value); err != nil {
				return nil, "", fmt.Errorf("option %s: %w", shown(o.name), err)
			}
			o.valued = true
		}
		options = append(options, o)
		rest, more := strings.CutPrefix(line, ",")
		if !more {
			trimmed := strings.TrimLeft(rest, " \t")
			if trimmed == rest {
				return nil, "", fmt.Errorf("option %s: want a comma or a space after it", shown(o.name))
			}
			return options, trimmed, nil
		}
		line = rest
	}
}

func cutQuoted(s string) (value, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		return "", "", errors.New("its value must be in double quotes")
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], nil
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == '"':
			i++
		}
		b.WriteByte(s[i])
	}
	return "", "", errors.New("its value has no closing quote")
}

func setOptions(key *policy.Key, options []option) error {
	seen := map[string]bool{}
	for _, o := range options {
		if seen[o.name] {
			return fmt.Errorf("option %s: given twice", shown(o.name))
		}
		seen[o.name] = true
		if err := setOption(key, o); err != nil {
			return fmt.Errorf("option %s: %w", shown(o.name), err)
		}
	}
	return nil
}

func setOption(key *policy.Key, o option) (err error) {
	switch o.name {
	case "from":
		key.From, err = parseFrom(o.value)
	case "expiry-time":
		key.Expires, err = parseExpiry(o.value)
	case "no-touch-required":
		key.NoTouchRequired = true
		return o.bare()
	case "restrict": // a key may do nothing but what a rule grants anyway
		return o.bare()
	default:
		return refusal(o.name)
	}
	return err
}

func (o option) bare() error {
	if o.valued {
		return errors.New("takes no value")
	}
	return nil
}

// refusal says what to write instead of an option.
func refusal(name string) error {
	known := []string{"from", "expiry-time", "no-touch-required", "restrict"}
	switch name {
	case "pty", "no-pty", "port-forwarding", "no-port-forwarding", "agent-forwarding", "no-agent-forwarding",
		"x11-forwarding", "no-x11-forwarding", "user-rc", "no-user-rc":
		return errors.New("write a rule in policy.yaml instead: a key may do what the allow of a rule grants, and nothing else")
	case "command":
		return errors.New("write a rule in policy.yaml instead: allow [sftp-read] or [exec] at the targets; a forced command works only in a certificate (force-command)")
	case "permitopen":
		return errors.New("write a rule in policy.yaml instead: targets [HOST:PORT] with allow [forward]")
	case "permitlisten":
		return errors.New("write a rule in policy.yaml instead: listen [ADDRESS:PORT] and connect_from with allow [listen]")
	case "cert-authority":
		return errors.New("put the key under authorities in policy.yaml, and set authority and principal on the identity")
	case "principals":
		return errors.New("set authority and principal on the identity in policy.yaml")
	case "environment":
		return errors.New("the gate sets no environment for a key; remove the option")
	case "tunnel":
		return errors.New("the gate forwards no tun devices; remove the option")
	case "verify-required":
		return errors.New("the gate can't see whether the authenticator asked for a PIN, so it can't enforce this; have it enforced when the key is made (ssh-keygen -O verify-required) and remove the option")
	}
	return fmt.Errorf("unknown%s", nearest(name, known))
}

// parseFrom reads the CIDRs and addresses of from=. Patterns and names would
// need the name of the client, which anybody can set in their own DNS.
func parseFrom(s string) ([]netip.Prefix, error) {
	var from []netip.Prefix
	for element := range strings.SplitSeq(s, ",") {
		if strings.ContainsAny(element, "!*?") {
			return nil, fmt.Errorf("%s: only CIDRs and addresses are read, without ! and wildcards", shown(element))
		}
		p, err := parsePrefix(element)
		if err != nil {
			return nil, err
		}
		from = append(from, p)
	}
	return from, nil
}

var expiryForm = regexp.MustCompile(`^[0-9]{8}(?:[0-9]{4}(?:[0-9]{2})?)?Z?$`)

func parseExpiry(s string) (time.Time, error) {
	const layout = "20060102150405"
	zone := time.Local
	digits, utc := strings.CutSuffix(s, "Z")
	if utc {
		zone = time.UTC
	}
	if expiryForm.MatchString(s) {
		// The year keeps it off the zero time, which would never expire.
		if t, err := time.ParseInLocation(layout[:len(digits)], digits, zone); err == nil && t.Year() >= 1970 {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%s is not a time; want YYYYMMDD[HHMM[SS]][Z], such as 20270331 or 202703311800Z", shown(s))
}
