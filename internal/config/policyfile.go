package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"postern/internal/krl"
	"postern/internal/policy"
)

const maxKRL = 16 << 20 // bytes

// LoadPolicy reads policy.yaml at path and the key files and revocation lists
// that it names, and checks them. Relative paths in it start in the folder of
// the file. The error is Errors, with all faults, or says why policy.yaml could
// not be read: a file that is missing or broken is an error, never an empty
// list.
func LoadPolicy(path string) (*Policy, error) {
	path, data, err := open(path)
	if err != nil {
		return nil, err
	}
	return parsePolicy(path, data, readFile)
}

func parsePolicy(path string, data []byte, read func(string, int64) ([]byte, error)) (*Policy, error) {
	p := &policyFile{decoder: newDecoder(path, filepath.Dir(path)), parts: [][]byte{data}, files: []string{path},
		named: map[string]string{}, keyAt: map[string]Fault{}}
	p.read = read
	root, ok := p.document(data)
	if !ok {
		return nil, ordered(path, p.faults)
	}
	p.top(root)
	p.spec.Version = version(p.parts...)
	checked, err := policy.New(p.spec)
	p.rejected(err)
	if len(p.faults) > 0 {
		return nil, ordered(path, p.faults)
	}
	return &Policy{Policy: checked, Path: path, Version: p.spec.Version, Files: p.files, Revoked: p.revoked}, nil
}

// policyFile is what has been read of policy.yaml.
type policyFile struct {
	*decoder
	spec    policy.Spec
	revoked []*krl.List
	refs    []reference
	parts   [][]byte          // the content of every file, for the version
	files   []string          // their paths
	named   map[string]string // the element of spec, "identities[0]": its path in the file, "identities.alice"
	keyAt   map[string]Fault  // the element of spec, "identities[0].keys[1]": where it stands, in whichever file
}

func (p *policyFile) top(root value) {
	root.mapping(
		may("authorities", func(v value) { v.names(p.authority) }),
		must("identities", func(v value) { v.names(p.identity) }),
		must("rules", func(v value) { v.list(p.rule) }),
		may("frozen", listOf(&p.spec.Frozen, p.refer(identityName))),
	)
}

func (p *policyFile) authority(name string, v value) {
	a := policy.Authority{Name: name}
	v.mapping(
		must("keys", listOf(&a.Keys, authorityKey)),
		may("krl", p.krl),
	)
	p.named[fmt.Sprintf("authorities[%d]", len(p.spec.Authorities))] = v.path
	p.spec.Authorities = append(p.spec.Authorities, a)
}

// authorityKey reads the public key of a CA: a line without options.
func authorityKey(v value) ([]byte, bool) {
	line, ok := v.text()
	if !ok {
		return nil, false
	}
	line = strings.Trim(line, " \t\r\n")
	err := notAKeyLine(line)
	var blob []byte
	switch word, _ := cutWord(line); {
	case err != nil:
	case !isKeyType(word):
		err = errors.New("the key of an authority has no options; want a line such as: ssh-ed25519 AAAA... comment")
	default:
		blob, _, err = parsePublicKey(line)
	}
	if err != nil {
		v.fault("%v", err)
	}
	return blob, err == nil
}

func (p *policyFile) krl(v value) {
	path, ok := file(v)
	if !ok {
		return
	}
	data, ok := p.part(v, path, maxKRL)
	if !ok {
		return
	}
	list, err := krl.Parse(data)
	if err != nil {
		v.faultHint("write it anew with ssh-keygen -k; until then the policy that was loaded before stays in force",
			"%s is not a valid key revocation list: %v", path, err)
		return
	}
	p.revoked = append(p.revoked, list)
}

// part reads a file that belongs to the policy.
func (p *policyFile) part(v value, path string, limit int64) ([]byte, bool) {
	data, err := p.read(path, limit)
	if err != nil {
		cause := err
		if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
			cause = pathErr.Err
		}
		v.fault("%s can't be read: %v", path, cause)
		return nil, false
	}
	p.parts = append(p.parts, data)
	if !slices.Contains(p.files, path) {
		p.files = append(p.files, path)
	}
	return data, true
}

func (p *policyFile) identity(name string, v value) {
	id := policy.Identity{Name: name}
	v.mapping(
		may("keys", func(v value) { v.list(func(e value) { p.key(&id, e) }) }),
		may("keys_files", func(v value) { v.list(func(e value) { p.keysFile(&id, e) }) }),
		may("authority", scalar(&id.Authority, p.refer(authorityName))),
		may("principal", scalar(&id.Principal, text)),
		may("users", listOf(&id.Users, text)),
	)
	v.notEmpty("users", "leave it out, and the identity may present its own name")
	p.named[p.nextIdentity()] = v.path
	p.spec.Identities = append(p.spec.Identities, id)
}

func (p *policyFile) key(id *policy.Identity, v value) {
	line, ok := v.text()
	if !ok {
		return
	}
	key, _, err := ParseAuthorizedKey(strings.Trim(line, "\n"))
	if err != nil {
		v.fault("%v", err)
		return
	}
	p.addKey(id, key, v.faulty(""))
}

func (p *policyFile) addKey(id *policy.Identity, key policy.Key, at Fault) {
	p.keyAt[fmt.Sprintf("%s.keys[%d]", p.nextIdentity(), len(id.Keys))] = at
	id.Keys = append(id.Keys, key)
}

// nextIdentity is the path in spec of the identity that is being read.
func (p *policyFile) nextIdentity() string {
	return fmt.Sprintf("identities[%d]", len(p.spec.Identities))
}

// keysFile reads a file in the format of authorized_keys. One without a key is
// an error, because it is more likely cut off than meant.
func (p *policyFile) keysFile(id *policy.Identity, v value) {
	path, ok := file(v)
	if !ok {
		return
	}
	data, ok := p.part(v, path, maxFile)
	if !ok {
		return
	}
	found := false
	for n, line := range strings.Split(string(data), "\n") {
		line = strings.Trim(line, " \t\r")
		if line == "" || line[0] == '#' {
			continue
		}
		found = true
		at := Fault{File: path, Line: n + 1, Column: 1, Path: v.path}
		key, _, err := ParseAuthorizedKey(line)
		if err != nil {
			at.Msg = err.Error()
			p.faults = append(p.faults, at)
			continue
		}
		p.addKey(id, key, at)
	}
	if !found {
		v.fault("%s holds no key", path)
	}
}

func (p *policyFile) rule(v value) {
	var r policy.Rule
	var until value
	zone := time.UTC
	v.mapping(
		must("name", scalar(&r.Name, text)),
		must("identities", listOf(&r.Identities, p.refer(identityName))),
		may("endpoints", listOf(&r.Endpoints, endpoint)),
		may("sources", listOf(&r.Sources, prefix)),
		may("hours", func(v value) { r.Hours, zone = hours(v) }),
		may("until", func(v value) { until = v }),
		may("targets", listOf(&r.Targets, parsed(policy.ParseTarget))),
		may("logins", listOf(&r.Logins, text)),
		may("listen", listOf(&r.Listen, parsed(policy.ParseListen))),
		may("connect_from", listOf(&r.ConnectFrom, prefix)),
		may("sockets", listOf(&r.Sockets, text)),
		must("allow", listOf(&r.Allow, oneOf(policy.Shell, policy.Exec, policy.SFTPRead, policy.SFTPWrite, policy.Agent,
			policy.X11, policy.Forward, policy.Listen, policy.Socket))),
		may("commands", listOf(&r.Commands, text)),
		may("env", listOf(&r.Env, text)),
		may("recording", func(v value) { r.Recording = recording(v) }),
		may("via", listOf(&r.Via, parsed(policy.ParseTarget))),
	)
	for _, name := range []string{"endpoints", "sources", "commands", "via"} {
		v.notEmpty(name, noCondition)
	}
	if until.node != nil {
		r.Until, _ = untilIn(until, zone)
	}
	p.spec.Rules = append(p.spec.Rules, r)
}

// recording reads how the sessions of a rule are recorded.
func recording(v value) policy.Recording {
	var r policy.Recording
	v.mapping(
		may("off", scalar(&r.Off, onOff)),
		may("input", scalar(&r.Input, onOff)),
		may("on_failure", scalar(&r.Continue, onFailure)),
	)
	return r
}

// onFailure reads what becomes of a session whose recording fails: whether it
// goes on.
func onFailure(v value) (bool, bool) {
	word, ok := oneOf("terminate", "continue")(v)
	return word == "continue", ok
}

const noCondition = "leave it out for no condition, or list what it should hold"

// notEmpty refuses an empty list where it means more than a list with
// something in it, which is the opposite of what a reader takes it for.
func (v value) notEmpty(name, instead string) {
	path := v.path + "." + name
	if n := v.d.at[path]; n != nil && n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		v.d.faultAt(path, "empty; "+instead, "")
	}
}

// parsed reads text that parse understands.
func parsed[T any](parse func(string) (T, error)) func(value) (T, bool) {
	return func(v value) (T, bool) {
		var none T
		s, ok := v.text()
		if !ok {
			return none, false
		}
		t, err := parse(s)
		if err != nil {
			v.fault("%v", err)
			return none, false
		}
		return t, true
	}
}

// hours reads a weekly window. It returns the window's zone as well, UTC where
// it has none.
func hours(v value) (*policy.Hours, *time.Location) {
	var days []string
	var from, to, zone string
	before := len(v.d.faults)
	v.mapping(
		must("days", listOf(&days, text)),
		must("from", scalar(&from, text)),
		must("to", scalar(&to, text)),
		must("zone", scalar(&zone, text)),
	)
	if len(v.d.faults) > before {
		return nil, time.UTC
	}
	h, err := policy.NewHours(days, from, to, zone)
	if err != nil {
		v.hoursFault(err.Error())
		return nil, time.UTC
	}
	loc, err := time.LoadLocation(zone)
	if err != nil {
		v.fault("%v", err)
		return nil, time.UTC
	}
	return h, loc
}

// hoursFault puts a message that begins with the name of a key at that key.
func (v value) hoursFault(msg string) {
	path := v.path
	if name, rest, ok := strings.Cut(msg, ": "); ok && v.d.at[v.path+"."+name] != nil {
		path, msg = v.path+"."+name, rest
	}
	v.d.faultAt(path, msg, "")
}

var dateForm = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`)

// untilIn reads the time from which a rule is over: a time with its offset, or
// a date, which is the last day on which the rule holds, in the zone of the
// rule's hours, or UTC where it has none.
func untilIn(v value, zone *time.Location) (time.Time, bool) {
	s, ok := v.word()
	if !ok {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339, s)
	if dateForm.MatchString(s) {
		if t, err = time.ParseInLocation(time.DateOnly, s, zone); err == nil {
			t = time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, zone)
		}
	}
	// The year keeps it off the zero time, which would be no end at all.
	if err != nil || t.Year() < 1970 {
		v.fault("%s is neither a date, such as 2027-03-31, nor a time with its offset, such as 2027-03-31T18:00:00Z", shown(s))
		return time.Time{}, false
	}
	return t, true
}
