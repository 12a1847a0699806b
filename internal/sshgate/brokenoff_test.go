package sshgate

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"postern/internal/audit"
	"postern/internal/record"
)

// leftBehind makes a recording without an end, as a killed gate leaves one, and
// returns its ID and where it is.
func leftBehind(t *testing.T, dir string) (id, path string) {
	t.Helper()
	store, err := record.Open(record.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	w, err := store.Create(record.Header{
		Session: "01890a5d-ac96-774b-bcce-b302099a8057", Channel: "3", Identity: "alice", Client: "10.20.0.9:51123", Endpoint: "vpce-0a",
		Login: "hadoop", Target: "node-3:22", Address: "10.0.2.17:22", Rule: "cluster", Kind: "shell",
	}, record.Events{})
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(w.Path())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(false); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(w.Path()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.Path(), whole, 0o640); err != nil {
		t.Fatal(err)
	}
	return w.ID(), w.Path()
}

// startAfter starts a gate whose recordings are in dir.
func startAfter(t *testing.T, dir string, auditor func(Auditor) Auditor) *gate {
	t.Helper()
	store, err := record.Open(record.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return newGate(t, gateSpec{options: func(o *Options) {
		o.Recordings, o.Audit = store, auditor(o.Audit)
	}})
}

func sameAuditor(a Auditor) Auditor { return a }

func TestARecordingThatBrokeOffIsInTheLogAfterTheNextStart(t *testing.T) {
	dir := t.TempDir()
	id, path := leftBehind(t, dir)
	g := startAfter(t, dir, sameAuditor)
	g.wantEvent(audit.RecordingFailed, id, path, `"broke_off"`, `"alice"`, `"10.0.2.17"`, `"node-3"`, `"cluster"`, `"SHA-256"`,
		`"correlation_uid":"01890a5d-ac96-774b-bcce-b302099a8057"`, `"complete":false`)
	if n := len(g.events(audit.RecordingFailed)); n != 1 {
		t.Errorf("%d events", n)
	}
	again := startAfter(t, dir, sameAuditor)
	again.client("vendor").Close()
	again.wantEvent(audit.ConnClose)
	for r, err := range audit.Read(again.dir+"/audit", 0) {
		if err != nil || r.Code == audit.RecordingFailed {
			t.Errorf("at the second start: %s, %v", r.Line, err)
		}
	}
}

func TestARecordingThatBrokeOffWaitsForALogThatTakesIt(t *testing.T) {
	dir := t.TempDir()
	id, _ := leftBehind(t, dir)
	var asked sync.WaitGroup
	asked.Add(1)
	startAfter(t, dir, func(a Auditor) Auditor {
		return watchedAuditor{a, audit.RecordingFailed, func() error { asked.Done(); return errors.New("the disk is full") }}
	})
	asked.Wait()
	g := startAfter(t, dir, sameAuditor)
	g.wantEvent(audit.RecordingFailed, id, `"broke_off"`)
}

func TestTheEventOfARecordingWithoutAHeaderSaysWhatIsWrong(t *testing.T) {
	e := brokenOff(record.Entry{ID: "x-0", Path: "/r/rec-x-0.prec", Err: context.DeadlineExceeded}, record.Chunk{Size: 3, SHA256: "ab"})
	if e.Code != audit.RecordingFailed || e.File != "/r/rec-x-0.prec" || e.FileSize != 3 || !strings.Contains(e.Message, "x-0") ||
		!strings.Contains(e.Detail, context.DeadlineExceeded.Error()) {
		t.Errorf("%+v", e)
	}
}
