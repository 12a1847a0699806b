package config

import (
	"bytes"
	"encoding/base64"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"postern/internal/policy"
)

// Keys as authenticators make them; ssh-keygen makes none without one.
const (
	skED25519 = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIPr8vOLQArVRLHQLLASAEtC1fkXraxXACAqKjVr67JKaAAAABHNzaDo="
	skECDSA   = "sk-ecdsa-sha2-nistp256@openssh.com AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNzaC5jb20AAAAIbmlzdHAyNTYAAABBBMXJ3wopMMK1bb+ESrtmYKGSZbkkIRgRoMMr2JphRAz5eSHPZcYNr1y1YfOqcgsMi2yVB/9JhqjgyKr/epLo4rwAAAAEc3NoOg=="
)

// keygen runs ssh-keygen in dir.
func keygen(t testing.TB, dir string, args ...string) {
	t.Helper()
	path, err := exec.LookPath("ssh-keygen")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("ssh-keygen is missing")
		}
		t.Skip("ssh-keygen is missing")
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen %q: %v\n%s", args, err, out)
	}
}

// publicKey makes a key pair and returns the line of its .pub file.
func publicKey(t testing.TB, typ string, bits string) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{"-q", "-t", typ, "-N", "", "-C", "a comment", "-f", "key"}
	if bits != "" {
		args = append(args, "-b", bits)
	}
	keygen(t, dir, args...)
	return readTrimmed(t, filepath.Join(dir, "key.pub"))
}

func readTrimmed(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func TestKeysOfEveryTypeThatIsStrongEnoughAreRead(t *testing.T) {
	lines := map[string]string{"sk-ed25519": skED25519 + " a comment", "sk-ecdsa": skECDSA + " a comment"}
	for _, k := range [][2]string{{"ed25519", ""}, {"ecdsa", "256"}, {"ecdsa", "384"}, {"ecdsa", "521"}, {"rsa", "2048"}, {"rsa", "3072"}} {
		lines[k[0]+k[1]] = publicKey(t, k[0], k[1])
	}
	for name, line := range lines {
		t.Run(name, func(t *testing.T) {
			key, comment, err := ParseAuthorizedKey(line)
			if err != nil {
				t.Fatal(err)
			}
			want, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(key, policy.Key{Blob: want.Marshal()}) {
				t.Errorf("got %+v", key)
			}
			if comment != "a comment" {
				t.Errorf("comment %q", comment)
			}
		})
	}
}

func TestWeakKeysAndCertificatesAreRefused(t *testing.T) {
	dir := t.TempDir()
	keygen(t, dir, "-q", "-t", "ed25519", "-N", "", "-f", "ca")
	keygen(t, dir, "-q", "-t", "ed25519", "-N", "", "-f", "key")
	keygen(t, dir, "-q", "-s", "ca", "-I", "id", "-n", "alice", "key.pub")
	for name, c := range map[string]struct{ line, want string }{
		"rsa 1024":    {publicKey(t, "rsa", "1024"), "an RSA key of 1024 bits; want 2048 to 8192"},
		"certificate": {readTrimmed(t, filepath.Join(dir, "key-cert.pub")), "a certificate where a key is wanted"},
		"dsa":         {"ssh-dss AAAAB3NzaC1kc3MAAACBAP", "a DSA key"},
		"private key": {"-----BEGIN OPENSSH PRIVATE KEY-----", "a private key"},
		"RFC 4716":    {"---- BEGIN SSH2 PUBLIC KEY ----", "ssh-keygen -i"},
		"unknown":     {"ssh-mldsa-44 AAAA", "not a known key type"},
		"signature":   {"rsa-sha2-256 AAAA", "the type of the key is ssh-rsa"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, c.line, c.want) })
	}
}

// An RSA key of 16384 bits takes minutes to make: only its public part matters.
func TestAnRSAKeyThatIsCostlyToVerifyIsRefused(t *testing.T) {
	n := append([]byte{0}, bytes.Repeat([]byte{0xff}, 1025)...)
	blob := ssh.Marshal(struct {
		Type string
		E, N []byte
	}{"ssh-rsa", []byte{1, 0, 1}, n})
	refused(t, "ssh-rsa "+base64.StdEncoding.EncodeToString(blob), "an RSA key of 8200 bits")
}

func refused(t *testing.T, line, want string) {
	t.Helper()
	key, _, err := ParseAuthorizedKey(line)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: error %v; want %s", line, err, want)
	}
	if !reflect.DeepEqual(key, policy.Key{}) {
		t.Errorf("%s: a key beside the error: %+v", line, key)
	}
}

func TestOptionsThatRestrictAKeyAreKept(t *testing.T) {
	blob, err := base64.StdEncoding.DecodeString(strings.Fields(skED25519)[1])
	if err != nil {
		t.Fatal(err)
	}
	for options, want := range map[string]policy.Key{
		`restrict`:                    {},
		`no-touch-required`:           {NoTouchRequired: true},
		`No-Touch-Required,RESTRICT`:  {NoTouchRequired: true},
		`from="10.0.0.0/8,192.0.2.7"`: {From: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32")}},
		`from="fd00::/8"`:             {From: []netip.Prefix{netip.MustParsePrefix("fd00::/8")}},
		`expiry-time="20270331Z"`:     {Expires: time.Date(2027, 3, 31, 0, 0, 0, 0, time.UTC)},
		`expiry-time="20270331"`:      {Expires: time.Date(2027, 3, 31, 0, 0, 0, 0, time.Local)},
		`expiry-time="202703311830Z"`: {Expires: time.Date(2027, 3, 31, 18, 30, 0, 0, time.UTC)},
		`restrict,from="10.0.0.1",expiry-time="20270331183059Z",no-touch-required`: {
			From: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}, Expires: time.Date(2027, 3, 31, 18, 30, 59, 0, time.UTC), NoTouchRequired: true},
	} {
		key, comment, err := ParseAuthorizedKey(" " + options + " \t" + skED25519 + "  of  somebody ")
		if err != nil {
			t.Errorf("%s: %v", options, err)
			continue
		}
		want.Blob = blob
		if !reflect.DeepEqual(key, want) {
			t.Errorf("%s: got %+v, want %+v", options, key, want)
		}
		if comment != "of  somebody" {
			t.Errorf("%s: comment %q", options, comment)
		}
	}
}

func TestOptionsThatAreNotUnderstoodRefuseTheKey(t *testing.T) {
	for options, want := range map[string]string{
		`no-pty`:                                "option no-pty: write a rule in policy.yaml instead",
		`no-port-forwarding,no-X11-forwarding`:  "option no-port-forwarding: write a rule in policy.yaml instead",
		`command="echo \"a, b\""`:               "option command: write a rule in policy.yaml instead",
		`permitopen="10.0.0.1:22"`:              "targets [HOST:PORT] with allow [forward]",
		`permitlisten="7000"`:                   "listen [ADDRESS:PORT] and connect_from with allow [listen]",
		`environment="A=B"`:                     "sets no environment",
		`tunnel="0"`:                            "no tun devices",
		`cert-authority`:                        "put the key under authorities",
		`principals="alice"`:                    "set authority and principal",
		`verify-required`:                       "PIN",
		`form="10.0.0.0/8"`:                     "option form: unknown; did you mean from?",
		`from=""`:                               `"" is not a CIDR`,
		`from="10.0.0.0/8,"`:                    `"" is not a CIDR`,
		`from="!10.0.0.1,10.0.0.0/8"`:           "without ! and wildcards",
		`from="10.0.*"`:                         "without ! and wildcards",
		`from="host.example"`:                   "host.example is not a CIDR",
		`from="10.0.0.1/8"`:                     "write 10.0.0.0/8",
		`from=10.0.0.0/8`:                       "in double quotes",
		`from`:                                  "is not a CIDR",
		`from="10.0.0.0/8`:                      "no closing quote",
		`from="10.0.0.0/8",from="192.0.2.0/24"`: "option from: given twice",
		`from="10.0.0.0/8"restrict`:             "want a comma or a space",
		`restrict="yes"`:                        "takes no value",
		`no-touch-required=""`:                  "takes no value",
		`expiry-time="2027-03-31"`:              "is not a time",
		`expiry-time="20270230"`:                "is not a time",
		`expiry-time="00010101Z"`:               "is not a time",
		`expiry-time="2027033118305"`:           "is not a time",
		`restrict, restrict`:                    "an option without a name",
		`,restrict`:                             "an option without a name",
	} {
		t.Run(options, func(t *testing.T) {
			_, _, err := ParseAuthorizedKey(options + " " + skED25519)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v; want %s", err, want)
			}
		})
	}
}

func TestLinesThatAreNoKeyAreRefused(t *testing.T) {
	fields := strings.Fields(skED25519)
	for line, want := range map[string]string{
		"":                                    "no key",
		"restrict":                            "neither a key type nor followed by a key",
		"restrict ":                           "neither a key type nor followed by a key",
		"restrict # x":                        "not a known key type",
		"ssh-ed25519":                         "not base64",
		"ssh-ed25519 " + fields[1]:            "not a well-formed key of type ssh-ed25519",
		fields[0] + " " + fields[1][:40]:      "is the line cut",
		fields[0] + " " + fields[1] + "AAAA":  "is the line cut",
		skED25519 + "\n" + skECDSA:            "more than one line",
		"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5":    "is the line cut",
		"ecdsa-sha2-nistp256 AAAAE2VjZHNhLXM": "is the line cut",
	} {
		refused(t, line, want)
	}
}

func FuzzAuthorizedKey(f *testing.F) {
	f.Add(skED25519 + " comment")
	f.Add(`restrict,from="10.0.0.0/8,fd00::/8",expiry-time="20270331Z",no-touch-required ` + skECDSA)
	f.Add(`expiry-time="202703311830" ` + skED25519)
	f.Add(`command="a \"b\"",no-pty ` + skED25519)
	f.Fuzz(func(t *testing.T, line string) {
		key, comment, err := ParseAuthorizedKey(line)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("an error of two lines: %q", err)
			}
			return
		}
		again, sameComment, err := ParseAuthorizedKey(lineOf(key, comment))
		if err != nil {
			t.Fatalf("%q, written again: %v", line, err)
		}
		if !key.Expires.Equal(again.Expires) {
			t.Errorf("expires %v, then %v", key.Expires, again.Expires)
		}
		key.Expires, again.Expires = time.Time{}, time.Time{}
		if !reflect.DeepEqual(key, again) || comment != sameComment {
			t.Errorf("%q: %+v %q, then %+v %q", line, key, comment, again, sameComment)
		}
	})
}

// lineOf writes a key the way ParseAuthorizedKey reads it.
func lineOf(k policy.Key, comment string) string {
	options := []string{"restrict"}
	if k.NoTouchRequired {
		options = append(options, "no-touch-required")
	}
	if !k.Expires.IsZero() {
		options = append(options, `expiry-time="`+k.Expires.UTC().Format("20060102150405")+`Z"`)
	}
	var from []string
	for _, p := range k.From {
		from = append(from, p.String())
	}
	if len(from) > 0 {
		options = append(options, `from="`+strings.Join(from, ",")+`"`)
	}
	typ := string(k.Blob[4 : 4+int(k.Blob[3])])
	return strings.Join(options, ",") + " " + typ + " " + base64.StdEncoding.EncodeToString(k.Blob) + " " + comment
}
