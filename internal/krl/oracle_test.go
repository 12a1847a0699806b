package krl

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// bench is a directory with keys and certificates that both ssh-keygen and
// Parse are asked about.
type bench struct {
	t     *testing.T
	dir   string
	names []string // in the order they were added
	keys  map[string]ssh.PublicKey
}

func newBench(t *testing.T) *bench {
	t.Helper()
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("ssh-keygen is missing")
		}
		t.Skip("ssh-keygen is missing")
	}
	return &bench{t: t, dir: t.TempDir(), keys: map[string]ssh.PublicKey{}}
}

func signer(t testing.TB, key any, err error) ssh.Signer {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newEd25519(t testing.TB) ssh.Signer {
	_, key, err := ed25519.GenerateKey(nil)
	return signer(t, key, err)
}

func newECDSA(t testing.TB) ssh.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return signer(t, key, err)
}

func newRSA(t testing.TB) ssh.Signer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	return signer(t, key, err)
}

func newCertificate(t testing.TB, ca ssh.Signer, key ssh.PublicKey, serial uint64, id string) *ssh.Certificate {
	t.Helper()
	cert := &ssh.Certificate{
		Key: key, Serial: serial, KeyId: id, CertType: ssh.UserCert,
		ValidPrincipals: []string{"vendor"}, ValidBefore: ssh.CertTimeInfinity,
	}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	return cert
}

// add writes key as name.pub.
func (b *bench) add(name string, key ssh.PublicKey) {
	b.t.Helper()
	b.names = append(b.names, name)
	b.keys[name] = key
	b.write(name+".pub", string(ssh.MarshalAuthorizedKey(key)))
}

func (b *bench) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) keygen(args ...string) (string, error) {
	cmd := exec.CommandContext(b.t.Context(), "ssh-keygen", args...)
	cmd.Dir = b.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// generate writes file by ssh-keygen -k from a specification.
func (b *bench) generate(file, spec string, args ...string) {
	b.t.Helper()
	b.write("spec", spec)
	args = append(append([]string{"-k", "-f", file}, args...), "spec")
	if out, err := b.keygen(args...); err != nil {
		b.t.Fatalf("ssh-keygen %q: %v\n%s\n%s", args, err, out, spec)
	}
}

func (b *bench) parse(file string) *List {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, file))
	if err != nil {
		b.t.Fatal(err)
	}
	l, err := Parse(data)
	if err != nil {
		b.t.Fatal(err)
	}
	return l
}

// query returns what ssh-keygen -Q finds revoked.
func (b *bench) query(file string) map[string]bool {
	b.t.Helper()
	args := []string{"-Q", "-f", file}
	for _, name := range b.names {
		args = append(args, name+".pub")
	}
	out, err := b.keygen(args...)
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		b.t.Fatalf("ssh-keygen -Q: %v\n%s", err, out)
	}
	answers := map[string]bool{}
	for line := range strings.Lines(out) {
		name, _, _ := strings.Cut(line, ".pub")
		switch line = strings.TrimSpace(line); {
		case strings.HasSuffix(line, ": ok"):
			answers[name] = false
		case strings.HasSuffix(line, ": REVOKED"):
			answers[name] = true
		}
	}
	if len(answers) != len(b.names) {
		b.t.Fatalf("ssh-keygen -Q answered for %d of %d\n%s", len(answers), len(b.names), out)
	}
	return answers
}

// compare holds our answers against ssh-keygen's; it returns how many are
// revoked, so that a test can tell that both kinds came up.
func (b *bench) compare(file string) int {
	b.t.Helper()
	l, revoked := b.parse(file), 0
	for name, want := range b.query(file) {
		if got := l.Revoked(b.keys[name]); got != want {
			b.t.Errorf("%s: %s revoked: %v, ssh-keygen says %v", file, name, got, want)
		}
		if want {
			revoked++
		}
	}
	return revoked
}

func (b *bench) fingerprint(name string) string { return ssh.FingerprintSHA256(b.keys[name]) }

// matrix adds two authorities, keys of three types and certificates of each.
func (b *bench) matrix() {
	ca1, ca2 := newEd25519(b.t), newECDSA(b.t)
	b.add("ca1", ca1.PublicKey())
	b.add("ca2", ca2.PublicKey())
	for name, key := range map[string]ssh.Signer{"ed": newEd25519(b.t), "ec": newECDSA(b.t), "rsa": newRSA(b.t)} {
		b.add(name, key.PublicKey())
		for ca, signer := range map[string]ssh.Signer{"ca1": ca1, "ca2": ca2} {
			for _, serial := range []uint64{0, 1, 7, 8, 500, 1000, 1001, 1 << 40, 1<<64 - 1} {
				b.add(fmt.Sprintf("%s-%s-%d", name, ca, serial),
					newCertificate(b.t, signer, key.PublicKey(), serial, fmt.Sprintf("%s %d", name, serial)))
			}
		}
	}
}

func TestAnswersAreThoseOfSSHKeygen(t *testing.T) {
	b := newBench(t)
	b.matrix()
	key := func(name string) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(b.keys[name]))) }
	for _, tt := range []struct {
		name, spec string
		args       []string
		revoked    int // of 59
	}{
		{"empty", "", nil, 0},
		{"serial", "serial: 7\n", []string{"-s", "ca1.pub"}, 3},
		{"serials of every CA", "serial: 7\n", []string{"-s", "none"}, 6},
		{"range", "serial: 1-1000\n", []string{"-s", "ca1.pub"}, 15},
		{"range to the end", "serial: 1001-18446744073709551615\n", []string{"-s", "ca2.pub"}, 9},
		{"every serial", "serial: 1-18446744073709551615\n", []string{"-s", "ca1.pub"}, 24},
		{"bitmap", "serial: 1\nserial: 3\nserial: 7\nserial: 8\nserial: 11\nserial: 500\n", []string{"-s", "ca1.pub"}, 12},
		{"largest serial", "serial: 18446744073709551615\n", []string{"-s", "ca1.pub"}, 3},
		{"key ID", "id: rsa 0\nid: ed 7\nid: nobody\n", []string{"-s", "ca1.pub"}, 2},
		{"key ID of every CA", "id: rsa 0\n", []string{"-s", "none"}, 2},
		{"key", "key: " + key("ed") + "\n", nil, 19},
		{"key in OpenSSH's plain form", key("rsa") + "\n", nil, 19},
		{"sha1", "sha1: " + key("ec") + "\n", nil, 19},
		{"sha256", "sha256: " + key("rsa") + "\n", nil, 19},
		{"hash", "hash: " + b.fingerprint("ed") + "\n", nil, 19},
		{"CA by key", "key: " + key("ca1") + "\n", nil, 28},
		{"CA by hash", "hash: " + b.fingerprint("ca2") + "\n", nil, 28},
		{"certificate by its serial", key("ed-ca1-500") + "\n", nil, 3},
		{"certificate without one by its key ID", key("ed-ca2-0") + "\n", nil, 1},
		{"everything at once", "serial: 1-7\nserial: 1000\nid: rsa 0\nsha1: " + key("ec") + "\nhash: " + b.fingerprint("ed") + "\n",
			[]string{"-s", "ca2.pub"}, 42},
	} {
		file := strings.ReplaceAll(tt.name, " ", "_")
		b.generate(file, tt.spec, tt.args...)
		if got := b.compare(file); got != tt.revoked {
			t.Errorf("%s: %d revoked, want %d", tt.name, got, tt.revoked)
		}
	}
}

func TestTheHeaderIsRead(t *testing.T) {
	b := newBench(t)
	b.generate("krl", "", "-z", "42")
	l := b.parse("krl")
	if l.Number() != 42 || l.Comment() != "" {
		t.Errorf("number %d, comment %q", l.Number(), l.Comment())
	}
	out, err := b.keygen("-Q", "-l", "-f", "krl")
	if want := l.Generated().Local().Format("20060102T150405"); err != nil || !strings.Contains(out, want) {
		t.Errorf("generated %s; ssh-keygen says\n%s", want, out)
	}
}

func TestAListThatGrewAcrossAuthoritiesIsReadWhole(t *testing.T) {
	b := newBench(t)
	b.matrix()
	b.generate("krl", "serial: 7\n", "-s", "ca1.pub", "-z", "1")
	b.generate("krl", "serial: 500\nid: ed 0\n", "-u", "-s", "ca2.pub", "-z", "2")
	b.generate("krl", "serial: 1001\n", "-u", "-s", "none", "-z", "3")
	if got := b.compare("krl"); got != 3+3+1+6 {
		t.Errorf("%d revoked, want 13", got)
	}
	if n := b.parse("krl").Number(); n != 3 {
		t.Errorf("number %d", n)
	}
}

// TestRandomSerials draws clustered serials, so that ssh-keygen chooses among
// lists, ranges and bitmaps, and asks about those and their neighbours.
func TestRandomSerials(t *testing.T) {
	seed := uint64(os.Getpid())
	t.Logf("seed %d", seed)
	r := mathrand.New(mathrand.NewPCG(seed, 1))
	kinds := map[byte]bool{}
	for round := range 6 {
		b := newBench(t)
		ca, key := newEd25519(t), newEd25519(t).PublicKey()
		b.write("ca.pub", string(ssh.MarshalAuthorizedKey(ca.PublicKey())))
		spec, asked := randomSpec(r)
		for serial := range asked {
			b.add(fmt.Sprint(serial), newCertificate(t, ca, key, serial, "random"))
		}
		b.generate("krl", spec, "-s", "ca.pub")
		if got := b.compare("krl"); got == 0 || got == len(asked) {
			t.Errorf("round %d: %d of %d revoked tells nothing", round, got, len(asked))
		}
		data, err := os.ReadFile(filepath.Join(b.dir, "krl"))
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range subsections(data) {
			kinds[kind] = true
		}
	}
	for _, kind := range []byte{certSerialList, certSerialRange, certSerialBitmap} {
		if !kinds[kind] {
			t.Errorf("ssh-keygen never wrote a section %#x", kind)
		}
	}
}

func randomSpec(r *mathrand.Rand) (spec string, asked map[uint64]bool) {
	var text strings.Builder
	asked = map[uint64]bool{}
	for range 12 {
		base := 2 + r.Uint64()>>(r.UintN(63))
		if base > 1<<64-1<<20 {
			base = 1<<64 - 1<<20
		}
		lo, gap := base, 1+r.Uint64N(12)
		for range 1 + r.UintN(30) {
			hi := lo
			if r.UintN(8) == 0 {
				hi += r.Uint64N(3000)
			}
			if hi == lo {
				fmt.Fprintf(&text, "serial: %d\n", lo)
			} else {
				fmt.Fprintf(&text, "serial: %d-%d\n", lo, hi)
			}
			if r.UintN(4) == 0 {
				for _, s := range []uint64{lo - 1, lo, hi, hi + 1} {
					asked[s] = true
				}
			}
			lo = hi + 1 + r.Uint64N(gap)
		}
		asked[base-1], asked[base] = true, true
	}
	return text.String(), asked
}

// subsections returns the kinds of certificate sections in the first section.
func subsections(data []byte) (kinds []byte) {
	d := &decoder{rest: data[len(magic)+4+3*8:]}
	d.string()
	d.string()
	d.uint8()
	d = &decoder{rest: d.string()}
	d.string()
	d.string()
	for d.more() {
		kinds = append(kinds, d.uint8())
		d.string()
	}
	return kinds
}

func TestWhatSSHKeygenRefusesToReadIsRefused(t *testing.T) {
	b := newBench(t)
	b.matrix()
	b.generate("krl", "serial: 1-7\nserial: 1000\nid: rsa 0\nhash: "+b.fingerprint("ed")+"\n", "-s", "ca1.pub")
	whole, err := os.ReadFile(filepath.Join(b.dir, "krl"))
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for n := range len(whole) {
		cut := bytes.Clone(whole[:n])
		_, err := Parse(cut)
		b.write("cut", string(cut))
		if n%7 == 0 { // ssh-keygen takes its time
			out, _ := b.keygen("-Q", "-f", "cut", "ca2.pub")
			if ok := strings.Contains(out, ": ok"); ok != (err == nil) {
				t.Errorf("cut to %d bytes: %v; ssh-keygen says %s", n, err, out)
			}
		}
		if err != nil {
			refused++
		}
	}
	if refused < len(whole)-3 { // it may be cut between its sections
		t.Errorf("%d of %d cuts refused", refused, len(whole))
	}
}
