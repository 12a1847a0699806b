package doctor

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern/test/awsfake"
)

// world is an account with a bastion in it, and the setup of the gate there.
type world struct {
	*awsfake.Account
	aws   *awsfake.Server
	imds  *awsfake.IMDS
	kms   *awsfake.KMS
	setup Setup
}

// newWorld serves the correct account, and makes this process the bastion.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Account: awsfake.Correct(), aws: awsfake.New()}
	t.Cleanup(w.aws.Close)
	w.aws.Account(w.Account)
	w.kms = w.aws.KMS()
	w.imds = awsfake.NewIMDS(w.Account)
	t.Cleanup(w.imds.Close)
	for _, env := range append(w.aws.Env(), w.imds.Env()...) {
		name, value, _ := strings.Cut(env, "=")
		t.Setenv(name, value)
	}
	w.setup = Setup{
		LoadBalancer:    awsfake.GateBalancer,
		EndpointService: awsfake.GateService,
		EndpointOwners:  []string{awsfake.VendorAccount},
		Group:           awsfake.GateGroup, Hook: awsfake.GateHook,
		Gate: Gate{
			Port: 22, HealthPort: 8022, ProxyProtocol: true,
			Peers:         prefixes("10.0.1.25/32", "10.0.2.25/32"),
			Endpoints:     []string{awsfake.GateEndpoint},
			Sources:       prefixes(awsfake.VendorCIDR),
			AliveInterval: time.Minute, DrainSettle: 30 * time.Second, DrainTimeout: 8 * time.Hour,
		},
		Bucket: Bucket{Name: awsfake.GateBucket, Prefix: "gate1", RetentionDays: 365},
		Keys:   []KeySetup{{"audit.signing_key", w.kms.Make("ECC_NIST_EDWARDS25519", "SIGN_VERIFY"), true}},
	}
	return w
}

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, s := range texts {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func (w *world) examine(t *testing.T) []Result {
	t.Helper()
	return w.look().Check()
}

// look takes longer than an operator would: a test may have to share the machine.
func (w *world) look() *Snapshot {
	return collect(context.Background(), w.setup, patience{20 * time.Second, 20 * time.Second})
}

func TestACorrectAccountIsAllOK(t *testing.T) {
	w := newWorld(t)
	results := w.examine(t)
	for _, r := range results {
		if r.Status != OK {
			t.Errorf("%s is %s: %s", r.ID, r.Status, r.Saw)
		}
	}
	if len(results) != len(CheckIDs()) {
		t.Errorf("%d of %d checks were made", len(results), len(CheckIDs()))
	}
	if gaps := w.look().Gaps(); len(gaps) > 0 {
		t.Errorf("something was not looked at: %v", gaps)
	}
}
