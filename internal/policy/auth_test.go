package policy

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

var (
	anyClient = netip.MustParseAddr("10.20.1.5")
	anyTime   = time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
)

// who is a policy of people: two keys of a vendor, one of them with options,
// and a CA whose principal "ops" stands for two identities by user name.
func who(t *testing.T) *Policy {
	t.Helper()
	p, err := New(Spec{
		Authorities: []Authority{{Name: "corp", Keys: [][]byte{[]byte("ca1"), []byte("ca2")}}, {Name: "lab", Keys: [][]byte{[]byte("labca")}}},
		Identities: []Identity{
			{Name: "vendor", Users: []string{"ec2-user", "vendor"}, Keys: []Key{
				{Blob: []byte("global")},
				{Blob: []byte("account"), From: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")}, Expires: anyTime.Add(time.Hour), NoTouchRequired: true},
			}},
			{Name: "alice", Authority: "corp", Principal: "alice"},
			{Name: "ops-read", Authority: "corp", Principal: "ops", Users: []string{"read", "look"}},
			{Name: "ops-write", Authority: "corp", Principal: "ops", Users: []string{"write"}},
			{Name: "lab-alice", Authority: "lab", Principal: "alice"},
			{Name: "cut", Keys: []Key{{Blob: []byte("cut")}}},
		},
		Frozen: []string{"cut"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTheIdentityIsTheKeysOwner(t *testing.T) {
	p := who(t)
	elsewhere := netip.MustParseAddr("10.21.0.1")
	for _, c := range []struct {
		story      string
		user, blob string
		client     netip.Addr
		now        time.Time
		identity   string
		reason     Reason
	}{
		{"a key and a user name of its identity", "ec2-user", "global", anyClient, anyTime, "vendor", ""},
		{"any client for a key without from", "ec2-user", "global", elsewhere, anyTime, "vendor", ""},
		{"the other user name", "vendor", "global", anyClient, anyTime, "vendor", ""},
		{"an unknown key", "ec2-user", "stolen", anyClient, anyTime, "", ReasonKeyUnknown},
		{"no key", "ec2-user", "", anyClient, anyTime, "", ReasonKeyUnknown},
		{"an unknown user looks like an unknown key", "root", "stolen", anyClient, anyTime, "", ReasonKeyUnknown},
		{"a known key with a name that is not its own", "alice", "global", anyClient, anyTime, "", ReasonUser},
		{"a known key with no name", "", "global", anyClient, anyTime, "", ReasonUser},
		{"names are case-sensitive", "EC2-user", "global", anyClient, anyTime, "", ReasonUser},
		{"a key from where it may come", "ec2-user", "account", anyClient, anyTime, "vendor", ""},
		{"a key from where it may come, in IPv6 clothes", "ec2-user", "account", netip.MustParseAddr("::ffff:10.20.1.5"), anyTime, "vendor", ""},
		{"a key from elsewhere", "ec2-user", "account", elsewhere, anyTime, "", ReasonKeySource},
		{"a key from nowhere", "ec2-user", "account", netip.Addr{}, anyTime, "", ReasonKeySource},
		{"a key in its last nanosecond", "ec2-user", "account", anyClient, anyTime.Add(time.Hour - 1), "vendor", ""},
		{"a key at its end", "ec2-user", "account", anyClient, anyTime.Add(time.Hour), "", ReasonKeyExpired},
		{"a key that ends, without a clock", "ec2-user", "account", anyClient, time.Time{}, "", ReasonKeyExpired},
		{"a frozen identity is found, for Decide to refuse", "cut", "cut", anyClient, anyTime, "cut", ""},
		{"a CA's key is nobody's", "alice", "ca1", anyClient, anyTime, "", ReasonKeyUnknown},
	} {
		id, key, reason := p.Key(c.user, []byte(c.blob), c.client, c.now)
		if id.Name != c.identity || reason != c.reason {
			t.Errorf("%s: %q, reason %q; want %q, reason %q", c.story, id.Name, reason, c.identity, c.reason)
		}
		if (reason == "") != (string(key.Blob) == c.blob && c.blob != "") {
			t.Errorf("%s: reason %q with key %q", c.story, reason, key.Blob)
		}
	}
	if _, key, _ := p.Key("vendor", []byte("account"), anyClient, anyTime); !key.NoTouchRequired {
		t.Error("the key came without its options")
	}
}

// Where the user name is the account at a target, the key alone says who it is.
func TestAKeyOrCertificateIsFoundWithoutAUserName(t *testing.T) {
	p := who(t)
	for _, c := range []struct {
		story    string
		blob     string
		client   netip.Addr
		now      time.Time
		identity string
		reason   Reason
	}{
		{"a key", "global", anyClient, anyTime, "vendor", ""},
		{"a key from elsewhere", "account", netip.MustParseAddr("10.21.0.1"), anyTime, "", ReasonKeySource},
		{"a key at its end", "account", anyClient, anyTime.Add(time.Hour), "", ReasonKeyExpired},
		{"an unknown key", "stolen", anyClient, anyTime, "", ReasonKeyUnknown},
	} {
		id, key, reason := p.KeyOf([]byte(c.blob), c.client, c.now)
		if id.Name != c.identity || reason != c.reason || (reason == "") != (string(key.Blob) == c.blob) {
			t.Errorf("%s: %q with key %q, reason %q", c.story, id.Name, key.Blob, reason)
		}
	}
	for _, c := range []struct {
		story      string
		ca         string
		principals []string
		identity   string
		reason     Reason
	}{
		{"its principal", "ca1", []string{"alice"}, "alice", ""},
		{"of two that match, the first of the policy", "ca1", []string{"ops"}, "ops-read", ""},
		{"of two principals, the first of the policy", "ca2", []string{"ops", "alice"}, "alice", ""},
		{"no principals", "ca1", nil, "", ReasonKeyUnknown},
		{"an unknown CA", "evil", []string{"alice"}, "", ReasonKeyUnknown},
	} {
		if id, reason := p.CertificateOf([]byte(c.ca), c.principals); id.Name != c.identity || reason != c.reason {
			t.Errorf("%s: %q, reason %q", c.story, id.Name, reason)
		}
	}
	if _, _, reason := (*Policy)(nil).KeyOf([]byte("global"), anyClient, anyTime); reason != ReasonKeyUnknown {
		t.Errorf("no policy: %q", reason)
	}
	if _, reason := (*Policy)(nil).CertificateOf([]byte("ca1"), []string{"alice"}); reason != ReasonKeyUnknown {
		t.Errorf("no policy: %q", reason)
	}
}

func TestACertificateStandsForAPrincipalOfItsAuthority(t *testing.T) {
	p := who(t)
	for _, c := range []struct {
		story      string
		user, ca   string
		principals []string
		identity   string
		reason     Reason
	}{
		{"its principal", "alice", "ca1", []string{"alice"}, "alice", ""},
		{"the authority's other key", "alice", "ca2", []string{"x", "alice"}, "alice", ""},
		{"no principals are nobody, not everybody", "alice", "ca1", nil, "", ReasonKeyUnknown},
		{"an empty principal", "alice", "ca1", []string{""}, "", ReasonKeyUnknown},
		{"another principal", "alice", "ca1", []string{"bob"}, "", ReasonKeyUnknown},
		{"an unknown CA", "alice", "evil", []string{"alice"}, "", ReasonKeyUnknown},
		{"no CA", "alice", "", []string{"alice"}, "", ReasonKeyUnknown},
		{"a user's key as CA", "vendor", "global", []string{"vendor"}, "", ReasonKeyUnknown},
		{"the same principal of another authority is someone else", "alice", "labca", []string{"alice"}, "", ReasonUser},
		{"and has its own name", "lab-alice", "labca", []string{"alice"}, "lab-alice", ""},
		{"a name that is not the identity's", "root", "ca1", []string{"alice"}, "", ReasonUser},
		{"of two that match, who may present the name", "write", "ca1", []string{"ops"}, "ops-write", ""},
		{"of two that match, the first", "look", "ca1", []string{"ops", "alice"}, "ops-read", ""},
		{"of two that match, neither", "root", "ca1", []string{"ops", "alice"}, "", ReasonUser},
	} {
		id, reason := p.Certificate(c.user, []byte(c.ca), c.principals)
		if id.Name != c.identity || reason != c.reason {
			t.Errorf("%s: %q, reason %q; want %q, reason %q", c.story, id.Name, reason, c.identity, c.reason)
		}
	}
}

func TestWhatWasRemovedIsNoLongerValid(t *testing.T) {
	p := who(t)
	for _, c := range []struct {
		story string
		got   bool
		want  bool
	}{
		{"a key of the identity", p.KeyStillValid("vendor", []byte("account")), true},
		{"a key that was removed", p.KeyStillValid("vendor", []byte("gone")), false},
		{"a key that moved to another identity", p.KeyStillValid("cut", []byte("account")), false},
		{"an identity that was removed", p.KeyStillValid("gone", []byte("account")), false},
		{"a certificate of the identity", p.AuthorityStillValid("alice", []byte("ca1"), []string{"alice"}), true},
		{"a CA key that was removed", p.AuthorityStillValid("alice", []byte("ca0"), []string{"alice"}), false},
		{"a CA key of another authority", p.AuthorityStillValid("alice", []byte("labca"), []string{"alice"}), false},
		{"a principal that was changed", p.AuthorityStillValid("alice", []byte("ca1"), []string{"ops"}), false},
		{"an identity without authority", p.AuthorityStillValid("vendor", []byte("ca1"), []string{""}), false},
		{"a certificate of an identity that was removed", p.AuthorityStillValid("gone", []byte("ca1"), []string{"alice"}), false},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v", c.story, c.got)
		}
	}
	if r := p.StillValid("vendor"); r != "" {
		t.Errorf("vendor: %q", r)
	}
	if r := p.StillValid("cut"); r != ReasonFrozen {
		t.Errorf("a frozen identity: %q", r)
	}
	if r := p.StillValid("gone"); r != ReasonUnknown {
		t.Errorf("a removed identity: %q", r)
	}
}

func TestAFreezeIsACopy(t *testing.T) {
	p := who(t)
	q := p.WithFrozen("vendor", "not-yet-hired")
	if p.Frozen("vendor") || !q.Frozen("vendor") || !q.Frozen("cut") || q.Frozen("alice") {
		t.Error("the freeze reached the wrong policy or identity")
	}
	if q.StillValid("vendor") != ReasonFrozen || q.StillValid("not-yet-hired") != ReasonFrozen || q.StillValid("gone") != ReasonUnknown {
		t.Errorf("vendor %q, not-yet-hired %q, gone %q", q.StillValid("vendor"), q.StillValid("not-yet-hired"), q.StillValid("gone"))
	}
	if want := []string{"vendor", "alice", "ops-read", "ops-write", "lab-alice", "cut"}; !slices.Equal(q.Identities(), want) {
		t.Errorf("identities %q", q.Identities())
	}
}

// A caller that changes what it was given, or what it gave, changes no policy.
func TestAPolicyDoesNotChange(t *testing.T) {
	spec := parseSpec(t, "identity vendor ec2-user\nr: for vendor via vpce-0abc from 10.20.0.0/16 allow forward listen to 10.0.0.0/16:80 listen 0.0.0.0:7000 connect-from 10.0.0.0/16\n"+
		"cmd: for vendor allow exec to 10.0.0.0/16:22 as hadoop commands \"uptime\" env TZ\nout: for vendor allow forward out-of 10.0.0.0/16:22 to 127.0.0.1:8080\n")
	p, err := New(spec)
	if err != nil {
		t.Fatal(err)
	}
	anywhere := netip.MustParsePrefix("0.0.0.0/0")
	spec.Rules[0].Sources[0], spec.Rules[0].ConnectFrom[0], spec.Rules[0].Endpoints[0] = anywhere, anywhere, "vpce-0evil"
	spec.Identities[0].Users[0], spec.Identities[0].Keys[0].Blob[0] = "root", 'x'

	id, key, _ := p.Key("ec2-user", []byte("vendor"), anyClient, anyTime)
	id.Users[0], key.Blob[0] = "root", 'x'
	bind := parseRequest(t, "vendor@vpce-0abc listen 0.0.0.0:7000")
	d := p.Decide(bind)
	d.ConnectFrom[0], d.Ports[0] = anywhere, everyPort
	granted := p.Grants("vendor", "vpce-0abc", anyClient, anyTime)
	granted[0].Sources[0], granted[0].Allow[0] = anywhere, Shell

	shell := parseRequest(t, "vendor exec hadoop@10.0.3.4:22 \"uptime\"")
	nested := parseRequest(t, "vendor forward 127.0.0.1:8080 out-of 10.0.3.4:22")
	p.Decide(shell).Env[0] = "*"
	for _, r := range p.Grants("vendor", "", anyClient, anyTime) {
		if r.Name == "cmd" {
			r.Commands[0], r.Env[0] = "*", "*"
		}
		if r.Name == "out" {
			r.Via[0] = mustTarget(t, "0.0.0.0/0:*")
		}
	}
	spec.Rules[1].Commands[0], spec.Rules[1].Env[0], spec.Rules[2].Via[0] = "*", "*", mustTarget(t, "0.0.0.0/0:*")
	if got := answer(p.Decide(shell)); got != "allow rule=cmd env=TZ" {
		t.Errorf("exec: %s", got)
	}
	if shell.Command = "id"; p.Decide(shell).Allow {
		t.Error("another command is allowed")
	}
	if nested.Via.Addr = netip.MustParseAddr("10.1.0.1"); p.Decide(nested).Allow {
		t.Error("a forward out of another session is allowed")
	}

	if got := answer(p.Decide(bind)); got != "allow rule=r ports=7000 connect-from=10.0.0.0/16" {
		t.Errorf("listen: %s", got)
	}
	if d := p.Decide(parseRequest(t, "vendor@vpce-0abc from 10.99.0.1 forward 10.0.3.4:80")); d.Reason != ReasonSource {
		t.Errorf("forward: %+v", d)
	}
	if _, _, reason := p.Key("ec2-user", []byte("vendor"), anyClient, anyTime); reason != "" {
		t.Errorf("key: %q", reason)
	}
}

func TestAnIdentityWithoutUserNamesPresentsItsOwn(t *testing.T) {
	p := who(t)
	for identity, want := range map[string][]string{
		"vendor": {"ec2-user", "vendor"}, "alice": {"alice"}, "nobody": nil,
	} {
		if got := p.Users(identity); !slices.Equal(got, want) {
			t.Errorf("Users(%s) = %v, want %v", identity, got, want)
		}
	}
	if got := (*Policy)(nil).Users("vendor"); got != nil {
		t.Errorf("no policy: %v", got)
	}
}
