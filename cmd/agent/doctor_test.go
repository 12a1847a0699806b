package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"postern/internal/admission"
	"postern/internal/config"
	"postern/internal/doctor"
	"postern/internal/sshgate"
	"postern/test/awsfake"
)

var updateGolden = flag.Bool("update", false, "write the golden report anew")

// goodHost is a host on which all is right.
func goodHost() *host {
	c := &config.Config{Listen: ":22", PolicyPath: "/etc/postern/policy.yaml", Health: config.Health{Listen: ":8022"},
		SSH: config.SSH{HostKeys: []string{"/var/lib/postern/ssh_host_ed25519_key"}, ClientAliveInterval: time.Minute},
		AWS: &config.AWS{Region: "us-east-1", LoadBalancer: awsfake.GateBalancer, EndpointService: awsfake.GateService,
			EndpointOwners: []string{awsfake.VendorAccount}, AutoScalingGroup: awsfake.GateGroup, LifecycleHook: awsfake.GateHook},
		Drain:   config.Drain{Settle: 30 * time.Second, Timeout: 8 * time.Hour},
		Archive: config.Archive{Bucket: awsfake.GateBucket}}
	c.Admission = admission.Options{ProxyProtocol: admission.ProxyRequired, Sources: []netip.Prefix{netip.MustParsePrefix(awsfake.VendorCIDR)}}
	c.Audit.MinFree, c.Recordings.MinFree = 512<<20, 512<<20
	return &host{configPath: defaultConfig, config: c, ready: readiness{status: 200, body: "ok"}, synced: true,
		port:  []holder{{1, "systemd"}, {812, "postern"}},
		audit: disk{dir: "/var/log/postern/audit", free: 8 << 30}, recorded: disk{dir: "/var/lib/postern/recordings", free: 8 << 30},
		keys: []hostKey{{path: "/var/lib/postern/ssh_host_ed25519_key"}}, links: []link{{"ens5", 9001}}}
}

// TestEachFaultOfTheHostIsNamed changes one thing of a good host at a time.
func TestEachFaultOfTheHostIsNamed(t *testing.T) {
	fault := config.Errors{{File: "postern.yaml", Line: 3, Column: 5, Msg: "unknown key"}}
	key := func(k hostKey) func(*host) {
		return func(h *host) { k.path = h.keys[0].path; h.keys[0] = k }
	}
	for name, sc := range map[string]struct {
		change func(*host)
		id     string
		status doctor.Status
		saw    string
	}{
		"nothing":                      {func(*host) {}, "", "", ""},
		"a fault in the configuration": {func(h *host) { h.configErr = fault }, "config.file", doctor.Fail, "postern.yaml:3:5: unknown key"},
		"a file that can't be read":    {func(h *host) { h.configErr = fs.ErrPermission }, "config.file", doctor.Unknown, "permission"},
		"a fault in the policy":        {func(h *host) { h.policyErr = fault }, "config.policy", doctor.Fail, "unknown key"},
		"a policy that is not copied":  {func(h *host) { h.policyErr, h.config.PolicyObject = fs.ErrNotExist, "s3://b/policy.yaml" }, "", "", ""},
		"a list that is empty":         {func(h *host) { h.config.Warnings = []string{"admission.sources: empty"} }, "config.warnings", doctor.Warn, "admission.sources"},
		"sshd on the port":             {func(h *host) { h.port = []holder{{700, "sshd"}} }, "host.port", doctor.Fail, "sshd (process 700)"},
		"a port that only root sees":   {func(h *host) { h.port, h.portErr = nil, errUnseen }, "host.port", doctor.Unknown, "root"},
		"a free port":                  {func(h *host) { h.port = nil }, "", "", ""},
		"systemd for another unit":     {func(h *host) { h.port = h.port[:1] }, "host.port", doctor.Warn, "postern.socket is not enabled"},
		"the gate's own socket unit":   {func(h *host) { h.port, h.socketUnit = h.port[:1], true }, "", "", ""},
		"no gate":                      {func(h *host) { h.ready = readiness{err: errors.New("connection refused")} }, "host.ready", doctor.Warn, "nobody answers"},
		"a gate that is not ready":     {func(h *host) { h.ready = readiness{status: 503, body: "audit: full"} }, "host.ready", doctor.Fail, "503: audit: full"},
		"a clock that nobody sets":     {func(h *host) { h.synced = false }, "host.clock", doctor.Warn, "kernel"},
		"a kernel that won't say":      {func(h *host) { h.clockErr = fs.ErrPermission }, "host.clock", doctor.Unknown, "permission"},
		"no room for the audit log":    {func(h *host) { h.audit.free = 500 << 20 }, "host.audit-disk", doctor.Fail, "500M free"},
		"little room for recordings":   {func(h *host) { h.recorded.free = 600 << 20 }, "host.recordings-disk", doctor.Warn, "600M free"},
		"a disk that does not answer":  {func(h *host) { h.audit.err = fs.ErrPermission }, "host.audit-disk", doctor.Unknown, "permission"},
		"a host key for everybody":     {key(hostKey{open: true}), "host.host-keys", doctor.Fail, "read by others"},
		"a host key of sshd":           {key(hostKey{system: "/etc/ssh/ssh_host_ed25519_key.pub"}), "host.host-keys", doctor.Warn, "is the key in /etc/ssh"},
		"a host key to be made":        {key(hostKey{err: fs.ErrNotExist}), "", "", ""},
		"a host key that is secret":    {key(hostKey{err: fs.ErrPermission}), "host.host-keys", doctor.Unknown, "can't be read"},
		"a host key that is broken":    {key(hostKey{err: errors.New("no key found")}), "host.host-keys", doctor.Fail, "no key found"},
		"small packets":                {func(h *host) { h.links[0].mtu = 576 }, "host.mtu", doctor.Warn, "576"},
	} {
		t.Run(name, func(t *testing.T) {
			h := goodHost()
			sc.change(h)
			for _, r := range h.check() {
				switch {
				case r.ID == sc.id:
					if r.Status != sc.status || !strings.Contains(r.Saw, sc.saw) || len(r.Mend) == 0 {
						t.Errorf("%s is %s: %s %q", r.ID, r.Status, r.Saw, r.Mend)
					}
				case r.Status != doctor.OK:
					t.Errorf("%s is %s: %s", r.ID, r.Status, r.Saw)
				}
			}
		})
	}
}

func TestWithoutAConfigurationTheHostIsStillLookedAt(t *testing.T) {
	h := goodHost()
	h.config, h.configErr = nil, errors.New("no such file")
	var judged []string
	for _, r := range h.check() {
		if r.Status != doctor.Unknown {
			judged = append(judged, r.ID)
		} else if r.WaitsFor != "config.file" {
			t.Errorf("%s is unknown and waits for %q", r.ID, r.WaitsFor)
		}
	}
	if want := []string{"config.file", "host.port", "host.clock", "host.mtu"}; !slices.Equal(judged, want) {
		t.Errorf("judged are %q, want %q", judged, want)
	}
}

// TestTheReportIsForEngineers compares a report of several kinds of trouble with
// the one in testdata, which -update writes.
func TestTheReportIsForEngineers(t *testing.T) {
	fake, account := awsfake.New(), awsfake.Correct()
	t.Cleanup(fake.Close)
	fake.Account(account)
	serveAccount(t, fake, account)
	account.TargetGroups[0].Attributes["proxy_protocol_v2.enabled"] = "false"
	account.TargetGroups[0].Check.Matcher = "200-399"
	account.SecurityRules[3].CIDR = "10.0.0.0/16"
	account.Services[0].Connections[0].State = "pendingAcceptance"
	account.Denied = []string{"ec2:DescribeNetworkAcls"}
	h := goodHost()
	h.port = []holder{{700, "sshd"}}
	h.config.AWS.EndpointService, h.config.Archive.Bucket = "", ""

	var out bytes.Buffer
	d := diagnose(h, doctor.Collect(t.Context(), doctorSetup(h.config, "")))
	d.text(&out, false)
	const golden = "testdata/doctor.golden"
	if *updateGolden {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf("the report has changed:\n%s", out.String())
	}
	if f, ok := errors.AsType[*fault](d.exit()); !ok || f.status != exitWrong {
		t.Errorf("it ends in %v", d.exit())
	}
}

func TestTheExitStatusIsTheWorst(t *testing.T) {
	for _, sc := range []struct {
		statuses []doctor.Status
		want     int
	}{
		{[]doctor.Status{doctor.OK}, exitFine}, {[]doctor.Status{doctor.OK, doctor.Warn}, exitFine},
		{[]doctor.Status{doctor.Unknown, doctor.Warn}, exitUsage}, {[]doctor.Status{doctor.Fail, doctor.Unknown}, exitWrong},
	} {
		var all []doctor.Result
		for _, s := range sc.statuses {
			all = append(all, doctor.Result{Status: s})
		}
		var discard bytes.Buffer
		if got := report(&discard, diagnosis{Status: worst(all)}.exit()); got != sc.want || discard.Len() > 0 {
			t.Errorf("%v ends in %d, want %d; %s", sc.statuses, got, sc.want, discard.String())
		}
	}
}

func TestTheDocumentExplainsEveryCheckAndNoOther(t *testing.T) {
	b, err := os.ReadFile("../../docs/aws.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(b), "## What each check means")
	section, _, _ = strings.Cut(section, "\n## ")
	var explained []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z.0-9-]+)` \\|").FindAllStringSubmatch(section, -1) {
		explained = append(explained, m[1])
	}
	made := doctor.CheckIDs()
	for _, c := range hostChecks() {
		made = append(made, c.id)
	}
	slices.Sort(made)
	slices.Sort(explained)
	if !slices.Equal(explained, made) {
		t.Errorf("docs/aws.md explains\n%q\nthere are\n%q", explained, made)
	}
}

// TestWhoHasAPortIsSeen listens itself and looks for itself in the real /proc.
func TestWhoHasAPortIsSeen(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		port := ln.Addr().(*net.TCPAddr).AddrPort().Port()
		found, err := holders("/proc", netip.AddrPortFrom(netip.IPv4Unspecified(), port))
		if err != nil || !slices.ContainsFunc(found, func(h holder) bool { return h.pid == os.Getpid() }) {
			t.Errorf("%s is held by %v, %v; this is process %d", address, found, err, os.Getpid())
		}
		elsewhere, err := holders("/proc", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), port))
		if err != nil || (len(elsewhere) > 0) != (address == ":0") {
			t.Errorf("%s is in the way at 127.0.0.9: %v, %v", address, elsewhere, err)
		}
		ln.Close()
		if found, err := holders("/proc", netip.AddrPortFrom(netip.IPv4Unspecified(), port)); err != nil || len(found) > 0 {
			t.Errorf("a port that is closed is held by %v, %v", found, err)
		}
	}
}

func TestAPortWhoseHolderMayNotBeSeenIsUnknown(t *testing.T) {
	proc := t.TempDir()
	if err := os.Mkdir(filepath.Join(proc, "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	table := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000 100 0 0 10 0\n" +
		"   1: 0100007F:0016 0200007F:0016 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000000000000000 100 0 0 10 0\n" +
		"garbage\n"
	if err := os.WriteFile(filepath.Join(proc, "net/tcp"), []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := holders(proc, netip.MustParseAddrPort("10.0.1.10:22")); !errors.Is(err, errUnseen) {
		t.Errorf("got %v", err)
	}
	if found, err := holders(proc, netip.MustParseAddrPort("10.0.1.10:23")); err != nil || found != nil {
		t.Errorf("another port is held by %v, %v", found, err)
	}
}

func FuzzKernelAddress(f *testing.F) {
	for _, s := range []string{"0100007F:0016", "00000000000000000000000001000000:1F90", "0000000000000000FFFF00000100007F:0016", "", ":", "01:00", "0100007F:10000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := kernelAddress(s)
		if err == nil && !a.IsValid() {
			t.Errorf("%q is %v", s, a)
		}
	})
}

func TestTheDoctorAsksTheGateAsTheLoadBalancerDoes(t *testing.T) {
	status := http.StatusServiceUnavailable
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		fmt.Fprintln(w, r.Method, r.URL.Path)
	}))
	defer s.Close()
	c := &config.Config{Health: config.Health{Listen: strings.TrimPrefix(s.URL, "http://")}}
	if r := askReady(c); r.err != nil || r.status != status || r.body != "GET /readyz" {
		t.Errorf("got %+v", r)
	}
	s.Close()
	if r := askReady(c); r.err == nil {
		t.Error("a gate that is gone answers")
	}
}

func TestAHostKeyOfTheSystemIsSeen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ssh_host_ed25519_key")
	keys, err := sshgate.LoadHostKeys([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	if k := hostKeyAt(path); k.err != nil || k.open || k.system != "" {
		t.Errorf("a key of the gate's own is %+v", k)
	}
	public := filepath.Join(dir, "sshd_key.pub")
	if err := os.WriteFile(public, ssh.MarshalAuthorizedKey(keys[0].PublicKey()), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := sameKey(keys[0].PublicKey(), filepath.Join(dir, "sshd*.pub")); got != public {
		t.Errorf("it is the same key as %q", got)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if k := hostKeyAt(path); !k.open && k.err == nil {
		t.Error("a key that others can read is good")
	}
	if k := hostKeyAt(filepath.Join(dir, "none")); !errors.Is(k.err, fs.ErrNotExist) {
		t.Errorf("a key that is not there: %v", k.err)
	}
}

func TestRoomIsThatOfTheFolderToBe(t *testing.T) {
	d := diskOf(filepath.Join(t.TempDir(), "not", "made", "yet"))
	if d.err != nil || d.free == 0 {
		t.Errorf("got %+v", d)
	}
}
