package upstream

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"
)

const aSession = "019396a1-7b2c-7def-8000-0123456789ab"

// mint returns the credential of a session for the account that runs the tests.
func mint(t *testing.T, ca ssh.Signer) Credential {
	t.Helper()
	m, err := NewMinter(MinterOptions{CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.Mint(time.Now(), Grant{Login: loginName(t), KeyID: KeyID("alice", aSession, "cluster-shell"), PTY: true})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// logIn dials the target on 127.0.0.1 and logs in to it as host.
func logIn(t *testing.T, known *KnownHosts, host string, port uint16, c Credential) (*Conn, error) {
	t.Helper()
	d := New(Options{DialTimeout: 10 * time.Second})
	nc, err := d.DialTCP(t.Context(), addrs(t, "127.0.0.1"), port)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := d.SSH(t.Context(), nc, known, Target{Host: host, Port: port, Login: loginName(t), Credential: c})
	if err == nil {
		t.Cleanup(func() { conn.Close(); conn.Wait() })
	} else if _, werr := nc.Write([]byte("x")); !errors.Is(werr, net.ErrClosed) {
		t.Errorf("the connection of a failed login is open: %v", werr)
	}
	return conn, err
}

// output runs a command at a target.
func output(t *testing.T, c *Conn, command string) string {
	t.Helper()
	go ssh.DiscardRequests(c.Requests)
	ch, requests, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(requests)
	if ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{command})); !ok || err != nil {
		t.Fatalf("exec: %v, %v", ok, err)
	}
	out, err := io.ReadAll(ch)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func at(host string, port uint16) string { return "[" + host + "]:" + strconv.Itoa(int(port)) }

func TestTheTargetsLogNamesThePersonTheSessionAndTheRule(t *testing.T) {
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		t.Run(kind, func(t *testing.T) {
			ca, caFile := newKeyFile(t, kind)
			host, hostFile := newKeyFile(t, "ed25519")
			s := startSSHD(t, "HostKey "+hostFile, "TrustedUserCAKeys "+caFile+".pub", "AuthorizedKeysFile none")
			known := knownHosts(t, at("db.example", s.port)+" "+line(host.PublicKey()))
			cred := mint(t, ca)
			c, err := logIn(t, known, "db.example", s.port, cred)
			if err != nil {
				t.Fatalf("%v\n%s", err, s.log)
			}
			if got := output(t, c, "echo through"); got != "through\n" {
				t.Errorf("got %q", got)
			}
			want := regexp.MustCompile(`Accepted publickey for \S+ .* ID alice session=` + aSession + ` rule=cluster-shell \(serial ` +
				strconv.FormatUint(cred.Serial, 10) + `\) CA `)
			if !want.MatchString(s.log.String()) {
				t.Errorf("the log has no %s:\n%s", want, s.log)
			}
			if c.HostKey != ssh.FingerprintSHA256(host.PublicKey()) || c.HostCA != "" || c.Kex <= 0 || c.Auth <= 0 {
				t.Errorf("%+v", c)
			}
			if got := string(c.ServerVersion()); !strings.HasPrefix(got, "SSH-2.0-OpenSSH_") {
				t.Errorf("server %q", got)
			}
		})
	}
}

func TestTheTargetIsAskedForAnAlgorithmThatCostsLittle(t *testing.T) {
	ca, caFile := newKeyFile(t, "ed25519")
	host, hostFile := newKeyFile(t, "ed25519")
	s := startSSHD(t, "HostKey "+hostFile, "TrustedUserCAKeys "+caFile+".pub")
	c, err := logIn(t, knownHosts(t, "[*]:* "+line(host.PublicKey())), "db.example", s.port, mint(t, ca))
	if err != nil {
		t.Fatal(err)
	}
	got := c.Conn.(ssh.AlgorithmsConnMetadata).Algorithms()
	if got.Read.Cipher != ssh.CipherAES128GCM || got.Write.Cipher != ssh.CipherAES128GCM {
		t.Errorf("%+v", got)
	}
}

// OpenSSH 7.4, of Amazon Linux 2 and its like, has these and nothing newer.
func TestAnOldTargetIsUnderstood(t *testing.T) {
	ca, caFile := newKeyFile(t, "rsa")
	host, hostFile := newKeyFile(t, "rsa")
	s := startSSHD(t, "HostKey "+hostFile, "TrustedUserCAKeys "+caFile+".pub",
		"KexAlgorithms diffie-hellman-group14-sha256", "Ciphers aes256-ctr", "MACs hmac-sha2-256", "HostKeyAlgorithms rsa-sha2-256")
	c, err := logIn(t, knownHosts(t, "[*]:* "+line(host.PublicKey())), "db.example", s.port, mint(t, ca))
	if err != nil {
		t.Fatalf("%v\n%s", err, s.log)
	}
	if got := output(t, c, "echo old"); got != "old\n" {
		t.Errorf("got %q", got)
	}
}

func TestATargetThatHasOnlySHA1IsRefused(t *testing.T) {
	ca, caFile := newKeyFile(t, "ed25519")
	_, hostFile := newKeyFile(t, "ed25519")
	s := startSSHD(t, "HostKey "+hostFile, "TrustedUserCAKeys "+caFile+".pub", "KexAlgorithms diffie-hellman-group14-sha1")
	_, err := logIn(t, nil, "db.example", s.port, mint(t, ca))
	if Classify(err) != OutcomeHandshake || !strings.Contains(err.Error(), "diffie-hellman-group14-sha1") {
		t.Errorf("%q: %v", Classify(err), err)
	}
}

func TestTheKeyTypeThatIsListedIsAskedFor(t *testing.T) {
	ca, caFile := newKeyFile(t, "ed25519")
	config := []string{"TrustedUserCAKeys " + caFile + ".pub"}
	keys := map[string]ssh.PublicKey{}
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		key, file := newKeyFile(t, kind)
		keys[kind], config = key.PublicKey(), append(config, "HostKey "+file)
	}
	s := startSSHD(t, config...)
	for kind, key := range keys {
		c, err := logIn(t, knownHosts(t, at("db.example", s.port)+" "+line(key)), "db.example", s.port, mint(t, ca))
		if err != nil {
			t.Errorf("only the %s key is listed: %v", kind, err)
			continue
		}
		if c.HostKey != ssh.FingerprintSHA256(key) {
			t.Errorf("only the %s key is listed, and %s was shown", kind, c.HostKey)
		}
	}
}

func TestAPlainKeyLogsInWhereNoCAIsTrusted(t *testing.T) {
	for _, kind := range []string{"ed25519", "rsa"} {
		key, keyFile := newKeyFile(t, kind)
		host, hostFile := newKeyFile(t, "ed25519")
		s := startSSHD(t, "HostKey "+hostFile, "AuthorizedKeysFile "+keyFile+".pub")
		m, err := NewMinter(MinterOptions{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		cred, err := m.Mint(time.Now(), Grant{Login: loginName(t)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := logIn(t, knownHosts(t, "[*]:* "+line(host.PublicKey())), "db.example", s.port, cred); err != nil {
			t.Errorf("%s: %v\n%s", kind, err, s.log)
		}
	}
}

func TestLoginsThatATargetRefuses(t *testing.T) {
	ca, caFile := newKeyFile(t, "ed25519")
	host, hostFile := newKeyFile(t, "ed25519")
	s := startSSHD(t, "HostKey "+hostFile, "TrustedUserCAKeys "+caFile+".pub", "AuthorizedKeysFile none")
	known := knownHosts(t, "[*]:* "+line(host.PublicKey()))
	m, err := NewMinter(MinterOptions{CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	other, err := m.Mint(time.Now(), Grant{Login: "somebody-else"})
	if err != nil {
		t.Fatal(err)
	}
	stale, err := m.Mint(time.Now().Add(-time.Hour), Grant{Login: loginName(t)})
	if err != nil {
		t.Fatal(err)
	}
	for name, cred := range map[string]Credential{
		"a CA that is not trusted": mint(t, newKey(t, "ed25519")), "a certificate for another login": other, "one that has expired": stale,
	} {
		if _, err := logIn(t, known, "db.example", s.port, cred); Classify(err) != OutcomeLoginRefused {
			t.Errorf("%s: %q, %v", name, Classify(err), err)
		}
	}
}

func TestHostKeysThatAreRefusedBeforeAnythingIsSigned(t *testing.T) {
	ca, caFile := newKeyFile(t, "ed25519")
	host, hostFile := newKeyFile(t, "ed25519")
	s := startSSHD(t, "HostKey "+hostFile, "TrustedUserCAKeys "+caFile+".pub")
	shown, other := line(host.PublicKey()), line(newKey(t, "ed25519").PublicKey())
	name := at("db.example", s.port)
	for _, tc := range []struct {
		what  string
		lines []string
		want  Outcome
		says  string
	}{
		{"nobody is known", nil, OutcomeHostKeyUnknown, ssh.FingerprintSHA256(host.PublicKey())},
		{"the key is listed for another name", []string{at("web.example", s.port) + " " + shown}, OutcomeHostKeyUnknown, "db.example"},
		{"the key is listed for another port", []string{"db.example " + shown}, OutcomeHostKeyUnknown, "db.example"},
		{"the key is listed for the address alone", []string{at("127.0.0.1", s.port) + " " + shown}, OutcomeHostKeyUnknown, "db.example"},
		{"the name has another key", []string{name + " " + other}, OutcomeHostKeyChanged, "known_hosts:1"},
		{"the key is listed, but as a CA", []string{"@cert-authority " + name + " " + shown}, OutcomeHostKeyUnknown, "no certificate was shown"},
		{"the key is revoked", []string{name + " " + shown, "@revoked * " + shown}, OutcomeHostKeyRevoked, "known_hosts:2"},
		{"the key is revoked at another name", []string{name + " " + shown, "@revoked old.example " + shown}, OutcomeHostKeyRevoked, "known_hosts:2"},
		{"the name is excepted", []string{"[*]:*,!" + name + " " + shown}, OutcomeHostKeyUnknown, "db.example"},
	} {
		_, err := logIn(t, knownHosts(t, tc.lines...), "db.example", s.port, mint(t, ca))
		refused, ok := errors.AsType[*HostKeyError](err)
		if !ok || Classify(err) != tc.want || refused.Outcome != tc.want || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %q, %v; want %q and %q", tc.what, Classify(err), err, tc.want, tc.says)
		}
	}
	if strings.Contains(s.log.String(), "Accepted") || strings.Contains(s.log.String(), " ID alice") {
		t.Errorf("a target with a bad key got a signature:\n%s", s.log)
	}
}

// certifiedSSHD is an sshd with a host certificate of ca that ssh-keygen made.
func certifiedSSHD(t *testing.T, caFile, userCA string, keygenArgs ...string) *sshd {
	t.Helper()
	_, hostFile := newKeyFile(t, "ed25519")
	keygen(t, append([]string{"-q", "-s", caFile, "-I", "db", "-h"}, append(keygenArgs, hostFile+".pub")...)...)
	return startSSHD(t, "HostKey "+hostFile, "HostCertificate "+hostFile+"-cert.pub", "TrustedUserCAKeys "+userCA+".pub")
}

func TestHostCertificates(t *testing.T) {
	userCA, userCAFile := newKeyFile(t, "ed25519")
	hostCA, hostCAFile := newKeyFile(t, "rsa")
	authority := "@cert-authority *.example " + line(hostCA.PublicKey())
	for _, tc := range []struct {
		what, known string
		args        []string
		want        Outcome
	}{
		{"good", authority, []string{"-n", "db.example"}, OutcomeOK},
		{"a wildcard principal", authority, []string{"-n", "*.example"}, OutcomeOK},
		{"for another host", authority, []string{"-n", "web.example"}, OutcomeHostKeyUnknown},
		{"for no host by name", authority, nil, OutcomeHostKeyUnknown},
		{"expired", authority, []string{"-n", "db.example", "-V", "-2d:-1d"}, OutcomeHostKeyUnknown},
		{"not yet valid", authority, []string{"-n", "db.example", "-V", "+1d:+2d"}, OutcomeHostKeyUnknown},
		{"signed with SHA-1", authority, []string{"-n", "db.example", "-t", "ssh-rsa"}, OutcomeHostKeyUnknown},
		{"a CA for other names", "@cert-authority *.test " + line(hostCA.PublicKey()), []string{"-n", "db.example"}, OutcomeHostKeyUnknown},
		{"another CA", "@cert-authority * " + line(userCA.PublicKey()), []string{"-n", "db.example"}, OutcomeHostKeyUnknown},
		{"a revoked CA", authority + "\n@revoked * " + line(hostCA.PublicKey()), []string{"-n", "db.example"}, OutcomeHostKeyRevoked},
	} {
		t.Run(tc.what, func(t *testing.T) {
			s := certifiedSSHD(t, hostCAFile, userCAFile, tc.args...)
			// On port 22 the name stands without its port: ask as if it were.
			c, err := logInAs(t, s, knownHosts(t, tc.known), "DB.example", mint(t, userCA))
			if Classify(err) != tc.want {
				t.Fatalf("%q, %v; want %q\n%s", Classify(err), err, tc.want, s.log)
			}
			if tc.what == "another CA" && !strings.Contains(err.Error(), "of another CA, "+ssh.FingerprintSHA256(hostCA.PublicKey())) {
				t.Errorf("%v", err)
			}
			if err == nil && c.HostCA != ssh.FingerprintSHA256(hostCA.PublicKey()) {
				t.Errorf("certified by %q", c.HostCA)
			}
		})
	}
}

// logInAs logs in over a connection to s as if it were port 22 of host.
func logInAs(t *testing.T, s *sshd, known *KnownHosts, host string, cred Credential) (*Conn, error) {
	t.Helper()
	d := New(Options{})
	nc, err := d.DialTCP(t.Context(), addrs(t, "127.0.0.1"), s.port)
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.SSH(t.Context(), nc, known, Target{Host: host, Port: 22, Login: loginName(t), Credential: cred})
	if err == nil {
		t.Cleanup(func() { c.Close(); c.Wait() })
	}
	return c, err
}

func TestACertificateOfAnUnknownCACountsAsItsKey(t *testing.T) {
	userCA, userCAFile := newKeyFile(t, "ed25519")
	_, hostCAFile := newKeyFile(t, "ed25519")
	key, hostFile := newKeyFile(t, "ed25519")
	keygen(t, "-q", "-s", hostCAFile, "-I", "db", "-h", "-n", "db.example", hostFile+".pub")
	s := startSSHD(t, "HostKey "+hostFile, "HostCertificate "+hostFile+"-cert.pub", "TrustedUserCAKeys "+userCAFile+".pub")
	for name, known := range map[string]*KnownHosts{
		"no CA is listed":      knownHosts(t, "db.example "+line(key.PublicKey())),
		"another CA is listed": knownHosts(t, "@cert-authority * "+line(userCA.PublicKey()), "db.example "+line(key.PublicKey())),
	} {
		if c, err := logInAs(t, s, known, "db.example", mint(t, userCA)); err != nil || c.HostCA != "" {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
}

// serveOnce answers the next connection of a listener with serve.
func serveOnce(t *testing.T, serve func(net.Conn)) uint16 {
	t.Helper()
	ln, port := listen(t, "127.0.0.1", 0)
	var all sync.WaitGroup
	all.Go(func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		serve(nc)
	})
	t.Cleanup(func() { ln.Close(); all.Wait() })
	return port
}

func TestTargetsThatAreNoSSHServers(t *testing.T) {
	say := func(text string) func(net.Conn) {
		return func(nc net.Conn) { io.WriteString(nc, text) }
	}
	for _, tc := range []struct {
		what  string
		serve func(net.Conn)
		want  Outcome
	}{
		{"hangs up at once", func(net.Conn) {}, OutcomeHandshake},
		{"a mail server", say("220 mail.example ESMTP\r\n"), OutcomeNotSSH},
		{"a web server", say("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), OutcomeNotSSH},
		{"bytes without a line", say(strings.Repeat("\xff\x00", 4000)), OutcomeNotSSH},
		{"endless lines", say(strings.Repeat("hello\n", 20_000)), OutcomeNotSSH},
		{"SSH- in the middle of a line", say("hello SSH-2.0-x\r\n"), OutcomeNotSSH},
		{"a version and nothing else", say("SSH-2.0-x\r\n"), OutcomeHandshake},
		{"a version and nonsense", say("SSH-2.0-x\r\n" + strings.Repeat("\xff", 100)), OutcomeHandshake},
		{"an sshd that has too many clients", say("Exceeded MaxStartups\r\n"), OutcomeHandshake},
		{"an sshd that punishes the gate", say("Not allowed at this time\r\n"), OutcomeHandshake},
		{"a greeting, a version, and nothing else", say("welcome\r\nSSH-2.0-x\r\n"), OutcomeHandshake},
	} {
		t.Run(tc.what, func(t *testing.T) {
			port := serveOnce(t, func(nc net.Conn) {
				tc.serve(nc)
				nc.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, nc)
			})
			_, err := logIn(t, nil, "db.example", port, mint(t, newKey(t, "ed25519")))
			if Classify(err) != tc.want {
				t.Errorf("%q, %v; want %q", Classify(err), err, tc.want)
			}
			if len(err.Error()) > 600 || !utf8.ValidString(err.Error()) || strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("an error that no log should hold: %q", err)
			}
		})
	}
}

func TestTheOperatorReadsWhatATargetSaidInstead(t *testing.T) {
	port := serveOnce(t, func(nc net.Conn) { io.WriteString(nc, "220 mail.example ESMTP\r\n"); io.Copy(io.Discard, nc) })
	d := New(Options{DialTimeout: 300 * time.Millisecond})
	nc, err := d.DialTCP(t.Context(), addrs(t, "127.0.0.1"), port)
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.SSH(t.Context(), nc, nil, Target{Host: "db.example", Port: 22, Login: "x", Credential: mint(t, newKey(t, "ed25519"))})
	if Classify(err) != OutcomeNotSSH || !strings.Contains(err.Error(), `the target said "220 mail.example ESMTP\r\n"`) {
		t.Errorf("%q, %v", Classify(err), err)
	}
}

func TestALoginHasOneTimeLimitForAllOfIt(t *testing.T) {
	for what, serve := range map[string]func(net.Conn){
		"silence":              func(nc net.Conn) { io.Copy(io.Discard, nc) },
		"silence after a word": func(nc net.Conn) { io.WriteString(nc, "SSH-2.0-slow\r\n"); io.Copy(io.Discard, nc) },
		"a byte a second": func(nc net.Conn) {
			for _, b := range []byte("SSH-2.0-slow") {
				if _, err := nc.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			cred := mint(t, newKey(t, "ed25519"))
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				var all sync.WaitGroup
				all.Go(func() { defer theirs.Close(); serve(theirs) })
				began := time.Now()
				_, err := New(Options{DialTimeout: 7 * time.Second}).SSH(t.Context(), ours, nil, Target{Host: "db.example", Port: 22, Login: "x", Credential: cred})
				if took := time.Since(began); Classify(err) != OutcomeTimeout || took != 7*time.Second {
					t.Errorf("after %v: %q, %v", took, Classify(err), err)
				}
				all.Wait()
			})
		})
	}
}

func TestGivingUpEndsALogin(t *testing.T) {
	port := serveOnce(t, func(nc net.Conn) { io.Copy(io.Discard, nc) })
	d := New(Options{})
	nc, err := d.DialTCP(t.Context(), addrs(t, "127.0.0.1"), port)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stop := time.AfterFunc(20*time.Millisecond, cancel)
	defer stop.Stop()
	_, err = d.SSH(ctx, nc, nil, Target{Host: "db.example", Port: 22, Login: "x", Credential: mint(t, newKey(t, "ed25519"))})
	if Classify(err) != OutcomeCanceled {
		t.Errorf("%q, %v", Classify(err), err)
	}
}

func TestALiveConnectionOutlivesTheLimitsOfItsLogin(t *testing.T) {
	ca, caFile := newKeyFile(t, "ed25519")
	host, hostFile := newKeyFile(t, "ed25519")
	s := startSSHD(t, "HostKey "+hostFile, "TrustedUserCAKeys "+caFile+".pub")
	d := New(Options{DialTimeout: 1500 * time.Millisecond})
	nc, err := d.DialTCP(t.Context(), addrs(t, "127.0.0.1"), s.port)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c, err := d.SSH(ctx, nc, knownHosts(t, "[*]:* "+line(host.PublicKey())), Target{Host: "db.example", Port: s.port, Login: loginName(t), Credential: mint(t, ca)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { c.Close(); c.Wait() }()
	cancel()
	if got := output(t, c, "sleep 2; echo alive"); got != "alive\n" {
		t.Errorf("got %q", got)
	}
}

func TestWithoutACredentialNothingIsSaid(t *testing.T) {
	said := make(chan int64, 1)
	port := serveOnce(t, func(nc net.Conn) { n, _ := io.Copy(io.Discard, nc); said <- n })
	if _, err := logIn(t, nil, "db.example", port, Credential{}); err == nil {
		t.Error("logged in")
	}
	if n := <-said; n != 0 {
		t.Errorf("%d bytes were sent", n)
	}
}

func TestALiveConnectionIsAskedAboutAgain(t *testing.T) {
	userCA, userCAFile := newKeyFile(t, "ed25519")
	hostCA, hostCAFile := newKeyFile(t, "ed25519")
	s := certifiedSSHD(t, hostCAFile, userCAFile, "-n", "db.example", "-V", "-1h:+1h")
	authority := "@cert-authority * " + line(hostCA.PublicKey())
	c, err := logInAs(t, s, knownHosts(t, authority), "db.example", mint(t, userCA))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		known *KnownHosts
		want  bool
	}{
		"the same":               {knownHosts(t, authority), true},
		"nobody":                 {nil, false},
		"its CA revoked":         {knownHosts(t, authority, "@revoked * "+line(hostCA.PublicKey())), false},
		"its key revoked":        {knownHosts(t, authority, "@revoked * "+line(c.shown.(*ssh.Certificate).Key)), false},
		"its CA for other names": {knownHosts(t, "@cert-authority *.test "+line(hostCA.PublicKey())), false},
		"its key listed now":     {knownHosts(t, "db.example "+line(c.shown.(*ssh.Certificate).Key)), true},
	} {
		if got := tc.known.StillAccepts(c); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	cert := *c.shown.(*ssh.Certificate)
	for name, opened := range map[string]time.Time{"before its certificate ran out": c.opened, "after it did": time.Unix(int64(cert.ValidBefore)+1, 0)} {
		c.opened = opened
		if got, want := knownHosts(t, authority).StillAccepts(c), name == "before its certificate ran out"; got != want {
			t.Errorf("opened %s: %v", name, got)
		}
	}
	if knownHosts(t, authority).StillAccepts(&Conn{}) {
		t.Error("a connection without a key is good")
	}
}

// A target that shows one key and, at a later key exchange, another.
func TestTheHostKeyStaysTheSameForAConnection(t *testing.T) {
	key, other := newKey(t, "ed25519").PublicKey(), newKey(t, "ed25519")
	l := &login{target: Target{Host: "db.example", Port: 22}, known: knownHosts(t, "db.example "+line(key), "db.example "+line(other.PublicKey()))}
	if err := l.checkHostKey("", nil, key); err != nil {
		t.Fatal(err)
	}
	cert := &ssh.Certificate{Key: other.PublicKey(), CertType: ssh.HostCert}
	if err := cert.SignCert(rand.Reader, other); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"the other key, though it is listed": l.checkHostKey("", nil, other.PublicKey()), "it in a certificate": l.checkHostKey("", nil, cert),
	} {
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if err := l.checkHostKey("", nil, key); err != nil {
		t.Error(err)
	}
}
