package audit

import (
	"bytes"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const samplesFile = "../../docs/audit-samples.jsonl"

// sampled is one event of each code, as a gate in AWS writes it.
func sampled() []Event {
	session := Event{
		Session: "01998e4c-7a10-7c3e-9d55-3b0f6f1b2a77", Opened: noon.Add(-time.Minute),
		Peer: netip.MustParseAddrPort("10.0.1.25:33001"), Client: netip.MustParseAddrPort("10.20.1.37:50222"), Endpoint: "vpce-0a1b2c3d4e5f60718",
		Gate: netip.MustParseAddrPort("10.0.1.40:22"), User: "deploy", Identity: "vendor", Policy: "sha256:5a1f0c77d2ab9e03",
		Auth: &Auth{Method: "publickey", Fingerprint: "SHA256:V/UcGF0jrBgeaaU1FPoOJqRbfNtKDLH72MI0Jb7WU1o", Algorithm: "ssh-ed25519"},
	}
	hello := &Hello{Version: "SSH-2.0-OpenSSH_10.2", HASSH: "472b5de333ad665af5cbf10ff892c4df", ServerHASSH: "aaf4d60446a0aaf10b3ab9b501328ff7"}
	operator := &Admin{Name: "alice", UID: 1001, GID: 1001, PID: 22817, Via: "unix:/run/postern/admin.sock"}
	as := func(e Event, code Code, message string, set func(*Event)) Event {
		e.Code, e.Time, e.Message = code, noon, message
		if set != nil {
			set(&e)
		}
		return e
	}
	inside := session
	inside.TargetHost, inside.Target, inside.Login = "node-3.cluster.internal", netip.MustParseAddrPort("10.0.12.8:22"), "hadoop"
	inside.Rule, inside.Channel = "cluster-shell", "1"
	tape := inside
	tape.File = "/var/lib/postern/recordings/2026/11/24/01998e4c-7a10-7c3e-9d55-3b0f6f1b2a77-1.rec"
	tape.Extra = map[string]any{"recording": "01998e4c-7a10-7c3e-9d55-3b0f6f1b2a77-1", "input": false}
	tunnel := session
	tunnel.Kind, tunnel.Channel, tunnel.Rule = "direct-tcpip", "2", "web-uis"
	tunnel.TargetHost, tunnel.Target = "node-3.cluster.internal", netip.MustParseAddrPort("10.0.12.8:8088")
	return slices.Concat(
		connectionSamples(session, hello, as),
		[]Event{
			as(tunnel, ForwardOpen, "tunnel to node-3.cluster.internal:8088", nil),
			as(tunnel, ForwardRefused, "tunnel to 169.254.169.254:80 refused", func(e *Event) {
				e.Rule, e.Reason, e.TargetHost, e.Target = "", "special_address", "169.254.169.254", netip.MustParseAddrPort("169.254.169.254:80")
			}),
			as(tunnel, ForwardFailed, "tunnel to node-3.cluster.internal:8088 failed", func(e *Event) { e.Reason = "refused" }),
			as(tunnel, ForwardClose, "tunnel to node-3.cluster.internal:8088 closed", func(e *Event) {
				e.Reason, e.BytesIn, e.BytesOut, e.Start, e.End = "eof", 401, 70211, noon.Add(-time.Minute), noon
			}),
			as(session, ForwardListen, "listening at 0.0.0.0:7000", func(e *Event) {
				e.Kind, e.Rule, e.TargetHost, e.Target = "tcpip-forward", "metastore", "0.0.0.0", netip.MustParseAddrPort("0.0.0.0:7000")
			}),
		},
		inspectionSamples(inside, tape, as),
		[]Event{
			as(Event{File: "/etc/postern/policy.yaml", Entity: "sha256:77c1f09e01d4ba26"}, ConfigReload, "policy read again", nil),
			as(Event{Admin: operator, Entity: session.Session}, AdminAction, "alice ended a session", func(e *Event) { e.Admin.Operation = "sessions.kill" }),
			as(Event{Admin: &Admin{Name: "alice", UID: 1001, GID: 1001, PID: 22931, Operation: "recordings.play", Via: operator.Via}, Entity: "01998e4c-7a10-7c3e-9d55-3b0f6f1b2a77-1"},
				LogAccess, "alice played a recording", nil),
			as(Event{}, DaemonStart, "postern serves", nil),
			as(Event{}, DaemonStop, "postern stopped", nil),
			as(Event{}, DaemonHeartbeat, "heartbeat", func(e *Event) { e.Extra = map[string]any{"sessions": 4} }),
			as(Event{File: "/var/log/postern/audit/audit-00000000000000000000.jsonl", FileSize: 8388121, FileHash: hashOf('a')}, LogRotate, "segment closed", nil),
			as(Event{File: "/var/log/postern/audit/torn-1795521600123.bin", FileSize: 411, FileHash: hashOf('b')}, LogRecovered, "an unfinished end was cut off", nil),
			as(Event{File: "/var/log/postern/audit/audit-00000000000000041226.jsonl", Reason: "io_error", Detail: "write: input/output error"}, LogFailure, "a write failed", nil),
			as(Event{File: "/var/log/postern/audit/epoch-1", Alert: true, Detail: "restored from last night's snapshot, ticket 4711", Extra: map[string]any{
				"ended_epoch": 1, "ended_checkpoint": "gate1.example.com/postern/8f2c4e0b19a7d356/1\n41230\n" + strings.Repeat("A", 43) + "=\n\n\u2014 gate1.example.com/postern/8f2c4e0b19a7d356/1 AAAA\n",
			}}, LogEpoch, "a new epoch of the audit log begins", nil),
			as(Event{File: "/var/log/postern/audit/audit.vkey", Alert: true, Extra: map[string]any{
				"old_vkey": "gate1.example.com/postern/8f2c4e0b19a7d356/1+0a1b2c3d+AAAA", "new_vkey": "gate1.example.com/postern/8f2c4e0b19a7d356/1+4e5f6071+BBBB", "signed_by_both": true,
			}}, LogKey, "another key signs the audit log", nil),
			as(Event{File: "/var/log/postern/audit/audit-00000000000000000000.jsonl", FileSize: 8388611, Extra: map[string]any{
				"first_index": 0, "records": 7021, "retention_days": 365,
			}}, LogDelete, "audit segment removed: older than 365 days", nil),
			as(Event{Alert: true, Reason: "denied", Detail: "put audit.example.com/segments/audit-00000000000000000000.jsonl: AccessDenied", Extra: map[string]any{
				"waiting_files": 3, "waiting_bytes": 8401230, "oldest_s": 904,
			}}, ArchiveFailure, "the archive does not take what the gate has", nil),
			as(Event{Extra: map[string]any{"failed_s": 1204}}, ArchiveRecovered, "the archive takes what the gate has again", nil),
			as(Event{Count: 412, Start: noon.Add(-time.Minute), End: noon, Extra: map[string]any{"sink": "syslog"}}, SinkDropped, "syslog: 412 events dropped", nil),
			as(clockStepped(-time.Hour, noon, noon.Add(-time.Hour), "while this process ran"), ClockStep, "the clock went back by 1h0m0s", nil),
		},
		awsSamples(as),
	)
}

func awsSamples(as sampler) []Event {
	self := &Admin{Name: "postern", UID: 997, GID: 997, PID: 811, Via: "AWS"}
	return []Event{
		as(Event{File: "admission", Admin: self, Policy: "sha256:5a1f0c77d2ab9e03", Extra: map[string]any{"endpoints_removed": []string{"vpce-0a1b2c3d4e5f60718"}}},
			AdmissionChange, "admission rules follow AWS: endpoints removed: vpce-0a1b2c3d4e5f60718", func(e *Event) { e.Admin.Operation = "admission.change" }),
		as(Event{Entity: "vpce-0f1e2d3c4b5a69788", Admin: &Admin{Name: "postern", UID: 997, GID: 997, PID: 811, Operation: "endpoints.accept", Via: "AWS"},
			Extra: map[string]any{"owner": "111122223333"}}, EndpointAccept, "endpoint vpce-0f1e2d3c4b5a69788 of account 111122223333 is accepted", nil),
		as(Event{Reason: "denied", Detail: "ec2:DescribeVpcEndpointConnections: allow ec2:DescribeVpcEndpointConnections to the role of this instance",
			Extra: map[string]any{"what": "endpoints", "age_s": 61}}, AWSFailure, "AWS does not say endpoints, what it said before holds", nil),
		as(Event{Extra: map[string]any{"what": "endpoints"}}, AWSRecovered, "AWS says endpoints again", nil),
	}
}

func hashOf(c byte) string { return strings.Repeat(string(c)+"1", 32) }

type sampler func(e Event, code Code, message string, set func(*Event)) Event

func connectionSamples(session Event, hello *Hello, as sampler) []Event {
	stranger := session
	stranger.User, stranger.Identity, stranger.Auth, stranger.Opened, stranger.Policy = "", "", nil, time.Time{}, ""
	return []Event{
		as(stranger, ConnOpen, "connection admitted", nil),
		as(stranger, ConnRefused, "connection refused: source", func(e *Event) { e.Session, e.Reason = "", "source" }),
		as(stranger, HandshakeFailed, "handshake failed", func(e *Event) { e.Hello, e.Reason = hello, "kex.no_common" }),
		as(session, AuthSuccess, "vendor authenticated", func(e *Event) { e.Hello = hello }),
		as(session, AuthFailure, "authentication refused", func(e *Event) { e.Identity, e.Reason, e.Policy = "", "key_unknown", "" }),
		as(session, ChannelOpen, "session channel opened", func(e *Event) { e.Kind, e.Channel = "session", "0" }),
		as(session, ChannelDenied, "channel refused", func(e *Event) { e.Kind, e.Channel, e.Reason = "tun@openssh.com", "1", "channel_type" }),
		as(session, Traffic, "traffic", func(e *Event) { e.BytesIn, e.BytesOut, e.TotalIn, e.TotalOut = 401, 702, 1401, 70211 }),
		as(session, ConnClose, "session closed", func(e *Event) {
			e.Reason, e.TotalIn, e.TotalOut, e.Start, e.End = "client_disconnect", 73410001, 1803000, noon.Add(-time.Minute), noon
		}),
	}
}

func inspectionSamples(inside, tape Event, as sampler) []Event {
	const command = "/opt/agent/upgrade.sh --check"
	return []Event{
		as(inside, TargetDial, "logging in as hadoop@node-3.cluster.internal", func(e *Event) {
			e.Kind, e.Channel, e.Extra = "session", "0", map[string]any{"door": "login"}
		}),
		as(inside, TargetOpen, "logged in as hadoop@node-3.cluster.internal", func(e *Event) {
			e.Kind, e.Channel, e.Extra = "direct-tcpip", "0", map[string]any{"door": "proxyjump", "host_key": "SHA256:vQ1x6cLq0sVn3gGk7b1m4oE2oQhXy9r1u0s5Zt8wA2E",
				"key_id": "vendor session=" + e.Session + " rule=cluster-shell", "serial": "4611686018427387905", "login_ms": 21}
		}),
		as(inside, TargetFailed, "login as hadoop@node-3.cluster.internal failed: host_key_changed", func(e *Event) {
			e.Kind, e.Channel, e.Reason, e.Alert = "direct-tcpip", "0", "host_key_changed", true
		}),
		as(inside, TargetClose, "connection as hadoop@node-3.cluster.internal closed", func(e *Event) {
			e.Kind, e.Channel, e.Reason, e.Start, e.End = "direct-tcpip", "0", "client_disconnect", noon.Add(-time.Minute), noon
		}),
		as(inside, ProcStart, "exec at hadoop@node-3.cluster.internal", func(e *Event) {
			e.Kind, e.Command, e.Extra = "exec", command, map[string]any{"recording": tape.Extra["recording"]}
		}),
		as(inside, ProcEnd, "exec ended", func(e *Event) {
			e.Kind, e.Command, e.BytesOut, e.Start = "exec", command, 18211, noon.Add(-3*time.Second)
		}),
		as(inside, FileOp, "sftp put /data/in/part-0001.parquet", func(e *Event) {
			e.Kind, e.BytesIn, e.Start, e.End = "sftp", 73400320, noon.Add(-2210*time.Millisecond), noon
			e.FileOp = &FileOperation{Action: "put", Path: "/data/in/part-0001.parquet", Size: 73400320, SHA256: hashOf('c'), Status: "SSH_FX_OK", Command: "SSH_FXP_CLOSE"}
		}),
		as(tape, RecordingStart, "recording started", nil),
		as(tape, RecordingChunk, "recording goes on", func(e *Event) { e.FileSize, e.FileHash = 1048601, hashOf('d') }),
		as(tape, RecordingEnd, "recording ended", func(e *Event) { e.FileSize, e.FileHash = 1204117, hashOf('e') }),
		as(tape, RecordingFailed, "recording failed", func(e *Event) {
			e.Reason, e.Detail, e.Alert = "recording_failed", "write: no space left on device", true
		}),
	}
}

var uid = regexp.MustCompile(`"uid":"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}","sequence"`)

// TestEveryEventHasASampleThatIsWrittenSo holds docs/audit-samples.jsonl to
// what the log writes, but for the random uid.
func TestEveryEventHasASampleThatIsWrittenSo(t *testing.T) {
	var lines []byte
	var codes []Code
	for i, e := range sampled() {
		codes = append(codes, e.Code)
		lines = append(lines, line(e, inAWS, 41200+int64(i))...)
	}
	slices.Sort(codes)
	if !slices.Equal(codes, Codes()) {
		t.Errorf("the samples are of %v, the codes are %v", codes, Codes())
	}
	if out, err := validate(t, lines); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	lines = uid.ReplaceAll(lines, []byte(`"uid":"01998e4c-7ae5-70fd-8107-00000000a0fd","sequence"`))
	if *update {
		if err := os.WriteFile(samplesFile, lines, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written, err := os.ReadFile(samplesFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(written, lines) {
		t.Errorf("%s is not what the code writes; go test ./internal/audit -run Sample -update", samplesFile)
	}
}
