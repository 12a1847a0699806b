package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"postern/internal/audit"
)

// signedLog is a closed log of one session, and the file with its public key,
// kept apart from it.
func signedLog(t *testing.T) (dir, key string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "audit")
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := audit.Open(audit.Options{Dir: dir, MinFree: 1, Key: private, Host: audit.Host{Version: "1.0.0", Hostname: "gate"}})
	if err != nil {
		t.Fatal(err)
	}
	const session = "01998e4c-a000-7aaa-9d55-3b0f6f1b2a05"
	for _, code := range []audit.Code{audit.DaemonStart, audit.ConnOpen, audit.ForwardRefused, audit.ConnClose, audit.DaemonStop} {
		e := audit.Event{Code: code, Message: "it happened\x1b[2J", Failed: code == audit.ForwardRefused}
		if strings.HasPrefix(string(code), "ssh.") || code == audit.ForwardRefused {
			e.Session = session
		}
		if err := l.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	vkey, err := os.ReadFile(filepath.Join(dir, "audit.vkey"))
	if err != nil {
		t.Fatal(err)
	}
	key = filepath.Join(t.TempDir(), "gate.vkey")
	writeFile(t, key, string(vkey))
	return dir, key
}

// auditRan is what a command printed, and how it ended.
func auditRan(args ...string) (stdout, stderr string, status int) {
	var out, errs bytes.Buffer
	status = command(args, &env{stdout: &out, stderr: &errs})
	return out.String(), errs.String(), status
}

// settled replaces what is different in every run.
func settled(s string) string {
	for _, r := range []struct{ pattern, by string }{
		{`\d{4}-\d\d-\d\dT[0-9:.]+Z`, "TIME"}, {`postern/[0-9a-f]{16}/`, "postern/INSTANCE/"}, {`[A-Za-z0-9+/]{43}=`, "ROOT"}, {`\+[0-9a-f]{8}\b`, "+HASH"},
	} {
		s = regexp.MustCompile(r.pattern).ReplaceAllString(s, r.by)
	}
	return s
}

func TestVerifySaysThatALogIsFine(t *testing.T) {
	dir, key := signedLog(t)
	out, errs, status := auditRan("audit", "verify", "--dir", dir, "--key", key)
	want := `fine: 5 events, TIME to TIME
  log          gate/postern/INSTANCE/1
  signed       5 events by 2 checkpoints, root ROOT
`
	if status != exitFine || settled(out) != want || errs != "" {
		t.Errorf("status %d: %s\ngot\n%swant\n%s", status, errs, settled(out), want)
	}
	out, _, status = auditRan("audit", "verify", "--dir", dir, "--json")
	var r audit.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || status != exitFine || r.Events != 5 || r.Findings == nil || r.Remarks[0].Kind != audit.KindKey {
		t.Errorf("status %d, %v: %s", status, err, out)
	}
}

// edit replaces text in the only segment of a log.
func edit(t *testing.T, dir, old, new string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(dir, "audit-*.jsonl"))
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	data, err := os.ReadFile(segments[0])
	if err != nil || strings.Count(string(data), old) == 0 {
		t.Fatalf("%q is not there: %v", old, err)
	}
	if err := os.Chmod(segments[0], 0o640); err != nil {
		t.Fatal(err)
	}
	writeFile(t, segments[0], strings.Replace(string(data), old, new, 1))
}

func TestVerifyNamesTheFirstBadEvent(t *testing.T) {
	dir, key := signedLog(t)
	edit(t, dir, `"event_code":"forward.refused"`, `"event_code":"forward.allowed"`)
	out, errs, status := auditRan("audit", "verify", "--dir", dir, "--key", key)
	wantOut := `WRONG: 5 events, TIME to TIME
  log          gate/postern/INSTANCE/1
  signed       5 events by 2 checkpoints, root ROOT
wrong, the first bad event first:
  event: audit-00000000000000000000.jsonl:3, event 2: the line is not what was signed
`
	wantErr := `postern: verify the audit log: audit-00000000000000000000.jsonl:3, event 2: the line is not what was signed
hint: keep the folder as it is: somebody must look at what happened to it
`
	if status != exitWrong || settled(out) != wantOut || errs != wantErr {
		t.Errorf("status %d, got\n%s%swant\n%s%s", status, settled(out), errs, wantOut, wantErr)
	}
}

func TestVerifySaysWhenItCanNotDecide(t *testing.T) {
	dir, key := signedLog(t)
	empty := filepath.Join(t.TempDir(), "empty")
	writeFile(t, empty, "\n")
	for name, args := range map[string][]string{
		"no log":                {"--dir", t.TempDir(), "--key", key},
		"no directory":          {"--dir", dir + "x", "--key", key},
		"no key in the file":    {"--dir", dir, "--key", empty},
		"no such file of a key": {"--dir", dir, "--key", key + "x"},
		"no verifier key":       {"--dir", dir, "--key", "gate+00+AAAA"},
		"no anchors":            {"--dir", dir, "--key", key, "--anchors", t.TempDir()},
		"no configuration":      {"--config", dir + "/postern.yaml"},
		"two places":            {"--config", "x", "--dir", "y"},
	} {
		out, errs, status := auditRan(append([]string{"audit", "verify"}, args...)...)
		if status != exitUsage || !strings.HasPrefix(errs, "postern: ") || out != "" {
			t.Errorf("%s: status %d\n%s%s", name, status, out, errs)
		}
	}
}

func TestAProofIsCheckedWithoutTheLog(t *testing.T) {
	dir, key := signedLog(t)
	work := t.TempDir()
	proof, line := filepath.Join(work, "event.tlog-proof"), filepath.Join(work, "event.json")
	if _, errs, status := auditRan("audit", "prove", "2", "--dir", dir, "-o", proof, "--line", line); status != exitFine {
		t.Fatalf("status %d: %s", status, errs)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	out, errs, status := auditRan("audit", "verify-proof", proof, line, "--key", key)
	want := `proven: event 2 of gate/postern/INSTANCE/1, signed by gate/postern/INSTANCE/1+HASH
TIME  forward.refused      01998e4c-a000-7aaa-9d55-3b0f6f1b2a05 failure: it happened` + "\ufffd" + `[2J
`
	if status != exitFine || settled(out) != want {
		t.Errorf("status %d: %s\ngot\n%swant\n%s", status, errs, settled(out), want)
	}
	data, err := os.ReadFile(line)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, line, strings.Replace(string(data), "failure", "success", 1)+" ")
	if _, errs, status := auditRan("audit", "verify-proof", proof, line, "--key", key); status != exitWrong || !strings.Contains(errs, "hint: ") {
		t.Errorf("an edited line: status %d: %s", status, errs)
	}
	if _, errs, status := auditRan("audit", "verify-proof", proof, line); status != exitUsage || !strings.Contains(errs, "--key") {
		t.Errorf("without a key: status %d: %s", status, errs)
	}
	if _, errs, status := auditRan("audit", "verify-proof", proof+"x", line, "--key", key); status != exitUsage {
		t.Errorf("without a proof: status %d: %s", status, errs)
	}
}

func TestAnEventIsFoundByItsUID(t *testing.T) {
	dir, _ := signedLog(t)
	var uid string
	for r, err := range audit.Read(dir, 3) {
		if err != nil {
			t.Fatal(err)
		}
		var e struct{ Metadata struct{ UID string } }
		if err := json.Unmarshal(r.Line, &e); err != nil {
			t.Fatal(err)
		}
		uid = e.Metadata.UID
		break
	}
	byUID, errs, status := auditRan("audit", "prove", uid, "--dir", dir)
	byIndex, _, _ := auditRan("audit", "prove", "3", "--dir", dir)
	if status != exitFine || byUID != byIndex || !strings.HasPrefix(byUID, "c2sp.org/tlog-proof@v1\nindex 3\n") {
		t.Errorf("status %d: %s\n%s\n%s", status, errs, byUID, byIndex)
	}
	for _, none := range []string{"5", "01998e4c-0000-7aaa-9d55-3b0f6f1b2a05", "-1"} {
		if _, errs, status := auditRan("audit", "prove", "--dir", dir, "--", none); status != exitWrong || !strings.Contains(errs, "has no such event") {
			t.Errorf("%s: status %d: %s", none, status, errs)
		}
	}
}

func TestTheBarSaysHowLongItTakes(t *testing.T) {
	got := barWords("verifying", 30<<20, 120<<20, 10*time.Second)
	if want := "verifying [#######.......................]  25% of 120M, 30s left \x1b[K"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
