package files

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The environment of a test binary that stands between a real client and a
// real server.
const (
	proxyEnv  = "FILES_TEST_PROXY"  // the server's command line
	rightsEnv = "FILES_TEST_RIGHTS" // "r", "w", "rw"
	opsEnv    = "FILES_TEST_OPS"    // file that takes the operations, one JSON object a line
)

func TestMain(m *testing.M) {
	if command := os.Getenv(proxyEnv); command != "" {
		os.Exit(proxy(command, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// proxy runs a server behind a decoder. "-" makes it an ssh to scp, whose last
// argument is the command line, and "rsync" an ssh to rsync that only notes it.
func proxy(command string, args []string) int {
	out, err := os.OpenFile(os.Getenv(opsEnv), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return 99
	}
	defer out.Close()
	lines := json.NewEncoder(out)
	report := func(o Operation) { _ = lines.Encode(o) }
	if command == "rsync" {
		line := strings.Join(args[1:], " ") // after the host, as ssh joins it
		_ = lines.Encode(Classify(line))
		cmd := exec.Command("/bin/sh", "-c", line)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		if cmd.Run() != nil {
			return 1
		}
		return 0
	}
	cmd := exec.Command(command)
	if command == "-" {
		cmd = exec.Command("/bin/sh", "-c", args[len(args)-1])
		s := NewSCP(Classify(args[len(args)-1]).Kind, report)
		pass := func(take func([]byte)) func([]byte) []byte {
			return func(p []byte) []byte { take(p); return p }
		}
		return between(cmd, pass(s.Client), pass(s.Server), nil, s.Err, s.Close)
	}
	rights := os.Getenv(rightsEnv)
	s := NewSFTP(Rights{Read: strings.Contains(rights, "r"), Write: strings.Contains(rights, "w")}, report)
	return between(cmd, s.Client, s.Server, s, s.Err, s.Close)
}

// between pipes standard input and output through a decoder to cmd and back.
func between(cmd *exec.Cmd, client, server func([]byte) []byte, answers *SFTP, err func() error, end func()) int {
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return 98
	}
	var mu sync.Mutex // one writer to the client at a time
	go func() {
		defer in.Close()
		pump(os.Stdin, func(p []byte) bool {
			_, err := in.Write(client(p))
			return err == nil
		})
	}()
	if answers != nil {
		go func() {
			for range answers.Pending() {
				mu.Lock()
				_, _ = os.Stdout.Write(answers.Answers())
				mu.Unlock()
			}
		}()
	}
	pump(out, func(p []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		_, err := os.Stdout.Write(server(p))
		return err == nil
	})
	code := 0
	if cmd.Wait() != nil {
		code = cmd.ProcessState.ExitCode()
	}
	if err() != nil {
		fmt.Fprintln(os.Stderr, "decoder:", err())
	}
	end()
	return code
}

func pump(from io.Reader, to func([]byte) bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !to(buf[:n]) || err != nil {
			return
		}
	}
}

// need returns the path of the first of these programs that is there, and
// skips the test where none is.
func need(t testing.TB, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing", names[0])
	}
	t.Skipf("%s is missing", names[0])
	return ""
}

func sftpServerProgram(t testing.TB) string {
	t.Helper()
	return need(t, "/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/libexec/sftp-server", "/usr/lib/ssh/sftp-server")
}

// seen collects operations.
type seen struct {
	mu  sync.Mutex
	ops []Operation
}

func (s *seen) report(o Operation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops = append(s.ops, o)
}

func (s *seen) all() []Operation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ops)
}
