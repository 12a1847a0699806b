package policy

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// specErrors returns the lines of a joined error, each of which must be a *SpecError.
func specErrors(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("%T is not joined", err)
	}
	var lines []string
	for _, e := range joined.Unwrap() {
		specErr, ok := errors.AsType[*SpecError](e)
		if !ok || specErr.Path == "" || specErr.Msg == "" {
			t.Fatalf("%#v is not a whole *SpecError", e)
		}
		lines = append(lines, specErr.Error())
	}
	return lines
}

// sound is a Spec in which each case below breaks one thing.
func sound(t *testing.T) Spec {
	s := parseSpec(t, `
identity vendor ec2-user
identity alice
fwd: for vendor allow forward to 10.0.0.0/16:80
sh: for vendor alice via vpce-0abc from 10.20.0.0/16 during mon-fri 08:00-18:00 UTC allow shell exec to 10.0.0.0/16:22 as hadoop
rev: for vendor allow listen listen 0.0.0.0:7000 connect-from 10.0.0.0/16
sock: for vendor allow socket sockets /run/x.sock
cmd: for vendor allow exec to 10.0.0.0/16:22 as hadoop commands "uptime" env TZ recording input
out: for vendor allow forward out-of 10.0.0.0/16:22 to 127.0.0.1:1024-65535
frozen alice
`)
	s.Authorities = []Authority{{Name: "corp", Keys: [][]byte{[]byte("ca")}}}
	s.Identities = append(s.Identities, Identity{Name: "carol", Authority: "corp", Principal: "carol"})
	return s
}

func TestASpecThatDoesNotMeanWhatItSaysIsRefused(t *testing.T) {
	if _, err := New(sound(t)); err != nil {
		t.Fatalf("the sound policy: %v", err)
	}
	for _, c := range []struct {
		want   string
		breaks func(*Spec)
	}{
		{"authorities[0].name: the authority has no name", func(s *Spec) { s.Authorities[0].Name = "" }},
		{`authorities[1].name: authority "corp" stands twice`, func(s *Spec) {
			s.Authorities = append(s.Authorities, Authority{Name: "corp", Keys: [][]byte{[]byte("other")}})
		}},
		{`authorities[0]: authority "corp" has no keys`, func(s *Spec) { s.Authorities[0].Keys = nil }},
		{"authorities[0].keys[0]: the key is empty", func(s *Spec) { s.Authorities[0].Keys[0] = nil }},
		{`authorities[1].keys[0]: the key is listed by authority "corp" already`, func(s *Spec) {
			s.Authorities = append(s.Authorities, Authority{Name: "lab", Keys: [][]byte{[]byte("ca")}})
		}},
		{"identities[0].name: the identity has no name", func(s *Spec) { s.Identities[0].Name = "" }},
		{`identities[1].name: identity "vendor" stands twice`, func(s *Spec) { s.Identities[1].Name = "vendor" }},
		{`identities[1].name: identity name "al ice": only printable`, func(s *Spec) { s.Identities[1].Name = "al ice" }},
		{`identities[1].name: identity name of 65 bytes`, func(s *Spec) { s.Identities[1].Name = strings.Repeat("a", 65) }},
		{`identities[0]: identity "vendor" has neither keys`, func(s *Spec) { s.Identities[0].Keys = nil }},
		{"identities[0].keys[0]: the key is empty", func(s *Spec) { s.Identities[0].Keys[0].Blob = nil }},
		{`identities[1].keys[0]: the key is listed by identity "vendor" already`, func(s *Spec) { s.Identities[1].Keys[0].Blob = []byte("vendor") }},
		{`identities[0].keys[1]: the key is listed by identity "vendor" already`, func(s *Spec) {
			s.Identities[0].Keys = append(s.Identities[0].Keys, Key{Blob: []byte("vendor")})
		}},
		{"identities[0].keys[0].from[0]: 10.0.0.1/8 has bits set", func(s *Spec) {
			s.Identities[0].Keys[0].From = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}
		}},
		{`identities[2].authority: authority "crop" is unknown`, func(s *Spec) { s.Identities[2].Authority = "crop" }},
		{"identities[2].authority: identity \"carol\" has an authority and no principal", func(s *Spec) { s.Identities[2].Principal = "" }},
		{"identities[2].principal: identity \"carol\" has a principal and no authority", func(s *Spec) { s.Identities[2].Authority = "" }},
		{`identities[3].principal: identity "carol" has principal "carol" and user name "carol" too`, func(s *Spec) {
			s.Identities = append(s.Identities, Identity{Name: "dave", Authority: "corp", Principal: "carol", Users: []string{"dave", "carol"}})
		}},
		{`identities[0].users[0]: user name ""`, func(s *Spec) { s.Identities[0].Users = []string{""} }},
		{"rules[0].name: the rule has no name", func(s *Spec) { s.Rules[0].Name = "" }},
		{`rules[1].name: rule "fwd" stands twice`, func(s *Spec) { s.Rules[1].Name = "fwd" }},
		{`rules[0].identities: rule "fwd" lists no identity`, func(s *Spec) { s.Rules[0].Identities = nil }},
		{`rules[1].identities[1]: identity "mallory" is unknown`, func(s *Spec) { s.Rules[1].Identities[1] = "mallory" }},
		{`rules[1].identities[1]: identity "vendor" stands twice`, func(s *Spec) { s.Rules[1].Identities[1] = "vendor" }},
		{`rules[1].endpoints[0]: "*" is no endpoint`, func(s *Spec) { s.Rules[1].Endpoints[0] = "*" }},
		{`rules[1].endpoints[0]: "" is no endpoint`, func(s *Spec) { s.Rules[1].Endpoints[0] = "" }},
		{"rules[1].sources[0]: ::ffff:10.0.0.0/104 is an IPv4 address", func(s *Spec) {
			s.Rules[1].Sources[0] = netip.PrefixFrom(netip.MustParseAddr("::ffff:10.0.0.0"), 104)
		}},
		{"rules[1].sources[0]: a CIDR is empty", func(s *Spec) { s.Rules[1].Sources[0] = netip.Prefix{} }},
		{"rules[1].hours: the hours hold no time", func(s *Spec) { s.Rules[1].Hours = &Hours{} }},
		{`rules[0].allow[1]: "fly" is not one of shell, exec`, func(s *Spec) { s.Rules[0].Allow = append(s.Rules[0].Allow, "fly") }},
		{"rules[1].allow[1]: shell stands twice", func(s *Spec) { s.Rules[1].Allow[1] = Shell }},
		{`rules[0].targets: rule "fwd" allows what needs targets and names none`, func(s *Spec) { s.Rules[0].Targets = nil }},
		{`rules[1].targets: rule "sh" allows what needs targets and names none`, func(s *Spec) { s.Rules[1].Targets = nil }},
		{`rules[1].logins: rule "sh" allows what needs logins and names none`, func(s *Spec) { s.Rules[1].Logins = nil }},
		{`rules[1].logins[0]: login ""`, func(s *Spec) { s.Rules[1].Logins[0] = "" }},
		{`rules[1].logins[0]: login "ha*": "*" stands for any login`, func(s *Spec) { s.Rules[1].Logins[0] = "ha*" }},
		{`rules[0].logins: rule "fwd" has logins and does not allow shell`, func(s *Spec) { s.Rules[0].Logins = []string{"root"} }},
		{"rules[0].targets[0]: : is not a target", func(s *Spec) { s.Rules[0].Targets[0] = Target{} }},
		{"rules[0].targets[0]: 0.0.0.0:7000 is not a target", func(s *Spec) { s.Rules[0].Targets[0] = s.Rules[2].Listen[0] }},
		{`rules[2].listen: rule "rev" allows what needs listen and names none`, func(s *Spec) { s.Rules[2].Listen = nil }},
		{`rules[2].connect_from: rule "rev" allows what needs connect_from and names none`, func(s *Spec) { s.Rules[2].ConnectFrom = nil }},
		{"rules[2].connect_from[0]: 10.0.0.1/16 has bits set", func(s *Spec) {
			s.Rules[2].ConnectFrom[0] = netip.MustParsePrefix("10.0.0.1/16")
		}},
		{"rules[2].listen[0]: 10.0.0.0/16:80 is not an address to bind", func(s *Spec) { s.Rules[2].Listen[0] = s.Rules[0].Targets[0] }},
		{`rules[2].targets: rule "rev" has targets and does not allow forward`, func(s *Spec) { s.Rules[2].Targets = s.Rules[0].Targets }},
		{`rules[0].listen: rule "fwd" has listen and does not allow listen`, func(s *Spec) { s.Rules[0].Listen = s.Rules[2].Listen }},
		{`rules[0].connect_from: rule "fwd" has connect_from and does not`, func(s *Spec) { s.Rules[0].ConnectFrom = s.Rules[2].ConnectFrom }},
		{`rules[3].sockets: rule "sock" allows what needs sockets and names none`, func(s *Spec) { s.Rules[3].Sockets = nil }},
		{`rules[0].sockets: rule "fwd" has sockets and does not allow socket`, func(s *Spec) { s.Rules[0].Sockets = []string{"/x"} }},
		{`rules[3].sockets[0]: "run/x.sock" is not an absolute path`, func(s *Spec) { s.Rules[3].Sockets[0] = "run/x.sock" }},
		{`rules[1].commands: rule "sh" has commands and does not allow exec`, func(s *Spec) {
			s.Rules[1].Allow, s.Rules[1].Commands = []Verb{Shell}, []string{"uptime"}
		}},
		{"rules[4].commands[1]: the command is empty", func(s *Spec) { s.Rules[4].Commands = []string{"uptime", ""} }},
		{`rules[4].commands[0]: command "a\nb": a line with a newline`, func(s *Spec) { s.Rules[4].Commands[0] = "a\nb" }},
		{`rules[4].commands[0]: command "\x00": a line with a newline`, func(s *Spec) { s.Rules[4].Commands[0] = "\x00" }},
		{`rules[4].commands[1]: command "uptime" stands twice`, func(s *Spec) { s.Rules[4].Commands = []string{"uptime", "uptime"} }},
		{`rules[0].env: rule "fwd" has env and does not allow shell`, func(s *Spec) { s.Rules[0].Env = []string{"TZ"} }},
		{`rules[4].env[0]: environment variable "*": write a name`, func(s *Spec) { s.Rules[4].Env[0] = "*" }},
		{`rules[4].env[0]: environment variable "": write a name`, func(s *Spec) { s.Rules[4].Env[0] = "" }},
		{`rules[4].env[0]: environment variable "1A": only letters`, func(s *Spec) { s.Rules[4].Env[0] = "1A" }},
		{`rules[4].env[0]: environment variable "A=B": only letters`, func(s *Spec) { s.Rules[4].Env[0] = "A=B" }},
		{`rules[4].env[1]: environment variable "TZ" stands twice`, func(s *Spec) { s.Rules[4].Env = []string{"TZ", "TZ"} }},
		{`rules[2].recording: rule "rev" has recording and does not allow shell`, func(s *Spec) { s.Rules[2].Recording.Off = true }},
		{`rules[4].recording: rule "cmd" does not record, so input`, func(s *Spec) { s.Rules[4].Recording.Off = true }},
		{`rules[5].via: rule "out" has via and allows other than forward`, func(s *Spec) {
			s.Rules[5].Allow, s.Rules[5].Logins = []Verb{Forward, Shell}, []string{"hadoop"}
		}},
		{`rules[2].via: rule "rev" has via and allows other than forward`, func(s *Spec) { s.Rules[2].Via = s.Rules[5].Via }},
		{"rules[5].via[0]: : is not a target", func(s *Spec) { s.Rules[5].Via[0] = Target{} }},
		{`frozen[0]: identity "mallory" is unknown`, func(s *Spec) { s.Frozen[0] = "mallory" }},
	} {
		s := sound(t)
		c.breaks(&s)
		p, err := New(s)
		if p != nil {
			t.Errorf("want %s: there is a policy", c.want)
		}
		if lines := strings.Join(specErrors(t, err), "\n"); !strings.Contains("\n"+lines, "\n"+c.want) {
			t.Errorf("want %s\n got %s", c.want, lines)
		}
	}
}

func TestEverythingThatIsWrongIsReported(t *testing.T) {
	s := sound(t)
	s.Identities[0].Keys[0].Blob = nil
	s.Rules[0].Targets, s.Rules[3].Sockets = nil, nil
	s.Frozen[0] = "mallory"
	_, err := New(s)
	if lines := specErrors(t, err); len(lines) != 4 {
		t.Errorf("%d errors: %q", len(lines), lines)
	}
}

func TestARuleThatAllowsNothingSaysWhatItCould(t *testing.T) {
	s := sound(t)
	s.Rules[3] = Rule{Name: "empty", Identities: []string{"vendor"}}
	_, err := New(s)
	want := `rules[3].allow: rule "empty" allows nothing: name one of shell, exec, sftp-read, sftp-write, agent, x11, forward, listen, socket`
	if lines := specErrors(t, err); len(lines) != 1 || lines[0] != want {
		t.Errorf("%q", lines)
	}
}

func TestOnePrincipalMayStandForTwoIdentitiesWithDifferentUserNames(t *testing.T) {
	s := sound(t)
	s.Identities = append(s.Identities, Identity{Name: "carol-root", Authority: "corp", Principal: "carol", Users: []string{"root"}})
	if _, err := New(s); err != nil {
		t.Error(err)
	}
}
