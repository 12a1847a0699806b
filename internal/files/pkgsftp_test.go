package files

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pkg/sftp"
)

// throughDecoder starts a real sftp-server, and a Go client whose bytes a
// decoder sees. done ends both and returns what was seen.
func throughDecoder(t *testing.T, r Rights, options ...sftp.ClientOption) (client *sftp.Client, done func() []Operation) {
	t.Helper()
	cmd := exec.Command(sftpServerProgram(t))
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil || cmd.Start() != nil {
		t.Fatal("sftp-server did not start", err1, err2)
	}
	var got seen
	s := NewSFTP(r, got.report)
	client, err := sftp.NewClientPipe(readerFunc(func(p []byte) (int, error) {
		n, err := out.Read(p)
		if n > 0 && !bytes.Equal(s.Server(p[:n]), p[:n]) {
			t.Error("bytes to the client were changed")
		}
		return n, err
	}), writerFunc{in, func(p []byte) (int, error) {
		if !bytes.Equal(s.Client(p), p) {
			t.Error("bytes to the target were changed")
		}
		return in.Write(p)
	}}, options...)
	if err != nil {
		t.Fatal(err)
	}
	return client, func() []Operation {
		_ = client.Close()
		_ = cmd.Wait()
		s.Close()
		if s.Err() != nil {
			t.Error(s.Err())
		}
		return got.all()
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

type writerFunc struct {
	io.Closer
	write func([]byte) (int, error)
}

func (w writerFunc) Write(p []byte) (int, error) { return w.write(p) }

func TestConcurrentReadsAndWritesAreHashedInOrder(t *testing.T) {
	tr := newTree(t)
	const size = 9<<20 + 5
	sum := tr.file("x", size)
	client, done := throughDecoder(t, both, sftp.UseConcurrentWrites(true), sftp.UseConcurrentReads(true), sftp.MaxConcurrentRequestsPerFile(64))

	local, err := os.Open(filepath.Join(tr.dir, "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	up, err := client.Create(filepath.Join(tr.dir, "up"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := up.ReadFromWithConcurrency(local, 64); err != nil {
		t.Fatal(err)
	}
	if err := up.Close(); err != nil {
		t.Fatal(err)
	}
	tr.same("x", "up")

	down, err := client.Open(filepath.Join(tr.dir, "up"))
	if err != nil {
		t.Fatal(err)
	}
	var back bytes.Buffer
	if _, err := down.WriteTo(&back); err != nil {
		t.Fatal(err)
	}
	if err := down.Close(); err != nil {
		t.Fatal(err)
	}
	if hash256(back.Bytes()) != sum {
		t.Error("something else came back")
	}
	created := Operation{Action: Update, Protocol: "sftp", Path: filepath.Join(tr.dir, "up"), BytesWritten: size, Size: -1, SHA256: sum, Command: "SSH_FXP_CLOSE"}
	fetched := get(filepath.Join(tr.dir, "up"), size, sum)
	fetched.Size = -1 // it does not ask
	compare(t, done(), []Operation{created, fetched})
}
