package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"postern/internal/policy"
)

// folder makes keys and the policy of design and returns the folder: alice's
// certificate, the CA, a KRL, a key file and a key of the vendor.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"ca", "alice", "vendor1", "vendor2", "revoked"} {
		keygen(t, dir, "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", name)
	}
	keygen(t, dir, "-k", "-f", "revoked.krl", "revoked.pub")
	writeTo(t, filepath.Join(dir, "vendor.keys"), "# control plane\n\n"+readTrimmed(t, filepath.Join(dir, "vendor2.pub"))+"\r\n")
	writeTo(t, filepath.Join(dir, "policy.yaml"), `
authorities:
  corp:
    keys: ["`+readTrimmed(t, filepath.Join(dir, "ca.pub"))+`"]
    krl: revoked.krl
identities:
  vendor:
    keys: ['from="10.20.0.0/16" `+readTrimmed(t, filepath.Join(dir, "vendor1.pub"))+`']
    keys_files: [vendor.keys]
    users: [ec2-user]
  alice: { authority: corp, principal: alice }
rules:
  - name: cluster-shell
    identities: [vendor, alice]
    endpoints: [vpce-0a1b2c3d4e5f60718]
    sources: [10.20.0.0/16]
    hours: { days: [mon, tue, wed, thu, fri], from: 08:00, to: "18:00", zone: Europe/Berlin }
    until: 2027-03-31
    targets: ["10.0.0.0/16:22", "*.compute.internal:22"]
    logins: [hadoop, ec2-user]
    commands: ["systemctl status *"]
    env: [GIT_*, TZ]
    recording: { input: true, on_failure: continue }
    allow: [shell, exec, sftp-read, sftp-write]
  - { name: code, identities: [vendor], via: ["10.0.0.0/16:22"], targets: ["127.0.0.1:1024-65535"], allow: [forward] }
  - { name: web-uis, identities: [vendor], targets: ["10.0.0.0/16:8088,9000-9010"], allow: [forward] }
  - { name: metastore, identities: [vendor], listen: ["0.0.0.0:7000"], connect_from: ["10.0.0.0/16"], allow: [listen] }
  - { name: docker, identities: [alice], sockets: [/run/docker.sock], allow: [socket] }
frozen: []
`)
	return dir
}

func wire(t *testing.T, path string) []byte {
	t.Helper()
	pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(readTrimmed(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	return pub.Marshal()
}

func TestAPolicyFileDecidesAsItReads(t *testing.T) {
	dir := folder(t)
	p, err := LoadPolicy(filepath.Join(dir, "policy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	client := netip.MustParseAddr("10.20.0.5")
	monday := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	for _, name := range []string{"vendor1.pub", "vendor2.pub"} {
		id, _, reason := p.Key("ec2-user", wire(t, filepath.Join(dir, name)), client, monday)
		if id.Name != "vendor" || reason != "" {
			t.Errorf("%s: identity %q, reason %q", name, id.Name, reason)
		}
	}
	if _, _, reason := p.Key("ec2-user", wire(t, filepath.Join(dir, "vendor1.pub")), netip.MustParseAddr("10.21.0.5"), monday); reason != policy.ReasonKeySource {
		t.Errorf("from another address: reason %q", reason)
	}
	if id, reason := p.Certificate("alice", wire(t, filepath.Join(dir, "ca.pub")), []string{"alice"}); id.Name != "alice" || reason != "" {
		t.Errorf("certificate: identity %q, reason %q", id.Name, reason)
	}
	d := p.Decide(policy.Request{Identity: "vendor", Client: client, Time: monday, Verb: policy.Forward,
		Host: "10.0.3.4", Port: 9005, Addr: netip.MustParseAddr("10.0.3.4")})
	if !d.Allow || d.Rule != "web-uis" {
		t.Errorf("forward: %+v", d)
	}
	exec := policy.Request{Identity: "vendor", Endpoint: "vpce-0a1b2c3d4e5f60718", Client: client, Time: monday, Verb: policy.Exec,
		Host: "10.0.3.4", Port: 22, Login: "hadoop", Command: "systemctl status sshd"}
	want := policy.Decision{Allow: true, Rule: "cluster-shell", Env: []string{"GIT_*", "TZ"}, Recording: policy.Recording{Input: true, Continue: true}}
	if d := p.Decide(exec); !reflect.DeepEqual(d, want) {
		t.Errorf("exec: %+v, want %+v", d, want)
	}
	exec.Command = "id"
	if d := p.Decide(exec); d.Reason != policy.ReasonCommand {
		t.Errorf("exec of another command: %+v", d)
	}
	nested := policy.Request{Identity: "vendor", Client: client, Time: monday, Verb: policy.Forward, Host: "127.0.0.1", Port: 8080,
		Via: policy.Via{Host: "10.0.3.4", Port: 22}}
	if d := p.Decide(nested); d.Rule != "code" {
		t.Errorf("forward out of a session: %+v", d)
	}
	if p.Policy.Version() != p.Version || !regexp.MustCompile(`^sha256:[0-9a-f]{16}$`).MatchString(p.Version) {
		t.Errorf("versions %q and %q", p.Version, p.Policy.Version())
	}
	files := []string{filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "revoked.krl"), filepath.Join(dir, "vendor.keys")}
	if !reflect.DeepEqual(p.Files, files) {
		t.Errorf("files %q, want %q", p.Files, files)
	}
}

func TestWhatTheRevocationListNamesIsRevoked(t *testing.T) {
	dir := folder(t)
	p, err := LoadPolicy(filepath.Join(dir, "policy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Revoked) != 1 {
		t.Fatalf("%d revocation lists, want 1", len(p.Revoked))
	}
	for name, want := range map[string]bool{"revoked.pub": true, "alice.pub": false} {
		pub, err := ssh.ParsePublicKey(wire(t, filepath.Join(dir, name)))
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Revoked[0].Revoked(pub); got != want {
			t.Errorf("%s: revoked %v, want %v", name, got, want)
		}
	}
}

func TestTheVersionChangesWithEveryFileOfThePolicy(t *testing.T) {
	dir := folder(t)
	path := filepath.Join(dir, "policy.yaml")
	seen := map[string]string{}
	look := func(what string) {
		t.Helper()
		p, err := LoadPolicy(path)
		if err != nil {
			t.Fatal(err)
		}
		if before, ok := seen[p.Version]; ok {
			t.Errorf("%s has the version of %s", what, before)
		}
		seen[p.Version] = what
	}
	look("the policy")
	writeTo(t, filepath.Join(dir, "vendor.keys"), readTrimmed(t, filepath.Join(dir, "alice.pub")))
	look("another key file")
	keygen(t, dir, "-k", "-z", "7", "-f", "revoked.krl", "vendor1.pub")
	look("another revocation list")
	writeTo(t, path, readTrimmed(t, path)+"\n# changed")
	look("another policy file")
}

func TestARevocationListThatCantBeReadIsAFault(t *testing.T) {
	dir := folder(t)
	path, list := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "revoked.krl")
	whole, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"cut":   string(whole[:len(whole)-3]),
		"empty": "",
		"text":  readTrimmed(t, filepath.Join(dir, "revoked.pub")),
	} {
		writeTo(t, list, content)
		_, err := LoadPolicy(path)
		if err == nil || !strings.HasPrefix(err.Error(), path+":5:10: authorities.corp.krl: "+list+" is not a valid key revocation list") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Remove(list); err != nil {
		t.Fatal(err)
	}
	_, err = LoadPolicy(path)
	if want := path + ":5:10: authorities.corp.krl: " + list + " can't be read: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("missing: %v\nwant %s", err, want)
	}
}

func TestFaultsOfAKeyFileStandAtItsLines(t *testing.T) {
	dir := folder(t)
	path, keys := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "vendor.keys")
	vendor1 := readTrimmed(t, filepath.Join(dir, "vendor1.pub"))
	for content, want := range map[string]string{
		"# c\nno-pty " + vendor1 + "\n":                             keys + ":2:1: identities.vendor.keys_files[0]: option no-pty: write a rule in policy.yaml instead",
		"\n\n" + vendor1 + "\n":                                     keys + ":3:1: identities.vendor.keys_files[0]: the key is listed by identity \"vendor\" already",
		"# nothing\n":                                               path + ":9:18: identities.vendor.keys_files[0]: " + keys + " holds no key",
		readTrimmed(t, filepath.Join(dir, "vendor1")) + "\n":        keys + ":1:1: identities.vendor.keys_files[0]: a private key; it must never be here",
		strings.Repeat("#", maxFile+1):                              path + ":9:18: identities.vendor.keys_files[0]: " + keys + " can't be read: larger than 1024 KiB",
		"ssh-dss AAAA\n" + strings.ReplaceAll(vendor1, "A", "\x80"): keys + ":1:1: identities.vendor.keys_files[0]: a DSA key",
	} {
		writeTo(t, keys, content)
		_, err := LoadPolicy(path)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.40q: %v\nwant %s", content, err, want)
		}
	}
}

func TestUntilIsTheLastDayInTheZoneOfTheHours(t *testing.T) {
	dir := folder(t)
	path := filepath.Join(dir, "policy.yaml")
	template := readTrimmed(t, path)
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	// Forwarding has no hours in the policy, so the date is one of UTC there.
	request := policy.Request{Identity: "vendor", Client: netip.MustParseAddr("10.20.0.5"), Verb: policy.Forward,
		Host: "10.0.3.4", Port: 8088, Addr: netip.MustParseAddr("10.0.3.4")}
	for _, c := range []struct {
		until, hours string
		end          time.Time
	}{
		{"2027-03-31", "", time.Date(2027, 4, 1, 0, 0, 0, 0, time.UTC)},
		{"2027-12-31", "", time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC)},
		{"2027-03-31", "hours: { days: [mon-sun], from: '00:00', to: '24:00', zone: Europe/Berlin }, ", time.Date(2027, 4, 1, 0, 0, 0, 0, berlin)},
		{"2027-03-31T18:00:00+02:00", "", time.Date(2027, 3, 31, 16, 0, 0, 0, time.UTC)},
		{`"2027-03-31T18:00:00Z"`, "", time.Date(2027, 3, 31, 18, 0, 0, 0, time.UTC)},
	} {
		writeTo(t, path, strings.Replace(template, "{ name: web-uis,", "{ name: web-uis, until: "+c.until+", "+c.hours, 1))
		p, err := LoadPolicy(path)
		if err != nil {
			t.Fatal(err)
		}
		request.Time = c.end.Add(-time.Second)
		if d := p.Decide(request); !d.Allow {
			t.Errorf("%s: a second before %v: %+v", c.until, c.end, d)
		}
		request.Time = c.end
		if d := p.Decide(request); d.Allow || d.Reason != policy.ReasonExpired {
			t.Errorf("%s: at %v: %+v", c.until, c.end, d)
		}
	}
}

func TestThePackagedPolicyAllowsNobodyAndItsExampleIsValid(t *testing.T) {
	data, err := os.ReadFile("../../packaging/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	shipped, err := LoadPolicy(write(t, "policy.yaml", string(data)))
	if err != nil {
		t.Fatal(err)
	}
	if d := shipped.Decide(policy.Request{Identity: "vendor", Verb: policy.Forward, Host: "10.0.0.1", Port: 22}); d.Allow || d.Reason != policy.ReasonUnknown {
		t.Errorf("the packaged policy decides %+v", d)
	}

	dir := folder(t)
	example := regexp.MustCompile(`(?m)^#  `).ReplaceAllString(string(data), "  ")
	for old, with := range map[string]string{
		"authorities: {}": "authorities:", "identities: {}": "identities:", "rules: []": "rules:",
		"ssh-ed25519 AAAA... corp user CA": readTrimmed(t, filepath.Join(dir, "ca.pub")),
		"ssh-rsa AAAA... control plane":    readTrimmed(t, filepath.Join(dir, "vendor1.pub")),
		"/etc/postern/revoked.krl":         "revoked.krl",
	} {
		if !strings.Contains(example, old) {
			t.Errorf("the packaged policy does not have %q", old)
		}
		example = strings.Replace(example, old, with, 1)
	}
	path := filepath.Join(dir, "policy.yaml")
	writeTo(t, path, example)
	p, err := LoadPolicy(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := p.Decide(policy.Request{Identity: "vendor", Verb: policy.Forward, Host: "10.0.0.1", Port: 8088, Addr: netip.MustParseAddr("10.0.0.1")}); !d.Allow {
		t.Errorf("the example decides %+v", d)
	}
}
