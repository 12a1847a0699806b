package main

import (
	"bytes"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"postern/internal/audit"
	"postern/test/awsfake"
)

// fleet is a gate whose policy is in S3; set changes it there and returns it.
func fleet(t *testing.T) (g *testGate, server *awsfake.Server, set func(old, text string) []byte) {
	t.Helper()
	a := demoAccount()
	server, _ = inAWS(t, a)
	g = newTestGate(t)
	policy, err := os.ReadFile(g.path("policy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	a.Buckets[0].Objects["fleet/policy.yaml"] = policy
	if err := os.Remove(g.path("policy.yaml")); err != nil {
		t.Fatal(err)
	}
	g.edit("postern.yaml", "policy: policy.yaml", "policy: s3://"+awsfake.GateBucket+"/fleet/policy.yaml\naws: { refresh: 1s }")
	return g, server, func(old, text string) []byte {
		t.Helper()
		if !bytes.Contains(policy, []byte(old)) {
			t.Fatalf("the policy has no %q", old)
		}
		policy = bytes.Replace(policy, []byte(old), []byte(text), 1)
		a.Change(func() { a.Buckets[0].Objects["fleet/policy.yaml"] = policy })
		return policy
	}
}

func TestAPolicyFromS3IsFetchedAtTheFirstStartAndFollowed(t *testing.T) {
	needs(t, "ssh")
	g, _, set := fleet(t)
	g.start()
	ended := g.session()
	set("authorities:", "frozen: [vendor]\nauthorities:")
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatalf("an identity that was frozen in S3 goes on\n%s", g.stderr)
	}
	if e := g.events(audit.ConfigReload); !has(e, "policy-from-s3") {
		t.Errorf("events: %q", e)
	}
}

func TestABadPolicyInS3ChangesNothing(t *testing.T) {
	needs(t, "ssh")
	g, _, set := fleet(t)
	g.start()
	set("rules:", "ruels:")
	g.eventually("told", func() bool { return g.metric("postern_config_last_reload_successful 0") })
	if e := g.events(audit.ConfigReload); len(e) != 1 || !has(e, `"status":"Failure".*s3://gate-archive/fleet/policy\.yaml`) || !has(e, "ruels") {
		t.Errorf("events: %q", e)
	}
	if out, err := g.ssh("gate", "whoami"); err != nil || !strings.HasPrefix(out, "vendor") {
		t.Errorf("whoami: %v, %s", err, out)
	}
	set("ruels:", "rules:")
	g.eventually("mended", func() bool { return g.metric("postern_config_last_reload_successful 1") })
}

func TestAStartWithACopyOfThePolicyWaitsForNobody(t *testing.T) {
	g, server, set := fleet(t)
	policy := set("rules:", "rules: # kept")
	if err := os.WriteFile(g.path("policy-from-s3.yaml"), policy, 0o640); err != nil {
		t.Fatal(err)
	}
	server.Fail(awsfake.Fault{Hang: true})
	began := time.Now()
	g.start()
	if took := time.Since(began); took > time.Second {
		t.Errorf("ready after %s", took)
	}
}

func TestAFirstStartWithoutThePolicySaysWhy(t *testing.T) {
	g, server, _ := fleet(t)
	server.Fail(awsfake.Fault{Service: "s3", Status: 403, Code: "AccessDenied"})
	err := run(t.Context(), process{config: g.path("postern.yaml"), inherited: g.lns.gate, signals: g.signals, stderr: g.stderr})
	if err == nil || !strings.Contains(err.Error(), "s3:GetObject") || !strings.Contains(err.Error(), "s3://gate-archive/fleet/policy.yaml") {
		t.Errorf("%v", err)
	}
}

func TestTwoGatesOfAFleetAreOneToClients(t *testing.T) {
	needs(t, "ssh")
	a := demoAccount()
	inAWS(t, a)
	first, second := newTestGate(t), newTestGate(t)
	for name, object := range map[string]string{"policy.yaml": "fleet/policy.yaml", "ssh_host_ed25519_key": ""} {
		data, err := os.ReadFile(first.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if object != "" {
			a.Buckets[0].Objects[object] = data
			continue
		}
		a.Parameters["/gate/"+name] = string(data)
	}
	for _, g := range []*testGate{first, second} {
		g.edit("postern.yaml", "policy: policy.yaml", "policy: s3://"+awsfake.GateBucket+"/fleet/policy.yaml\naws: { refresh: 1s }")
		g.edit("postern.yaml", "[ssh_host_ed25519_key, ssh_host_ecdsa_key]", `["aws-ssm:/gate/ssh_host_ed25519_key"]`)
		g.start()
	}
	// The first one's client knows one host key, and finds it at both.
	_, port, err := net.SplitHostPort(second.lns.front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if out, err := first.ssh("-p", port, "gate", "whoami"); err != nil || !strings.HasPrefix(out, "vendor") {
		t.Fatalf("at the second: %v, %s", err, out)
	}
	a.Change(func() {
		policy := a.Buckets[0].Objects["fleet/policy.yaml"]
		a.Buckets[0].Objects["fleet/policy.yaml"] = append([]byte("frozen: [vendor]\n"), policy...)
	})
	first.eventually("frozen at the first", func() bool { _, err := first.ssh("gate", "whoami"); return err != nil })
	first.eventually("frozen at the second", func() bool { _, err := first.ssh("-p", port, "gate", "whoami"); return err != nil })
}
