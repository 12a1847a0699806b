package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"postern/internal/admin"
	"postern/internal/audit"
)

// postern runs a command of the admin socket at the gate.
func (g *testGate) postern(args ...string) (status int, stdout, stderr string) {
	g.t.Helper()
	var out, errs bytes.Buffer
	status = command(append(args, "--socket", g.path("admin.sock")), &env{&out, &errs})
	return status, out.String(), errs.String()
}

func TestASessionIsCutByTheBeginningOfItsID(t *testing.T) {
	needs(t, "ssh")
	g := newTestGate(t)
	g.start()
	if _, out, _ := g.postern("sessions"); out != "no live sessions\n" {
		t.Errorf("sessions: %q", out)
	}
	if _, out, _ := g.postern("sessions", "--json"); out != "[]\n" {
		t.Errorf("sessions --json: %q", out)
	}
	ended := g.session()
	var live []admin.SessionInfo
	_, out, _ := g.postern("sessions", "--json")
	if err := json.Unmarshal([]byte(out), &live); err != nil || len(live) != 1 || live[0].Identity != "vendor" || live[0].Endpoint != demoEndpoint {
		t.Fatalf("%v: %s", err, out)
	}
	if status, _, errs := g.postern("sessions", "kill", "no-such"); status != exitWrong || !strings.Contains(errs, "hint: postern sessions") {
		t.Errorf("a session that is not there: status %d, %s", status, errs)
	}
	if status, _, errs := g.postern("sessions", "kill", live[0].ID[:12], "--reason", "change window closed"); status != 0 {
		t.Fatalf("status %d: %s", status, errs)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the session goes on")
	}
	if e := g.events(audit.AdminAction); len(e) != 1 || !has(e, `sessions\.kill`) || !has(e, live[0].ID) || !has(e, "change window closed") {
		t.Errorf("events: %q", e)
	}
}

func TestOnlyAnIdentityOfThePolicyIsFrozen(t *testing.T) {
	g := newTestGate(t)
	g.start()
	status, _, errs := g.postern("freeze", "vndor")
	if status != exitWrong || !strings.Contains(errs, "hint: the identities are vendor, alice") {
		t.Errorf("a mistyped identity: status %d, %s", status, errs)
	}
	if status, _, errs := g.postern("freeze", "--lift", "vendor"); status != exitWrong || !strings.Contains(errs, "not frozen by command") {
		t.Errorf("the lift of what is not frozen: status %d, %s", status, errs)
	}
	if e := g.events(audit.AdminAction); len(e) != 0 {
		t.Errorf("events of what was not done: %q", e)
	}
	for range 2 { // freezing what is frozen is no error
		if status, _, errs := g.postern("freeze", "alice"); status != 0 {
			t.Errorf("status %d: %s", status, errs)
		}
	}
	f, err := loadFrozen(g.path("frozen.json"))
	if err != nil || len(f.names()) != 1 || f.names()[0] != "alice" {
		t.Errorf("frozen: %v, %v", f, err)
	}
}

func TestReloadShowsWhatIsWrong(t *testing.T) {
	g := newTestGate(t)
	g.start()
	if status, out, errs := g.postern("reload"); status != 0 || out != "both files are in force\n" {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
	g.edit("postern.yaml", "listen:", "lisen:")
	status, _, errs := g.postern("reload")
	if status != exitWrong || !strings.Contains(errs, "postern.yaml:2:1: lisen: unknown key; did you mean listen?") {
		t.Errorf("status %d: %s", status, errs)
	}
	if e := g.events(audit.ConfigReload); !has(e, `"status":"Failure".*lisen`) {
		t.Errorf("events: %q", e)
	}
}

func TestDrainIsBegunAndNotWaitedFor(t *testing.T) {
	g := newTestGate(t)
	g.start()
	if status, _, errs := g.postern("drain"); status != 0 {
		t.Fatalf("status %d: %s", status, errs)
	}
	g.stops(10 * time.Second)
	if e := g.events(audit.AdminAction); len(e) != 1 || !has(e, `gate\.drain`) {
		t.Errorf("admin.action: %q", e)
	}
	if e := g.events(audit.DaemonStop); len(e) != 1 || !has(e, `"status_code":"drain"`) {
		t.Errorf("daemon.stop: %q", e)
	}
}
