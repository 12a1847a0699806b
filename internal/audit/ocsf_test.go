package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

const validator = "../../test/ocsf/ocsf_check.py"

// validate runs lines through the real OCSF validator and returns what it says.
func validate(t *testing.T, lines []byte) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("python3 is needed and missing")
		}
		t.Skip("python3 is missing")
	}
	cmd := exec.Command("python3", validator)
	cmd.Stdin = bytes.NewReader(lines)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

var (
	inAWS = Host{Version: "1.0.0", Hostname: "bastion-a.internal", InstanceID: "i-0f3c5a7e9b1d2c4e6", Region: "us-east-1", Zone: "us-east-1a", Account: "111122223333",
		LoadBalancer: "arn:aws:elasticloadbalancing:us-east-1:111122223333:loadbalancer/net/gate/50dc6c495c0c9188"}
	noon = time.Date(2026, 11, 24, 12, 0, 0, 123456789, time.UTC)
)

// full fills every field there is, so that no combination is left untried.
func full(code Code) Event {
	return Event{
		FileOp: &FileOperation{Action: "put", Path: "/data/in/part-1", To: "/data/part-1", Size: 401, SHA256: strings.Repeat("cd", 32), Partial: true,
			Status: "SSH_FX_FAILURE", Code: 4, Command: "SSH_FXP_CLOSE", Entries: 3},
		Code: code, Time: noon, Message: "a sentence", Reason: "no_rule", Detail: "the operator's detail",
		Session: "01998e4c-7a10-7c3e-9d55-3b0f6f1b2a77", Opened: noon.Add(-time.Minute), Channel: "2", Kind: "direct-tcpip",
		Peer:     netip.MustParseAddrPort("10.0.1.25:33001"),
		Client:   netip.MustParseAddrPort("[::ffff:10.20.1.37]:50222"),
		Endpoint: "vpce-0a1b2c3d4e5f60718",
		Gate:     netip.MustParseAddrPort("10.0.1.40:22"),
		User:     "deploy", Identity: "vendor",
		Auth: &Auth{Method: "publickey", Certificate: true, Fingerprint: "SHA256:V/UcGF0jrBgeaaU1FPoOJqRbfNtKDLH72MI0Jb7WU1o", Algorithm: "ssh-ed25519-cert-v01@openssh.com",
			CA: "SHA256:vQ1x6cLq0sVn3gGk7b1m4oE2oQhXy9r1u0s5Zt8wA2E", KeyID: "ci-7", Serial: 90417, ValidAfter: noon.Add(-time.Hour), ValidBefore: noon.Add(time.Hour), Principal: "vendor"},
		Hello: &Hello{Version: "SSH-2.0-OpenSSH_10.2", HASSH: "472b5de333ad665af5cbf10ff892c4df", HASSHAlgorithms: "a;b;c;d", ServerHASSH: "aaf4d60446a0aaf10b3ab9b501328ff7"},

		TargetHost: "node-3.cluster.internal", Target: netip.MustParseAddrPort("10.0.12.8:8088"), Login: "hadoop",
		Rule: "web-uis", Policy: "sha256:5a1f0c77", Command: "/opt/agent/upgrade.sh --check", ExitCode: 3, Terminal: "xterm-256color 120x40",
		BytesIn: 401, BytesOut: 702, TotalIn: 73410001, TotalOut: 1803000, Start: noon.Add(-time.Minute), End: noon, Count: 17,
		Admin: &Admin{Name: "alice", UID: 1001, GID: 1001, PID: 22817, Operation: "sessions.kill", Via: "unix:/run/postern/admin.sock"},
		File:  "/var/log/postern/audit/audit-00000000000000000000.jsonl", FileSize: 8388121, FileHash: strings.Repeat("ab", 32), Entity: "sha256:77c1f09e",
		Extra: map[string]any{"dial_ms": 2, "list": []string{"a", "b"}, "deep": map[string]any{"x": int64(1)}, "ratio": 0.5, "none": nil, "channel": "taken"},
	}
}

func line(e Event, h Host, sequence int64) []byte {
	return encode(e, &h, noon).appendTo(nil, sequence)
}

func TestEveryEventPassesTheOCSFValidator(t *testing.T) {
	hosts := map[string]Host{"aws": inAWS, "account alone": {Account: "111122223333"}, "on premises": {Version: "1.0.0", Hostname: "gate"}, "nothing known": {}}
	for name, host := range hosts {
		t.Run(name, func(t *testing.T) {
			var lines []byte
			for i, code := range append(Codes(), "not.in.the.table") {
				everything, failure, alert := full(code), full(code), Event{Code: code, Alert: true}
				failure.Failed = true
				failure.Auth.Certificate = false
				bare := Event{Code: code, Failed: i%2 == 0}
				for _, e := range []Event{everything, failure, alert, bare} {
					lines = append(lines, line(e, host, int64(i))...)
				}
			}
			if out, err := validate(t, lines); err != nil || !strings.Contains(out, fmt.Sprintf("%d events, 0 bad", 4*(len(Codes())+1))) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestTheValidatorBites(t *testing.T) {
	good := string(line(full(ConnOpen), inAWS, 7))
	for name, bad := range map[string]string{
		"unknown attribute":  strings.Replace(good, `"message":`, `"massage":`, 1),
		"wrong type_uid":     strings.Replace(good, `"type_uid":400701`, `"type_uid":400702`, 1),
		"wrong caption":      strings.Replace(good, `"severity":"Informational"`, `"severity":"Info"`, 1),
		"profile not named":  strings.Replace(good, `"load_balancer","security_control"`, `"load_balancer"`, 1),
		"cloud block absent": strings.Replace(good, `"cloud":{"provider"`, `"unmapped":{"provider"`, 1),
		"seconds":            strings.Replace(good, `"time":1795521600123`, `"time":1795521600`, 1),
	} {
		if bad == good {
			t.Errorf("%s: the line was not changed: %s", name, good)
		}
		if out, err := validate(t, []byte(bad)); err == nil {
			t.Errorf("%s passed: %s", name, out)
		}
	}
}

func decode(t testing.TB, b []byte) map[string]any {
	t.Helper()
	if !utf8.Valid(b) || bytes.Count(b, []byte("\n")) != 1 {
		t.Fatalf("not one line of UTF-8: %q", b)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return m
}

// at follows names into nested objects, and 0 into the first element of a list.
func at(m any, names ...string) any {
	for _, name := range names {
		switch v := m.(type) {
		case map[string]any:
			m = v[name]
		case []any:
			m = v[0].(map[string]any)[name]
		default:
			return nil
		}
	}
	return m
}

func TestWhatAnEventSaysStandsWhereOCSFLooksForIt(t *testing.T) {
	type want map[string]any
	for _, c := range []struct {
		name  string
		event Event
		want  want
	}{
		{"connection", full(ConnOpen), want{
			"type_uid": 400701., "metadata/correlation_uid": "01998e4c-7a10-7c3e-9d55-3b0f6f1b2a77", "metadata/sequence": 41., "time": 1795521600123.,
			"time_dt": "2026-11-24T12:00:00.123Z", "src_endpoint/ip": "10.20.1.37", "src_endpoint/port": 50222., "src_endpoint/uid": "vpce-0a1b2c3d4e5f60718",
			"dst_endpoint/ip": "10.0.1.40", "dst_endpoint/svc_name": "ssh", "load_balancer/ip": "10.0.1.25", "load_balancer/name": "nlb",
			"connection_info/protocol_ver_id": 4., "client_hassh/fingerprint/value": "472b5de333ad665af5cbf10ff892c4df", "protocol_ver": "2.0", "cloud/region": "us-east-1",
			"disposition": "Allowed", "firewall_rule/name": "web-uis", "policy/version": "sha256:5a1f0c77", "unmapped/postern/dial_ms": 2., "device/instance_uid": "i-0f3c5a7e9b1d2c4e6"}},
		{"peer refused before a header", Event{Code: ConnRefused, Peer: netip.MustParseAddrPort("10.9.9.9:41012"), Reason: "peer"}, want{
			"type_uid": 400705., "src_endpoint/ip": "10.9.9.9", "load_balancer": nil, "status": "Failure", "action": "Denied", "disposition": "Blocked", "status_code": "peer", "connection_info": nil}},
		{"certificate", full(AuthSuccess), want{
			"user/name": "deploy", "user/uid": "vendor", "certificate/serial_number": "90417", "certificate/fingerprints/value": "V/UcGF0jrBgeaaU1FPoOJqRbfNtKDLH72MI0Jb7WU1o",
			"auth_protocol": "SSH publickey", "session/issuer": "SHA256:vQ1x6cLq0sVn3gGk7b1m4oE2oQhXy9r1u0s5Zt8wA2E",
			"session/credential_uid": "ssh-ed25519-cert-v01@openssh.com serial=90417 key=SHA256:V/UcGF0jrBgeaaU1FPoOJqRbfNtKDLH72MI0Jb7WU1o",
			"unmapped/postern/peer":  "10.0.1.25:33001", "unmapped/postern/client_version": "SSH-2.0-OpenSSH_10.2"}},
		{"nameless user", Event{Code: AuthFailure}, want{"user/name": "unknown", "session": nil, "status_id": 2., "disposition": "Unauthorized"}},
		{"command on the target", full(ProcStart), want{
			"device/hostname": "node-3.cluster.internal", "device/ip": "10.0.12.8", "process/cmd_line": "/opt/agent/upgrade.sh --check", "process/user/name": "hadoop",
			"process/uid": "01998e4c-7a10-7c3e-9d55-3b0f6f1b2a77/2", "severity": "Low", "unmapped/postern/client": "10.20.1.37:50222"}},
		{"built-in command", Event{Code: ProcStart, Kind: "exec", Command: "whoami", Session: "s", Channel: "0"}, want{
			"device/hostname": "bastion-a.internal", "process/name": "exec", "severity": "Informational", "unmapped/postern/channel": 0.}},
		{"end of a command", full(ProcEnd), want{"exit_code": 3., "process/terminated_time": 1795521600123., "unmapped/postern/bytes_out": 702., "action": nil}},
		{"tunnel", full(ForwardOpen), want{
			"dst_endpoint/hostname": "node-3.cluster.internal", "dst_endpoint/ip": "10.0.12.8", "dst_endpoint/port": 8088., "proxy_endpoint/port": 22.,
			"proxy_connection_info/direction": "Outbound", "unmapped/postern/requested": "node-3.cluster.internal:8088", "unmapped/postern/channel": "taken"}},
		{"tunnel to an address", Event{Code: ForwardRefused, TargetHost: "169.254.169.254", Target: netip.AddrPortFrom(netip.Addr{}, 80)}, want{
			"dst_endpoint/ip": "169.254.169.254", "dst_endpoint/port": 80., "dst_endpoint/hostname": nil, "disposition": "Unauthorized"}},
		{"tunnel to a socket", Event{Code: ForwardOpen, Kind: "direct-streamlocal@openssh.com", TargetHost: "/run/x.sock"}, want{
			"dst_endpoint/name": "/run/x.sock", "proxy_connection_info": nil}},
		{"unreachable target", Event{Code: ForwardFailed, TargetHost: "db"}, want{"type_uid": 400104., "action": "Allowed", "disposition": "Error", "status": "Failure"}},
		{"allowed listener", Event{Code: ForwardListen, Target: netip.MustParseAddrPort("0.0.0.0:7000")}, want{"action": "Allowed", "dst_endpoint/ip": "0.0.0.0", "type_uid": 400107.}},
		{"refused listener", Event{Code: ForwardListen, Failed: true}, want{"action": "Denied", "type_uid": 400107.}},
		{"traffic", full(Traffic), want{"traffic/bytes_in": 401., "cumulative_traffic/bytes": 75213001., "status_id": nil}},
		{"lost connection", Event{Code: ConnClose, Failed: true, TotalIn: 1, TotalOut: 2, Start: noon, End: noon.Add(time.Second)}, want{
			"type_uid": 400703., "activity_name": "Reset", "cumulative_traffic/bytes": 3., "cumulative_traffic/timespan/duration": 1000., "cumulative_traffic/start_time": 1795521600123.}},
		{"kill", full(AdminAction), want{"type_uid": 600304., "actor/user/name": "alice", "actor/process/pid": 22817., "api/operation": "sessions.kill",
			"src_endpoint/svc_name": "unix:/run/postern/admin.sock", "resources/uid": "sha256:77c1f09e", "unmapped/postern/peer_cred/gid": 1001.}},
		{"freeze", Event{Code: AdminAction, Admin: &Admin{Operation: "freeze"}}, want{"type_uid": 600303., "actor/user/name": "uid 0"}},
		{"reload", full(ConfigReload), want{"entity/name": "/var/log/postern/audit/audit-00000000000000000000.jsonl", "entity/version": "sha256:77c1f09e", "entity/type": "Policy"}},
		{"rotation", full(LogRotate), want{"file/size": 8388121., "file/hashes/value": strings.Repeat("ab", 32), "file/name": "audit-00000000000000000000.jsonl"}},
		{"login at a target", full(TargetOpen), want{
			"type_uid": 400701., "dst_endpoint/hostname": "node-3.cluster.internal", "dst_endpoint/ip": "10.0.12.8", "src_endpoint/ip": "10.20.1.37", "auth_type": "Certificate Based",
			"unmapped/postern/login": "hadoop", "disposition": "Allowed", "actor/user/uid": "vendor"}},
		{"login at a target that failed", Event{Code: TargetFailed, TargetHost: "10.0.12.8", Reason: "host_key_changed", Alert: true}, want{
			"type_uid": 400704., "action": "Allowed", "disposition": "Error", "status_code": "host_key_changed", "severity": "Medium", "is_alert": true}},
		{"end at a target", Event{Code: TargetClose, TargetHost: "10.0.12.8", Start: noon.Add(-time.Minute), End: noon}, want{
			"type_uid": 400702., "duration": 60000., "start_time": 1795521540123., "count": nil, "traffic": nil}},
		{"upload", full(FileOp), want{
			"type_uid": 400801., "activity_name": "Put", "command": "SSH_FXP_CLOSE", "name": "/data/in/part-1 -> /data/part-1", "file/name": "part-1", "file/path": "/data/in/part-1",
			"file/size": 401., "file/type": "Regular File", "file/hashes/value": strings.Repeat("cd", 32), "traffic/bytes_in": 401., "dst_endpoint/ip": "10.0.12.8",
			"unmapped/postern/hash_complete": false, "unmapped/postern/target_path": "/data/part-1", "unmapped/postern/duration_ms": 60000., "unmapped/postern/operation": "put"}},
		{"download that the target refused", Event{Code: FileOp, Kind: "sftp", Failed: true,
			FileOp: &FileOperation{Action: "get", Path: "/etc/shadow", Size: -1, Status: "SSH_FX_PERMISSION_DENIED", Code: 3, Command: "SSH_FXP_OPEN"}}, want{
			"type_uid": 400802., "app_protocol_name": "sftp", "status": "Failure", "status_code": "SSH_FX_PERMISSION_DENIED", "action": "Allowed", "disposition": "Error", "severity": "Low",
			"file/size": nil, "file/hashes": nil, "traffic/bytes": 0., "unmapped/postern/hash_complete": nil}},
		{"upload that the target's scp refused", Event{Code: FileOp, Kind: "scp", Failed: true, FileOp: &FileOperation{Action: "put", Path: "x", Size: -1, Status: "scp: x: Permission denied"}}, want{
			"status_code": "file_failed", "codes": nil}},
		{"upload with a reason of the gate's own", Event{Code: FileOp, Failed: true, Reason: "policy_changed", FileOp: &FileOperation{Action: "put", Path: "x", Status: "SSH_FX_FAILURE"}}, want{
			"status_code": "policy_changed"}},
		{"rename that the gate refused", Event{Code: FileOp, Failed: true,
			FileOp: &FileOperation{Action: "rename", Path: "/tmp/x", To: "/etc/cron.d/x", Size: -1, Denied: true}}, want{
			"type_uid": 400805., "action": "Denied", "status_code": "file_denied", "disposition": "Unauthorized", "severity": "Medium", "name": "/tmp/x -> /etc/cron.d/x", "file/type": "Unknown", "traffic": nil}},
		{"listing", Event{Code: FileOp, FileOp: &FileOperation{Action: "list", Path: "/data/", Size: -1, Entries: 41}}, want{
			"type_uid": 400806., "file/name": "data", "file/type": "Folder", "unmapped/postern/entries": 41.}},
		{"what OCSF has no verb for", Event{Code: FileOp, FileOp: &FileOperation{Action: "symlink", Path: "a", To: "b", Size: -1}}, want{"type_uid": 400899., "activity_name": "Symlink"}},
		{"a verb that nobody knows", Event{Code: FileOp, FileOp: &FileOperation{Action: "chew", Path: "a", Size: -1}}, want{"type_uid": 400899., "activity_name": "Other"}},
		{"recording", full(RecordingEnd), want{
			"type_uid": 100807., "log_name": "recording", "file/size": 8388121., "file/hashes/value": strings.Repeat("ab", 32), "actor/user/uid": "vendor",
			"src_endpoint/uid": "vpce-0a1b2c3d4e5f60718", "dst_endpoint/hostname": "node-3.cluster.internal", "dst_endpoint/port": 8088., "unmapped/postern/login": "hadoop"}},
		{"recording that failed", Event{Code: RecordingFailed, Reason: "recording_failed"}, want{"type_uid": 100899., "status": "Failure", "severity": "High"}},
		{"playing a recording", Event{Code: LogAccess, Entity: "rec-1", Admin: &Admin{Name: "alice", UID: 1001, Operation: "recordings.play"}}, want{
			"type_uid": 600302., "api/operation": "recordings.play", "resources/uid": "rec-1", "resources/type": "ssh.recording", "actor/user/name": "alice"}},
		{"reading the log", Event{Code: LogAccess, Entity: "x", Admin: &Admin{Operation: "audit.tail"}}, want{"resources/uid": "x", "resources/type": nil}},
		{"aggregate", full(ConnRefused), want{"count": 17., "duration": 60000., "start_time_dt": "2026-11-24T11:59:00.123Z"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := line(c.event, inAWS, 41)
			m := decode(t, b)
			for path, want := range c.want {
				if got := at(m, strings.Split(path, "/")...); got != want {
					t.Errorf("%s is %v, want %v in %s", path, got, want, b)
				}
			}
		})
	}
}

func TestBytesThatAreNotTextAreKeptBeside(t *testing.T) {
	e := Event{Code: ProcStart, User: "ro\xffot", Command: "cat \x80\x81", TargetHost: "h\xc3", Hello: &Hello{Version: "SSH-2.0-\xfe"}, Extra: map[string]any{"path": "/tmp/\xff"}}
	m := decode(t, line(e, inAWS, 0))
	facts := at(m, "unmapped", "postern")
	for name, want := range map[string]string{"user": e.User, "command": e.Command, "target_host": e.TargetHost, "client_version": e.Hello.Version, "path": "/tmp/\xff"} {
		text, _ := at(facts, name+"_b64").(string)
		if got, err := base64.StdEncoding.DecodeString(text); err != nil || string(got) != want {
			t.Errorf("%s_b64 is %q, %v; want %q", name, got, err, want)
		}
	}
	if got := at(m, "actor", "user", "name"); got != "ro\uFFFDot" {
		t.Errorf("user.name is %q", got)
	}
	if e.Hello.Version != "SSH-2.0-\xfe" {
		t.Error("the caller's Hello was changed")
	}
	e = Event{Code: FileOp, FileOp: &FileOperation{Action: "rename", Path: "/a\xff", To: "/b\xfe", Status: "\xe9chec"}}
	facts = at(decode(t, line(e, inAWS, 0)), "unmapped", "postern")
	for name, want := range map[string]string{"path": "/a\xff", "target_path": "/b\xfe", "file_status": "\xe9chec"} {
		text, _ := at(facts, name+"_b64").(string)
		if got, err := base64.StdEncoding.DecodeString(text); err != nil || string(got) != want {
			t.Errorf("%s_b64 is %q, %v; want %q", name, got, err, want)
		}
	}
	if e.FileOp.Path != "/a\xff" {
		t.Error("the caller's FileOp was changed")
	}
}

func TestALongCommandIsCutAndItsHashKept(t *testing.T) {
	e := Event{Code: ProcStart, Command: strings.Repeat("ä", 20000)}
	m := decode(t, line(e, inAWS, 5))
	if got := at(m, "process", "cmd_line").(string); len(got) != maxCommand || !strings.HasPrefix(e.Command, got) {
		t.Errorf("cmd_line has %d bytes", len(got))
	}
	if at(m, "metadata", "is_truncated") != true || at(m, "metadata", "sequence") != 5. {
		t.Errorf("metadata is %v", at(m, "metadata"))
	}
	if kib := at(m, "metadata", "untruncated_size").(float64); kib < 39 || kib > 44 {
		t.Errorf("untruncated_size is %v KiB", kib)
	}
	if at(m, "unmapped", "postern", "command_size") != 40000. || len(at(m, "unmapped", "postern", "command_sha256").(string)) != 64 {
		t.Errorf("unmapped is %v", at(m, "unmapped"))
	}
}

func TestALineCannotGrowWithoutBound(t *testing.T) {
	huge := strings.Repeat("\x1b", 1<<20)
	e := full(ProcStart)
	for _, part := range []any{&e, e.Auth, e.Hello, e.FileOp} {
		v := reflect.ValueOf(part).Elem()
		for i := range v.NumField() {
			if v.Field(i).Type() == reflect.TypeFor[string]() {
				v.Field(i).SetString(huge)
			}
		}
	}
	e.Extra = map[string]any{"a": huge, "b": []int(make([]int, 1<<16)), "c": func() {}}
	if b := line(e, inAWS, 0); len(b) > 512<<10 {
		t.Errorf("the line has %d bytes", len(b))
	}
}

func TestALineDoesNothingToATerminal(t *testing.T) {
	e := Event{Code: ProcStart, Command: "a\x1b[2J\u009b31m\u202e\u2066<b>&\x7f\U000e0041é漢", Extra: map[string]any{"k\x1b": "\x00"}}
	b := line(e, inAWS, 0)
	for _, r := range string(bytes.TrimSpace(b)) {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x202e || r == 0x2066 || r == 0xe0041 {
			t.Errorf("%U stands in %s", r, b)
		}
	}
	if got := at(decode(t, b), "process", "cmd_line"); got != e.Command {
		t.Errorf("cmd_line reads back as %q", got)
	}
	if !bytes.Contains(b, []byte("<b>&")) {
		t.Errorf("HTML is escaped in %s", b)
	}
}

func FuzzStringsReadBackAsEncodingJSONReadsThem(f *testing.F) {
	for _, s := range []string{"", "plain", "\"\\\n\r\t\x00\x7f", "\u2028\u202e\u009b", "\xff\xfe", "a\xe2\x82", "\U0001f600\U000e0041", "\uFFFD"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got, want string
		if err := json.Unmarshal(appendString(nil, s), &got); err != nil {
			t.Fatalf("%q: %v", appendString(nil, s), err)
		}
		reference, err := json.Marshal(s)
		if err != nil || json.Unmarshal(reference, &want) != nil || got != want {
			t.Errorf("%q reads back as %q, want %q", s, got, want)
		}
		if text, cut := capped(s, 5); len(text) > 5 || cut != (len(s) > 5) || !strings.HasPrefix(s, text) || utf8.ValidString(s) && !utf8.ValidString(text) {
			t.Errorf("capped(%q) is %q", s, text)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	usual := full(ForwardOpen)
	usual.Auth, usual.Hello, usual.Admin, usual.Count = nil, nil, nil, 0
	usual.Extra = map[string]any{"dial_ms": 2}
	for name, e := range map[string]Event{"usual": usual, "full": full(ConnClose)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var size int
			for b.Loop() {
				size = len(encode(e, &inAWS, noon).body)
			}
			b.ReportMetric(float64(size), "bytes/event")
		})
	}
}
