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

const posternYAML = `listen: $ADDR
admission:
  proxy_protocol: off
  sources: [127.0.0.0/8]
ssh:
  host_keys: [$DIR/ed25519]
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
	user    string
	signer  ssh.Signer
	servers []*server
	sources int // source addresses that were used
}

func newWorld() (*world, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir, user: os.Getenv("USER")}
	if os.Geteuid() == 0 {
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
		_, err = w.key("sshd_host_key")
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

// start returns sshd and the gate once both accept connections.
func (w *world) start(ctx context.Context) ([]*server, error) {
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		return nil, err
	}
	health, err := freeAddr()
	if err != nil {
		return nil, err
	}
	vars := map[string]string{"DIR": w.dir, "HEALTH": health, "USER": w.user,
		"KEY": strings.TrimSpace(string(ssh.MarshalAuthorizedKey(w.signer.PublicKey())))}
	if err := w.write("policy.yaml", policyYAML, vars); err != nil {
		return nil, err
	}
	if err := w.launch(ctx, "sshd", sshdConfig, vars, sshd, "-D", "-e", "-f"); err != nil {
		return nil, err
	}
	if err := w.launch(ctx, "postern", posternYAML, vars, "bin/postern", "serve", "--config"); err != nil {
		return nil, err
	}
	return w.servers, w.await(ctx, health)
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
	c, err := w.dial(ctx, w.servers[0])
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
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}, Timeout: patience}
	nc, err := dialer.DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(patience))
	c, chans, reqs, err := ssh.NewClientConn(nc, s.addr, &ssh.ClientConfig{
		User:            w.user,
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(w.signer)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), // both servers are this process's own
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
