package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"text/template"
	"time"

	"golang.org/x/crypto/ssh"

	"postern/internal/sshgate"
)

// The endpoint that the demo's front names, and one that the gate does not admit.
const (
	demoEndpoint = "vpce-0demo000000000001"
	demoStranger = "vpce-0stranger00000002"
)

// demoPlaces are where the parts of a demo are.
type demoPlaces struct {
	Dir                                string
	Front, Stranger                    string // addresses that clients dial: the load balancer's
	Gate, Health, Metrics              string
	TargetPort, WebPort, BannerPort    int
	FrontPort, StrangerPort, LocalPort int // LocalPort: free, for -L
	Endpoint                           string
}

func (p demoPlaces) path(name string) string { return filepath.Join(p.Dir, name) }

// demoListeners are open before the files that name their ports are written,
// so that no port can be taken in between.
type demoListeners struct {
	front, stranger, ssh, web, banner net.Listener
	gate                              inherited
	local                             int
}

func openDemoListeners() (demoListeners, error) {
	l := demoListeners{gate: inherited{}}
	var spare net.Listener
	open := map[*net.Listener]string{
		&l.front: "127.0.0.1:2222", &l.stranger: "127.0.0.1:2223",
		&l.ssh: "", &l.web: "", &l.banner: "", &spare: "127.0.0.1:8088",
	}
	for ln, wanted := range open {
		var err error
		if *ln, err = listenLoopback(wanted); err != nil {
			return l, err
		}
	}
	l.local = port(spare)
	spare.Close()
	for name, wanted := range map[string]string{socketSSH: "", socketHealth: "127.0.0.1:8022", socketMetrics: "127.0.0.1:9722"} {
		ln, err := listenLoopback(wanted)
		if err != nil {
			return l, err
		}
		l.gate[name] = ln
	}
	return l, nil
}

// listenLoopback takes the port that is wanted, or any if that is taken.
func listenLoopback(wanted string) (net.Listener, error) {
	if wanted != "" {
		if ln, err := net.Listen("tcp", wanted); err == nil {
			return ln, nil
		}
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

func port(ln net.Listener) int { return ln.Addr().(*net.TCPAddr).Port }

func (l demoListeners) places(dir string) demoPlaces {
	return demoPlaces{
		Dir: dir, Endpoint: demoEndpoint,
		Front: l.front.Addr().String(), Stranger: l.stranger.Addr().String(),
		Gate: l.gate[socketSSH].Addr().String(), Health: l.gate[socketHealth].Addr().String(), Metrics: l.gate[socketMetrics].Addr().String(),
		TargetPort: port(l.ssh), WebPort: port(l.web), BannerPort: port(l.banner),
		FrontPort: port(l.front), StrangerPort: port(l.stranger), LocalPort: l.local,
	}
}

// demoKeys are the keys of a demo; the private halves of users are in its folder.
type demoKeys struct {
	vendor, corp   ssh.PublicKey // corp: the CA that certified alice
	target         ssh.Signer
	gate           []ssh.Signer
	hostCA, userCA ssh.Signer // the gate's
}

func makeDemoKeys(dir string) (k demoKeys, err error) {
	vendor, err := makeDemoKey(filepath.Join(dir, "vendor_key"))
	if err != nil {
		return k, err
	}
	alice, err := makeDemoKey(filepath.Join(dir, "alice_key"))
	if err != nil {
		return k, err
	}
	corp, err := makeDemoKey(filepath.Join(dir, "corp_ca_key"))
	if err != nil {
		return k, err
	}
	if k.target, err = makeDemoKey(filepath.Join(dir, "target_host_key")); err != nil {
		return k, err
	}
	if err := certifyDemoUser(filepath.Join(dir, "alice_key-cert.pub"), alice.PublicKey(), corp); err != nil {
		return k, err
	}
	k.vendor, k.corp = vendor.PublicKey(), corp.PublicKey()
	return k, k.makeGateKeys(dir)
}

// makeGateKeys makes what the gate would make when it starts: known_hosts and
// the machine need them before.
func (k *demoKeys) makeGateKeys(dir string) (err error) {
	if k.hostCA, err = sshgate.LoadCA(filepath.Join(dir, "host_ca")); err != nil {
		return err
	}
	if k.userCA, err = sshgate.LoadCA(filepath.Join(dir, "user_ca")); err != nil {
		return err
	}
	k.gate, err = sshgate.LoadHostKeys([]string{filepath.Join(dir, "ssh_host_ed25519_key"), filepath.Join(dir, "ssh_host_ecdsa_key")})
	return err
}

func makeDemoKey(path string) (ssh.Signer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, "postern demo")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	return ssh.NewSignerFromKey(key)
}

// certifyDemoUser writes a certificate that names alice, for one day.
func certifyDemoUser(path string, key ssh.PublicKey, ca ssh.Signer) error {
	cert := &ssh.Certificate{
		Key: key, CertType: ssh.UserCert, KeyId: "alice@demo", Serial: 1, ValidPrincipals: []string{"alice"},
		ValidAfter: uint64(time.Now().Add(-time.Minute).Unix()), ValidBefore: uint64(time.Now().Add(24 * time.Hour).Unix()),
		Permissions: ssh.Permissions{Extensions: map[string]string{"permit-port-forwarding": "", "permit-pty": ""}},
	}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		return err
	}
	return os.WriteFile(path, ssh.MarshalAuthorizedKey(cert), 0o644)
}

func (d *demo) writeFiles(keys demoKeys) error {
	var known bytes.Buffer
	for _, k := range keys.gate {
		fmt.Fprintf(&known, "%s %s", gateAlias, ssh.MarshalAuthorizedKey(k.PublicKey()))
	}
	machine := fmt.Sprintf("[127.0.0.1]:%d", d.TargetPort)
	fmt.Fprintf(&known, "@cert-authority %s %s", machine, ssh.MarshalAuthorizedKey(keys.hostCA.PublicKey()))
	if err := os.WriteFile(d.path("known_hosts"), known.Bytes(), 0o644); err != nil {
		return err
	}
	target := fmt.Sprintf("%s %s", machine, ssh.MarshalAuthorizedKey(keys.target.PublicKey()))
	if err := os.WriteFile(d.path("targets"), []byte(target), 0o644); err != nil {
		return err
	}
	values := struct {
		demoPlaces
		Corp, Vendor string
	}{d.demoPlaces, line(keys.corp), line(keys.vendor)}
	for name, text := range map[string]string{"postern.yaml": demoConfig, "policy.yaml": demoPolicy, "ssh_config": demoSSHConfig} {
		var b bytes.Buffer
		if err := template.Must(template.New(name).Parse(text)).Execute(&b, values); err != nil {
			return err
		}
		if err := os.WriteFile(d.path(name), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func line(k ssh.PublicKey) string { return string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(k))) }

const demoConfig = `# How the demo's gate runs. Everything is on loopback.
listen: "{{.Gate}}"
admission:
  proxy_protocol: required
  load_balancers: [127.0.0.1/32]   # the front that plays the load balancer
  endpoints: [{{.Endpoint}}]
  sources: [127.0.0.0/8]
ssh:
  host_keys: [ssh_host_ed25519_key, ssh_host_ecdsa_key]
  host_ca: host_ca
policy: policy.yaml
upstream: { user_ca: user_ca, known_hosts: [targets] }
recordings: { dir: recordings, min_free: 1MiB }
audit: { dir: audit, signing_key: audit_key, min_free: 1MiB }
health: { listen: "{{.Health}}" }
metrics: { listen: "{{.Metrics}}" }
admin: { socket: admin.sock, frozen: frozen.json }
drain: { settle: 0s, timeout: 1s }
log: { level: info, format: console }
`

const demoPolicy = `# Who may do what. Change it while the demo runs: it takes effect within a second.
authorities:
  corp: { keys: ["{{.Corp}}"] }
identities:
  vendor: { keys: ["{{.Vendor}}"] }
  alice: { authority: corp, principal: alice }
rules:
  - name: machine              # SSH to it is inspected and recorded
    identities: [vendor, alice]
    endpoints: [{{.Endpoint}}]
    targets: ["127.0.0.1:{{.TargetPort}}"]
    logins: [demo]
    allow: [shell, exec, sftp-read, sftp-write]
  - name: services             # opaque tunnels
    identities: [vendor, alice]
    endpoints: [{{.Endpoint}}]
    targets: ["127.0.0.1:{{.WebPort}},{{.BannerPort}}"]
    allow: [forward]
  - name: callback
    identities: [vendor]
    listen: ["127.0.0.1:1024-65535"]
    connect_from: [127.0.0.0/8]
    allow: [listen]
`

const demoSSHConfig = `# For the client: ssh -F {{.Dir}}/ssh_config gate
Host alice
    User alice
    IdentityFile {{.Dir}}/alice_key
    CertificateFile {{.Dir}}/alice_key-cert.pub
Host stranger
    Port {{.StrangerPort}}
Host gate alice stranger
    HostName 127.0.0.1
    Port {{.FrontPort}}
    User vendor
    HostKeyAlias postern-gate
Host machine
    HostName 127.0.0.1
    Port {{.TargetPort}}
    User demo
    IdentityFile none
Host door
    HostName 127.0.0.1
    Port {{.FrontPort}}
    User demo@127.0.0.1#{{.TargetPort}}
    HostKeyAlias postern-gate
Host gate stranger door
    IdentityFile {{.Dir}}/vendor_key
Host *
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile {{.Dir}}/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    ControlPath none
`
