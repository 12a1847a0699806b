package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// allVerbs are the verbs and what is none.
var allVerbs = append(Verbs(), "", "*", "root")

func TestZeroValuesDeny(t *testing.T) {
	empty, err := New(Spec{})
	if err != nil {
		t.Fatal(err)
	}
	full, err := New(sound(t))
	if err != nil {
		t.Fatal(err)
	}
	if (Decision{}).Allow {
		t.Error("the zero Decision allows")
	}
	if d := full.Decide(Request{}); d.Allow || d.Reason != ReasonUnknown {
		t.Errorf("the zero Request: %+v", d)
	}
	for name, p := range map[string]*Policy{"nil": nil, "zero": {}, "empty": empty, "nil with a freeze": (*Policy)(nil).WithFrozen("alice")} {
		t.Run(name, func(t *testing.T) { checkDeniesAll(t, p) })
	}
}

func checkDeniesAll(t *testing.T, p *Policy) {
	for _, v := range allVerbs {
		r := Request{Identity: "vendor", Client: anyClient, Time: anyTime, Verb: v, Host: "10.0.3.4", Port: 22, Login: "hadoop"}
		if d := p.Decide(r); d.Allow || d.Reason != ReasonUnknown {
			t.Errorf("%s: %+v", v, d)
		}
		if p.MayResolve(r) {
			t.Errorf("%s: a name would be resolved", v)
		}
		if verdicts := p.Explain(r); len(verdicts) != 0 {
			t.Errorf("%s: verdicts of no rules: %+v", v, verdicts)
		}
	}
	if id, _, reason := p.Key("vendor", []byte("vendor"), anyClient, anyTime); id.Name != "" || reason != ReasonKeyUnknown {
		t.Errorf("key: %q, %q", id.Name, reason)
	}
	if id, reason := p.Certificate("carol", []byte("ca"), []string{"carol"}); id.Name != "" || reason != ReasonKeyUnknown {
		t.Errorf("certificate: %q, %q", id.Name, reason)
	}
	if p.StillValid("vendor") != ReasonUnknown || p.KeyStillValid("vendor", []byte("vendor")) || p.AuthorityStillValid("carol", []byte("ca"), []string{"carol"}) {
		t.Error("an identity, key or certificate is valid")
	}
	if p.Grants("vendor", "", anyClient, anyTime) != nil || len(p.Identities()) != 0 || p.Version() != "" {
		t.Error("there are grants, identities or a version")
	}
}

// A caller that forgets a field of a Request gets less, never more.
func TestARequestWithoutAFieldIsDenied(t *testing.T) {
	s := parseSpec(t, "identity vendor\nr: for vendor via vpce-0abc from 10.20.0.0/16 during mon-sun 00:00-24:00 UTC until 2099-01-01T00:00:00Z allow exec to 10.0.0.0/16:22 as *\n"+
		"u: for vendor until 2099-01-01T00:00:00Z allow forward to 10.0.0.0/16:80\n")
	p, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	whole := parseRequest(t, "vendor@vpce-0abc exec hadoop@10.0.3.4:22")
	if d := p.Decide(whole); !d.Allow {
		t.Fatalf("the whole request: %+v", d)
	}
	for reason, forget := range map[Reason]func(*Request){
		ReasonUnknown:  func(r *Request) { r.Identity = "" },
		ReasonEndpoint: func(r *Request) { r.Endpoint = "" },
		ReasonSource:   func(r *Request) { r.Client = netip.Addr{} },
		ReasonExpired:  func(r *Request) { r.Time = time.Time{} },
		ReasonNoRule:   func(r *Request) { r.Verb = "" },
		ReasonTarget:   func(r *Request) { r.Host = "" },
		ReasonLogin:    func(r *Request) { r.Login = "" },
	} {
		r := whole
		forget(&r)
		if d := p.Decide(r); d.Allow || d.Reason != reason {
			t.Errorf("want %s: %+v", reason, d)
		}
	}
}

// New refuses such a rule; matching does not lean on that.
func TestABindThatNobodyMayConnectToIsNotMade(t *testing.T) {
	bind, err := ParseListen("0.0.0.0:7000")
	if err != nil {
		t.Fatal(err)
	}
	r := Rule{Listen: []Target{bind}}
	q := query{Request: Request{Verb: Listen, Port: 7000}, addr: netip.IPv4Unspecified()}
	if r.binds(&q) {
		t.Error("bound without connect_from")
	}
	r.ConnectFrom = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}
	if !r.binds(&q) {
		t.Error("not bound with connect_from")
	}
}

func TestExplainSaysWhatIsMissing(t *testing.T) {
	p, err := New(parseSpec(t, `identity vendor
src: for vendor from 10.20.0.0/16 allow forward to 10.0.0.0/16:80
hrs: for vendor during mon-fri 08:00-18:00 UTC allow forward to 10.0.0.0/16:80
`))
	if err != nil {
		t.Fatal(err)
	}
	got := p.Explain(Request{Identity: "vendor", Verb: Forward, Host: "10.0.3.4", Port: 80})
	want := []Verdict{
		{Rule: "src", Failed: "source: no client address was given, and the rule has 10.20.0.0/16"},
		{Rule: "hrs", Failed: "hours: no time was given, and the rule has mon-fri 08:00-18:00 UTC"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestARequestWithoutATimeIsInNoHours(t *testing.T) {
	p, err := New(parseSpec(t, "identity vendor\nr: for vendor during mon-sun 00:00-24:00 UTC allow forward to 10.0.0.0/16:80\n"))
	if err != nil {
		t.Fatal(err)
	}
	r := parseRequest(t, "vendor forward 10.0.3.4:80")
	if d := p.Decide(r); !d.Allow {
		t.Errorf("at %s: %+v", r.Time, d)
	}
	r.Time = time.Time{}
	if d := p.Decide(r); d.Allow || d.Reason != ReasonHours {
		t.Errorf("at no time: %+v", d)
	}
}

func TestASocketPathWithANulIsMalformed(t *testing.T) {
	p, err := New(sound(t))
	if err != nil {
		t.Fatal(err)
	}
	r := Request{Identity: "vendor", Time: anyTime, Verb: Socket, Host: "/run/x.sock"}
	if d := p.Decide(r); !d.Allow {
		t.Errorf("%q: %+v", r.Host, d)
	}
	for _, host := range []string{"/run/x.sock\x00", "/run/x.sock\x00/y", "\x00/run/x.sock"} {
		r.Host = host
		if d := p.Decide(r); d.Allow || d.Reason != ReasonTarget {
			t.Errorf("%q: %+v", host, d)
		}
	}
}

func TestOnlyACIDRInsideABlockNamesIt(t *testing.T) {
	b, ok := specialBlock(netip.MustParseAddr("127.0.0.1"))
	if !ok {
		t.Fatal("127.0.0.1 is ordinary")
	}
	for cidr, want := range map[string]bool{
		"127.0.0.0/8": true, "127.0.0.1/32": true, "126.0.0.0/7": false, "0.0.0.0/0": false, "10.0.0.0/8": false, "10.0.0.1/32": false, "::1/128": false,
	} {
		if got := b.names(netip.MustParsePrefix(cidr)); got != want {
			t.Errorf("%s names %s: %v", cidr, b.prefix, got)
		}
	}
}

func TestMayResolveAsksForNoNameThatIsRefusedAnyway(t *testing.T) {
	p, err := New(parseSpec(t, `identity vendor
identity cut
tun: for vendor cut from 10.20.0.0/16 allow forward to 10.0.0.0/16:80 *.internal:81
sh: for vendor allow shell to 10.0.0.0/16:22 as hadoop
frozen cut
`))
	if err != nil {
		t.Fatal(err)
	}
	for asked, want := range map[string]bool{
		"vendor forward any.example:80":                true,
		"vendor forward node.internal:81":              true,
		"vendor forward any.example:22":                true, // would be inspected
		"vendor shell hadoop@any.example:22":           true,
		"vendor shell root@any.example:22":             false,
		"vendor exec hadoop@any.example:22":            false,
		"vendor forward any.example:81":                false,
		"vendor forward any.example:443":               false,
		"vendor from 10.99.0.1 forward any.example:80": false,
		"vendor forward 10.0.3.4:80":                   false,
		"vendor forward any.example:80=10.0.3.4":       false,
		"vendor forward any..example:80":               false,
		"vendor forward 0x7f000001:80":                 false,
		"vendor listen any.example:80":                 false,
		"cut forward any.example:80":                   false,
		"nobody forward any.example:80":                false,
	} {
		if got := p.MayResolve(parseRequest(t, asked)); got != want {
			t.Errorf("%s: %v, want %v", asked, got, want)
		}
	}
}

func TestGrantsAreTheRulesThatCouldApplyNow(t *testing.T) {
	p, err := New(parseSpec(t, `identity vendor
identity alice
identity cut
here: for vendor cut via vpce-0abc allow forward to 10.0.0.0/16:80
always: for vendor alice allow forward to 10.0.0.0/16:81
office: for vendor during mon-fri 08:00-18:00 UTC allow forward to 10.0.0.0/16:82
ended: for vendor until 2026-01-01T00:00:00Z allow forward to 10.0.0.0/16:83
net: for vendor from 10.20.0.0/16 allow forward to 10.0.0.0/16:84
frozen cut
`))
	if err != nil {
		t.Fatal(err)
	}
	saturday := anyTime.AddDate(0, 0, 4)
	for _, c := range []struct {
		identity, endpoint, client string
		now                        time.Time
		want                       string
	}{
		{"vendor", "vpce-0abc", "10.20.1.5", anyTime, "[here always office net]"},
		{"vendor", "vpce-0abc", "::ffff:10.20.1.5", anyTime, "[here always office net]"},
		{"vendor", "vpce-0def", "10.20.1.5", anyTime, "[always office net]"},
		{"vendor", "vpce-0abc", "10.99.1.5", anyTime, "[here always office]"},
		{"vendor", "vpce-0abc", "10.20.1.5", saturday, "[here always net]"},
		{"alice", "vpce-0abc", "10.20.1.5", anyTime, "[always]"},
		{"cut", "vpce-0abc", "10.20.1.5", anyTime, "[]"},
		{"nobody", "vpce-0abc", "10.20.1.5", anyTime, "[]"},
	} {
		var names []string
		for _, r := range p.Grants(c.identity, c.endpoint, netip.MustParseAddr(c.client), c.now) {
			names = append(names, r.Name)
		}
		if got := fmt.Sprint(names); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

// FuzzDecide: a policy that allows one network, one name and some commands
// allows no address outside of them however the host is written, no other
// command, and out of a session nothing but one port of its target's loopback; an unknown identity and an
// empty policy allow nothing, and Explain and MayResolve agree with Decide.
func FuzzDecide(f *testing.F) {
	spec := Spec{
		Identities: []Identity{{Name: "vendor", Keys: []Key{{Blob: []byte("vendor")}}}},
		Rules: []Rule{{
			Name: "net", Identities: []string{"vendor"}, Allow: []Verb{Forward, Exec}, Logins: []string{"hadoop"},
			Targets:  []Target{mustTarget(f, "10.0.0.0/16:22,80"), mustTarget(f, "*.internal:80"), mustTarget(f, "0.0.0.0/0:81")},
			Commands: []string{"cat *.log", "uptime"},
		}, {
			Name: "out", Identities: []string{"vendor"}, Allow: []Verb{Forward},
			Via: []Target{mustTarget(f, "10.0.0.0/16:22")}, Targets: []Target{mustTarget(f, "127.0.0.1:8080")},
		}},
	}
	p, err := New(spec)
	if err != nil {
		f.Fatal(err)
	}
	empty, _ := New(Spec{})
	for _, host := range []string{"10.0.3.4", "node.internal", "127.0.0.1", "0x7f000001", "::ffff:10.0.3.4", "0.0.0.0", "/run/x"} {
		for i := range allVerbs {
			f.Add("vendor", uint8(i), host, uint16(80), []byte{10, 0, 3, 4}, false, "hadoop", "cat a.log", "", uint16(0))
			f.Add("vendor", uint8(i), host, uint16(8080), []byte{}, false, "hadoop", "uptime\n", "10.0.3.4", uint16(22))
		}
	}
	f.Add("vendor", uint8(6), "node.internal", uint16(81), []byte{169, 254, 169, 254}, true, "", "", "", uint16(0))
	f.Fuzz(func(t *testing.T, identity string, verb uint8, host string, port uint16, addr []byte, own bool, login, command, via string, viaPort uint16) {
		r := Request{Identity: identity, Client: anyClient, Time: anyTime, Verb: allVerbs[int(verb)%len(allVerbs)], Host: host, Port: port, Own: own,
			Login: login, Command: command, Via: Via{Host: via, Port: viaPort}}
		r.Addr, _ = netip.AddrFromSlice(addr)
		d := p.Decide(r)
		checkExplainAgrees(t, p, r, d)
		if d.Allow != (d.Reason == "") || d.Allow != (d.Rule != "") {
			t.Fatalf("%+v: %+v says two things", r, d)
		}
		nested := r.Via != (Via{})
		switch {
		case d.Allow && nested:
			checkNestedAllowed(t, r, d)
		case d.Allow:
			checkAllowed(t, r)
		case nested && p.MayResolve(r):
			t.Fatalf("%+v: what the target resolves is to be resolved", r)
		}
		if p.MayResolve(r) && r.Addr.IsValid() {
			t.Fatalf("%+v: to be resolved again", r)
		}
		if e := empty.Decide(r); e.Allow {
			t.Fatalf("%+v: the empty policy allows: %+v", r, e)
		}
		r.Identity = "not-" + identity
		if u := p.Decide(r); u.Allow || u.Reason != ReasonUnknown {
			t.Fatalf("%+v: an unknown identity gets %+v", r, u)
		}
	})
}

// checkAllowed holds what FuzzDecide's policy allowed to what its rule says.
func checkAllowed(t *testing.T, r Request) {
	addr := r.Addr.Unmap()
	if !addr.IsValid() {
		addr = netip.MustParseAddr(r.Host).Unmap()
	}
	inNet := netip.MustParsePrefix("10.0.0.0/16").Contains(addr) && (r.Port == 22 || r.Port == 80)
	named := strings.HasSuffix(strings.ToLower(r.Host), ".internal") && r.Port == 80
	anywhere := addr.Is4() && r.Port == 81
	if r.Identity != "vendor" || r.Verb != Forward && r.Verb != Exec || !inNet && !named && !anywhere {
		t.Fatalf("%+v is allowed", r)
	}
	if r.Own || addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.IsUnspecified() || addr.IsMulticast() {
		t.Fatalf("%+v is allowed at a special address", r)
	}
	if r.Verb != Exec {
		return
	}
	if r.Login != "hadoop" {
		t.Fatalf("%+v is allowed with another login", r)
	}
	listed := r.Command == "uptime" || strings.HasPrefix(r.Command, "cat ") && strings.HasSuffix(r.Command, ".log")
	if !listed || strings.ContainsAny(r.Command, "\n\r\x00") {
		t.Fatalf("%+v is allowed with another command", r)
	}
}

// checkNestedAllowed holds what was allowed out of a session to what the rules
// say of it. Port 22 is inspected from the gate, as are 80 and 81.
func checkNestedAllowed(t *testing.T, r Request, d Decision) {
	t.Helper()
	loopback := strings.EqualFold(r.Host, "localhost")
	if addr, err := netip.ParseAddr(r.Host); err == nil {
		loopback = addr.Unmap() == netip.MustParseAddr("127.0.0.1")
	}
	from, err := netip.ParseAddr(r.Via.Host)
	if err != nil || !netip.MustParsePrefix("10.0.0.0/16").Contains(from.Unmap()) || r.Via.Port != 22 {
		t.Fatalf("%+v is allowed out of another session", r)
	}
	if r.Identity != "vendor" || r.Verb != Forward || !loopback || r.Port != 8080 || d.Rule != "out" || d.Inspected {
		t.Fatalf("%+v is allowed: %+v", r, d)
	}
}

func mustTarget(t testing.TB, s string) Target {
	t.Helper()
	target, err := ParseTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// A hundred rules, of which the last is the one that allows.
func BenchmarkDecideWith100Rules(b *testing.B) {
	spec := Spec{Identities: []Identity{{Name: "vendor", Keys: []Key{{Blob: []byte("vendor")}}}}}
	for i := range 100 {
		spec.Rules = append(spec.Rules, Rule{
			Name: fmt.Sprintf("r%d", i), Identities: []string{"vendor"}, Allow: []Verb{Forward},
			Targets: []Target{mustTarget(b, fmt.Sprintf("10.%d.0.0/16:22,8000-8100", i)), mustTarget(b, fmt.Sprintf("*.n%d.internal:80", i))},
		})
	}
	p, err := New(spec)
	if err != nil {
		b.Fatal(err)
	}
	for name, r := range map[string]Request{
		"address": {Identity: "vendor", Verb: Forward, Host: "10.99.3.4", Port: 8050},
		"name":    {Identity: "vendor", Verb: Forward, Host: "ip-10-99-3-4.n99.internal", Port: 80, Addr: netip.MustParseAddr("10.0.3.4")},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if d := p.Decide(r); d.Rule != "r99" {
					b.Fatalf("%+v", d)
				}
			}
		})
	}
}
