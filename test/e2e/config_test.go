package e2e_test

import (
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"
)

const posternYAML = `listen: 127.0.0.1:$GATE_PORT
admission:
  proxy_protocol: required
  load_balancers: [127.0.0.7/32]
  endpoints: [vpce-0a1b2c3d4e5f60718]
  sources: [10.20.0.0/16, 127.0.0.0/8]
  header_timeout: 2s
ssh:
  host_keys: [$WORK/hostkeys/ed25519, $WORK/hostkeys/ecdsa, $WORK/hostkeys/rsa]
  host_ca: $WORK/hostkeys/host_ca
  login_grace_time: 5s
policy: $WORK/policy.yaml
upstream:
  user_ca: $WORK/hostkeys/user_ca
  known_hosts: []
  dial_timeout: 2s
audit:
  dir: $WORK/audit
  signing_key: $WORK/hostkeys/audit_key
  min_free: 1MiB
recordings:
  dir: $WORK/recordings
  min_free: 1MiB
health: { listen: "127.0.0.1:$HEALTH_PORT" }
metrics: { listen: "127.0.0.1:$METRICS_PORT" }
admin: { socket: $WORK/admin.sock, frozen: $WORK/frozen }
drain: { settle: 100ms, timeout: 10s }
log: { level: debug, format: json }
`

const policyYAML = `identities:
  vendor:
    keys: ["$VENDOR_KEY"]
    users: [ec2-user, vendor]
rules:
  - name: loopback
    identities: [vendor]
    targets: ["127.0.0.0/8:1024-65535"]
    allow: [forward]
  - name: reverse
    identities: [vendor]
    listen: ["127.0.0.1:$LISTEN1-$LISTEN4", "0.0.0.0:$LISTEN1-$LISTEN4"]
    connect_from: ["127.0.0.0/8"]
    allow: [listen]
  - name: sockets
    identities: [vendor]
    sockets: ["$WORK/target.sock"]
    allow: [socket]
frozen: []
`

// gate-as is for clients that bring their own key with -i.
const sshConfig = `Host gate gate-as
  HostKeyAlias gate
  User vendor
  ProxyCommand nlbdial $GATE
Host gate
  IdentityFile $WORK/vendor
Host *
  IdentitiesOnly yes
  UserKnownHostsFile $WORK/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
  ConnectTimeout 15
  ControlPath none
`

// gateconfig makes the key vendor and writes postern.yaml, policy.yaml and
// ssh_config; the scripts edit them where they want something else.
func gateConfig(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: gateconfig")
	}
	keygen(ts, false, []string{"vendor"})
	key := strings.TrimSpace(ts.ReadFile("vendor.pub"))
	for name, text := range map[string]string{"postern.yaml": posternYAML, "policy.yaml": policyYAML, "ssh_config": sshConfig} {
		text = os.Expand(text, func(v string) string {
			if v == "VENDOR_KEY" {
				return key
			}
			return ts.Getenv(v)
		})
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
	ts.Check(os.MkdirAll(ts.MkAbs("hostkeys"), 0o700))
}

// gate [ARG...] starts the daemon as "gate", waits until it is ready and
// writes its host keys to known_hosts.
func gate(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("unsupported: ! gate")
	}
	start(ts, false, append([]string{"gate", "postern", "serve", "--config", ts.MkAbs("postern.yaml")}, args...))
	p := named(ts, "gate")
	err := eventually(patience, func() error {
		if !p.runs() {
			ts.Fatalf("the gate has ended:\n%s", ts.ReadFile("gate.err"))
		}
		return answers("http://127.0.0.1:"+ts.Getenv("HEALTH_PORT")+"/readyz", "200", nil)
	})
	if err != nil {
		ts.Fatalf("not ready: %v\n%s", err, tail(ts.ReadFile("gate.err")))
	}
	knownHost(ts, "gate", "hostkeys/ed25519", "hostkeys/ecdsa", "hostkeys/rsa")
}

// knownHost adds a host's keys to known_hosts.
func knownHost(ts *testscript.TestScript, host string, keys ...string) {
	f, err := os.OpenFile(ts.MkAbs("known_hosts"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	defer f.Close()
	for _, key := range keys {
		signer, err := ssh.ParsePrivateKey([]byte(ts.ReadFile(key)))
		ts.Check(err)
		_, err = f.WriteString(host + " " + string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
		ts.Check(err)
	}
}

const sshdConfig = `ListenAddress 127.0.0.1:$SSHD_PORT
HostKey $WORK/target_host_key
AuthorizedKeysFile $WORK/target_user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
Subsystem sftp internal-sftp
`

// sshd PORT starts Debian's OpenSSH server as a target; whoever runs the tests
// may log in with the key target_user.
func sshd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: sshd PORT")
	}
	keygen(ts, false, []string{"target_host_key"})
	keygen(ts, false, []string{"target_user"})
	text := os.Expand(sshdConfig, func(v string) string {
		if v == "SSHD_PORT" {
			return args[0]
		}
		return ts.Getenv(v)
	})
	ts.Check(os.WriteFile(ts.MkAbs("sshd_config"), []byte(text), 0o600))
	if me, err := user.Current(); err == nil && me.Uid == "0" {
		ts.Check(os.MkdirAll("/run/sshd", 0o755)) // made by its service, which may never have run
	}
	path, err := lookPath(ts, "sshd")
	ts.Check(err)
	start(ts, false, []string{"sshd", path, "-D", "-e", "-f", filepath.Join(worldOf(ts).dir, "sshd_config")})
	waitFor(ts, false, []string{"tcp", "127.0.0.1:" + args[0]})
	knownHost(ts, "[127.0.0.1]:"+args[0], "target_host_key")
}
