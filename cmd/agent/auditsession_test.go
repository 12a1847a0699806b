package main

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/audit"
)

const (
	toldSession  = "01998e4c-7a10-7c3e-9d55-3b0f6f1b2a77"
	otherSession = "01998e4c-7a10-7c3e-9d55-4b0f6f1b2a77"
)

// toldLog is the log of a session that copies files, and of what surrounds it.
func toldLog(t *testing.T, events ...audit.Event) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "audit")
	l, err := audit.Open(audit.Options{Dir: dir, MinFree: 1, Host: audit.Host{Hostname: "bastion-a", InstanceID: "i-0f3c5a7e9b1d2c4e6"}, SegmentSize: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if err := l.Append(t.Context(), events...); err != nil {
		t.Fatal(err)
	}
	return dir
}

// inSession is an event of the session so long after it began.
func inSession(after time.Duration, code audit.Code, set func(*audit.Event)) audit.Event {
	began := time.Date(2026, 11, 24, 11, 59, 0, 0, time.UTC)
	e := audit.Event{
		Code: code, Time: began.Add(after), Session: toldSession, Opened: began.Add(80 * time.Millisecond),
		Peer: netip.MustParseAddrPort("10.0.1.25:33001"), Client: netip.MustParseAddrPort("10.20.1.37:50222"), Endpoint: "vpce-0a1b2c3d4e5f60718",
		Gate: netip.MustParseAddrPort("10.0.1.40:22"), User: "deploy", Identity: "vendor", Policy: "sha256:5a1f0c77d2ab9e03",
		Auth: &audit.Auth{Method: "publickey", Algorithm: "ssh-ed25519-cert-v01@openssh.com", Fingerprint: "SHA256:key", Certificate: true, CA: "SHA256:authority", KeyID: "vendor at work", Serial: 7},
	}
	if set != nil {
		set(&e)
	}
	return e
}

func atNode(e *audit.Event) {
	e.TargetHost, e.Target, e.Login = "node-3.internal", netip.MustParseAddrPort("10.0.12.8:22"), "hadoop"
	e.Rule, e.Channel = "cluster-shell", "1"
}

func story() []audit.Event {
	recording := map[string]any{"recording": toldSession + "-1"}
	events := []audit.Event{
		inSession(80*time.Millisecond, audit.ConnOpen, func(e *audit.Event) { e.User, e.Identity, e.Auth = "", "", nil }),
		inSession(80*time.Millisecond, audit.AuthSuccess, func(e *audit.Event) { e.Hello = &audit.Hello{Version: "SSH-2.0-OpenSSH_10.2"} }),
		{Code: audit.AuthSuccess, Session: otherSession, Identity: "alice", User: "alice"},
		inSession(300*time.Millisecond, audit.TargetOpen, func(e *audit.Event) {
			atNode(e)
			e.Extra = map[string]any{"host_key": "SHA256:host"}
		}),
		inSession(310*time.Millisecond, audit.RecordingStart, func(e *audit.Event) { atNode(e); e.Extra = recording }),
		inSession(320*time.Millisecond, audit.ProcStart, func(e *audit.Event) {
			atNode(e)
			e.Kind, e.Command, e.Extra = "exec", "tar -xf /data/in.tar \"two\"\nthen", recording
		}),
	}
	for i := range 3000 {
		events = append(events, inSession(time.Second+time.Duration(i)*10*time.Millisecond, audit.FileOp, func(e *audit.Event) {
			atNode(e)
			e.Kind, e.BytesIn = "sftp", 1024
			e.FileOp = &audit.FileOperation{Action: []string{"put", "setstat"}[i%2], Path: fmt.Sprintf("/data/in/%d/part-%04d", i%7, i), Size: 1024, Status: "SSH_FX_OK"}
			if i%2 == 1 {
				e.BytesIn = 0
			}
			if i == 1500 {
				e.FileOp.Path, e.FileOp.Denied, e.FileOp.Status, e.FileOp.Code, e.BytesIn, e.Failed = "/etc/shadow", true, "SSH_FX_PERMISSION_DENIED", 3, 0, true
			}
		}))
	}
	return append(events,
		inSession(40*time.Second, audit.ForwardRefused, func(e *audit.Event) {
			e.Kind, e.Channel, e.TargetHost, e.Target = "direct-tcpip", "2", "169.254.169.254", netip.MustParseAddrPort("169.254.169.254:80")
			e.Reason, e.Alert = "special_address", true
		}),
		inSession(41*time.Second, audit.ProcEnd, func(e *audit.Event) {
			atNode(e)
			e.Kind, e.Command, e.ExitCode, e.BytesOut, e.Start, e.Extra = "exec", "tar", 2, 18211, e.Time.Add(-40680*time.Millisecond), recording
		}),
		inSession(41*time.Second, audit.RecordingEnd, func(e *audit.Event) {
			atNode(e)
			e.File, e.FileSize, e.FileHash, e.Extra = "/var/lib/postern/recordings/x.rec", 1204117, strings.Repeat("e1", 32), map[string]any{"recording": toldSession + "-1", "complete": false}
		}),
		audit.Event{Code: audit.AdminAction, Time: inSession(42*time.Second, "", nil).Time, Session: toldSession, Entity: toldSession, Message: "session cut by root", Detail: "outside the window",
			Admin: &audit.Admin{Name: "root", Operation: "sessions.kill"}},
		inSession(42*time.Second, audit.ConnClose, func(e *audit.Event) {
			e.Reason, e.Failed, e.TotalIn, e.TotalOut, e.Start, e.End = "killed", true, 1536000, 18211, e.Time.Add(-42*time.Second), e.Time
		}),
		audit.Event{Code: audit.LogAccess, Time: inSession(2*time.Hour, "", nil).Time, Entity: toldSession + "-1", Message: "alice: play of " + toldSession + "-1",
			Admin: &audit.Admin{Name: "alice", UID: 1001, Operation: "recordings.play"}},
	)
}

func TestASessionIsAStory(t *testing.T) {
	dir := toldLog(t, story()...)
	const want = `
Session 01998e4c-7a10-7c3e-9d55-3b0f6f1b2a77

  who        vendor, as user deploy
  proved by  certificate serial 7 of the authority SHA256:authority, for ssh-ed25519-cert-v01@openssh.com SHA256:key, key ID vendor at work
  from       10.20.1.37:50222, through endpoint vpce-0a1b2c3d4e5f60718, by load balancer 10.0.1.25
  software   SSH-2.0-OpenSSH_10.2
  gate       bastion-a i-0f3c5a7e9b1d2c4e6
  began      2026-11-24 11:59:00.000 UTC
  ended      2026-11-24 11:59:42.000 UTC, after 42.0s: an operator cut the session
  rules      cluster-shell
  policy     sha256:5a1f0c77d2ab9e03
  targets    hadoop@node-3.internal [10.0.12.8]
  in all     1.5MB in, 18KB out, 1 command, 3000 file operations, 1 refusal, 1 failure, 1 ALERT

What happened

   +0:00:00.080  connected from 10.20.1.37:50222 through endpoint vpce-0a1b2c3d4e5f60718
   +0:00:00.080  authenticated as vendor with certificate serial 7 of the authority SHA256:authority, for ssh-ed25519-cert-v01@openssh.com SHA256:key, key ID vendor at work; user name: deploy
   +0:00:00.300  the gate logged in for it at hadoop@node-3.internal [10.0.12.8] by rule cluster-shell; host key SHA256:host
   +0:00:00.310  is recorded as 01998e4c-7a10-7c3e-9d55-3b0f6f1b2a77-1
   +0:00:00.320  ran at hadoop@node-3.internal [10.0.12.8] by rule cluster-shell (channel 1): tar -xf /data/in.tar "two"⏎then
   +0:00:01.000  wrote 1499 files, 1.5MB, over 29.9s (sftp, channel 1), all in /data/in; the first: /data/in/0/part-0000
   +0:00:01.010  changed the attributes of 1500 files, over 29.9s (sftp, channel 1), all in /data/in; the first: /data/in/1/part-0001
 ! +0:00:16.000  was not allowed to write (sftp, channel 1): permission denied (SSH_FX_PERMISSION_DENIED): /etc/shadow
!! +0:00:40.000  was refused a tunnel (channel 2): an internal address that no rule names (special_address); to 169.254.169.254:80
   +0:00:41.000  exec ended with exit status 2 after 40.6s, 0 bytes in, 18KB out (channel 1)
   +0:00:41.000  recording 01998e4c-7a10-7c3e-9d55-3b0f6f1b2a77-1 is closed: 1.1MB
   +0:00:42.000  session cut by root: outside the window
 ! +0:00:42.000  the session ended: an operator cut the session (killed); 1.5MB in, 18KB out
   +2:00:00.000  alice: play of 01998e4c-7a10-7c3e-9d55-3b0f6f1b2a77-1

Recordings, for postern recordings play

  01998e4c-7a10-7c3e-9d55-3b0f6f1b2a77-1  cut             1.1MB  tar -xf /data/in.tar "two"⏎then
`
	for _, id := range []string{toldSession, "01998e4c-7a10-7c3e-9d55-3"} {
		out, _ := ran(t, exitFine, "audit", "session", "--dir", dir, id)
		if out != want[1:] {
			t.Errorf("got\n%s", out)
		}
	}
}

func TestAStoryWithAllHasALineForEachFile(t *testing.T) {
	dir := toldLog(t, story()...)
	out, _ := ran(t, exitFine, "audit", "session", "--dir", dir, "--all", toldSession)
	if n := strings.Count(out, "(sftp, channel 1)"); n != 3000 {
		t.Errorf("%d lines of files", n)
	}
	if !strings.Contains(out, "wrote 1.0KB (sftp, channel 1): /data/in/0/part-0000\n") {
		t.Error("the first file is not told")
	}
}

func TestAStoryAsJSONIsTheEventsOfTheSessionAlone(t *testing.T) {
	dir := toldLog(t, story()...)
	out, _ := ran(t, exitFine, "audit", "session", "--dir", dir, "--json", toldSession)
	if n := strings.Count(out, "\n"); n != len(story())-1 || strings.Contains(out, otherSession) {
		t.Errorf("%d events", n)
	}
}

func TestASessionMustBeTheOnlyOneThatBeginsSo(t *testing.T) {
	dir := toldLog(t, story()...)
	_, errs := ran(t, exitWrong, "audit", "session", "--dir", dir, "01998e4c")
	if !strings.Contains(errs, "2 sessions") || !strings.Contains(errs, toldSession) || !strings.Contains(errs, otherSession) {
		t.Error(errs)
	}
	if _, errs := ran(t, exitWrong, "audit", "session", "--dir", dir, "02"); !strings.Contains(errs, "no session") || !strings.Contains(errs, "hint:") {
		t.Error(errs)
	}
	ran(t, exitUsage, "audit", "session", "--dir", dir, "")
	ran(t, exitUsage, "audit", "session", "--dir", t.TempDir(), "0")
	ran(t, exitUsage, "audit", "session", "--dir", dir)
}

func TestASessionWithoutAnEndIsSaidToHaveNone(t *testing.T) {
	dir := toldLog(t, story()[:6]...)
	out, _ := ran(t, exitFine, "audit", "session", "--dir", dir, toldSession)
	if !strings.Contains(out, "it has no end in the log") || !strings.Contains(out, toldSession+"-1  running") {
		t.Error(out)
	}
}

func TestALongCommandIsCutButWhereAllIsAskedFor(t *testing.T) {
	long := strings.Repeat("x", 2<<20)
	dir := toldLog(t, inSession(0, audit.ProcStart, func(e *audit.Event) { atNode(e); e.Kind, e.Command = "exec", long }))
	short, _ := ran(t, exitFine, "audit", "session", "--dir", dir, toldSession)
	all, _ := ran(t, exitFine, "audit", "session", "--dir", dir, "--all", toldSession)
	if len(short) > 2000 || !strings.Contains(short, "x…") || strings.Count(all, "x") < 16<<10 {
		t.Errorf("%d and %d bytes", len(short), len(all))
	}
}
