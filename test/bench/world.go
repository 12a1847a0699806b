package main

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

const sshdConfig = `ListenAddress $ADDR
HostKey $DIR/sshd_host_key
AuthorizedKeysFile $DIR/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 5000
`

// targetConfig is of the sshd behind both jump hosts.
const targetConfig = `ListenAddress 127.0.0.2:$TARGET
ListenAddress 127.0.0.3:$TARGET
HostKey $DIR/sshd_host_key
AuthorizedKeysFile $DIR/authorized_keys
TrustedUserCAKeys $DIR/user_ca.pub
Subsystem sftp /usr/lib/openssh/sftp-server
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 5000
`

const posternYAML = `listen: $ADDR
admission:
  proxy_protocol: off
  sources: [127.0.0.0/8]
ssh:
  host_keys: [$DIR/ed25519]
  host_ca: $DIR/host_ca
upstream:
  user_ca: $DIR/user_ca
  known_hosts: [$DIR/known_hosts]
recordings: { dir: $DIR/recordings, min_free: 1MiB }
policy: $DIR/policy.yaml
limits: { max_startups: 5000, max_startups_per_source: 5000, max_sessions: 5000, max_sessions_per_identity: 5000 }
audit:
  dir: $DIR/audit
  signing_key: $DIR/audit_key
  min_free: 1MiB
health: { listen: "$HEALTH" }
admin: { socket: $DIR/admin.sock, frozen: $DIR/frozen }
drain: { settle: 100ms, timeout: 5s }
`

const policyYAML = `identities:
  bench:
    keys: ["$KEY"]
    users: [$USER]
rules:
  - name: loopback
    identities: [bench]
    targets: ["127.0.0.0/8:1024-65535"]
    allow: [forward]
  - name: recorded
    identities: [bench]
    targets: ["127.0.0.2:$TARGET", "127.0.0.4:$TARGET"]
    logins: [$LOGIN]
    allow: [shell, exec, sftp-read, sftp-write]
  - name: unrecorded
    identities: [bench]
    targets: ["127.0.0.3:$TARGET"]
    logins: [$LOGIN]
    allow: [shell, exec, sftp-read, sftp-write]
    recording: { off: true }
frozen: []
`

const patience = 20 * time.Second

// server is a running jump host.
type server struct {
	name string
	addr string
	cmd  *exec.Cmd
}

// world is the folder, the client's key and the servers of one round.
type world struct {
	dir     string
	user    string     // at the jump hosts
	login   string     // at the target behind them
	port    string     // of the targets: 127.0.0.2 is recorded, 127.0.0.3 is not, 127.0.0.4 lives in this process
	signer  ssh.Signer // the client's
	hostKey ssh.Signer // of the targets
	jumps   []*server  // sshd and postern
	servers []*server  // all
	sources int        // source addresses that were used
}

func newWorld() (*world, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir, user: os.Getenv("USER"), login: os.Getenv("USER")}
	if os.Geteuid() == 0 {
		w.login = "root" // who has a shell, unlike the next
		// A jump host's users are not root; for root, sshd would leave out
		// the second process that each session has.
		w.user = "nobody"
		err = os.MkdirAll("/run/sshd", 0o755) // made by its service, which may never have run
	}
	if err == nil {
		err = os.Chmod(dir, 0o755) // nobody reads authorized_keys
	}
	if err == nil {
		w.signer, err = w.key("client")
	}
	if err == nil {
		w.hostKey, err = w.key("sshd_host_key")
	}
	if err == nil {
		err = os.WriteFile(w.path("authorized_keys"), ssh.MarshalAuthorizedKey(w.signer.PublicKey()), 0o644)
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// key makes an ed25519 key and writes it to a file.
func (w *world) key(name string) (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, name)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(w.path(name), pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	return ssh.NewSignerFromKey(private)
}

// start returns once sshd, the gate and the target behind them accept
// connections.
func (w *world) start(ctx context.Context) error {
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		return err
	}
	health, err := freeAddr()
	if err != nil {
		return err
	}
	vars, err := w.vars(health)
	if err != nil {
		return err
	}
	if err := w.write("policy.yaml", policyYAML, vars); err != nil {
		return err
	}
	if err := w.launch(ctx, "sshd", sshdConfig, vars, sshd, "-D", "-e", "-f"); err != nil {
		return err
	}
	if err := w.launch(ctx, "postern", posternYAML, vars, "bin/postern", "serve", "--config"); err != nil {
		return err
	}
	w.jumps = slices.Clone(w.servers)
	if err := w.await(ctx, health); err != nil { // the gate has made its CA by then
		return err
	}
	return w.launch(ctx, "target", targetConfig, vars, sshd, "-D", "-e", "-f")
}

func (w *world) vars(health string) (map[string]string, error) {
	target, err := freeAddr()
	if err != nil {
		return nil, err
	}
	_, w.port, _ = net.SplitHostPort(target)
	key := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(w.hostKey.PublicKey())))
	known := fmt.Sprintf("[127.0.0.2]:%[1]s,[127.0.0.3]:%[1]s,[127.0.0.4]:%[1]s %[2]s\n", w.port, key)
	return map[string]string{"DIR": w.dir, "HEALTH": health, "USER": w.user, "LOGIN": w.login, "TARGET": w.port,
		"KEY": strings.TrimSpace(string(ssh.MarshalAuthorizedKey(w.signer.PublicKey())))}, os.WriteFile(w.path("known_hosts"), []byte(known), 0o644)
}

func (w *world) write(name, text string, vars map[string]string) error {
	text = os.Expand(text, func(v string) string { return vars[v] })
	return os.WriteFile(w.path(name), []byte(text), 0o600)
}

// launch starts argv with the path of the written configuration behind it.
func (w *world) launch(ctx context.Context, name, config string, vars map[string]string, argv ...string) (err error) {
	if vars["ADDR"], err = freeAddr(); err != nil {
		return err
	}
	if err := w.write(name+".conf", config, vars); err != nil {
		return err
	}
	log, err := os.Create(w.path(name + ".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:], w.path(name+".conf"))...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for bench, which ends them
	if err := cmd.Start(); err != nil {
		return err
	}
	w.servers = append(w.servers, &server{name: name, addr: vars["ADDR"], cmd: cmd})
	return nil
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// await returns when sshd lets the client in and the gate says it is ready.
func (w *world) await(ctx context.Context, health string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := w.ready(ctx, health)
		if err == nil {
			return nil
		}
		if wait(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("servers are not ready: %w\n%s", err, w.logs())
		}
	}
}

func (w *world) ready(ctx context.Context, health string) error {
	c, err := w.dial(ctx, w.jumps[0])
	if err != nil {
		return err
	}
	c.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+health+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("readyz: %s", resp.Status)
	}
	return nil
}

func (w *world) logs() string {
	var all []byte
	for _, s := range w.servers {
		text, _ := os.ReadFile(w.path(s.name + ".log"))
		all = append(all, text[max(0, len(text)-2000):]...)
	}
	return string(all)
}

// source returns another loopback address each time: the gate admits only some
// new connections a second from each.
func (w *world) source() net.IP {
	w.sources++
	return net.IPv4(127, 1, byte(w.sources/250), byte(1+w.sources%250))
}

// dial returns an authenticated connection from a new source address.
func (w *world) dial(ctx context.Context, s *server) (*ssh.Client, error) {
	return w.dialFrom(ctx, s, w.source())
}

func (w *world) dialFrom(ctx context.Context, s *server, from net.IP) (*ssh.Client, error) {
	return w.dialAs(ctx, s.addr, w.user, from)
}

// dialAs is of a client that knows one key exchange, the same for both servers:
// their first choices would differ.
func (w *world) dialAs(ctx context.Context, addr, user string, from net.IP) (*ssh.Client, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}, Timeout: patience}
	nc, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(patience))
	c, chans, reqs, err := ssh.NewClientConn(nc, addr, &ssh.ClientConfig{
		Config:          ssh.Config{KeyExchanges: []string{ssh.KeyExchangeCurve25519}},
		User:            user,
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(w.signer)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), // the servers are this process's own
	})
	if err != nil {
		nc.Close()
		return nil, err
	}
	nc.SetDeadline(time.Time{})
	return ssh.NewClient(c, chans, reqs), nil
}

// close ends the servers, waits for them and removes the folder.
func (w *world) close() {
	for _, s := range w.servers {
		s.cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(patience, func() { s.cmd.Process.Kill() })
		s.cmd.Wait()
		kill.Stop()
	}
	os.RemoveAll(w.dir)
}

// wait returns after d, or with an error when ctx ends first.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
