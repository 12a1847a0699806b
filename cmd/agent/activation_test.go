package main

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// file is the descriptor of a listener, as systemd would pass it.
func file(t *testing.T, ln net.Listener) *os.File {
	t.Helper()
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// activated is serve with sockets that it inherits, in a process of its own.
func activated(t *testing.T, config, names string, lns ...net.Listener) *exec.Cmd {
	t.Helper()
	// LISTEN_PID must be the process that exec leaves.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec postern serve --config "$0"`, config)
	cmd.Env = append(os.Environ(), "LISTEN_FDS="+string(rune('0'+len(lns))), "LISTEN_FDNAMES="+names)
	for _, ln := range lns {
		cmd.ExtraFiles = append(cmd.ExtraFiles, file(t, ln))
	}
	return cmd
}

func TestServeTakesTheSocketsOfSystemdAndSaysWhenItIsReady(t *testing.T) {
	manager := serviceManager(t)
	g := newTestGate(t)
	// The configuration names ports that are taken, by these very sockets.
	cmd := activated(t, g.path("postern.yaml"), "ssh:health:metrics",
		g.lns.gate[socketSSH], g.lns.gate[socketHealth], g.lns.gate[socketMetrics])
	var stderr lockedBuffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	notified(t, manager, "READY=1")
	if resp, err := http.Get("http://" + g.Health + "/readyz"); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("readyz: %v, %v", resp, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	notified(t, manager, "STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &stderr)
	}
}

func TestASocketThatNobodyWouldServeIsAnError(t *testing.T) {
	g := newTestGate(t)
	for names, says := range map[string]string{
		"ssh:admin": `socket "admin" is none of`,
		"ssh:ssh":   `2 sockets are named "ssh"`,
	} {
		cmd := activated(t, g.path("postern.yaml"), names, g.lns.gate[socketSSH], g.lns.gate[socketHealth])
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != exitConfig || !strings.Contains(string(out), says) {
			t.Errorf("%s: %v\n%s", names, err, out)
		}
	}
}
