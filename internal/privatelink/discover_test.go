package privatelink

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/test/awsfake"
)

func texts(all []netip.Addr) string { return strings.Trim(fmt.Sprint(all), "[]") }

func TestAllAddressesOfTheLoadBalancersNodesAreFound(t *testing.T) {
	a := awsfake.Correct()
	a.Page = 1
	node := a.Interfaces[2]
	a.Interfaces[2].PrivateIPs = append(a.Interfaces[2].PrivateIPs, awsfake.PrivateIP{Address: "10.0.1.200"}, awsfake.PrivateIP{Address: "10.0.1.7"})
	a.Interfaces[3].IPv6 = []awsfake.IPv6{{Address: "fd00:1::25"}}
	node.ID, node.PrivateIP, node.PrivateIPs = "eni-0a1000000000003a1", "10.0.3.25", []awsfake.PrivateIP{{Address: "10.0.3.25", Primary: true}}
	a.Interfaces = append(a.Interfaces, node)
	_, _, client := fake(t, a)
	got, err := client.Addresses(t.Context(), awsfake.GateBalancer)
	if want := "10.0.1.7 10.0.1.25 10.0.1.200 10.0.2.25 10.0.3.25 fd00:1::25"; err != nil || texts(got) != want {
		t.Errorf("addresses %s, %v; want %s", texts(got), err, want)
	}
}

func TestAnInterfaceThatOnlyLooksLikeANodeIsNone(t *testing.T) {
	for name, change := range map[string]func(*awsfake.Interface){
		"another type":                    func(i *awsfake.Interface) { i.Type = "interface" },
		"another VPC":                     func(i *awsfake.Interface) { i.VPC = "vpc-0b" },
		"a longer name":                   func(i *awsfake.Interface) { i.Description += "0" },
		"a name that begins with it":      func(i *awsfake.Interface) { i.Description = "ELB net/gate-two/50dc6c495c0c9188" },
		"a load balancer of another kind": func(i *awsfake.Interface) { i.Description = "ELB app/gate/50dc6c495c0c9188" },
		"another case":                    func(i *awsfake.Interface) { i.Description = "elb net/gate/50dc6c495c0c9188" },
	} {
		for _, filtered := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, filters honoured: %t", name, filtered), func(t *testing.T) {
				a := awsfake.Correct()
				a.Unfiltered = !filtered
				change(&a.Interfaces[3])
				_, _, client := fake(t, a)
				got, err := client.Addresses(t.Context(), awsfake.GateBalancer)
				if err != nil || texts(got) != "10.0.1.25" {
					t.Errorf("addresses %s, %v; want that of the true node alone", texts(got), err)
				}
			})
		}
	}
}

func TestALoadBalancerThatIsGoneHasNoAddresses(t *testing.T) {
	a := awsfake.Correct()
	a.LoadBalancers = nil // the interfaces may be somebody else's by now
	_, _, client := fake(t, a)
	if got, err := client.Addresses(t.Context(), awsfake.GateBalancer); err != nil || len(got) != 0 {
		t.Errorf("addresses %v, %v", got, err)
	}
}

func TestNoInterfacesIsAnErrorWhileThereIsALoadBalancer(t *testing.T) {
	a := awsfake.Correct()
	a.Interfaces = a.Interfaces[:2]
	_, _, client := fake(t, a)
	if got, err := client.Addresses(t.Context(), awsfake.GateBalancer); err == nil || len(got) != 0 {
		t.Errorf("addresses %v, %v", got, err)
	}
}

func TestEndpointsAreReadWhateverTheirState(t *testing.T) {
	a := awsfake.Correct()
	a.Page = 2
	for i, state := range []string{"pendingAcceptance", "Available", "rejected", "somethingNew"} {
		a.Services[0].Connections = append(a.Services[0].Connections, awsfake.Connection{Endpoint: fmt.Sprintf("vpce-0%d", 9-i), Owner: "444455556666", State: state})
	}
	other := a.Services[0]
	other.ID, other.Connections = "vpce-svc-0bbbbbbbbbbbbbbbb", []awsfake.Connection{{Endpoint: "vpce-0other", Owner: awsfake.VendorAccount, State: "available"}}
	a.Services = append(a.Services, other)
	a.Unfiltered = true // a connection of another service is not ours
	_, _, client := fake(t, a)
	got, err := client.Endpoints(t.Context(), awsfake.GateService)
	want := []Endpoint{{"vpce-06", "444455556666", "somethingNew"}, {"vpce-07", "444455556666", "rejected"}, {"vpce-08", "444455556666", "Available"},
		{"vpce-09", "444455556666", "pendingAcceptance"}, {awsfake.GateEndpoint, awsfake.VendorAccount, "available"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("endpoints %v, %v; want %v", got, err, want)
	}
}

func TestOnlyAnAvailableEndpointOfAnOwnerIsAllowed(t *testing.T) {
	owners := []string{awsfake.VendorAccount}
	for _, c := range []struct {
		state, owner string
		owners       []string
		want         bool
	}{
		{"available", awsfake.VendorAccount, owners, true},
		{"Available", awsfake.VendorAccount, owners, true},
		{"available", awsfake.VendorAccount, nil, false},
		{"available", "444455556666", owners, false},
		{"available", "", []string{""}, true}, // config takes account numbers only
		{"pendingAcceptance", awsfake.VendorAccount, owners, false},
		{"pending", awsfake.VendorAccount, owners, false},
		{"rejected", awsfake.VendorAccount, owners, false},
		{"deleting", awsfake.VendorAccount, owners, false},
		{"expired", awsfake.VendorAccount, owners, false},
		{"failed", awsfake.VendorAccount, owners, false},
		{"", awsfake.VendorAccount, owners, false},
	} {
		if got := (Endpoint{"vpce-01", c.owner, c.state}).Allowed(c.owners); got != c.want {
			t.Errorf("state %q, owner %q, owners %v: %t", c.state, c.owner, c.owners, got)
		}
	}
}

func TestEveryFailureHasItsReasonAndSaysWhatToDo(t *testing.T) {
	for _, c := range []struct {
		name         string
		fault        awsfake.Fault
		denied       string
		reason, text string
	}{
		{"not allowed", awsfake.Fault{}, "ec2:DescribeVpcEndpointConnections", ReasonDenied, "allow ec2:DescribeVpcEndpointConnections to the role"},
		{"throttled", awsfake.Fault{Service: "ec2", Status: 503, Code: "RequestLimitExceeded"}, "", ReasonThrottled, "aws.refresh"},
		{"an error of AWS", awsfake.Fault{Service: "ec2", Status: 500, Code: "InternalError", Message: "try later"}, "", ReasonOther, "try later"},
		{"bad credentials", awsfake.Fault{Service: "ec2", Status: 401, Code: "AuthFailure"}, "", ReasonCredentials, "role of this instance"},
		{"a page of HTML", awsfake.Fault{Service: "ec2", HTML: true}, "", ReasonGarbled, "HTTPS_PROXY"},
		{"a page of HTML that succeeds", awsfake.Fault{Service: "ec2", Truncate: 60}, "", ReasonGarbled, ""},
		{"cut in the middle", awsfake.Fault{Service: "ec2", Truncate: 400}, "", ReasonGarbled, ""},
		{"no answer", awsfake.Fault{Service: "ec2", Hang: true}, "", ReasonUnreachable, "NAT gateway"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := awsfake.Correct()
			if c.denied != "" {
				a.Denied = []string{c.denied}
			}
			server, _, client := fake(t, a)
			client.timeout = 4 * time.Second
			if c.fault.Hang {
				client.timeout = 200 * time.Millisecond
			}
			if c.fault != (awsfake.Fault{}) {
				server.Fail(c.fault)
			}
			got, err := client.Endpoints(t.Context(), awsfake.GateService)
			if err == nil || got != nil {
				t.Fatalf("endpoints %v, %v", got, err)
			}
			if Reason(err) != c.reason || !strings.Contains(err.Error(), c.text) {
				t.Errorf("reason %s, error %v; want %s and %q", Reason(err), err, c.reason, c.text)
			}
		})
	}
}

func TestAFaultThatPassesIsNotNoticed(t *testing.T) {
	for name, fault := range map[string]awsfake.Fault{
		"an error":  {Service: "ec2", Status: http.StatusInternalServerError, Code: "InternalError", Times: 2},
		"HTML":      {Service: "elasticloadbalancing", HTML: true, Times: 1},
		"slow once": {Service: "ec2", Delay: 100 * time.Millisecond, Times: 1},
	} {
		t.Run(name, func(t *testing.T) {
			server, _, client := fake(t, awsfake.Correct())
			server.Fail(fault)
			if got, err := client.Addresses(t.Context(), awsfake.GateBalancer); err != nil || texts(got) != "10.0.1.25 10.0.2.25" {
				t.Errorf("addresses %v, %v", got, err)
			}
		})
	}
}

func TestPagesThatGoRoundInACircleEnd(t *testing.T) {
	token, calls := "again", 0
	_, err := pages(func(*string) ([]int, *string, error) { calls++; return []int{1}, &token, nil })
	if err == nil || calls != 2 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

func TestWithoutARegionTheInstanceMetadataIsAsked(t *testing.T) {
	a := awsfake.Correct()
	_, metadata, _ := fake(t, a)
	t.Setenv("AWS_REGION", "")
	client, err := Open(t.Context(), Options{Metadata: metadata.URL})
	if err != nil {
		t.Fatal(err)
	}
	if region, err := client.Region(t.Context()); err != nil || region != "us-east-1" {
		t.Errorf("region %q, %v", region, err)
	}
	metadata.Break(true)
	if client, err = Open(t.Context(), Options{Metadata: metadata.URL, Timeout: 300 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Addresses(t.Context(), awsfake.GateBalancer); err == nil || !strings.Contains(err.Error(), "aws.region") {
		t.Errorf("without a region: %v", err)
	}
	metadata.Break(false)
	if region, err := client.Region(t.Context()); err != nil || region != "us-east-1" {
		t.Errorf("later on: region %q, %v", region, err)
	}
}

func TestOpenAsksNobody(t *testing.T) {
	a := awsfake.Correct()
	server, metadata, _ := fake(t, a)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := Open(ctx, Options{Metadata: metadata.URL}); err != nil {
		t.Fatal(err)
	}
	if len(server.Calls()) > 0 || len(metadata.Paths()) > 0 {
		t.Errorf("asked %v and %v", server.Calls(), metadata.Paths())
	}
}

func TestTheInstanceSaysWhoItIs(t *testing.T) {
	_, metadata, client := fake(t, awsfake.Correct())
	got, err := client.Identity(t.Context())
	want := Identity{Instance: awsfake.GateInstance, Region: "us-east-1", Zone: "us-east-1a", Account: awsfake.OwnAccount, Address: netip.MustParseAddr("10.0.1.10")}
	if err != nil || got != want {
		t.Errorf("identity %+v, %v", got, err)
	}
	if _, found, err := client.lookup(t.Context(), "spot/instance-action"); found || err != nil {
		t.Errorf("a path that isn't there: %t, %v", found, err)
	}
	metadata.Break(true)
	if _, _, err := client.lookup(t.Context(), "mac"); err == nil {
		t.Error("a metadata service that is down is no answer")
	}
}

func TestWithoutCredentialsTheReasonIsThat(t *testing.T) {
	a := awsfake.Correct()
	_, metadata, _ := fake(t, a)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	client, err := Open(t.Context(), Options{Metadata: metadata.URL, Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Endpoints(t.Context(), awsfake.GateService); Reason(err) != ReasonCredentials || !strings.Contains(err.Error(), "role of this instance") {
		t.Errorf("reason %s: %v", Reason(err), err)
	}
}
