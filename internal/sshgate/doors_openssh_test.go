package sshgate

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	osexec "os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/policy"
)

// tool returns the path of an OpenSSH program; the test is skipped without it,
// unless this is CI.
func tool(t testing.TB, name string) string {
	t.Helper()
	for _, path := range []string{name, "/usr/sbin/" + name} {
		if found, err := osexec.LookPath(path); err == nil {
			return found
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

func me(t testing.TB) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username
}

// privateKey writes a new key, with mode 0600, and returns it.
func privateKey(t testing.TB, path string) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(pem.EncodeToMemory(block)))
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// openSSH is a gate between OpenSSH's ssh and OpenSSH's sshd.
type openSSH struct {
	*doorGate
	target netip.AddrPort
	config string // for ssh -F: the gate is "gate", its certificates are checked
}

func newOpenSSH(t testing.TB) *openSSH {
	t.Helper()
	return newOpenSSHWith(t, gateSpec{})
}

// newOpenSSHWith takes changes of the gate's options and rules.
func newOpenSSHWith(t testing.TB, gs gateSpec) *openSSH {
	t.Helper()
	sshd := tool(t, "sshd")
	tool(t, "ssh")
	dir, login := t.TempDir(), me(t)
	vendor := privateKey(t, filepath.Join(dir, "vendor"))
	o := &openSSH{config: filepath.Join(dir, "config")}
	spec := gs.spec
	gs.spec = func(s *policy.Spec) {
		s.Identities[0].Keys = append(s.Identities[0].Keys, policy.Key{Blob: vendor.PublicKey().Marshal()})
		s.Rules[len(s.Rules)-1].Logins = []string{login}
		if spec != nil {
			spec(s)
		}
	}
	o.doorGate = newDoorGate(t, gs)
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // its service makes it, which may never have run
			t.Fatal(err)
		}
	}
	hostKey := privateKey(t, filepath.Join(dir, "host"))
	write(t, filepath.Join(dir, "user_ca.pub"), string(ssh.MarshalAuthorizedKey(o.userCA.PublicKey())))
	write(t, filepath.Join(dir, "sshd_config"), fmt.Sprintf(
		"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nAuthorizedKeysFile none\nLogLevel VERBOSE\nHostKey %[1]s/host\nTrustedUserCAKeys %[1]s/user_ca.pub\nSubsystem sftp internal-sftp\n", dir))
	o.target = serveTCP(t, func(nc net.Conn) {
		f, err := nc.(*net.TCPConn).File()
		if err != nil {
			return
		}
		cmd := osexec.Command(sshd, "-i", "-e", "-f", filepath.Join(dir, "sshd_config"))
		cmd.Stdin, cmd.Stdout = f, f
		nc.Close()
		cmd.Run() // its status says how the client went
		f.Close()
	})
	o.knows(t, knownLine(o.target, hostKey.PublicKey()))
	host, port, _ := net.SplitHostPort(o.addr)
	write(t, filepath.Join(dir, "known_hosts"), fmt.Sprintf("[%s]:%s %s@cert-authority * %s",
		host, port, ssh.MarshalAuthorizedKey(o.hostKey.PublicKey()), ssh.MarshalAuthorizedKey(o.hostCA.PublicKey())))
	write(t, o.config, fmt.Sprintf(
		"Host gate\n HostName %s\n Port %s\n User vendor\n IdentityFile %s/vendor\nHost *\n IdentitiesOnly yes\n IdentityAgent none\n UserKnownHostsFile %s/known_hosts\n GlobalKnownHostsFile none\n StrictHostKeyChecking yes\n BatchMode yes\n",
		host, port, dir, dir))
	return o
}

// run runs an OpenSSH program and returns what it wrote and its exit status.
func (o *openSSH) run(t testing.TB, name string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := osexec.CommandContext(t.Context(), tool(t, name), append([]string{"-F", o.config}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *osexec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestOpenSSHGoesThroughBothDoors(t *testing.T) {
	o := newOpenSSH(t)
	login, port := me(t), fmt.Sprint(o.target.Port())
	for name, args := range map[string][]string{
		"-J":                 {"-J", "gate", "-p", port, login + "@127.0.0.1"},
		"login@target:port":  {"-l", login + "@127.0.0.1:" + port, "gate"},
		"login@target#port":  {login + "@127.0.0.1#" + port + "@gate"},
		"ProxyCommand of nc": {"-o", "ProxyCommand=ssh -F " + o.config + " gate nc %h %p", "-p", port, login + "@127.0.0.1"},
		"ProxyCommand of -W": {"-o", "ProxyCommand=ssh -F " + o.config + " -W %h:%p gate", "-p", port, login + "@127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			out, stderr, status := o.run(t, "ssh", append(args, "echo out; echo err >&2; exit 7")...)
			if out != "out\n" || !strings.HasSuffix(stderr, "err\n") || status != 7 { // the account's own profile may have its say before
				t.Errorf("stdout %q, stderr %q, status %d", out, stderr, status)
			}
		})
	}
	o.eventually(t, audit.TargetOpen, `"door":"proxyjump"`, "hassh", "OpenSSH")
	o.eventually(t, audit.TargetOpen, `"door":"login"`)
}

func TestOpenSSHShowsWhyItWasRefused(t *testing.T) {
	o := newOpenSSH(t)
	port := fmt.Sprint(o.target.Port())
	for name, args := range map[string][]string{
		"-J":           {"-J", "gate", "-p", port, "nobody@127.0.0.1", "true"},
		"login@target": {"nobody@127.0.0.1#" + port + "@gate", "true"},
		"a shell":      {"-T", "nobody@127.0.0.1#" + port + "@gate"},
		"sftp":         {"-s", "nobody@127.0.0.1#" + port + "@gate", "sftp"},
	} {
		t.Run(name, func(t *testing.T) {
			_, stderr, status := o.run(t, "ssh", args...)
			if !strings.Contains(stderr, "(reason: login)") || status != 255 {
				t.Errorf("told %q, status %d", stderr, status)
			}
		})
	}
}

func TestOpenSSHRefusesATargetsNameThatOurCADidNotSign(t *testing.T) {
	o := newOpenSSH(t)
	write(t, filepath.Join(filepath.Dir(o.config), "known_hosts"), "@cert-authority * "+string(ssh.MarshalAuthorizedKey(newSigner(t).PublicKey())))
	_, stderr, status := o.run(t, "ssh", "-o", "ProxyCommand=ssh -F "+o.config+" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null gate nc %h %p",
		"-p", fmt.Sprint(o.target.Port()), me(t)+"@127.0.0.1", "true")
	if status != 255 || !strings.Contains(stderr, "verification failed") {
		t.Errorf("told %q, status %d", stderr, status)
	}
}
