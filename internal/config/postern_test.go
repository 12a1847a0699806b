package config

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"postern/internal/admission"
	"postern/internal/sink"
)

// write puts a file into a new folder and returns its path.
func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	writeTo(t, path, content)
	return path
}

func writeTo(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

const short = `
admission:
  proxy_protocol: required
  load_balancers: [10.0.1.25/32]
  endpoints: [vpce-0a1b2c3d4e5f60718]
  sources: [10.20.0.0/16]
`

func TestAShortFileHasTheDocumentedDefaults(t *testing.T) {
	path := write(t, "postern.yaml", short)
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Warnings) != 0 {
		t.Errorf("warnings %q; want none", got.Warnings)
	}
	want := Config{
		Path:       path,
		Version:    got.Version,
		Listen:     ":22",
		PolicyPath: "/etc/postern/policy.yaml",
		SSH: SSH{
			HostKeys:   []string{"/var/lib/postern/ssh_host_ed25519_key", "/var/lib/postern/ssh_host_ecdsa_key", "/var/lib/postern/ssh_host_rsa_key"},
			HostCA:     "/var/lib/postern/host_ca",
			Algorithms: "modern", LoginGraceTime: 30 * time.Second, ClientAliveInterval: time.Minute, ClientAliveCountMax: 3, MaxAuthTries: 6,
		},
		Sessions:   Sessions{MaxChannels: 128},
		Login:      Login{UserCA: "/var/lib/postern/user_ca", CertificateLifetime: 5 * time.Minute, KnownHosts: []string{"/etc/postern/known_hosts"}},
		SigningKey: "/var/lib/postern/audit_key",
		Recordings: Recordings{Dir: "/var/lib/postern/recordings", MinFree: 512 << 20},
		Archive:    Archive{RetentionMode: "compliance", AnchorInterval: time.Minute, AnchorMaxLag: time.Hour},
		Health:     Health{Listen: ":8022"},
		Metrics:    Metrics{Listen: "127.0.0.1:9722"},
		Admin:      Admin{Socket: "/run/postern/admin.sock", Frozen: "/var/lib/postern/frozen.json"},
		Drain:      Drain{Settle: 30 * time.Second, Timeout: 8 * time.Hour},
		Log:        Log{Level: "info", Format: "json"},
	}
	want.Admission = admission.Options{
		ProxyProtocol: admission.ProxyRequired,
		LoadBalancers: []netip.Prefix{netip.MustParsePrefix("10.0.1.25/32")},
		Endpoints:     []string{"vpce-0a1b2c3d4e5f60718"},
		Sources:       []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")},
		HeaderTimeout: 5 * time.Second,
		Limits:        admission.Limits{MaxStartups: 256, MaxStartupsPerSource: 10, MaxSessions: 2000, MaxSessionsPerIdentity: 200, Penalties: true},
	}
	want.Upstream.DialTimeout = 10 * time.Second
	want.Audit.Dir, want.Audit.MinFree = "/var/log/postern/audit", 512<<20
	want.Audit.SegmentSize, want.Audit.SegmentAge = 8<<20, 24*time.Hour
	want.Metrics.Options.LiveSessions = 200
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got  %+v\nwant %+v", *got, want)
	}
	if !regexp.MustCompile(`^sha256:[0-9a-f]{16}$`).MatchString(got.Version) {
		t.Errorf("version %q", got.Version)
	}
}

func TestEveryKeyIsReadIntoItsField(t *testing.T) {
	path := write(t, "postern.yaml", `
listen: "[::1]:2022"
admission:
  proxy_protocol: required
  load_balancers: [10.0.1.25, fd00::/64]
  endpoints: ["*"]
  sources: [0.0.0.0/0]
  header_timeout: 1500ms
aws:
  region: us-gov-west-1
  load_balancer: arn:aws-us-gov:elasticloadbalancing:us-gov-west-1:111122223333:loadbalancer/net/gate/50dc6c495c0c9188
  endpoint_service: vpce-svc-0127881c0d25a3123
  endpoint_owners: ["111122223333", "012345678901"]
  accept_endpoints: on
  refresh: 2m
  auto_scaling_group: gates
  lifecycle_hook: postern-drain
ssh:
  host_keys: [/keys/ed25519, "aws-ssm:/gate/ecdsa"]
  host_ca: /keys/host_ca
  algorithms: compatible
  login_grace_time: 1m
  client_alive_interval: 349s
  client_alive_count_max: 5
  max_auth_tries: 3
limits: { max_startups: 1, max_startups_per_source: 2, max_sessions: 3, max_sessions_per_identity: 4, max_channels: 5, idle_timeout: 1h30m, penalties: off }
policy: /p/policy.yaml
upstream: { user_ca: /keys/user_ca, certificate_lifetime: 10m, private_key: /keys/id, known_hosts: [/k/1, /k/2], dial_timeout: 3s }
audit: { dir: /a, signing_key: "arn:aws:kms:eu-central-1:111122223333:key/0a1b2c3d-0000-1111-2222-333344445555", old_signing_key: /keys/audit, min_free: 2GiB, origin: example.com/bastions, segment_size: 1MiB, segment_age: 1h, retention_days: 400 }
recordings: { dir: /r, recipients: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p], on_failure: continue, min_free: 1GiB }
archive:
  bucket: evidence
  prefix: gates/eu/
  region: eu-central-1
  endpoint: https://s3.example.com:9000
  retention_days: 90
  retention_mode: governance
  anchor_interval: 30s
  anchor_max_lag: 10m
  when_behind: refuse
sinks:
  syslog: { address: "tls://siem.example.com:6514", ca: /t/ca, cert: /t/c, key: /t/k, server_name: siem, facility: local3, queue: 1MiB }
  cloudwatch: { group: /gate/audit, stream: "gate 1", region: us-east-1, endpoint: "http://127.0.0.1:4566", queue: 2MiB }
health: { listen: "127.0.0.1:1", tls_cert: /t/cert, tls_key: /t/key }
metrics: { listen: ":9", web_config: /w/web.yaml, live_sessions: 0 }
admin: { socket: /s/admin.sock, frozen: /s/frozen.json }
drain: { settle: 0s, timeout: 1m }
log: { level: debug, format: console }
`)
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Path: path, Version: got.Version,
		Listen: "[::1]:2022",
		AWS: &AWS{Region: "us-gov-west-1", LoadBalancer: "arn:aws-us-gov:elasticloadbalancing:us-gov-west-1:111122223333:loadbalancer/net/gate/50dc6c495c0c9188",
			EndpointService: "vpce-svc-0127881c0d25a3123", EndpointOwners: []string{"111122223333", "012345678901"},
			AcceptEndpoints: true, Refresh: 2 * time.Minute, AutoScalingGroup: "gates", LifecycleHook: "postern-drain"},
		SSH: SSH{HostKeys: []string{"/keys/ed25519", "aws-ssm:/gate/ecdsa"}, HostCA: "/keys/host_ca", Algorithms: "compatible",
			LoginGraceTime: time.Minute, ClientAliveInterval: 349 * time.Second, ClientAliveCountMax: 5, MaxAuthTries: 3},
		Sessions:   Sessions{MaxChannels: 5, IdleTimeout: 90 * time.Minute},
		PolicyPath: "/p/policy.yaml",
		Login:      Login{UserCA: "/keys/user_ca", CertificateLifetime: 10 * time.Minute, PrivateKey: "/keys/id", KnownHosts: []string{"/k/1", "/k/2"}},
		SigningKey: "arn:aws:kms:eu-central-1:111122223333:key/0a1b2c3d-0000-1111-2222-333344445555", OldSigningKey: "/keys/audit",
		Recordings: Recordings{Dir: "/r", Recipients: []string{"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"}, Continue: true, MinFree: 1 << 30},
		Archive: Archive{Bucket: "evidence", Prefix: "gates/eu", Region: "eu-central-1", Endpoint: "https://s3.example.com:9000",
			Retention: 90 * 24 * time.Hour, RetentionMode: "governance", AnchorInterval: 30 * time.Second, AnchorMaxLag: 10 * time.Minute, Refuse: true},
		Sinks: Sinks{
			Syslog: sink.SyslogOptions{Address: "tls://siem.example.com:6514", CA: "/t/ca", Cert: "/t/c", Key: "/t/k", ServerName: "siem",
				Facility: "local3", Queue: 1 << 20},
			CloudWatch: sink.CloudWatchOptions{Group: "/gate/audit", Stream: "gate 1", Region: "us-east-1", Endpoint: "http://127.0.0.1:4566", Queue: 2 << 20},
		},
		Health:  Health{Listen: "127.0.0.1:1", TLSCert: "/t/cert", TLSKey: "/t/key"},
		Metrics: Metrics{Listen: ":9"},
		Admin:   Admin{Socket: "/s/admin.sock", Frozen: "/s/frozen.json"},
		Drain:   Drain{Timeout: time.Minute},
		Log:     Log{Level: "debug", Format: "console"},
	}
	want.Admission = admission.Options{
		ProxyProtocol: admission.ProxyRequired,
		LoadBalancers: []netip.Prefix{netip.MustParsePrefix("10.0.1.25/32"), netip.MustParsePrefix("fd00::/64")},
		Endpoints:     []string{"*"},
		Sources:       []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")},
		HeaderTimeout: 1500 * time.Millisecond,
		Limits:        admission.Limits{MaxStartups: 1, MaxStartupsPerSource: 2, MaxSessions: 3, MaxSessionsPerIdentity: 4},
	}
	want.Upstream.DialTimeout = 3 * time.Second
	want.Audit.Dir, want.Audit.MinFree, want.Audit.Origin = "/a", 2<<30, "example.com/bastions"
	want.Audit.SegmentSize, want.Audit.SegmentAge, want.Audit.Retention = 1<<20, time.Hour, 400*24*time.Hour
	want.Metrics.Options.WebConfig = "/w/web.yaml"
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got  %+v\nwant %+v", *got, want)
	}
}

func TestWithAnArchiveSegmentsAreClosedEachHour(t *testing.T) {
	for yaml, want := range map[string]time.Duration{
		"archive: { bucket: evidence }\n":                             time.Hour,
		"archive: { bucket: evidence }\naudit: { segment_age: 3h }\n": 3 * time.Hour,
		"archive: { bucket: \"\" }\n":                                 24 * time.Hour,
	} {
		c, err := Load(write(t, "postern.yaml", short+yaml))
		if err != nil {
			t.Fatal(err)
		}
		if c.Audit.SegmentAge != want {
			t.Errorf("%s: a segment is closed after %s, want %s", yaml, c.Audit.SegmentAge, want)
		}
	}
}

// The sinks have no defaults to show: an address or a group is what makes one.
func TestThePackagedFilesExampleOfSinksIsRead(t *testing.T) {
	data, err := os.ReadFile("../../packaging/postern.yaml")
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile(`(?m)^# (sinks:\n(?:#   .*\n)+)`).FindSubmatch(data)
	if example == nil {
		t.Fatal("the packaged file shows no sinks")
	}
	c, err := Load(write(t, "postern.yaml", short+strings.ReplaceAll(string(example[1]), "\n# ", "\n")))
	if err != nil {
		t.Fatal(err)
	}
	if c.Sinks.Syslog.Address != "tls://siem.example.com:6514" || c.Sinks.Syslog.Queue != 8<<20 || c.Sinks.CloudWatch.Group != "/postern/audit" {
		t.Errorf("got %+v", c.Sinks)
	}
}

// Nothing in AWS has a default either.
func TestThePackagedFilesExampleOfAWSIsRead(t *testing.T) {
	data, err := os.ReadFile("../../packaging/postern.yaml")
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile(`(?m)^# (aws:\n(?:#   .*\n)+)`).FindSubmatch(data)
	if example == nil {
		t.Fatal("the packaged file shows no aws")
	}
	c, err := Load(write(t, "postern.yaml", short+strings.ReplaceAll(string(example[1]), "\n# ", "\n")))
	if err != nil {
		t.Fatal(err)
	}
	want := AWS{Region: "us-east-1", LoadBalancer: c.AWS.LoadBalancer, EndpointService: "vpce-svc-0127881c0d25a3123", EndpointOwners: []string{"111122223333"},
		Refresh: time.Minute, AutoScalingGroup: "gate", LifecycleHook: "postern-drain"}
	if !reflect.DeepEqual(*c.AWS, want) {
		t.Errorf("got %+v", *c.AWS)
	}
}

func TestKeysInKMSAreNoFiles(t *testing.T) {
	const arn = "arn:aws-us-gov:kms:us-gov-west-1:111122223333:alias/gate"
	c, err := Load(write(t, "postern.yaml", short+"ssh: { host_ca: '"+arn+"' }\nupstream: { user_ca: '"+arn+"' }\naudit: { signing_key: '"+arn+"' }\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.SSH.HostCA != arn || c.Login.UserCA != arn || c.SigningKey != arn {
		t.Errorf("host CA %s, user CA %s, signing key %s", c.SSH.HostCA, c.Login.UserCA, c.SigningKey)
	}
}

func TestEmptyListsAreAllowedOnPurposeAndWarnedOf(t *testing.T) {
	c, err := Load(write(t, "postern.yaml", "admission: { proxy_protocol: required, load_balancers: [], endpoints: [], sources: [] }\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"admission.load_balancers: empty, so nobody can connect",
		"admission.endpoints: empty, so nobody can connect",
		"admission.sources: empty, so nobody can connect",
	}
	if !reflect.DeepEqual(c.Warnings, want) {
		t.Errorf("warnings %q\nwant     %q", c.Warnings, want)
	}
}

func TestWithoutProxyProtocolOnlySourcesAreWanted(t *testing.T) {
	c, err := Load(write(t, "postern.yaml", "admission: { proxy_protocol: off, sources: [192.0.2.0/24] }\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Admission.ProxyProtocol != admission.ProxyOff || len(c.Warnings) != 0 {
		t.Errorf("proxy protocol %q, warnings %q", c.Admission.ProxyProtocol, c.Warnings)
	}
}

func TestRelativePathsStartInTheFolderOfTheFile(t *testing.T) {
	path := write(t, "postern.yaml", short+`
policy: policy.yaml
ssh: { host_keys: [keys/ed25519, ../x/../key] }
audit: { dir: audit }
admin: { socket: ./admin.sock }
`)
	dir := filepath.Dir(path)
	t.Chdir(filepath.Dir(dir))
	c, err := Load(filepath.Join(filepath.Base(dir), "postern.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	got := []string{c.Path, c.PolicyPath, c.SSH.HostKeys[0], c.SSH.HostKeys[1], c.Audit.Dir, c.Admin.Socket}
	want := []string{path, dir + "/policy.yaml", dir + "/keys/ed25519", filepath.Dir(dir) + "/key", dir + "/audit", dir + "/admin.sock"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestCredentialsAreFoundInTheFolderOfTheUnit(t *testing.T) {
	path := write(t, "postern.yaml", short+"ssh: { host_keys: ['credential:host_ed25519'] }\npolicy: credential:policy\n")
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/credentials/postern@1.service")
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.SSH.HostKeys[0]; got != "/run/credentials/postern@1.service/host_ed25519" {
		t.Errorf("host key %s", got)
	}
	if c.PolicyPath != "/run/credentials/postern@1.service/policy" {
		t.Errorf("policy %s", c.PolicyPath)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	_, err = Load(path)
	if err == nil || !strings.Contains(err.Error(), "CREDENTIALS_DIRECTORY is not set") {
		t.Errorf("without the folder: %v", err)
	}
	if h := HintFor(err); len(h) != 2 || !strings.HasPrefix(h[0], "hint: add LoadCredential=host_ed25519:") {
		t.Errorf("hints %q", h)
	}
}

func TestTheVersionChangesWithTheFile(t *testing.T) {
	a, err := Load(write(t, "postern.yaml", short))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Load(write(t, "postern.yaml", short+"# changed\n"))
	if err != nil {
		t.Fatal(err)
	}
	if a.Version == b.Version {
		t.Error("two files have one version")
	}
}

func TestFilesThatCantBeReadAreErrorsWithHints(t *testing.T) {
	dir := t.TempDir()
	_, err := Load(filepath.Join(dir, "none.yaml"))
	if !errors.Is(err, fs.ErrNotExist) || len(HintFor(err)) != 1 {
		t.Errorf("missing file: %v, hints %q", err, HintFor(err))
	}
	open := write(t, "open.yaml", short)
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir:  dir + ": not a regular file",
		open: open + ": everybody may write it (mode 0666); run: chmod o-w " + open,
		write(t, "large.yaml", strings.Repeat("#\n", maxFile/2+1)): "larger than 1024 KiB",
	} {
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", path, err, want)
		}
	}
}

// The commented lines of the packaged file claim to show the defaults.
func TestThePackagedFileShowsTheDefaults(t *testing.T) {
	data, err := os.ReadFile("../../packaging/postern.yaml")
	if err != nil {
		t.Fatal(err)
	}
	shipped, err := Load(write(t, "postern.yaml", string(data)))
	if err != nil {
		t.Fatal(err)
	}
	if len(shipped.Admission.Sources) != 0 || len(shipped.Admission.Endpoints) != 0 || len(shipped.Admission.LoadBalancers) != 0 {
		t.Error("the packaged file admits somebody")
	}
	// A key is commented out without a space, prose with one.
	uncommented := regexp.MustCompile(`(?m)^(\s*)#([a-z])`).ReplaceAllString(string(data), "$1$2")
	spelled, err := Load(write(t, "postern.yaml", uncommented))
	if err != nil {
		t.Fatal(err)
	}
	spelled.Path, spelled.Version = shipped.Path, shipped.Version
	if len(spelled.Recordings.Recipients) == 0 {
		spelled.Recordings.Recipients = shipped.Recordings.Recipients // [] is as good as nothing
	}
	if !reflect.DeepEqual(spelled, shipped) {
		t.Errorf("uncommented %+v\nshipped     %+v", spelled, shipped)
	}
	for key := range strings.SplitSeq("listen admission ssh limits policy upstream audit recordings archive health metrics admin drain log", " ") {
		if !strings.Contains(uncommented, "\n"+key+":") {
			t.Errorf("the packaged file does not show %s", key)
		}
	}
}

const balancerARN = "arn:aws:elasticloadbalancing:us-east-1:111122223333:loadbalancer/net/gate/50dc6c495c0c9188"

func TestWhatIsDiscoveredNeedsNoList(t *testing.T) {
	c, err := Load(write(t, "postern.yaml", `
admission: { proxy_protocol: required, sources: [10.20.0.0/16] }
aws: { load_balancer: `+balancerARN+`, endpoint_service: vpce-svc-0127881c0d25a3123, endpoint_owners: ["111122223333"] }
`))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) > 0 || len(c.Admission.LoadBalancers)+len(c.Admission.Endpoints) > 0 {
		t.Errorf("warnings %q, admission %+v", c.Warnings, c.Admission)
	}
	if c.AWS.Region != "us-east-1" {
		t.Errorf("region %q is not that of the load balancer", c.AWS.Region)
	}
}

func TestNoOwnersOnPurposeIsNoFault(t *testing.T) {
	c, err := Load(write(t, "postern.yaml", short+`
aws: { endpoint_service: vpce-svc-0127881c0d25a3123, endpoint_owners: [] }
`))
	if err != nil || len(c.AWS.EndpointOwners) != 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestAPolicyFromS3IsKeptBesideWhatTheGateRemembers(t *testing.T) {
	c, err := Load(write(t, "postern.yaml", short+`
policy: s3://fleet/gates/policy.yaml
admin: { frozen: /s/frozen.json }
ssh: { host_keys: ["aws-secretsmanager:gate/host_key"], host_ca: "aws-ssm:/gate/host_ca" }
upstream: { user_ca: "aws-ssm:/gate/user_ca" }
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.PolicyObject != "s3://fleet/gates/policy.yaml" || c.PolicyPath != "/s/policy-from-s3.yaml" {
		t.Errorf("policy %q, kept at %q", c.PolicyObject, c.PolicyPath)
	}
	if c.SSH.HostKeys[0] != "aws-secretsmanager:gate/host_key" || c.SSH.HostCA != "aws-ssm:/gate/host_ca" || c.Login.UserCA != "aws-ssm:/gate/user_ca" {
		t.Errorf("keys %+v, %+v", c.SSH, c.Login)
	}
}
