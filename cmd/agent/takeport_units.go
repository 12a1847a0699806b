package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// sshdUnits are what systemd calls the system's sshd.
type sshdUnits struct {
	service string
	socket  string // that starts it, "" where none is in use
}

// findUnits asks systemd: Debian and Ubuntu say ssh, the others sshd.
func (m *mover) findUnits(ctx context.Context) (sshdUnits, error) {
	var refused error
	for _, name := range []string{"ssh", "sshd"} {
		_, err := m.run(ctx, "systemctl", "cat", name+".service")
		if err != nil {
			refused = err
			continue
		}
		u := sshdUnits{service: name + ".service"}
		if socket := name + ".socket"; m.active(ctx, socket) || m.enabled(ctx, socket) {
			u.socket = socket
		}
		return u, nil
	}
	return sshdUnits{}, fmt.Errorf("systemd knows no ssh.service and no sshd.service: %w", refused)
}

func (m *mover) active(ctx context.Context, unit string) bool {
	_, err := m.run(ctx, "systemctl", "--quiet", "is-active", unit)
	return err == nil
}

func (m *mover) enabled(ctx context.Context, unit string) bool {
	_, err := m.run(ctx, "systemctl", "--quiet", "is-enabled", unit)
	return err == nil
}

// Ubuntu 22.10 to 23.10 keep the socket's port, and the service's need of the
// socket, in files of their own.
var socketLeftovers = [...]string{"ssh.service.d/00-socket.conf", "ssh.socket.d/addresses.conf"}

const asideSuffix = ".postern-aside"

// toService has sshd run as a service that opens its ports by itself. Sessions
// go on: the units kill sshd alone, not its children.
func (m *mover) toService(ctx context.Context, u sshdUnits) error {
	if u.socket != "" {
		if err := m.renameLeftovers("", asideSuffix); err != nil {
			return err
		}
		if err := m.systemctl(ctx, []string{"disable", "--now", u.socket}, []string{"daemon-reload"}, []string{"enable", u.service}); err != nil {
			return err
		}
	}
	return m.systemctl(ctx, []string{"restart", u.service})
}

// toBefore has sshd run as it did before toService.
func (m *mover) toBefore(ctx context.Context, u sshdUnits) error {
	if u.socket == "" {
		return m.systemctl(ctx, []string{"restart", u.service})
	}
	if err := m.renameLeftovers(asideSuffix, ""); err != nil {
		return err
	}
	return m.systemctl(ctx, []string{"disable", "--now", u.service}, []string{"daemon-reload"}, []string{"enable", "--now", u.socket})
}

func (m *mover) systemctl(ctx context.Context, calls ...[]string) error {
	for _, args := range calls {
		if _, err := m.run(ctx, "systemctl", args...); err != nil {
			return err
		}
	}
	return nil
}

func (m *mover) renameLeftovers(from, to string) error {
	for _, name := range socketLeftovers {
		path := filepath.Join(m.units, name)
		if err := os.Rename(path+from, path+to); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (m *mover) selinux(ctx context.Context) bool {
	_, err := m.run(ctx, "selinuxenabled")
	return err == nil
}

// labelPort lets a confined sshd bind the new port. The label stays after an
// undo: it allows sshd a port and nothing else.
func (m *mover) labelPort(ctx context.Context) error {
	if !m.selinux(ctx) {
		return nil
	}
	labels, err := m.run(ctx, "semanage", "port", "-l")
	if err != nil {
		return m.unlabelled(ctx, err)
	}
	port := fmt.Sprint(m.address.Port())
	if regexp.MustCompile(`(?m)^ssh_port_t\s+tcp\s.*\b` + port + `\b`).MatchString(labels) {
		return nil
	}
	if _, err := m.run(ctx, "semanage", "port", "-a", "-t", "ssh_port_t", "-p", "tcp", port); err == nil {
		m.say("SELinux: TCP port %s is an ssh_port_t", port)
		return nil
	}
	_, err = m.run(ctx, "semanage", "port", "-m", "-t", "ssh_port_t", "-p", "tcp", port)
	return err
}

// unlabelled is what a port without a label means: where SELinux only warns, it
// is no obstacle.
func (m *mover) unlabelled(ctx context.Context, why error) error {
	mode, err := m.run(ctx, "getenforce")
	if err == nil && strings.TrimSpace(mode) == "Permissive" {
		m.say("SELinux is permissive: TCP port %d gets no label (%v)", m.address.Port(), why)
		return nil
	}
	return fmt.Errorf("label TCP port %d for SELinux (dnf install policycoreutils-python-utils brings semanage): %w", m.address.Port(), why)
}
