package upstream

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1" // the hash of hashed names is HMAC-SHA1, by format
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// KnownHosts says which keys targets may show (sshd(8), SSH_KNOWN_HOSTS FILE
// FORMAT): hashed names, [host]:port, wildcards, negations, @cert-authority
// and @revoked lines. It is immutable; the zero value and nil know nobody, and
// so refuse every key.
//
// Only the name that the client wrote is looked up, as OpenSSH does with
// CheckHostIP=no: an entry for an address vouches for the target that is asked
// for by that address, never for another name that resolves to it. A @revoked
// key is refused at every host, whatever names its line has.
type KnownHosts struct {
	lines   []knownLine
	revoked map[string]string // key blob to the file:line that revokes it
}

// knownLine is one entry that vouches for keys.
type knownLine struct {
	where string // file:line
	names nameMatcher
	ca    bool
	key   ssh.PublicKey
}

// nameMatcher reports whether a line is for a host, given as known_hosts
// writes it: "host", or "[host]:port" off port 22.
type nameMatcher interface{ match(name string) bool }

var errMarker = errors.New("the marker is neither @cert-authority nor @revoked")

// LoadKnownHosts reads files; a missing or malformed one is an error that
// names file and line. No files know nobody.
func LoadKnownHosts(paths []string) (*KnownHosts, error) {
	k := &KnownHosts{revoked: map[string]string{}}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("known hosts: %w", err)
		}
		if err := k.parse(path, data); err != nil {
			return nil, fmt.Errorf("known hosts: %w", err)
		}
	}
	return k, nil
}

func (k *KnownHosts) parse(path string, data []byte) error {
	n := 0
	for line := range bytes.Lines(data) {
		n++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		where := path + ":" + strconv.Itoa(n)
		if err := k.parseLine(where, line); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
	}
	return nil
}

func (k *KnownHosts) parseLine(where string, line []byte) error {
	if !bytes.ContainsAny(line, " \t") {
		return errors.New("want names, key type and key")
	}
	marker, names, key, _, _, err := ssh.ParseKnownHosts(line)
	if err != nil {
		return err
	}
	if strings.HasPrefix(names[0], "@") {
		return errMarker
	}
	if _, ok := key.(*ssh.Certificate); ok {
		return errors.New("a certificate is no entry: list its CA as @cert-authority")
	}
	switch marker {
	case "revoked":
		k.revoked[string(key.Marshal())] = where
		return nil
	case "", "cert-authority":
		m, err := parseNames(names)
		k.lines = append(k.lines, knownLine{where: where, names: m, ca: marker != "", key: key})
		return err
	}
	return errMarker
}

// parseNames reads the first field of a line.
func parseNames(names []string) (nameMatcher, error) {
	if strings.HasPrefix(names[0], "|") {
		if len(names) > 1 {
			return nil, errors.New("a hashed name stands alone")
		}
		return parseHashed(names[0])
	}
	var p patterns
	for _, n := range names {
		text, negated := strings.CutPrefix(n, "!")
		if text == "" {
			return nil, errors.New("an empty name")
		}
		p = append(p, pattern{negated: negated, text: strings.ToLower(text)})
	}
	return p, nil
}

// patterns match as ssh_config(5), PATTERNS says: one that matches and is
// negated denies, whatever else matches.
type patterns []pattern

type pattern struct {
	negated bool
	text    string
}

func (ps patterns) match(name string) bool {
	found := false
	for _, p := range ps {
		if !wildcard(p.text, name) {
			continue
		}
		if p.negated {
			return false
		}
		found = true
	}
	return found
}

// wildcard matches name against a pattern in which * stands for any bytes and
// ? for one. It steps back to the last * only, so that its cost is at most the
// product of the lengths.
func wildcard(pattern, name string) bool {
	p, n, star, from := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p, n = p+1, n+1
		case star >= 0:
			from++
			p, n = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// hashed is a name that the file does not give away: |1|salt|HMAC-SHA1.
type hashed struct{ salt, sum []byte }

func parseHashed(field string) (hashed, error) {
	parts := strings.Split(field, "|")
	if len(parts) != 4 || parts[1] != "1" {
		return hashed{}, errors.New("a hashed name is |1|salt|hash")
	}
	salt, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil {
		return hashed{}, fmt.Errorf("salt: %w", err)
	}
	sum, err := base64.StdEncoding.DecodeString(parts[3])
	if err != nil {
		return hashed{}, fmt.Errorf("hash: %w", err)
	}
	if len(sum) != sha1.Size {
		return hashed{}, fmt.Errorf("the hash has %d bytes, want %d", len(sum), sha1.Size)
	}
	return hashed{salt, sum}, nil
}

func (h hashed) match(name string) bool {
	mac := hmac.New(sha1.New, h.salt)
	mac.Write([]byte(name))
	return hmac.Equal(mac.Sum(nil), h.sum)
}

// of returns the lines for a target.
func (k *KnownHosts) of(host string, port uint16) []knownLine {
	name := lookupName(host, port)
	if k == nil || name == "" {
		return nil
	}
	var found []knownLine
	for _, l := range k.lines {
		if l.names.match(name) {
			found = append(found, l)
		}
	}
	return found
}

// lookupName is the target as known_hosts writes it, "" for what is neither a
// name nor an address: a client that writes "[db]:2222" is not to be taken for
// one that asks for port 2222 of db.
func lookupName(host string, port uint16) string {
	host = canonicalHost(host)
	if host == "" || port == 22 {
		return host
	}
	return "[" + host + "]:" + strconv.Itoa(int(port))
}

// canonicalHost is host in lower case, an address in its shortest form.
func canonicalHost(host string) string {
	if a, err := netip.ParseAddr(host); err == nil && a.Zone() == "" {
		return a.Unmap().String()
	}
	if !isName(host) {
		return ""
	}
	return strings.ToLower(host)
}
