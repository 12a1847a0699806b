package files

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tree is a folder for one test, which its programs run in.
type tree struct {
	t   *testing.T
	dir string
	ops string
}

func newTree(t *testing.T) *tree {
	dir := t.TempDir()
	return &tree{t: t, dir: dir, ops: filepath.Join(t.TempDir(), "ops")}
}

// file makes a file of n bytes that no two files share, and returns its hash.
func (tr *tree) file(name string, n int) string {
	tr.t.Helper()
	var seed [32]byte
	copy(seed[:], name)
	data := make([]byte, n)
	_, _ = rand.NewChaCha8(seed).Read(data)
	if err := os.WriteFile(filepath.Join(tr.dir, name), data, 0o644); err != nil {
		tr.t.Fatal(err)
	}
	return hash256(data)
}

func hash256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// same fails unless two files hold the same.
func (tr *tree) same(a, b string) {
	tr.t.Helper()
	one, err1 := os.ReadFile(filepath.Join(tr.dir, a))
	two, err2 := os.ReadFile(filepath.Join(tr.dir, b))
	if err1 != nil || err2 != nil || !bytes.Equal(one, two) {
		tr.t.Errorf("%s and %s differ (%v, %v)", a, b, err1, err2)
	}
}

// run runs a client whose server is behind a decoder.
func (tr *tree) run(program string, rights Rights, stdin, name string, args ...string) (output string, err error) {
	tr.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = tr.dir
	letters := ""
	if rights.Read {
		letters += "r"
	}
	if rights.Write {
		letters += "w"
	}
	cmd.Env = append(os.Environ(), proxyEnv+"="+program, rightsEnv+"="+letters, opsEnv+"="+tr.ops, "HOME="+tr.dir,
		"GORACE=atexit_sleep_ms=0") // or every helper of a race test waits a second
	cmd.Stdin = strings.NewReader(stdin)
	all, err := cmd.CombinedOutput()
	return string(all), err
}

// sftp runs OpenSSH's sftp over commands.
func (tr *tree) sftp(rights Rights, batch string, args ...string) (output string, err error) {
	tr.t.Helper()
	client, server := need(tr.t, "sftp"), sftpServerProgram(tr.t)
	return tr.run(server, rights, batch, client, append([]string{"-D", os.Args[0], "-b", "-"}, args...)...)
}

// scp runs OpenSSH's scp with the legacy protocol.
func (tr *tree) scp(args ...string) (output string, err error) {
	tr.t.Helper()
	return tr.run("-", both, "", need(tr.t, "scp"), append([]string{"-O", "-S", os.Args[0]}, args...)...)
}

// seen are the operations that the decoder reported.
func (tr *tree) seen() []Operation {
	tr.t.Helper()
	f, err := os.Open(tr.ops)
	if err != nil {
		tr.t.Fatal(err)
	}
	defer f.Close()
	var ops []Operation
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var o Operation
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			tr.t.Fatal(err)
		}
		ops = append(ops, o)
	}
	return ops
}

// want fails unless exactly these operations were seen, in this order, times
// aside.
func (tr *tree) want(want ...Operation) {
	tr.t.Helper()
	compare(tr.t, tr.seen(), want)
}

func compare(t *testing.T, got, want []Operation) {
	t.Helper()
	for i, o := range got {
		if o.Start.IsZero() || o.End.Before(o.Start) {
			t.Errorf("%s %s: from %v to %v", o.Action, o.Path, o.Start, o.End)
		}
		o.Start, o.End = o.Start.Truncate(1<<62), o.End.Truncate(1<<62)
		if i < len(want) {
			want[i].Start, want[i].End = o.Start, o.End
			if o != want[i] {
				t.Errorf("operation %d:\n got %+v\nwant %+v", i, o, want[i])
			}
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d operations, want %d: %+v", len(got), len(want), got)
	}
}

// get and put are whole transfers.
func get(path string, size int64, sum string) Operation {
	return Operation{Action: Get, Protocol: "sftp", Path: path, BytesRead: size, Size: size, SHA256: sum, Command: "SSH_FXP_CLOSE"}
}

func put(path string, size int64, sum string) Operation {
	return Operation{Action: Put, Protocol: "sftp", Path: path, BytesWritten: size, Size: -1, SHA256: sum, Command: "SSH_FXP_CLOSE"}
}

func op(action, path, to, command string) Operation {
	return Operation{Action: action, Protocol: "sftp", Path: path, To: to, Size: -1, Command: command}
}

func denied(o Operation) Operation {
	o.Denied = true
	o.fail("SSH_FX_PERMISSION_DENIED", 3, o.Command)
	return o
}

func TestWhatOpenSSHsSFTPMovesIsHashed(t *testing.T) {
	for _, size := range []int{0, 1, 32 << 10, 32<<10 + 1, 5<<20 + 7} {
		tr := newTree(t)
		sum := tr.file("a b", size)
		out, err := tr.sftp(both, "put \"a b\" up\nget up down\n")
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		tr.same("a b", "up")
		tr.same("a b", "down")
		up := filepath.Join(tr.dir, "up")
		tr.want(put(up, int64(size), sum), get(up, int64(size), sum))
	}
}

func TestWhatOpenSSHsSFTPDoesIsSeen(t *testing.T) {
	tr := newTree(t)
	tr.file("x", 10)
	out, err := tr.sftp(both, "mkdir d\nrename x y\nsymlink y z\nln y w\nchmod 600 y\nls -1 d\nrm z\nrmdir d\n")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	in := func(name string) string { return filepath.Join(tr.dir, name) }
	got := tr.seen()
	wants := []Operation{
		op(Mkdir, in("d"), "", "SSH_FXP_MKDIR"),
		op(Rename, in("x"), in("y"), "SSH_FXP_EXTENDED posix-rename@openssh.com"),
		op(Symlink, "y", in("z"), "SSH_FXP_SYMLINK"),
		op(Link, in("y"), in("w"), "SSH_FXP_EXTENDED hardlink@openssh.com"),
		op(Setstat, in("y"), "", "SSH_FXP_SETSTAT"),
		op(List, in("d"), "", "SSH_FXP_CLOSE"),
		op(Remove, in("z"), "", "SSH_FXP_REMOVE"),
		op(Rmdir, in("d"), "", "SSH_FXP_RMDIR"),
	}
	wants[5].Path, wants[5].Entries = got[5].Path, 2 // with or without a slash; "." and ".."
	compare(t, got, wants)
}

func TestFailedSFTPOpenIsAFailure(t *testing.T) {
	tr := newTree(t)
	tr.file("x", 10)
	if err := os.Mkdir(filepath.Join(tr.dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := tr.sftp(both, "-put x missing/x\n-rm missing\nput x d/x\n")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	refused := op(Put, filepath.Join(tr.dir, "missing/x"), "", "SSH_FXP_OPEN")
	refused.fail("SSH_FX_NO_SUCH_FILE", 2, "SSH_FXP_OPEN")
	missing := op(Remove, filepath.Join(tr.dir, "missing"), "", "SSH_FXP_REMOVE")
	missing.fail("SSH_FX_NO_SUCH_FILE", 2, "SSH_FXP_REMOVE")
	got := tr.seen()
	compare(t, got, []Operation{refused, missing, put(filepath.Join(tr.dir, "d/x"), 10, got[2].SHA256)})
}

func TestATransferThatIsResumedIsPartial(t *testing.T) {
	tr := newTree(t)
	tr.file("x", 100_000)
	whole, err := os.ReadFile(filepath.Join(tr.dir, "x"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"up", "down"} {
		if err := os.WriteFile(filepath.Join(tr.dir, name), whole[:40_000], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := tr.sftp(both, "reput x up\nreget x down\n")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	up, down := put(filepath.Join(tr.dir, "up"), 60_000, ""), get(filepath.Join(tr.dir, "x"), 60_000, "")
	up.Partial, down.Partial, down.Size = true, true, 100_000
	tr.want(up, down)
}

func TestAReaderGetsAndListsButPutsNothing(t *testing.T) {
	tr := newTree(t)
	sum := tr.file("x", 300_000)
	out, err := tr.sftp(Rights{Read: true}, "-put x up\n-rm x\n-rename x y\n-mkdir d\n-chmod 600 x\n-ln x w\n-ln -s x v\nls -1\nget x down\n")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if n := strings.Count(out, "ermission denied"); n != 7 {
		t.Errorf("%d permissions denied, want 7: %s", n, out)
	}
	tr.same("x", "down")
	in := func(name string) string { return filepath.Join(tr.dir, name) }
	for _, name := range []string{"up", "y", "d", "w", "v"} {
		if _, err := os.Lstat(in(name)); err == nil {
			t.Errorf("%s is there", name)
		}
	}
	got := tr.seen()
	wants := []Operation{
		denied(op(Put, in("up"), "", "SSH_FXP_OPEN")),
		denied(op(Remove, in("x"), "", "SSH_FXP_REMOVE")),
		denied(op(Rename, in("x"), in("y"), "SSH_FXP_EXTENDED posix-rename@openssh.com")),
		denied(op(Mkdir, in("d"), "", "SSH_FXP_MKDIR")),
		denied(op(Setstat, in("x"), "", "SSH_FXP_SETSTAT")),
		denied(op(Link, in("x"), in("w"), "SSH_FXP_EXTENDED hardlink@openssh.com")),
		denied(op(Symlink, "x", in("v"), "SSH_FXP_SYMLINK")),
		op(List, tr.dir, "", "SSH_FXP_CLOSE"),
		get(in("x"), 300_000, sum),
	}
	wants[7].Path, wants[7].Entries = got[7].Path, 3
	compare(t, got, wants)
}

func TestAWriterPutsButGetsNothing(t *testing.T) {
	tr := newTree(t)
	sum := tr.file("x", 300_000)
	out, err := tr.sftp(Rights{Write: true}, "-get x down\nput x up\nmkdir d\nls -1 d\n")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if n := strings.Count(out, "ermission denied"); n != 1 {
		t.Errorf("%d permissions denied, want 1: %s", n, out)
	}
	tr.same("x", "up")
	if info, err := os.Stat(filepath.Join(tr.dir, "down")); err == nil && info.Size() > 0 {
		t.Error("something was read")
	}
	in := func(name string) string { return filepath.Join(tr.dir, name) }
	got := tr.seen()
	wants := []Operation{
		denied(op(Get, in("x"), "", "SSH_FXP_OPEN")),
		put(in("up"), 300_000, sum),
		op(Mkdir, in("d"), "", "SSH_FXP_MKDIR"),
		op(List, in("d"), "", "SSH_FXP_CLOSE"),
	}
	wants[3].Path, wants[3].Entries = got[3].Path, 2
	compare(t, got, wants)
}

func TestNewSCPIsSFTP(t *testing.T) {
	tr := newTree(t)
	sum := tr.file("x", 3<<20)
	client, server := need(t, "scp"), sftpServerProgram(t)
	if out, err := tr.run(server, both, "", client, "-D", os.Args[0], "x", "h:"+tr.dir+"/up"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	tr.same("x", "up")
	up := filepath.Join(tr.dir, "up")
	tr.want(op(Setstat, up, "", "SSH_FXP_FSETSTAT"), put(up, 3<<20, sum)) // scp cuts what was there before
}
