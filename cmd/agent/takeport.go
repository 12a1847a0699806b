package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"postern/internal/durable"
)

type takePortCmd struct {
	Address netip.AddrPort `default:"127.0.0.1:2200" placeholder:"ADDR:PORT" help:"Where the system's sshd is to listen instead (${default})."`
	Undo    bool           `help:"Give port 22 back to sshd."`
	DryRun  bool           `help:"Say what would be done and do nothing."`
}

// Help has what the command does, and its examples.
func (takePortCmd) Help() string {
	return `The system's sshd moves to another address by a file in /etc/ssh/sshd_config.d, so that port 22 is free for the gate. An sshd with the new configuration must answer there before the old port is given up, the system's own must answer after it, and what was is restored where either does not. Sessions that are open stay open. ssh.socket and SELinux are seen to. Doing it again changes nothing.

On loopback, sshd is for whoever comes through SSM Session Manager (AWS-StartSSHSession with portNumber=2200), to repair the gate.

Examples:

    postern take-port-22 --dry-run
    postern take-port-22
    postern take-port-22 --address 10.0.1.10:2200
    postern take-port-22 --undo`
}

// Run moves sshd, or moves it back.
func (c *takePortCmd) Run(e *env) error {
	if os.Geteuid() != 0 && !c.DryRun {
		return undecided(errors.New("take port 22: only root may change sshd"), "sudo postern take-port-22; --dry-run says as anybody what would be done")
	}
	m := systemMover(e.stdout)
	m.address, m.dry = c.Address, c.DryRun
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if c.Undo {
		return m.undo(ctx)
	}
	return m.take(ctx)
}

const (
	answerPatience = 15 * time.Second
	dropInHeader   = "# Made by postern take-port-22: port 22 is the gate's. postern take-port-22 --undo\n# removes it.\n"
	wasSocket      = "# before: socket-activated by "
)

// mover moves an sshd away from a port, and back.
type mover struct {
	address netip.AddrPort // where sshd is to listen
	port    uint16         // that it gives up
	dry     bool
	out     io.Writer // what was done, a line a step

	sshd       string // program
	config     string // its sshd_config
	dropIn     string
	runDir     string // that sshd needs, and that its unit makes at the first start
	units      string // /etc/systemd/system
	run        runner
	patience   time.Duration
	gateSocket string // unit that may hold the port for the gate
}

func systemMover(out io.Writer) *mover {
	return &mover{
		port: 22, out: out,
		sshd: "/usr/sbin/sshd", config: "/etc/ssh/sshd_config", dropIn: "/etc/ssh/sshd_config.d/05-postern.conf",
		runDir: "/run/sshd", units: "/etc/systemd/system", run: runProgram, patience: answerPatience, gateSocket: "postern.socket",
	}
}

// take moves sshd to m.address. When it returns an error, sshd is where it was.
func (m *mover) take(ctx context.Context) error {
	u, err := m.findUnits(ctx)
	if err != nil {
		return undecided(fmt.Errorf("take port %d: %w", m.port, err))
	}
	if m.taken(ctx) {
		fmt.Fprintf(m.out, "sshd is at %s already, nothing to do\n", m.address)
		return nil
	}
	if m.dry {
		return m.describe(ctx, u)
	}
	before, err := m.writeDropIn(u)
	if err != nil {
		return wrong(fmt.Errorf("take port %d: %w", m.port, err))
	}
	if err := m.prepare(ctx); err != nil {
		return m.giveUp(m.moving(), err, m.restore(before))
	}
	m.say("an sshd with the new configuration answers at %s", m.address)
	if err := m.leave(ctx, u); err != nil {
		back := errors.Join(m.restore(before), m.enter(ctx, u))
		return m.giveUp(m.moving(), err, back)
	}
	m.say("sshd listens at %s, port %d is free", m.address, m.port)
	m.say("to go back: postern take-port-22 --undo, or remove %s and restart %s", m.dropIn, u.service)
	return nil
}

// taken says whether a run before has done all there is to do.
func (m *mover) taken(ctx context.Context) bool {
	b, err := os.ReadFile(m.dropIn)
	if err != nil || !strings.Contains(string(b), m.listenLine()) {
		return false
	}
	others, err := m.otherListeners(ctx)
	return err == nil && len(others) == 0 && answers(ctx, m.address.String(), time.Second) == nil
}

// prepare does all that can be done while sshd still has the old port.
func (m *mover) prepare(ctx context.Context) error {
	if err := m.checkConfig(ctx); err != nil {
		return err
	}
	if err := m.labelPort(ctx); err != nil {
		return err
	}
	return m.trial(ctx)
}

// leave makes the system's sshd take the new configuration.
func (m *mover) leave(ctx context.Context, u sshdUnits) error {
	if err := m.toService(ctx, u); err != nil {
		return err
	}
	if err := answers(ctx, m.address.String(), m.patience); err != nil {
		return fmt.Errorf("sshd does not answer at %s: %w", m.address, err)
	}
	return m.waitFree(ctx)
}

// waitFree waits until nobody listens on the old port, but the gate.
func (m *mover) waitFree(ctx context.Context) error {
	if m.active(ctx, m.gateSocket) {
		return nil
	}
	return retry(ctx, m.patience, func() error {
		ln, err := net.Listen("tcp", fmt.Sprintf(":%d", m.port))
		if err != nil {
			return fmt.Errorf("somebody still has port %d: %w", m.port, err)
		}
		return ln.Close()
	})
}

// undo gives the port back. When it returns an error, sshd is where it was.
func (m *mover) undo(ctx context.Context) error {
	b, err := os.ReadFile(m.dropIn)
	if errors.Is(err, os.ErrNotExist) {
		fmt.Fprintf(m.out, "there is no %s, nothing to undo\n", m.dropIn)
		return nil
	}
	if err != nil {
		return undecided(fmt.Errorf("give port %d back: %w", m.port, err))
	}
	u, err := m.findUnits(ctx)
	if err != nil {
		return undecided(fmt.Errorf("give port %d back: %w", m.port, err))
	}
	u.socket = socketBefore(string(b))
	if m.active(ctx, m.gateSocket) {
		return wrong(fmt.Errorf("give port %d back: %s holds it", m.port, m.gateSocket), "systemctl disable --now postern.socket postern.service")
	}
	if m.dry {
		m.say("would remove %s and restart %s", m.dropIn, cmp.Or(u.socket, u.service))
		return nil
	}
	if err := os.Remove(m.dropIn); err != nil {
		return wrong(fmt.Errorf("give port %d back: %w", m.port, err))
	}
	if err := m.enter(ctx, u); err != nil {
		back := errors.Join(m.restore(b), m.toService(ctx, u))
		return m.giveUp(fmt.Sprintf("give port %d back", m.port), err, back)
	}
	m.say("sshd answers on port %d again", m.port)
	return nil
}

// enter makes the system's sshd listen where it did before, and waits until it
// answers.
func (m *mover) enter(ctx context.Context, u sshdUnits) error {
	if err := m.toBefore(ctx, u); err != nil {
		return err
	}
	where, err := m.reachable(ctx)
	if err != nil {
		return err
	}
	if err := answers(ctx, where, m.patience); err != nil {
		return fmt.Errorf("sshd does not answer at %s: %w", where, err)
	}
	return nil
}

func (m *mover) moving() string { return "move sshd to " + m.address.String() }

// giveUp is the error of doing, which failed for err; back is what kept it from
// being undone, if anything did.
func (m *mover) giveUp(doing string, err, back error) error {
	hints := []string{"sshd is where it was: nothing has changed"}
	if back != nil {
		hints = []string{"and it could not be put back: " + back.Error(), "keep this session open; remove " + m.dropIn + " and restart sshd by hand"}
	}
	return wrong(fmt.Errorf("%s: %w", doing, err), hints...)
}

func (m *mover) listenLine() string { return "ListenAddress " + m.address.String() + "\n" }

// writeDropIn returns what the file held before, nil where there was none. An
// address with a port is listened on whatever Port says elsewhere.
func (m *mover) writeDropIn(u sshdUnits) (before []byte, err error) {
	before, err = os.ReadFile(m.dropIn)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	text := dropInHeader
	if socket := cmp.Or(u.socket, socketBefore(string(before))); socket != "" {
		text += wasSocket + socket + "\n"
	}
	if err := os.MkdirAll(filepath.Dir(m.dropIn), 0o755); err != nil {
		return nil, err
	}
	return before, durable.WriteFile(m.dropIn, []byte(text+m.listenLine()), 0o600)
}

// socketBefore is the socket unit that a drop-in says was in use.
func socketBefore(dropIn string) string {
	_, rest, ok := strings.Cut(dropIn, wasSocket)
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "\n")
	return name
}

func (m *mover) restore(before []byte) error {
	if before == nil {
		return os.Remove(m.dropIn)
	}
	return durable.WriteFile(m.dropIn, before, 0o600)
}

func (m *mover) say(format string, args ...any) { fmt.Fprintf(m.out, format+"\n", args...) }

func (m *mover) describe(ctx context.Context, u sshdUnits) error {
	m.say("would write %s:", m.dropIn)
	m.say("    %s", strings.TrimSpace(m.listenLine()))
	if m.selinux(ctx) {
		m.say("would label TCP port %d ssh_port_t", m.address.Port())
	}
	m.say("would run an sshd with it, and go on only where it answers at %s", m.address)
	if u.socket != "" {
		m.say("would disable %s and enable %s", u.socket, u.service)
	}
	m.say("would restart %s, and put all back unless sshd then answers at %s and port %d is free", u.service, m.address, m.port)
	return nil
}
