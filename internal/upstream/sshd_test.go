package upstream

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
)

// program returns the path of an OpenSSH program. Where it is missing the test
// is skipped, but not in CI.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = filepath.Join("/usr/sbin", name)
		if _, err = os.Stat(path); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is not installed", name)
			}
			t.Skipf("%s is not installed", name)
		}
	}
	return path
}

func keygen(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(program(t, "ssh-keygen"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ssh-keygen %q: %v: %s", args, err, out)
	}
	return string(out)
}

// newKey makes a key of a type: ed25519, ecdsa or rsa.
func newKey(t *testing.T, kind string) ssh.Signer {
	t.Helper()
	signer, _ := newKeyFile(t, kind)
	return signer
}

// newKeyFile makes a key and a file with its private half, its public half
// beside it.
func newKeyFile(t *testing.T, kind string) (ssh.Signer, string) {
	t.Helper()
	var key any
	var err error
	switch kind {
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "ecdsa":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), kind+"_key")
	writeFile(t, path, string(pem.EncodeToMemory(block)))
	writeFile(t, path+".pub", line(signer.PublicKey())+"\n")
	return signer, path
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// line is a public key as authorized_keys and known_hosts write it.
func line(key ssh.PublicKey) string {
	return string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(key)))
}

// knownHosts reads lines as a known_hosts file.
func knownHosts(t *testing.T, lines ...string) *KnownHosts {
	t.Helper()
	k, err := LoadKnownHosts([]string{knownHostsFile(t, lines...)})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func knownHostsFile(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "known_hosts")
	writeFile(t, path, strings.Join(lines, "\n")+"\n")
	return path
}

// sshd is a target: OpenSSH's server, one process for each connection.
type sshd struct {
	port uint16
	log  *syncBuffer
}

// syncBuffer is a buffer that several processes write to.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// startSSHD serves connections on 127.0.0.1 with sshd -i and the given lines
// of sshd_config. When the test ends every process has.
func startSSHD(t *testing.T, config ...string) *sshd {
	t.Helper()
	path := program(t, "sshd")
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // made by its service, which may never have run
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "sshd_config")
	writeFile(t, file, strings.Join(append([]string{"PidFile none", "StrictModes no", "UsePAM no", "LogLevel VERBOSE",
		"PasswordAuthentication no", "KbdInteractiveAuthentication no"}, config...), "\n")+"\n")
	ln, port := listen(t, "127.0.0.1", 0)
	s := &sshd{port: port, log: &syncBuffer{}}
	var all sync.WaitGroup
	all.Go(func() { s.accept(t, ln, &all, path, "-i", "-e", "-f", file) })
	t.Cleanup(func() { ln.Close(); all.Wait() })
	return s
}

func (s *sshd) accept(t *testing.T, ln net.Listener, all *sync.WaitGroup, command ...string) {
	for {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		f, err := nc.(*net.TCPConn).File()
		nc.Close()
		if err != nil {
			t.Error(err)
			return
		}
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = f, f, s.log
		if err := cmd.Start(); err != nil {
			t.Error(err)
		}
		f.Close()
		all.Go(func() { cmd.Wait() }) // its status says how the client went
	}
}

// login is the account that sshd can log in to: whoever runs the tests.
func loginName(t *testing.T) string {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return me.Username
}
