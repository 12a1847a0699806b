package main

import (
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/internal/admission"
	"postern/internal/audit"
	"postern/internal/config"
	"postern/internal/privatelink"
	"postern/test/awsfake"
)

const awsSection = `aws:
  load_balancer: ` + awsfake.GateBalancer + `
  endpoint_service: ` + awsfake.GateService + `
  endpoint_owners: ["` + awsfake.VendorAccount + `"]
  refresh: 1s
`

// demoAccount is the account in which the demo's front is the load balancer and
// its endpoint the vendor's.
func demoAccount() *awsfake.Account {
	a := awsfake.Correct()
	a.Interfaces[2].PrivateIP = "127.0.0.1"
	a.Interfaces[2].PrivateIPs = []awsfake.PrivateIP{{Address: "127.0.0.1", Primary: true}}
	a.Services[0].Connections[0].Endpoint = demoEndpoint
	return a
}

// inAWS serves the account and its instance metadata to the whole process.
func inAWS(t *testing.T, a *awsfake.Account) (*awsfake.Server, *awsfake.IMDS) {
	t.Helper()
	server, metadata := awsfake.New(), awsfake.NewIMDS(a)
	server.Account(a)
	for _, pair := range slices.Concat(server.Env(), metadata.Env()) {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	t.Cleanup(func() {
		metadata.Close()
		server.Close()
	})
	return server, metadata
}

// discovering is a gate that knows load balancer and endpoints from AWS alone.
func discovering(t *testing.T, section string) *testGate {
	t.Helper()
	g := newTestGate(t)
	g.edit("postern.yaml", "  load_balancers: [127.0.0.1/32]   # the front that plays the load balancer\n  endpoints: ["+demoEndpoint+"]\n", "")
	g.edit("postern.yaml", "ssh:\n", section+"ssh:\n")
	return g
}

func view(addresses string, endpoints ...privatelink.Endpoint) privatelink.View {
	var v privatelink.View
	for _, a := range strings.Fields(addresses) {
		v.Addresses.Value = append(v.Addresses.Value, netip.MustParseAddr(a))
	}
	v.Endpoints.Value = endpoints
	return v
}

func TestAdmissionJoinsTheListsAndWhatAWSSays(t *testing.T) {
	const vendor, stranger = awsfake.VendorAccount, "444455556666"
	of := func(id, owner, state string) privatelink.Endpoint {
		return privatelink.Endpoint{ID: id, Owner: owner, State: state}
	}
	for _, c := range []struct {
		name                 string
		balancers, endpoints []string
		view                 privatelink.View
		wantBalancers        []string
		wantEndpoints        []string
	}{
		{"nothing is said", []string{"10.0.1.25/32"}, []string{"vpce-01"}, view(""), []string{"10.0.1.25/32"}, []string{"vpce-01"}},
		{"both are added", []string{"10.0.1.25/32"}, []string{"vpce-01"}, view("10.0.1.25 10.0.2.25 fd00::1", of("vpce-02", vendor, "available"), of("vpce-01", vendor, "Available")),
			[]string{"10.0.1.25/32", "10.0.2.25/32", "fd00::1/128"}, []string{"vpce-01", "vpce-02"}},
		{"others' endpoints are not", nil, nil, view("10.0.2.25", of("vpce-02", stranger, "available"), of("vpce-03", vendor, "pendingAcceptance"), of("vpce-04", vendor, "rejected")),
			[]string{"10.0.2.25/32"}, nil},
		{"a listed endpoint that was rejected is none", nil, []string{"vpce-01", "vpce-02"}, view("", of("vpce-01", vendor, "rejected")), nil, []string{"vpce-02"}},
		{"a listed endpoint of somebody else is one", nil, []string{"vpce-01"}, view("", of("vpce-01", stranger, "available")), nil, []string{"vpce-01"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := &config.Config{AWS: &config.AWS{EndpointOwners: []string{vendor}}}
			cfg.Admission = admission.Options{ProxyProtocol: admission.ProxyRequired, Endpoints: c.endpoints}
			for _, b := range c.balancers {
				cfg.Admission.LoadBalancers = append(cfg.Admission.LoadBalancers, netip.MustParsePrefix(b))
			}
			before := slices.Clone(cfg.Admission.Endpoints)
			got := joined(cfg, c.view)
			if !slices.Equal(prefixes(got), c.wantBalancers) || !slices.Equal(got.Endpoints, c.wantEndpoints) {
				t.Errorf("load balancers %v, endpoints %v", prefixes(got), got.Endpoints)
			}
			if !slices.Equal(cfg.Admission.Endpoints, before) {
				t.Errorf("the configuration itself has become %v", cfg.Admission.Endpoints)
			}
		})
	}
}

func TestWithoutTheSectionOrTheHeaderNothingIsJoined(t *testing.T) {
	v := view("10.0.2.25", privatelink.Endpoint{ID: "vpce-02", Owner: awsfake.VendorAccount, State: "available"})
	off := &config.Config{AWS: &config.AWS{EndpointOwners: []string{awsfake.VendorAccount}}}
	off.Admission.ProxyProtocol = admission.ProxyOff
	none := &config.Config{}
	none.Admission.ProxyProtocol = admission.ProxyRequired
	for _, c := range []*config.Config{off, none} {
		if got := joined(c, v); !reflect.DeepEqual(got, c.Admission) {
			t.Errorf("%+v", got)
		}
		if w := watchOf(c); !reflect.DeepEqual(w, privatelink.Watch{}) {
			t.Errorf("watches %+v", w)
		}
	}
}

func TestAChangeNamesWhatWasAddedAndRemoved(t *testing.T) {
	old := admission.Options{Endpoints: []string{"vpce-01", "vpce-02"}, LoadBalancers: []netip.Prefix{netip.MustParsePrefix("10.0.1.25/32")}}
	now := admission.Options{Endpoints: []string{"vpce-02", "vpce-03"}}
	got := strings.Join(summary(changeOf(old, now)), ", ")
	if want := "endpoints removed: vpce-01, endpoints added: vpce-03, load balancers removed: 10.0.1.25/32"; got != want {
		t.Errorf("%s", got)
	}
	if len(changeOf(now, now)) != 0 {
		t.Error("nothing changed")
	}
}

func TestSessionsOfARejectedEndpointEndAndAnAPIThatIsDownChangesNothing(t *testing.T) {
	needs(t, "ssh")
	a := demoAccount()
	server, _ := inAWS(t, a)
	g := discovering(t, awsSection)
	g.start()
	g.eventually("known from AWS", func() bool { return g.metric(`postern_aws_discovered{what="endpoints"} 1`) })
	if e := g.events(audit.AdmissionChange); len(e) != 1 || !has(e, demoEndpoint) || !has(e, `127\.0\.0\.1/32`) {
		t.Errorf("events: %q", e)
	}
	if e := g.events(audit.DaemonStart); !has(e, awsfake.GateInstance) || !has(e, awsfake.OwnAccount) || !has(e, "us-east-1a") {
		t.Errorf("the log does not say where the gate is: %q", e)
	}
	ended := g.session()

	mend := server.Fail(awsfake.Fault{Service: "ec2", HTML: true})
	g.eventually("told", func() bool { return has(g.events(audit.AWSFailure), `"status_code":"garbled"`) })
	if out, err := g.ssh("gate", "whoami"); err != nil || !strings.HasPrefix(out, "vendor") {
		t.Errorf("with AWS down: %v, %s", err, out)
	}
	select {
	case <-ended:
		t.Fatal("the session ended because AWS is down")
	default:
	}
	mend()
	g.eventually("well again", func() bool { return len(g.events(audit.AWSRecovered)) > 0 })

	a.Change(func() { a.Services[0].Connections[0].State = "rejected" })
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the session of a rejected endpoint goes on")
	}
	if e := g.events(audit.AdmissionChange); !has(e, `"endpoints_removed":\["`+demoEndpoint) {
		t.Errorf("events: %q", e)
	}
	g.eventually("written down", func() bool { return has(g.events(audit.ConnClose), `"status_code":"endpoint"`) })
	if out, err := g.ssh("gate", "whoami"); err == nil {
		t.Errorf("a rejected endpoint gets in: %s", out)
	}
	if got := g.get(g.Health, "/readyz"); got != "200 ok" {
		t.Errorf("without an endpoint, readiness is %q", got)
	}
}

func TestAGateThatKnowsNoAddressOfItsLoadBalancerIsUnready(t *testing.T) {
	a := demoAccount()
	a.LoadBalancers = nil
	inAWS(t, a)
	g := discovering(t, awsSection)
	g.begin()
	g.eventually("unready", func() bool { return strings.Contains(g.get(g.Health, "/readyz"), "way_in") })
	a.Change(func() { a.LoadBalancers = demoAccount().LoadBalancers })
	g.eventually("ready", func() bool { return g.get(g.Health, "/readyz") == "200 ok" })
}

func TestAnOwnerThatIsTakenAwayLosesItsSessionsEvenIfAWSIsDown(t *testing.T) {
	needs(t, "ssh")
	server, _ := inAWS(t, demoAccount())
	g := discovering(t, awsSection)
	g.start()
	ended := g.session()
	server.Fail(awsfake.Fault{Hang: true})
	g.edit("postern.yaml", awsfake.VendorAccount, "444455556666")
	g.signals <- syscall.SIGHUP
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatalf("the session of an owner that is no longer allowed goes on\n%s", g.stderr)
	}
	if e := g.events(audit.ConfigReload); !has(e, `"aws\.endpoint_owners"`) {
		t.Errorf("events: %q", e)
	}
}

func TestAPendingEndpointIsAcceptedAfterItIsWrittenDown(t *testing.T) {
	needs(t, "ssh")
	a := demoAccount()
	a.Services[0].Connections[0].State = "pendingAcceptance"
	inAWS(t, a)
	g := discovering(t, awsSection+"  accept_endpoints: on\n")
	g.start()
	g.eventually("accepted", func() bool {
		out, err := g.ssh("gate", "whoami")
		return err == nil && strings.HasPrefix(out, "vendor")
	})
	if e := g.events(audit.EndpointAccept); len(e) != 1 || !has(e, demoEndpoint) || !has(e, awsfake.VendorAccount) {
		t.Errorf("events: %q", e)
	}
}

func TestAGateListensAtOnceWhereAWSIsOutOfReach(t *testing.T) {
	needs(t, "ssh")
	server, _ := inAWS(t, demoAccount())
	server.Fail(awsfake.Fault{Hang: true})
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and no more
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://"+silent.Addr().String())
	g := newTestGate(t)
	g.edit("postern.yaml", "ssh:\n", awsSection+"ssh:\n")
	began := time.Now()
	g.start()
	if took := time.Since(began); took > time.Second {
		t.Errorf("ready after %s", took)
	}
	if out, err := g.ssh("gate", "whoami"); err != nil || !strings.HasPrefix(out, "vendor") {
		t.Errorf("by the lists alone: %v, %s", err, out)
	}
}

func TestATerminatingInstanceDrainsAndThenLetsAutoScalingGoOn(t *testing.T) {
	a := demoAccount()
	inAWS(t, a)
	g := discovering(t, awsSection+"  auto_scaling_group: "+awsfake.GateGroup+"\n  lifecycle_hook: "+awsfake.GateHook+"\n")
	g.edit("postern.yaml", "settle: 0s", "settle: 1s") // a drain that is over at once needs no heartbeat
	g.start()
	a.Change(func() { a.Metadata.LifecycleState = "Terminated" })
	g.stops(20 * time.Second)
	if e := g.events(audit.DaemonStop); !has(e, `"status_code":"termination"`) {
		t.Errorf("events: %q", e)
	}
	var got []awsfake.LifecycleAction
	a.Change(func() { got = slices.Clone(a.LifecycleResult) })
	if len(got) < 2 || got[0].Operation != "RecordLifecycleActionHeartbeat" || got[len(got)-1].Result != "CONTINUE" || got[len(got)-1].Instance != awsfake.GateInstance {
		t.Errorf("Auto Scaling was asked %+v", got)
	}
}

func TestSessionsAreCutBeforeASpotInstanceGoes(t *testing.T) {
	needs(t, "ssh")
	a := demoAccount()
	inAWS(t, a)
	g := discovering(t, awsSection)
	g.edit("postern.yaml", "settle: 0s, timeout: 1s", "settle: 0s, timeout: 1h")
	g.start()
	ended := g.session()
	at := time.Now().Add(lastMoments + 2*time.Second).UTC().Format(time.RFC3339)
	a.Change(func() { a.Metadata.SpotAction = `{"action":"terminate","time":"` + at + `"}` })
	g.stops(20 * time.Second)
	<-ended
	if e := g.events(audit.DaemonStop); !has(e, `"status_code":"spot"`) || !has(e, `"cut":1`) {
		t.Errorf("events: %q", e)
	}
}

func TestSessionsHaveNoLongerThanTheInstance(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for at, want := range map[time.Time]time.Duration{
		{}:                       time.Hour,
		now.Add(2 * time.Minute): 2*time.Minute - lastMoments,
		now.Add(3 * time.Hour):   time.Hour,
		now.Add(time.Second):     0,
		now.Add(-time.Hour):      0,
	} {
		if got := (ending{at: at}).patience(time.Hour, now); got != want {
			t.Errorf("the instance goes at %v: %v, want %v", at, got, want)
		}
	}
}

func TestAFleetHasItsKeysFromAWS(t *testing.T) {
	needs(t, "ssh")
	a := demoAccount()
	inAWS(t, a)
	g := discovering(t, awsSection)
	for _, name := range []string{"ssh_host_ed25519_key", "host_ca", "user_ca"} {
		data, err := os.ReadFile(g.path(name))
		if err != nil {
			t.Fatal(err)
		}
		a.Parameters["/gate/"+name], a.Secrets["gate/"+name] = string(data), string(data)
		if err := os.Remove(g.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	g.edit("postern.yaml", "[ssh_host_ed25519_key, ssh_host_ecdsa_key]", `["aws-ssm:/gate/ssh_host_ed25519_key", ssh_host_ecdsa_key]`)
	g.edit("postern.yaml", "host_ca: host_ca", "host_ca: aws-secretsmanager:gate/host_ca")
	g.edit("postern.yaml", "user_ca: user_ca", "user_ca: aws-ssm:/gate/user_ca")
	g.start()
	g.eventually("in", func() bool {
		out, err := g.ssh("-o", "HostKeyAlgorithms=ssh-ed25519", "gate", "whoami")
		return err == nil && strings.HasPrefix(out, "vendor")
	})
	// The client and the target know the CAs' keys from before.
	if out, err := g.throughJump("hostname"); err != nil || !strings.Contains(out, "demo-machine") {
		t.Errorf("inspected: %v, %s", err, out)
	}
	if _, err := os.Stat(g.path("host_ca")); err == nil {
		t.Error("a key from AWS was made on this host")
	}
}

func TestAKeyThatAWSDoesNotGiveStopsTheStartAndSaysWhy(t *testing.T) {
	inAWS(t, demoAccount())
	g := newTestGate(t)
	g.edit("postern.yaml", "[ssh_host_ed25519_key, ssh_host_ecdsa_key]", `["aws-ssm:/gate/host_key"]`)
	err := run(t.Context(), process{config: g.path("postern.yaml"), inherited: g.lns.gate, signals: g.signals, stderr: g.stderr})
	if err == nil || !strings.Contains(err.Error(), "aws-ssm:/gate/host_key") || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("%v", err)
	}
}

func TestAGateThatHasNothingToDoWithAWSDoesNotReadItsSettings(t *testing.T) {
	t.Setenv("AWS_PROFILE", "nobody-has-this")
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	g := newTestGate(t)
	g.start()
	if strings.Contains(g.get(g.Metrics, "/metrics"), "postern_aws_answer_age_seconds") {
		t.Error("the metrics speak of AWS")
	}
}
