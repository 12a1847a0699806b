package sshgate

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/policy"
	"postern/internal/record"
)

// sftpTarget is a target whose sftp subsystem is pkg/sftp's.
func sftpTarget(ch ssh.Channel, _, _ string) {
	server, err := sftp.NewServer(ch)
	if err != nil {
		return
	}
	server.Serve()
	exitWith(ch, 0)
}

func sftpClient(t testing.TB, c *ssh.Client) *sftp.Client {
	t.Helper()
	s, err := sftp.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func noise(t testing.TB, size int) ([]byte, string) {
	t.Helper()
	b := make([]byte, size)
	rand.Read(b)
	sum := sha256.Sum256(b)
	return b, hex.EncodeToString(sum[:])
}

func TestSFTPLeavesATrace(t *testing.T) {
	g := newInspectGate(t, inspectSpec{target: programs(sftpTarget)})
	c := sftpClient(t, g.inside(t))
	path := filepath.Join(t.TempDir(), "part-0001")
	data, sum := noise(t, 3<<20)
	f, err := c.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if f, err = c.Open(path); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := f.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), data) {
		t.Error("the bytes that came back are others:", err)
	}
	f.Close()
	if err := c.Rename(path, path+".done"); err != nil {
		t.Fatal(err)
	}
	c.Close()
	g.eventually(t, audit.FileOp, `"Put"`, path, sum)
	g.eventually(t, audit.FileOp, `"Get"`, path)
	g.eventually(t, audit.FileOp, `"Rename"`, path+".done")
	header, records := g.taped(t)
	if header.Kind != "subsystem" || header.Command != "sftp" || of(records, record.Stdout) != "" {
		t.Errorf("what moved is in the recording too: %+v", header)
	}
}

func TestAFailedSFTPOpenIsAFailure(t *testing.T) {
	g := newInspectGate(t, inspectSpec{target: programs(sftpTarget)})
	c := sftpClient(t, g.inside(t))
	defer c.Close()
	if _, err := c.Open("/no/such/file"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	g.eventually(t, audit.FileOp, "/no/such/file", `"status":"Failure"`, "SSH_FX_NO_SUCH_FILE")
}

func TestWhatARightForbidsIsDeniedOneByOne(t *testing.T) {
	g := newInspectGate(t, inspectSpec{
		rule:   func(r *policy.Rule) { r.Allow = []policy.Verb{policy.SFTPRead} },
		target: programs(sftpTarget),
	})
	c := sftpClient(t, g.inside(t))
	defer c.Close()
	dir := t.TempDir()
	path := filepath.Join(dir, "there")
	data, _ := noise(t, 1<<20)
	write(t, path, string(data))
	for range 20 {
		if _, err := c.Create(filepath.Join(dir, "new")); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("create: %v", err)
		}
		if err := c.Remove(path); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("remove: %v", err)
		}
	}
	f, err := c.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := f.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), data) {
		t.Error("reading was hurt:", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
		t.Error("the file was made")
	}
	g.eventually(t, audit.FileOp, filepath.Join(dir, "new"), `"status":"Failure"`)
}

func TestShellAloneGrantsNoFiles(t *testing.T) {
	g := newInspectGate(t, inspectSpec{
		rule:   func(r *policy.Rule) { r.Allow = []policy.Verb{policy.Shell} },
		target: programs(sftpTarget),
	})
	client := g.inside(t)
	if c, err := sftp.NewClient(client); err == nil {
		c.Close()
		t.Error("SFTP was let through")
	}
	for _, command := range []string{"scp -t /tmp", "rsync --server -vlogDtpre.iLsfxCIvu . /tmp", "/usr/lib/openssh/sftp-server"} {
		_, stderr, status, err := exec(client, command)
		if status != 1 || !strings.Contains(stderr, "(reason: no_rule)") || err != nil {
			t.Errorf("%s: %q, %d, %v", command, stderr, status, err)
		}
	}
}

func TestScpNeedsTheRightOfItsDirection(t *testing.T) {
	g := newInspectGate(t, inspectSpec{
		rule:   func(r *policy.Rule) { r.Allow = []policy.Verb{policy.SFTPRead} },
		target: programs(func(ch ssh.Channel, _, command string) { io.WriteString(ch, command); exitWith(ch, 0) }),
	})
	client := g.inside(t)
	if out, _, status, err := exec(client, "scp -f /tmp/x"); out != "scp -f /tmp/x" || status != 0 || err != nil {
		t.Errorf("%q, %d, %v", out, status, err)
	}
	if _, stderr, status, err := exec(client, "scp -t /tmp/x"); status != 1 || stderr == "" || err != nil {
		t.Errorf("%q, %d, %v", stderr, status, err)
	}
}

func TestOpenSSHMovesFilesByteForByte(t *testing.T) {
	o := newOpenSSH(t)
	login := me(t)
	port := itoa(o.target.Port())
	dir := t.TempDir()
	data, sum := noise(t, 5<<20)
	from := filepath.Join(dir, "from")
	write(t, from, string(data))
	for name, args := range map[string][]string{
		"scp":    {"-o", "ProxyJump=gate", "-P", port},
		"scp -O": {"-O", "-o", "ProxyJump=gate", "-P", port},
	} {
		t.Run(name, func(t *testing.T) {
			there, back := filepath.Join(dir, "there "+name), filepath.Join(dir, "back "+name)
			if name == "scp -O" {
				there = filepath.Join(dir, "thereO")
			}
			if _, stderr, status := o.run(t, "scp", append(args, from, login+"@127.0.0.1:"+there)...); status != 0 {
				t.Fatalf("up: %d, %s", status, stderr)
			}
			if _, stderr, status := o.run(t, "scp", append(args, login+"@127.0.0.1:"+there, back)...); status != 0 {
				t.Fatalf("down: %d, %s", status, stderr)
			}
			for _, path := range []string{there, back} {
				if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s: other bytes, %v", path, err)
				}
			}
			o.eventually(t, audit.FileOp, `"Put"`, filepath.Base(there), sum)
			o.eventually(t, audit.FileOp, `"Get"`, filepath.Base(there), sum)
		})
	}
}
