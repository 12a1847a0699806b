package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// hostSSH is a host's sshd, a real one, under a systemd that the test plays.
type hostSSH struct {
	*mover
	t        *testing.T
	log      bytes.Buffer // what the mover said
	calls    []string     // of programs
	programs map[string]func(args []string) (string, error)

	daemon *exec.Cmd
	socket net.Listener // while ssh.socket is active
	served sync.WaitGroup
	broken bool // ssh.service does not start any more
}

// newHost is a host whose sshd_config has extra lines before its Include.
func newHost(t *testing.T, include string, extra ...string) *hostSSH {
	t.Helper()
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		skipOrFail(t, "sshd is missing")
	}
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		skipOrFail(t, fmt.Sprintf("ssh-keygen: %v: %s", err, out))
	}
	old := freePort(t)
	config := strings.Join(append([]string{include, fmt.Sprintf("Port %d", old), "HostKey " + key, "PidFile none", "StrictModes no"}, extra...), "\n") + "\n"
	config = strings.ReplaceAll(strings.ReplaceAll(config, "DIR", dir), "OLD", fmt.Sprint(old))
	writeTestFile(t, filepath.Join(dir, "sshd_config"), config)
	h := &hostSSH{t: t, programs: map[string]func([]string) (string, error){}}
	h.mover = &mover{
		address: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t)), port: old, out: &h.log,
		sshd: sshd, config: filepath.Join(dir, "sshd_config"), dropIn: filepath.Join(dir, "sshd_config.d", "05-postern.conf"),
		runDir: "/run/sshd", units: filepath.Join(dir, "units"), run: h.program, patience: 2 * time.Second, gateSocket: "postern.socket",
	}
	if err := os.MkdirAll(h.runDir, 0o755); err != nil && os.Geteuid() == 0 {
		t.Fatal(err)
	}
	t.Cleanup(h.stop)
	return h
}

func skipOrFail(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return netip.MustParseAddrPort(ln.Addr().String()).Port()
}

func writeTestFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// program runs sshd itself and plays every other program.
func (h *hostSSH) program(ctx context.Context, name string, args ...string) (string, error) {
	if name == h.sshd {
		return runProgram(ctx, name, args...)
	}
	line := strings.Join(append([]string{name}, args...), " ")
	h.calls = append(h.calls, line)
	if play, ok := h.programs[name]; ok {
		return play(args)
	}
	if name != "systemctl" {
		return "", exec.ErrNotFound
	}
	return "", h.systemctl(strings.TrimPrefix(line, "systemctl "))
}

var errNo = errors.New("exit status 1")

func (h *hostSSH) systemctl(call string) error {
	switch call {
	case "cat ssh.service", "daemon-reload", "enable ssh.service":
		return nil
	case "--quiet is-active ssh.socket":
		if h.socket != nil {
			return nil
		}
	case "restart ssh.service":
		h.stop()
		if h.broken {
			return errNo
		}
		return h.start()
	case "disable --now ssh.service", "disable --now ssh.socket":
		h.stop()
		return nil
	case "enable --now ssh.socket":
		return h.listen()
	}
	return errNo
}

func (h *hostSSH) start() error {
	h.daemon = exec.Command(h.sshd, "-D", "-e", "-f", h.config)
	return h.daemon.Start()
}

// started starts sshd and waits until it has read its configuration.
func (h *hostSSH) started() {
	h.t.Helper()
	if err := h.start(); err != nil {
		h.t.Fatal(err)
	}
	h.at(h.old(), h.address.String())
}

// listen starts an sshd for each connection, as a socket unit does.
func (h *hostSSH) listen() (err error) {
	h.socket, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", h.port))
	if err != nil {
		return err
	}
	ln := h.socket
	h.served.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			cmd := exec.Command(h.sshd, "-i", "-f", h.config)
			f, _ := nc.(*net.TCPConn).File()
			cmd.Stdin, cmd.Stdout = f, f
			nc.Close()
			cmd.Run()
			f.Close()
		}
	})
	return nil
}

func (h *hostSSH) stop() {
	if h.daemon != nil {
		h.daemon.Process.Kill()
		h.daemon.Wait()
		h.daemon = nil
	}
	if h.socket != nil {
		h.socket.Close()
		h.served.Wait()
		h.socket = nil
	}
}

func (h *hostSSH) old() string { return fmt.Sprintf("127.0.0.1:%d", h.port) }

// at wants an SSH server at one address and nobody at the other.
func (h *hostSSH) at(yes, no string) {
	h.t.Helper()
	if err := answers(h.t.Context(), yes, 5*time.Second); err != nil {
		h.t.Errorf("nobody answers at %s: %v\n%s", yes, err, h.log.String())
	}
	if nc, err := net.Dial("tcp", no); err == nil {
		nc.Close()
		h.t.Errorf("somebody answers at %s\n%s", no, h.log.String())
	}
}

// untouched wants sshd where it was and no drop-in.
func (h *hostSSH) untouched(err error) {
	h.t.Helper()
	if err == nil {
		h.t.Errorf("no error\n%s", h.log.String())
	}
	h.at(h.old(), h.address.String())
	if _, err := os.Stat(h.dropIn); !errors.Is(err, os.ErrNotExist) {
		h.t.Errorf("the drop-in is there: %v", err)
	}
}

const included = "Include DIR/sshd_config.d/*.conf"

func TestSSHDMovesAndComesBack(t *testing.T) {
	h := newHost(t, included)
	h.started()
	if err := h.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.at(h.address.String(), h.old())
	if err := h.take(t.Context()); err != nil || !strings.Contains(h.log.String(), "nothing to do") {
		t.Errorf("the second time: %v\n%s", err, h.log.String())
	}
	if err := h.undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.at(h.old(), h.address.String())
	if err := h.undo(t.Context()); err != nil || !strings.Contains(h.log.String(), "nothing to undo") {
		t.Errorf("the second undo: %v\n%s", err, h.log.String())
	}
}

func TestASocketActivatedSSHDBecomesAServiceAndASocketAgain(t *testing.T) {
	h := newHost(t, included)
	leftover := filepath.Join(h.units, "ssh.socket.d/addresses.conf")
	writeTestFile(t, leftover, "[Socket]\n")
	if err := h.listen(); err != nil {
		t.Fatal(err)
	}
	if err := h.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.at(h.address.String(), h.old())
	if !slices.Contains(h.calls, "systemctl disable --now ssh.socket") || !slices.Contains(h.calls, "systemctl enable ssh.service") {
		t.Errorf("systemd was told %q", h.calls)
	}
	if _, err := os.Stat(leftover); err == nil {
		t.Errorf("%s is still in force", leftover)
	}
	if err := h.undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.at(h.old(), h.address.String())
	if _, err := os.Stat(leftover); err != nil || h.socket == nil {
		t.Errorf("the socket unit is not what it was: %v", err)
	}
}

func TestSSHDStaysWhereItIsWhenTheMoveCannotWork(t *testing.T) {
	for name, setUp := range map[string]func(*testing.T) *hostSSH{
		"the drop-in is not included":       func(t *testing.T) *hostSSH { return newHost(t, "") },
		"another line keeps the port":       func(t *testing.T) *hostSSH { return newHost(t, included, "ListenAddress 127.0.0.1:OLD") },
		"the service does not start":        func(t *testing.T) *hostSSH { h := newHost(t, included); h.broken = true; return h },
		"the configuration has a fault":     func(t *testing.T) *hostSSH { return newHost(t, included, "Match Nonsense") },
		"SELinux enforces without semanage": func(t *testing.T) *hostSSH { return withSELinux(newHost(t, included), "Enforcing\n") },
	} {
		t.Run(name, func(t *testing.T) {
			h := setUp(t)
			// What runs was started before anything was wrong.
			if name == "the configuration has a fault" {
				if err := h.listenWithoutSSHD(); err != nil {
					t.Fatal(err)
				}
				defer h.stop()
				if err := h.take(t.Context()); err == nil {
					t.Error("no error")
				}
				if _, err := os.Stat(h.dropIn); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the drop-in is there: %v", err)
				}
				return
			}
			h.started()
			broken := h.broken
			err := h.take(t.Context())
			if broken {
				h.revive(err)
				return
			}
			h.untouched(err)
		})
	}
}

// listenWithoutSSHD holds the old port.
func (h *hostSSH) listenWithoutSSHD() (err error) {
	h.socket, err = net.Listen("tcp", h.old())
	return err
}

// revive wants that a service which does not start with any configuration is
// told of, and that the old configuration is there for when it does.
func (h *hostSSH) revive(err error) {
	h.t.Helper()
	f, ok := errors.AsType[*fault](err)
	if !ok || !strings.Contains(strings.Join(f.hints, "\n"), "by hand") {
		h.t.Errorf("%v, %+v", err, f)
	}
	h.broken = false
	if err := h.systemctl("restart ssh.service"); err != nil {
		h.t.Fatal(err)
	}
	h.untouched(err)
}

func TestANewAddressThatIsTakenIsRefused(t *testing.T) {
	h := newHost(t, included)
	h.started()
	ln, err := net.Listen("tcp", h.address.String())
	if err != nil {
		t.Fatal(err)
	}
	err = h.take(t.Context())
	ln.Close()
	h.untouched(err)
}

func withSELinux(h *hostSSH, mode string) *hostSSH {
	h.programs["selinuxenabled"] = func([]string) (string, error) { return "", nil }
	h.programs["getenforce"] = func([]string) (string, error) { return mode, nil }
	return h
}

func TestSELinuxGetsItsLabelWhereItIsMissing(t *testing.T) {
	for _, c := range []struct {
		labels string
		want   bool
	}{
		{"ssh_port_t                     tcp      22\n", true},
		{"ssh_port_t                     tcp      PORT, 22\n", false},
		{"http_port_t                    tcp      PORT\nssh_port_t                     tcp      22\n", true},
	} {
		h := withSELinux(newHost(t, included), "Enforcing\n")
		port := fmt.Sprint(h.address.Port())
		h.programs["semanage"] = func(args []string) (string, error) { return strings.ReplaceAll(c.labels, "PORT", port), nil }
		if err := h.labelPort(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(h.calls, "semanage port -a -t ssh_port_t -p tcp "+port); got != c.want {
			t.Errorf("%q: %q", c.labels, h.calls)
		}
	}
	h := withSELinux(newHost(t, included), "Permissive\n")
	if err := h.labelPort(t.Context()); err != nil || !strings.Contains(h.log.String(), "no label") {
		t.Errorf("permissive: %v, %q", err, h.log.String())
	}
}

func TestADryRunSaysWhatItWouldDoAndDoesNothing(t *testing.T) {
	h := newHost(t, included)
	if err := h.listen(); err != nil {
		t.Fatal(err)
	}
	h.dry = true
	if err := h.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.untouched(errNo)
	for _, want := range []string{h.listenLine(), "would disable ssh.socket and enable ssh.service", "would restart ssh.service"} {
		if !strings.Contains(h.log.String(), want) {
			t.Errorf("it says\n%swithout %q", h.log.String(), want)
		}
	}
}

func TestThePortIsNotTakenFromAGateThatHasIt(t *testing.T) {
	h := newHost(t, included)
	h.started()
	if err := h.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.programs["systemctl"] = func(args []string) (string, error) {
		if slices.Contains(args, "postern.socket") || args[0] == "cat" {
			return "", nil
		}
		return "", errNo
	}
	err := h.undo(t.Context())
	if err == nil || !strings.Contains(err.Error(), "postern.socket holds it") {
		t.Errorf("undo: %v", err)
	}
	h.at(h.address.String(), h.old())
}
