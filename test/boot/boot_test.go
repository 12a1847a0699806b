// Package boot_test boots a Debian, has cloud-init install the gate from the
// example that ships, and does to it what happens to a bastion in its life.
package boot_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

const root = "../.."

// world is the machine and what the steps of its life need.
type world struct {
	*machine
	first, second string // folders with the packages of two versions
	repo          string // what the machine sees as /srv/repo
}

func TestTheLifeOfABastion(t *testing.T) {
	able(t)
	w := &world{machine: newMachine(t), repo: t.TempDir()}
	w.first, w.second = packages(t, "1.0.0"), packages(t, "1.0.1")
	w.dialler()
	w.boot(w.seed(), w.repo)
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"cloud-init installs the gate and moves sshd", w.installed},
		{"a session passes and is measured and written down", w.session},
		{"an upgrade cuts no session", w.upgrade},
		{"a fault in a file keeps an upgrade from nothing", w.upgradeOverAFault},
		{"a full disk keeps the old version whole", w.fullDisk},
		{"a read-only /etc ends with a reason", w.readOnlyEtc},
		{"a fault in a file keeps the gate down and says so", w.faultAtStart},
		{"a port that is taken is named", w.portTaken},
		{"credentials are used where they are", w.credentials},
		{"a gate that is killed or hangs is started again", w.killedAndHung},
		{"remove keeps keys and logs, purge does not", w.removeAndPurge},
		{"sshd comes back", w.sshdBack},
		{"an sshd that a socket unit starts moves too", w.socketActivated},
		{"dnf installs, upgrades and removes the RPM", w.rpm},
	} {
		if !t.Run(step.name, func(t *testing.T) { w.t = t; step.do() }) {
			w.t = t
			out, _ := w.try("journalctl -b --no-pager -n 80 -o cat")
			t.Fatalf("the journal ends with\n%s", out)
		}
	}
}

// able skips where the machine can't boot another: that needs root, and time
// that not every run of the tests has.
func able(t *testing.T) {
	t.Helper()
	if os.Getenv("POSTERN_BOOT") == "" {
		t.Skip("this is for make boot")
	}
	if os.Geteuid() != 0 {
		t.Fatal("only root may boot a container")
	}
	for _, program := range []string{"systemd-nspawn", "mmdebstrap", "nsenter", "dpkg-scanpackages", "createrepo_c"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatal(program + " is missing")
		}
	}
}

// packages builds the packages of a version. POSTERN_BOOT_PACKAGES names a
// folder where they are kept and used again, for work on this test.
func packages(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	if kept := os.Getenv("POSTERN_BOOT_PACKAGES"); kept != "" {
		dir = filepath.Join(kept, version)
	}
	if _, err := os.Stat(filepath.Join(dir, "SHA256SUMS")); err == nil {
		return dir
	}
	cmd := exec.Command(filepath.Join(root, "packaging/build"), version, dir)
	cmd.Env = append(os.Environ(), "ARCHITECTURES=amd64", "SOURCE_DATE_EPOCH=1795000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("packaging/build: %v\n%s", err, out)
	}
	return dir
}

// dialler puts the program into the machine that plays the load balancer.
func (w *world) dialler() {
	w.t.Helper()
	build := exec.Command("go", "build", "-o", filepath.Join(w.root, "usr/local/bin/nlbdial"), "./test/tools/nlbdial")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		w.t.Fatalf("nlbdial: %v\n%s", err, out)
	}
	w.publish(w.first)
}

// publish puts the packages of a version into the repository.
func (w *world) publish(dir string) {
	w.t.Helper()
	host(w.t, "sh", "-c", "cp "+dir+"/*.deb "+dir+"/*.rpm "+w.repo+" && cd "+w.repo+" && dpkg-scanpackages -m . >Packages 2>/dev/null && createrepo_c -q .")
}

// seed is the example that ships, for this machine: the package's address, the
// networks, and a policy with a key that the client in the machine has.
func (w *world) seed() string {
	w.t.Helper()
	dir := w.t.TempDir()
	host(w.t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(w.root, "root/vendor"))
	public := strings.TrimSpace(w.read(filepath.Join(w.root, "root/vendor.pub")))
	deb := filepath.Join(w.first, "postern_1.0.0-1_amd64.deb")
	text := w.read(filepath.Join(root, "packaging/cloud-init/debian.yaml"))
	for old, now := range map[string]string{
		`url=\S+`:             "url=file:///srv/repo/postern_1.0.0-1_amd64.deb",
		`sha256=\S+`:          fmt.Sprintf("sha256=%x", sha256.Sum256([]byte(w.read(deb)))),
		`load_balancers: \S+`: "load_balancers: [127.0.0.7/32]",
		`"ssh-ed25519 [^"]+"`: `"` + public + `"`,
		`targets: .*`:         `targets: ["127.0.0.1/32:2200"]`,
		`( +)(admission:\n)`:  "${1}drain: { settle: 1s, timeout: 30s }\n${1}audit: { min_free: 1MiB }\n${1}recordings: { min_free: 1MiB }\n$1$2",
		`^(#cloud-config\n)`:  "${1}locale: C.UTF-8\n",
	} {
		re := regexp.MustCompile(old)
		if !re.MatchString(text) {
			w.t.Fatalf("debian.yaml has no %s", old)
		}
		text = re.ReplaceAllString(text, now)
	}
	w.write(filepath.Join(dir, "user-data"), text)
	w.write(filepath.Join(dir, "meta-data"), "instance-id: i-boot\nlocal-hostname: bastion\n")
	w.write(filepath.Join(w.root, "root/ssh_config"), sshConfig)
	home := filepath.Join(w.root, "root")
	host(w.t, "sh", "-c", "cd "+home+" && mkdir -p -m 700 .ssh && cp vendor.pub .ssh/authorized_keys")
	return dir
}

// sshConfig reaches the gate as through a load balancer, and the machine's own
// sshd, which plays the target, through the gate.
const sshConfig = `Host gate
  User vendor
  ProxyCommand nlbdial -endpoint vpce-0a1b2c3d4e5f60718 127.0.0.1:22
Host target
  User root
  ProxyCommand ssh -F ssh_config -W 127.0.0.1:2200 gate
Host *
  IdentityFile vendor
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
`

func (w *world) installed() {
	w.do("cloud-init status --wait --long")
	w.says("systemctl is-system-running --wait || systemctl --failed", "running")
	w.says("ss -Hltnp 'sport = :2200'", "127.0.0.1:2200")
	w.says("ss -Hltnp 'sport = :22'", "postern")
	w.says("curl -fsS localhost:8022/readyz", "ok")
	w.says("systemctl status --no-pager postern.service", "serving; 0 sessions")
	w.do("systemd-analyze security --no-pager postern.service | tail -n 1")
	w.says("postern version", "postern 1.0.0")
	// From the file's checksum, before the package is unpacked, to the gate's
	// first ready answer.
	took := seconds(w.do("stat -c %Y /var/cache/postern.deb"), w.do("date +%s -d \"$(systemctl show -P ActiveEnterTimestamp postern.service)\""))
	w.t.Logf("install to ready: %d s", took)
	if took > 20 {
		w.t.Errorf("install to ready took %d s", took)
	}
}

func seconds(from, to string) int {
	a, _ := strconv.Atoi(strings.TrimSpace(from))
	b, _ := strconv.Atoi(strings.TrimSpace(to))
	return b - a
}

func (w *world) session() {
	w.says("ssh -F ssh_config gate whoami", "vendor")
	w.says("ssh -F ssh_config target hostname", "bastion")
	w.says("curl -fsS localhost:9722/metrics | grep postern_build_info", `version="1.0.0"`)
	w.says(`curl -fsS localhost:9722/metrics | grep 'postern_channel_opens_total{result="ok",type="direct-tcpip"}'`, "} 1")
	w.says("postern audit verify", "fine")
	w.do("postern audit tail -n 3")
}

// startCounter begins a session that counts once a second.
func (w *world) startCounter() {
	w.do("rm -f count; nohup ssh -F ssh_config target 'for i in $(seq 600); do echo $i; sleep 1; done' >count 2>count.err </dev/null & sleep 3; tail -n 1 count")
}

// counts wants the session to go on.
func (w *world) counts() {
	w.t.Helper()
	w.do("a=$(wc -l <count); sleep 3; b=$(wc -l <count); echo $a $b; cat count.err; test $b -gt $a")
}

func (w *world) upgrade() {
	w.startCounter()
	w.publish(w.second)
	w.do("echo 'deb [trusted=yes] file:/srv/repo ./' >/etc/apt/sources.list; rm -f /etc/apt/sources.list.d/*; apt-get update -qq")
	began := time.Now()
	w.do("apt-get -y -q upgrade")
	if took := time.Since(began); took > time.Minute {
		w.t.Errorf("the upgrade took %s: it waited for a drain", took)
	}
	w.says("postern version", "postern 1.0.1")
	w.says("dpkg -s postern | grep ^Version", "1.0.1")
	w.do("curl -fsS localhost:8022/readyz")
	w.says("ssh -F ssh_config gate whoami", "vendor")
	w.counts()
}

func (w *world) upgradeOverAFault() {
	w.do("cp /etc/postern/postern.yaml good.yaml; echo 'no_such_key: 1' >>/etc/postern/postern.yaml")
	w.says("apt-get -y -q install --reinstall postern", "keeps serving")
	w.fails("postern check")
	w.says("ssh -F ssh_config gate whoami", "vendor")
	w.counts()
	w.do("cp good.yaml /etc/postern/postern.yaml; postern check")
}

// fullDisk gives the folder of the binary a file system with no room for
// another.
func (w *world) fullDisk() {
	w.do("mkdir -p /mnt/full; mount -t tmpfs -o size=$(( $(du -sm /usr/sbin | cut -f1) + 8 ))M tmpfs /mnt/full; cp -a /usr/sbin/. /mnt/full/; mount --bind /mnt/full /usr/sbin")
	if out := w.fails("apt-get -y -q install --reinstall postern"); !strings.Contains(out, "No space left on device") {
		w.t.Error("the reason is not given")
	}
	w.says("/usr/sbin/postern version", "postern 1.0.1")
	w.says("ssh -F ssh_config gate whoami", "vendor")
	w.do("umount /usr/sbin; umount /mnt/full; apt-get -y -q install --reinstall postern; dpkg --audit")
	w.counts()
}

func (w *world) readOnlyEtc() {
	w.do("mount --bind /etc /etc; mount -o remount,ro,bind /etc")
	if out := w.fails("apt-get -y -q install --reinstall postern"); !strings.Contains(out, "Read-only file system") {
		w.t.Error("the reason is not given")
	}
	if out := w.fails("postern take-port-22 --address 127.0.0.1:2201"); !strings.Contains(out, "read-only file system") {
		w.t.Error("take-port-22 does not give the reason")
	}
	w.do("umount /etc; dpkg --configure -a; apt-get -y -q install --reinstall postern; dpkg --audit")
	w.says("ssh -F ssh_config gate whoami", "vendor")
	w.counts()
}

func (w *world) faultAtStart() {
	w.do("pkill -f '[s]eq 600'; systemctl stop postern.socket postern.service")
	w.do("echo 'no_such_key: 1' >>/etc/postern/postern.yaml")
	w.fails("systemctl reset-failed; systemctl start postern.service")
	out, _ := w.try("systemctl status --no-pager postern.service")
	w.t.Log(out)
	for _, want := range []string{"status=78", "no_such_key"} {
		if !strings.Contains(out, want) {
			w.t.Errorf("systemctl status does not say %q", want)
		}
	}
	w.do("cp good.yaml /etc/postern/postern.yaml; systemctl reset-failed; systemctl restart postern.socket postern.service")
	w.says("ssh -F ssh_config gate whoami", "vendor")
	w.says("curl -fsS localhost:9722/metrics | grep postern_build_info", `version="1.0.1"`)
}

func (w *world) portTaken() {
	w.do("systemctl stop postern.socket postern.service")
	w.do("systemd-run --unit=squatter --collect /usr/sbin/sshd -D -p 22 -o ListenAddress=0.0.0.0:22 -o PidFile=none; sleep 1")
	w.fails("systemctl reset-failed; systemctl start postern.service")
	out, _ := w.try("systemctl status --no-pager postern.socket")
	w.t.Log(out)
	if !strings.Contains(out, "Address already in use") {
		w.t.Error("systemctl status does not say that the port is taken")
	}
	w.do("systemctl stop squatter; systemctl reset-failed; systemctl start postern.socket postern.service")
	w.says("ssh -F ssh_config gate whoami", "vendor")
}

// credentials moves the key of the audit log to where only root may read it,
// and then takes it away.
func (w *world) credentials() {
	w.do("systemctl stop postern.socket postern.service; mkdir -p -m 700 /etc/credstore; mv /var/lib/postern/audit_key /etc/credstore/postern.audit_key; chown root: /etc/credstore/postern.audit_key")
	w.do("sed -i 's|^audit: {|audit: { signing_key: \"credential:audit_key\",|' /etc/postern/postern.yaml; systemctl reset-failed; systemctl start postern.socket postern.service")
	w.says("ssh -F ssh_config gate whoami", "vendor")
	w.says("postern audit verify --dir /var/log/postern/audit", "fine")
	w.do("systemctl stop postern.socket postern.service; mv /etc/credstore/postern.audit_key key")
	w.fails("systemctl reset-failed; systemctl start postern.service")
	out, _ := w.try("systemctl status --no-pager postern.service")
	w.t.Log(out)
	if !strings.Contains(out, "audit_key") {
		w.t.Error("systemctl status does not name the key that is missing")
	}
	w.do("mv key /etc/credstore/postern.audit_key; systemctl reset-failed; systemctl restart postern.socket postern.service")
	w.says("ssh -F ssh_config gate whoami", "vendor")
}

// killedAndHung ends the gate as the kernel does when memory is short, and
// stops it so that its watchdog is not pinged.
func (w *world) killedAndHung() {
	w.do("mkdir -p /run/systemd/system/postern.service.d; printf '[Service]\\nWatchdogSec=3s\\n' >/run/systemd/system/postern.service.d/test.conf; systemctl daemon-reload; systemctl restart postern.service")
	for _, signal := range []string{"KILL", "STOP"} {
		before := w.do("systemctl show -P MainPID postern.service")
		w.do("systemctl reset-failed; systemctl kill --signal=" + signal + " postern.service")
		w.eventually(time.Minute, "the gate runs again", func() bool {
			pid, _ := w.try("systemctl show -P MainPID postern.service")
			_, err := w.try("curl -fsS localhost:8022/readyz")
			return err == nil && pid != before && strings.TrimSpace(pid) != "0"
		})
		w.says("ssh -F ssh_config gate whoami", "vendor")
	}
	w.says("journalctl -b --no-pager -o cat -u postern.service | grep -i watchdog | head -n 1", "Watchdog timeout")
	w.says("postern audit verify --dir /var/log/postern/audit", "fine")
	w.do("rm -r /run/systemd/system/postern.service.d; systemctl daemon-reload; systemctl restart postern.service")
}

func (w *world) removeAndPurge() {
	w.do("apt-get -y -q remove postern")
	w.do("test ! -e /usr/sbin/postern; test -s /var/lib/postern/ssh_host_ed25519_key; test -s /var/log/postern/audit/audit.vkey; test -s /etc/postern/policy.yaml")
	w.gone()
	w.do("apt-get -y -q install postern")
	w.idle()
	w.do("systemctl enable --now postern.socket postern.service")
	w.says("ssh -F ssh_config gate whoami", "vendor")
	w.do("apt-get -y -q purge postern")
	w.do("test ! -e /var/lib/postern; test ! -e /var/log/postern; test ! -e /etc/postern")
	w.gone()
	w.do("apt-get -y -q install postern")
	w.idle()
	w.do("apt-get -y -q purge postern")
}

// gone wants that nobody has the port any more.
func (w *world) gone() {
	w.t.Helper()
	w.eventually(time.Minute, "port 22 is free", func() bool {
		out, err := w.try("ss -Hltn 'sport = :22'")
		return err == nil && out == ""
	})
}

// idle wants an installed gate that nothing has started.
func (w *world) idle() {
	w.t.Helper()
	for _, unit := range []string{"postern.service", "postern.socket"} {
		w.fails("systemctl is-enabled " + unit)
		w.fails("systemctl is-active " + unit)
	}
}

func (w *world) sshdBack() {
	w.do("dpkg --unpack /srv/repo/postern_1.0.1-1_amd64.deb") // for its command
	w.do("postern take-port-22 --undo")
	w.says("ss -Hltnp 'sport = :22'", "sshd")
}

func (w *world) socketActivated() {
	w.do("systemctl disable --now ssh.service; systemctl enable --now ssh.socket")
	w.says("ss -Hltnp 'sport = :22'", "systemd")
	w.do("postern take-port-22")
	w.says("ss -Hltnp 'sport = :2200'", "sshd")
	w.gone()
	w.do("postern take-port-22 --undo")
	w.says("ss -Hltnp 'sport = :22'", "systemd")
	w.do("systemctl stop ssh.socket ssh.service; systemctl disable ssh.socket; systemctl enable --now ssh.service; dpkg --purge postern")
	w.says("ss -Hltnp 'sport = :22'", "sshd")
}

// systemdRPM stands for the package of a distribution, which this Debian with
// rpm and dnf is not.
const systemdRPM = `name: systemd
arch: amd64
version: "252"
maintainer: nobody
description: stands for the distribution's
rpm: {buildhost: reproducible}
provides: [/bin/sh]
`

func (w *world) rpm() {
	dir := w.t.TempDir()
	w.write(filepath.Join(dir, "nfpm.yaml"), systemdRPM)
	host(w.t, "sh", "-c", "cd "+dir+" && go run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2 package --packager rpm --target "+w.repo+" && rm -f "+w.repo+"/postern-1.0.1*.rpm && cd "+w.repo+" && createrepo_c -q .")
	dnf := "dnf -y -q --repofrompath=p,file:///srv/repo --repo=p --nogpgcheck --releasever=1 "
	w.do("mkdir -p /etc/postern; cp good.yaml /etc/postern/postern.yaml; " + dnf + "install postern")
	w.idle()
	w.do("rpm -V postern || true; rpm -qa; id postern; stat -c '%U:%G %a %n' /var/lib/postern /var/log/postern/audit; cmp good.yaml /etc/postern/postern.yaml; ls /etc/postern")
	w.do("postern take-port-22; printf 'identities: { vendor: { keys: [\"%s\"] } }\\nrules: [{ name: target, identities: [vendor], targets: [\"127.0.0.1/32:2200\"], allow: [forward] }]\\n' \"$(cat vendor.pub)\" >/etc/postern/policy.yaml; postern check; systemctl enable --now postern.socket postern.service")
	w.says("ssh -F ssh_config target hostname", "bastion")
	w.startCounter()
	w.publish(w.second)
	w.do(dnf + "--refresh upgrade postern")
	w.says("postern version", "postern 1.0.1")
	w.counts()
	w.do("pkill -f '[s]eq 600'; " + dnf + "remove postern")
	w.do("test ! -e /usr/sbin/postern; test -s /var/lib/postern/ssh_host_ed25519_key; test -s /var/log/postern/audit/audit.vkey; test -s /etc/postern/policy.yaml.rpmsave")
	w.gone()
}

func (w *world) read(path string) string {
	w.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

func (w *world) write(path, text string) {
	w.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}
