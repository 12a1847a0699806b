package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postern/internal/audit"
)

// signedLog makes a log of the gate's with three events and cuts the last one
// off when it has been signed.
func (g *testGate) signedLog() {
	g.t.Helper()
	key, err := audit.LoadOrMakeKey(g.path("audit_key"))
	if err != nil {
		g.t.Fatal(err)
	}
	l, err := audit.Open(audit.Options{Dir: g.path("audit"), MinFree: 1, Key: key})
	if err != nil {
		g.t.Fatal(err)
	}
	if err := l.Append(g.t.Context(), audit.Event{Code: audit.DaemonStart}, audit.Event{Code: audit.ConnOpen}, audit.Event{Code: audit.DaemonStop}); err != nil {
		g.t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		g.t.Fatal(err)
	}
	segments, err := filepath.Glob(g.path("audit/*.jsonl"))
	if err != nil || len(segments) != 1 {
		g.t.Fatal(segments, err)
	}
	data, err := os.ReadFile(segments[0])
	if err != nil {
		g.t.Fatal(err)
	}
	end := bytes.LastIndexByte(data[:len(data)-1], '\n') + 1
	if err := os.WriteFile(segments[0], data[:end], 0o640); err != nil {
		g.t.Fatal(err)
	}
}

func TestAGateWhoseLogWasSetBackStartsOnlyWithANewEpoch(t *testing.T) {
	g := newTestGate(t)
	g.signedLog()
	p := process{config: g.path("postern.yaml"), inherited: g.lns.gate, signals: g.signals, stderr: g.stderr}
	var said bytes.Buffer
	if status := report(&said, run(t.Context(), p)); status != exitConfig || !strings.Contains(said.String(), "--new-epoch --reason") ||
		!strings.Contains(said.String(), "events are missing") {
		t.Errorf("status %d: %s", status, &said)
	}

	g = newTestGate(t)
	g.signedLog()
	p = process{config: g.path("postern.yaml"), newEpoch: "set back by a snapshot", inherited: g.lns.gate, signals: g.signals, stderr: g.stderr}
	ended := make(chan error, 1)
	go func() { ended <- run(context.WithoutCancel(t.Context()), p) }()
	g.eventually("ready", func() bool { return g.get(g.Health, "/readyz") == "200 ok" })
	g.eventually("signed", func() bool { return strings.Contains(g.get(g.Metrics, "/metrics"), "\npostern_audit_checkpoint_size ") })
	g.signals <- syscall.SIGTERM
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if e := g.events(audit.LogEpoch); len(e) != 1 || !has(e, `"sequence":0,`) || !has(e, "set back by a snapshot") || !has(e, "ended_checkpoint") {
		t.Errorf("log.epoch: %q", e)
	}
	if _, err := os.Stat(g.path("audit/epoch-1/checkpoint")); err != nil {
		t.Error(err)
	}
}

func TestServeTakesAReasonWithANewEpochOnly(t *testing.T) {
	for _, args := range [][]string{{"--new-epoch"}, {"--reason", "x"}, {"--new-epoch", "--reason", " "}} {
		var out, errs bytes.Buffer
		status := command(append([]string{"serve", "--config", "/nonexistent"}, args...), &env{stdout: &out, stderr: &errs})
		if status != exitUsage || !strings.Contains(errs.String(), "--new-epoch and --reason") {
			t.Errorf("%v: status %d, %s", args, status, &errs)
		}
	}
}

func TestABadSigningKeyIsFoundByCheckAndAtTheStart(t *testing.T) {
	g := newTestGate(t)
	if err := os.WriteFile(g.path("audit_key"), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	err := run(t.Context(), process{config: g.path("postern.yaml"), inherited: g.lns.gate, signals: g.signals, stderr: g.stderr})
	if status := report(&said, err); status != exitConfig || !strings.Contains(said.String(), "audit.signing_key") {
		t.Errorf("serve: status %d, %s", status, &said)
	}
	var out, errs bytes.Buffer
	if status := command([]string{"check", "--config", g.path("postern.yaml")}, &env{stdout: &out, stderr: &errs}); status != exitWrong ||
		!strings.Contains(errs.String(), "audit.signing_key") {
		t.Errorf("check: status %d, %s", status, &errs)
	}
}
