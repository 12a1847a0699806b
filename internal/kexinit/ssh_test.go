package kexinit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// need returns the path of a real client, or skips; in CI it fails instead.
func need(t *testing.T, tool string) string {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing", tool)
	}
	t.Skipf("%s is missing", tool)
	return ""
}

// outcome is what a served connection came to.
type outcome struct {
	conn    *Conn
	algs    ssh.NegotiatedAlgorithms
	err     error // of Accept or the handshake
	command string
}

type server struct {
	addr    string
	hostKey ssh.PublicKey
	done    chan outcome
}

// serve takes one connection on, offers AES-GCM alone to a client that has it,
// and answers one command.
func serve(t *testing.T, o Options) *server {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	s := &server{ln.Addr().String(), signer.PublicKey(), make(chan outcome, 1)}
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			s.done <- outcome{err: err}
			return
		}
		defer nc.Close()
		s.done <- handshake(nc, o, signer)
	}()
	return s
}

func handshake(nc net.Conn, o Options, signer ssh.Signer) outcome {
	c, err := Accept(nc, o)
	if err != nil {
		return outcome{err: err}
	}
	config := &ssh.ServerConfig{
		ServerVersion: o.ServerVersion,
		NoClientAuth:  true,
		PasswordCallback: func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) {
			return nil, errors.New("no passwords")
		},
	}
	config.AddHostKey(signer)
	if c.Hello().OffersCipher(ssh.CipherAES128GCM) {
		config.Ciphers = []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM}
	}
	out := outcome{conn: c}
	sc, chans, reqs, err := ssh.NewServerConn(c, config)
	if err != nil {
		out.err = err
		return out
	}
	c.Authenticated()
	out.algs = sc.Conn.(ssh.AlgorithmsConnMetadata).Algorithms()
	go ssh.DiscardRequests(reqs)
	out.command, out.err = answer(chans)
	sc.Wait()
	return out
}

func answer(chans <-chan ssh.NewChannel) (command string, err error) {
	for nc := range chans {
		ch, reqs, err := nc.Accept()
		if err != nil {
			return "", err
		}
		for r := range reqs {
			r.Reply(r.Type == "exec", nil)
			if r.Type != "exec" {
				continue
			}
			command = string(r.Payload[4:])
			io.WriteString(ch, "answered\n")
			ch.SendRequest("exit-status", false, []byte{0, 0, 0, 0})
			ch.Close()
		}
	}
	return command, nil
}

func (s *server) result(t *testing.T) outcome {
	t.Helper()
	select {
	case out := <-s.done:
		return out
	case <-time.After(20 * time.Second):
		t.Fatal("the server is still at work")
		return outcome{}
	}
}

func (s *server) port(t *testing.T) string {
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// run returns stdout and stderr of a client command that must succeed.
func run(t *testing.T, path string, env []string, args ...string) (string, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", path, err, stderr.String())
	}
	return stdout.String(), stderr.String()
}

func openSSH(t *testing.T, s *server, more ...string) (stdout, stderr string) {
	t.Helper()
	args := []string{"-vv", "-F", "none", "-p", s.port(t), "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=" + filepath.Join(t.TempDir(), "known_hosts"), "-o", "BatchMode=yes"}
	return run(t, need(t, "ssh"), nil, slices.Concat(args, more, []string{"vendor@127.0.0.1", "say hello"})...)
}

func TestOpenSSHGetsAESGCMAndItsHASSHIsKnown(t *testing.T) {
	s := serve(t, options())
	stdout, stderr := openSSH(t, s)
	out := s.result(t)
	if out.err != nil {
		t.Fatal(out.err)
	}
	if stdout != "answered\n" || out.command != "say hello" {
		t.Errorf("ssh printed %q for %q", stdout, out.command)
	}
	if out.algs.Read.Cipher != ssh.CipherAES128GCM || out.algs.Write.Cipher != ssh.CipherAES128GCM {
		t.Errorf("negotiated %+v", out.algs)
	}
	compareWithDebugOutput(t, out.conn.Hello(), "local client", "compression ctos", stderr)
	compareWithDebugOutput(t, out.conn.ServerHello(), "peer server", "compression stoc", stderr)

	fingerprint, _ := out.conn.Hello().HASSH()
	if strings.HasPrefix(out.conn.Hello().Version, "SSH-2.0-OpenSSH_9.2") && fingerprint != "472b5de333ad665af5cbf10ff892c4df" {
		t.Errorf("HASSH of OpenSSH 9.2 is %s", fingerprint)
	}
	server := out.conn.ServerHello()
	if !slices.Equal(server.CiphersServerClient, []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM}) {
		t.Errorf("the gate's own KEXINIT was read as %+v", server)
	}
	if f, _ := server.ServerHASSH(); len(f) != 32 {
		t.Errorf("server HASSH %q", f)
	}
}

// compareWithDebugOutput holds h against what ssh -vv says of one side's KEXINIT.
func compareWithDebugOutput(t *testing.T, h Hello, side, compression, stderr string) {
	t.Helper()
	_, local, _ := strings.Cut(stderr, side+" KEXINIT proposal")
	local, _, _ = strings.Cut(local, "first_kex_follows")
	said := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^debug2: (.+): (.*?)\r?$`).FindAllStringSubmatch(local, -1) {
		said[m[1]] = m[2]
	}
	for name, list := range map[string][]string{
		"KEX algorithms":      h.KexAlgorithms,
		"host key algorithms": h.HostKeyAlgorithms,
		"ciphers ctos":        h.CiphersClientServer,
		"ciphers stoc":        h.CiphersServerClient,
		"MACs ctos":           h.MACsClientServer,
		"MACs stoc":           h.MACsServerClient,
		compression:           h.Compression,
	} {
		if said[name] == "" || said[name] != strings.Join(list, ",") {
			t.Errorf("%s: ssh says %q, read %q", name, said[name], list)
		}
	}
}

func TestOpenSSHWithoutAESGCMKeepsItsCipher(t *testing.T) {
	s := serve(t, options())
	_, stderr := openSSH(t, s, "-c", "chacha20-poly1305@openssh.com")
	out := s.result(t)
	if out.err != nil || out.algs.Read.Cipher != ssh.CipherChaCha20Poly1305 {
		t.Fatalf("%v, negotiated %+v", out.err, out.algs)
	}
	compareWithDebugOutput(t, out.conn.ServerHello(), "peer server", "compression stoc", stderr)
}

func TestDropbearThatSendsLineAndKexinitTogether(t *testing.T) {
	path := need(t, "dbclient")
	s := serve(t, options())
	stdout, _ := run(t, path, []string{"HOME=" + t.TempDir()}, "-y", "-y", "-p", s.port(t), "vendor@127.0.0.1", "say hello")
	out := s.result(t)
	if out.err != nil || stdout != "answered\n" {
		t.Fatalf("dbclient printed %q, %v", stdout, out.err)
	}
	if h := out.conn.Hello(); !strings.HasPrefix(h.Version, "SSH-2.0-dropbear") || len(h.KexAlgorithms) == 0 {
		t.Errorf("Hello is %+v", h)
	}
}

func TestPlink(t *testing.T) {
	path := need(t, "plink")
	s := serve(t, options())
	stdout, _ := run(t, path, []string{"HOME=" + t.TempDir()}, "-ssh", "-batch", "-hostkey", ssh.FingerprintSHA256(s.hostKey),
		"-P", s.port(t), "vendor@127.0.0.1", "say hello")
	out := s.result(t)
	if out.err != nil || stdout != "answered\n" {
		t.Fatalf("plink printed %q, %v", stdout, out.err)
	}
	if h := out.conn.Hello(); !strings.Contains(h.Version, "PuTTY") || len(h.KexAlgorithms) == 0 {
		t.Errorf("Hello is %+v", h)
	}
}

// waiting is a client connection that keeps its writes after the first back
// until the server's KEXINIT has begun to come.
type waiting struct {
	net.Conn
	wrote   bool
	read    int
	once    sync.Once
	kexinit chan struct{}
}

func (w *waiting) Write(p []byte) (int, error) {
	if w.wrote {
		<-w.kexinit
	}
	w.wrote = true
	return w.Conn.Write(p)
}

func (w *waiting) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.read += n
	if err != nil || w.read > len(serverVersion)+2 {
		w.once.Do(func() { close(w.kexinit) })
	}
	return n, err
}

func dial(t *testing.T, s *server) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc
}

func (s *server) config() *ssh.ClientConfig {
	return &ssh.ClientConfig{User: "vendor", HostKeyCallback: ssh.FixedHostKey(s.hostKey)}
}

func TestAnXCryptoClientThatWaitsForOurKexinitGetsThrough(t *testing.T) {
	o := options()
	o.Patience = 20 * time.Millisecond
	s := serve(t, o)
	sc, _, _, err := ssh.NewClientConn(&waiting{Conn: dial(t, s), kexinit: make(chan struct{})}, s.addr, s.config())
	if err != nil {
		t.Fatal(err)
	}
	sc.Close()
	out := s.result(t)
	if out.err != nil || out.conn.Hello().KexAlgorithms != nil {
		t.Errorf("%v, Hello %+v", out.err, out.conn.Hello())
	}
	if len(out.conn.ServerHello().KexAlgorithms) == 0 {
		t.Error("no ServerHello")
	}
}

func TestAnXCryptoClientGetsThrough(t *testing.T) {
	s := serve(t, options())
	sc, _, _, err := ssh.NewClientConn(dial(t, s), s.addr, s.config())
	if err != nil {
		t.Fatal(err)
	}
	sc.Close()
	out := s.result(t)
	if out.err != nil || out.algs.Read.Cipher != ssh.CipherAES128GCM {
		t.Errorf("%v, negotiated %+v", out.err, out.algs)
	}
}

func TestTheBudgetsErrorComesOutOfTheHandshake(t *testing.T) {
	o := options()
	o.Budget = 16 << 10
	s := serve(t, o)
	config := s.config()
	config.User = strings.Repeat("u", 100<<10)
	if _, _, _, err := ssh.NewClientConn(dial(t, s), s.addr, config); err == nil {
		t.Error("authenticated with 100 KiB of user name")
	}
	wantReason(t, s.result(t).err, ReasonPreAuthBytes)
}

func TestWhatWasOfferedIsKnownWhenNothingIsInCommon(t *testing.T) {
	s := serve(t, options())
	config := s.config()
	config.Ciphers = []string{ssh.InsecureCipherAES128CBC}
	if _, _, _, err := ssh.NewClientConn(dial(t, s), s.addr, config); err == nil {
		t.Error("agreed on AES-CBC")
	}
	out := s.result(t)
	if _, ok := errors.AsType[*ssh.AlgorithmNegotiationError](out.err); !ok {
		t.Errorf("handshake: %v", out.err)
	}
	if got := out.conn.Hello().CiphersClientServer; !slices.Equal(got, config.Ciphers) {
		t.Errorf("offered %q", got)
	}
	if len(out.conn.ServerHello().CiphersClientServer) == 0 {
		t.Error("no ServerHello")
	}
}
