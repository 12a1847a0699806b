package e2e_test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"postern/test/awsfake"
)

// balancerAddress is where nlbdial connects from, and endpointOfStories is the
// endpoint that it names.
const (
	balancerAddress   = "127.0.0.7"
	endpointOfStories = "vpce-0a1b2c3d4e5f60718"
)

// accountVerb is about the AWS account that the gate is in:
//
//	account start                    one in which all is right
//	account follow [LINE...]         empties the lists of postern.yaml and adds aws:, with more lines
//	account endpoint ID STATE [OWNER]
//	account balancer ADDRESS...      the addresses of the load balancer's nodes
//	account break                    AWS answers with HTML, until account mend
//	account mend
//	account state STATE              the instance's lifecycle state, in its own metadata and at Auto Scaling
//	account asked REGEX...           waits until Auto Scaling was asked so, "Operation Result"
func accountVerb(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: account start|follow|endpoint|balancer|break|mend|state|asked ...")
	}
	e := &worldOf(ts).evidence
	switch verb, rest := args[0], args[1:]; verb {
	case "start":
		e.startAccount(ts)
	case "follow":
		followAccount(ts, rest)
	case "endpoint":
		e.account.Change(func() { e.setEndpoint(rest[0], rest[1], rest[2:]) })
	case "balancer":
		e.account.Change(func() { e.setBalancer(rest) })
	case "break":
		e.mend = append(e.mend, e.aws.Fail(awsfake.Fault{HTML: true}))
	case "mend":
		for _, mend := range e.mend {
			mend()
		}
		e.mend = nil
	case "state":
		e.account.Change(func() { e.account.Metadata.LifecycleState = rest[0] })
	case "asked":
		e.asked(ts, rest)
	default:
		ts.Fatalf("account knows no %s", verb)
	}
}

func (e *evidence) startAccount(ts *testscript.TestScript) {
	e.account = awsfake.Correct()
	e.setBalancer([]string{balancerAddress})
	e.aws = awsfake.New()
	ts.Defer(e.aws.Close)
	e.aws.Account(e.account)
	metadata := awsfake.NewIMDS(e.account)
	ts.Defer(metadata.Close)
	setAll(ts, slices.Concat(e.aws.Env(), metadata.Env()))
}

// followAccount has the gate know load balancer and endpoints from AWS alone.
func followAccount(ts *testscript.TestScript, lines []string) {
	edit(ts, false, []string{"postern.yaml", "load_balancers: [" + balancerAddress + "/32]", "load_balancers: []"})
	edit(ts, false, []string{"postern.yaml", "endpoints: [" + endpointOfStories + "]", "endpoints: []"})
	section := append([]string{"aws:", "load_balancer: " + awsfake.GateBalancer, "endpoint_service: " + awsfake.GateService,
		`endpoint_owners: ["` + awsfake.VendorAccount + `"]`, "refresh: 1s"}, lines...)
	insert(ts, "postern.yaml", "ssh:\n", strings.Join(section, "\n  ")+"\nssh:\n")
}

func (e *evidence) setEndpoint(id, state string, owner []string) {
	all := &e.account.Services[0].Connections
	*all = slices.DeleteFunc(*all, func(c awsfake.Connection) bool { return c.Endpoint == id })
	c := awsfake.Connection{Endpoint: id, Owner: awsfake.VendorAccount, State: state, Created: time.Now()}
	if len(owner) > 0 {
		c.Owner = owner[0]
	}
	*all = append(*all, c)
}

// setBalancer gives all addresses to the first node; it has secondary ones too.
func (e *evidence) setBalancer(addresses []string) {
	isNode := func(i awsfake.Interface) bool { return i.Type == "network_load_balancer" }
	node := &e.account.Interfaces[slices.IndexFunc(e.account.Interfaces, isNode)]
	node.PrivateIP, node.PrivateIPs = addresses[0], nil
	for i, a := range addresses {
		node.PrivateIPs = append(node.PrivateIPs, awsfake.PrivateIP{Address: a, Primary: i == 0})
	}
}

// asked waits until Auto Scaling was asked each.
func (e *evidence) asked(ts *testscript.TestScript, want []string) {
	ts.Check(eventually(patience, func() error {
		var got []string
		e.account.Change(func() {
			for _, a := range e.account.LifecycleResult {
				got = append(got, strings.TrimSpace(a.Operation+" "+a.Result))
			}
		})
		for _, w := range want {
			if !slices.Contains(got, w) {
				return fmt.Errorf("Auto Scaling was not asked %q but %q", w, got)
			}
		}
		return nil
	}))
}

// toolsDir is where test/install-tools puts what it builds.
func toolsDir() string {
	return cmp.Or(os.Getenv("POSTERN_TOOLS"), filepath.Join(root, ".tools"))
}
