package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"postern/internal/config"
	"postern/internal/sshgate"
)

// host is what the doctor saw of this host: plain values, which its checks are
// about.
type host struct {
	configPath string
	config     *config.Config // nil = it has a fault
	configErr  error
	policyErr  error

	port    []holder // who listens where the gate does
	portErr error
	// socketUnit is true where postern.socket is enabled.
	socketUnit bool
	ready      readiness
	synced     bool // the kernel's clock
	clockErr   error
	audit      disk
	recorded   disk
	keys       []hostKey
	links      []link
}

// readiness is the answer of /readyz on this host.
type readiness struct {
	status int
	body   string
	err    error
}

type disk struct {
	dir  string
	free uint64
	err  error
}

type hostKey struct {
	path   string
	system string // the file of the host's own sshd that has the same key
	open   bool   // others than the owner may read it
	err    error
}

type link struct {
	name string
	mtu  int
}

// load reads both files, as serve does.
func (h *host) load() {
	if h.config, h.configErr = config.Load(h.configPath); h.configErr != nil {
		h.config = nil
		return
	}
	h.configErr = checkNamedFiles(h.config)
	_, h.policyErr = config.LoadPolicy(h.config.PolicyPath)
}

// look is called after load.
func (h *host) look() {
	listen := netip.MustParseAddrPort("0.0.0.0:22")
	if h.config != nil {
		listen = addressOf(h.config.Listen)
	}
	h.port, h.portErr = holders("/proc", listen)
	_, err := os.Stat("/etc/systemd/system/sockets.target.wants/postern.socket")
	h.socketUnit = err == nil
	h.synced, h.clockErr = clockSynced()
	h.links = links()
	if h.config == nil {
		return
	}
	h.ready = askReady(h.config)
	h.audit, h.recorded = diskOf(h.config.Audit.Dir), diskOf(h.config.Recordings.Dir)
	for _, path := range h.config.SSH.HostKeys {
		if filepath.IsAbs(path) { // others are references to keys kept elsewhere
			h.keys = append(h.keys, hostKeyAt(path))
		}
	}
}

// clockSynced asks the kernel whether anything keeps its clock right.
func clockSynced() (bool, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return false, err
	}
	return state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, nil
}

func links() []link {
	var all []link
	found, err := net.Interfaces()
	if err != nil {
		return nil
	}
	for _, i := range found {
		if i.Flags&net.FlagUp != 0 && i.Flags&net.FlagLoopback == 0 {
			all = append(all, link{i.Name, i.MTU})
		}
	}
	return all
}

// askReady asks as the load balancer does, but for the PROXY header.
func askReady(c *config.Config) readiness {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	a := addressOf(c.Health.Listen)
	if a.Addr().IsUnspecified() {
		a = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), a.Port())
	}
	scheme := "http"
	if c.Health.TLSCert != "" {
		scheme = "https"
	}
	// The certificate is for the load balancer, which doesn't check it either:
	// nothing is told, and nothing but the answer's status is believed.
	client := &http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+a.String()+"/readyz", nil)
	if err != nil {
		return readiness{err: err}
	}
	answer, err := client.Do(r)
	if err != nil {
		return readiness{err: err}
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 4<<10))
	return readiness{answer.StatusCode, strings.TrimSpace(string(body)), err}
}

// diskOf looks at the file system on which dir is, or will be.
func diskOf(dir string) disk {
	d := disk{dir: dir}
	for at := dir; ; at = filepath.Dir(at) {
		d.free, d.err = diskFree(at)
		if !errors.Is(d.err, fs.ErrNotExist) || at == "/" {
			return d
		}
	}
}

// hostKeyAt reads a host key and compares it with those of the host's own sshd.
func hostKeyAt(path string) hostKey {
	k := hostKey{path: path}
	info, err := os.Stat(path)
	if err != nil {
		k.err = err
		return k
	}
	k.open = info.Mode().Perm()&0o077 != 0 && !isCredential(path)
	signer, err := sshgate.LoadSigner(path)
	if err != nil {
		k.err = err
		return k
	}
	k.system = sameKey(signer.PublicKey(), "/etc/ssh/ssh_host_*_key.pub")
	return k
}

// isCredential says whether systemd keeps path, by an ACL that the mode doesn't
// show as it is.
func isCredential(path string) bool {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	return dir != "" && strings.HasPrefix(path, dir+"/")
}

// sameKey returns the file among those that match pattern that has key.
func sameKey(key ssh.PublicKey, pattern string) string {
	names, err := filepath.Glob(pattern)
	if err != nil {
		return ""
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		other, _, _, _, err := ssh.ParseAuthorizedKey(b)
		if err == nil && string(other.Marshal()) == string(key.Marshal()) {
			return name
		}
	}
	return ""
}

// holder is a process that listens on a port.
type holder struct {
	pid  int
	name string
}

func (h holder) String() string { return fmt.Sprintf("%s (process %d)", h.name, h.pid) }
