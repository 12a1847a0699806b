package doctor

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/test/awsfake"
)

// scenario differs from the correct account in one thing, which one check names.
type scenario struct {
	name   string
	change func(*world)
	id     string
	status Status
	saw    string // part of what it says
	mend   string // part of how it is mended
}

// TestEachMisconfigurationIsNamed asks for each scenario the fake account by the
// real SDK: no other check may fail or warn.
func TestEachMisconfigurationIsNamed(t *testing.T) {
	all := slices.Concat(bastionScenarios(), networkScenarios(), balancerScenarios(), targetScenarios(), serviceScenarios(), keptScenarios())
	if len(all) < 40 {
		t.Errorf("there are %d scenarios, fewer than 40", len(all))
	}
	named := map[string]bool{}
	for _, sc := range all {
		named[sc.id] = true
		t.Run(sc.name, func(t *testing.T) {
			w := newWorld(t)
			sc.change(w)
			sc.judge(t, w.examine(t))
		})
	}
	for _, id := range CheckIDs() {
		if !named[id] && id != "aws.clock" { // it has a test of its own
			t.Errorf("no scenario makes %s say anything", id)
		}
	}
}

func (sc scenario) judge(t *testing.T, results []Result) {
	t.Helper()
	found := false
	for _, r := range results {
		switch {
		case r.ID == sc.id:
			found = true
			if r.Status != sc.status || !strings.Contains(r.Saw, sc.saw) {
				t.Errorf("%s is %s: %s; want %s: %s", r.ID, r.Status, r.Saw, sc.status, sc.saw)
			}
			if !strings.Contains(strings.Join(r.Mend, "\n"), sc.mend) || len(r.Mend) == 0 {
				t.Errorf("%s is mended by %q, want %s", r.ID, r.Mend, sc.mend)
			}
		case r.Status == Fail || r.Status == Warn || r.Status == Unknown && r.WaitsFor == "":
			t.Errorf("%s is %s too: %s", r.ID, r.Status, r.Saw)
		}
	}
	if !found {
		t.Errorf("there is no %s", sc.id)
	}
}

// attribute sets one of the target group's.
func attribute(key, value string) func(*world) {
	return func(w *world) { w.TargetGroups[0].Attributes[key] = value }
}

// rule changes the security group rule of that ID, or drops it.
func rule(id string, change func(*awsfake.SecurityRule)) func(*world) {
	return func(w *world) {
		i := slices.IndexFunc(w.SecurityRules, func(r awsfake.SecurityRule) bool { return strings.HasSuffix(r.ID, id) })
		if change == nil {
			w.SecurityRules = slices.Delete(w.SecurityRules, i, i+1)
			return
		}
		change(&w.SecurityRules[i])
	}
}

func bastionScenarios() []scenario {
	open := func(r awsfake.SecurityRule) func(*world) {
		return func(w *world) {
			r.ID, r.Group = "sgr-0a1000000000000ff", awsfake.GateSG
			w.SecurityRules = append(w.SecurityRules, r)
		}
	}
	return []scenario{
		{"credentials that have run out", func(w *world) {
			w.aws.Fail(awsfake.Fault{Service: "sts", Status: 403, Code: "ExpiredToken", Message: "The security token included in the request is expired"})
		}, "aws.credentials", Fail, "none that AWS takes", "associate-iam-instance-profile --instance-id " + awsfake.GateInstance},
		{"credentials of another account", func(w *world) {
			w.ID = "999900001111"
		}, "aws.account", Fail, "are of 999900001111", awsfake.OwnAccount},
		{"another Region in the configuration", func(w *world) { w.setup.Region = "eu-west-1"; w.moveEndpoints("eu-west-1") }, "aws.region", Fail, "us-east-1", "aws.region"},
		{"a public address", func(w *world) {
			for i := range w.Interfaces {
				if w.Interfaces[i].Instance == awsfake.GateInstance {
					w.Interfaces[i].PublicIP = "203.0.113.7"
				}
			}
		}, "bastion.public-address", Fail, "203.0.113.7", "AssociatePublicIpAddress=false"},
		{"IMDSv1 is answered", func(w *world) { w.Instances[0].Tokens = "optional" }, "bastion.imds", Fail, "IMDSv1", "--http-tokens required"},
		{"the bastion in a public subnet", func(w *world) {
			w.Interfaces[0].Subnet, w.Instances[0].Subnet = "subnet-0a100000000000a9", "subnet-0a100000000000a9"
			w.RouteTables[2].Routes = append(w.RouteTables[2].Routes, w.RouteTables[1].Routes[2]) // S3 is right there
		}, "bastion.subnet", Fail, "igw-", "delete-route"},
		{"nobody is let in on port 22", rule("01", nil), "bastion.ssh-rule", Fail, "port 22 is not open", "--port 22 --source-group " + awsfake.BalancerSG},
		{"one address of two is let in", rule("01", func(r *awsfake.SecurityRule) { r.FromGroup, r.CIDR = "", "10.0.1.25/32" }), "bastion.ssh-rule", Fail, "port 22", "authorize-security-group-ingress"},
		{"the group alone, where rules are not enforced", func(w *world) { w.LoadBalancers[0].Enforce = "off" }, "bastion.ssh-rule", Fail, "does not count for PrivateLink", "{CidrIp=10.0.1.25/32},{CidrIp=10.0.2.25/32}"},
		{"a prefix list lets in who knows whom", rule("01", func(r *awsfake.SecurityRule) { r.FromGroup, r.PrefixList = "", "pl-0a1" }), "bastion.ssh-rule", Unknown, "pl-0a1", "get-managed-prefix-list-entries"},
		{"the health port is forgotten", rule("02", nil), "bastion.health-rule", Fail, "port 8022 is not open", "--port 8022"},
		{"the world is let in", open(awsfake.SecurityRule{Protocol: "tcp", From: 22, To: 22, CIDR: "0.0.0.0/0"}), "bastion.open-rule", Fail, "port 22 from 0.0.0.0/0", "revoke-security-group-ingress"},
		{"the world of IPv6 is let in", open(awsfake.SecurityRule{Protocol: "-1", From: -1, To: -1, IPv6CIDR: "::/0"}), "bastion.open-rule", Fail, "everything from ::/0", "revoke-security-group-ingress"},
		{"the VPC is let in", open(awsfake.SecurityRule{Protocol: "tcp", From: 22, To: 22, CIDR: "10.0.0.0/16"}), "bastion.open-rule", Warn, "10.0.0.0/16", "revoke-security-group-ingress"},
		{"another group is let in", open(awsfake.SecurityRule{Protocol: "tcp", From: 0, To: 65535, FromGroup: "sg-0a1"}), "bastion.open-rule", Warn, "ports 0-65535 from sg-0a1", "revoke-security-group-ingress"},
		{"connection tracking forgets before a keepalive", func(w *world) { w.Instances[0].Established = 60 }, "bastion.conntrack", Fail, "forgotten after 1m0s", "TcpEstablishedTimeout=432000"},
		{"connection tracking forgets before the load balancer", func(w *world) { w.Instances[0].Established = 200 }, "bastion.conntrack", Warn, "3m20s", "TcpEstablishedTimeout=432000"},
		{"Auto Scaling does not wait", func(w *world) { w.LifecycleHooks = nil }, "bastion.lifecycle-hook", Warn, "EC2_INSTANCE_TERMINATING", "put-lifecycle-hook"},
		{"Auto Scaling waits for nobody", func(w *world) { w.setup.Group, w.setup.Hook = "", "" }, "bastion.lifecycle-hook", Warn, "does not know of it", "lifecycle_hook: " + awsfake.GateHook},
		{"the gate completes a hook that is not there", func(w *world) { w.setup.Hook = "other" }, "bastion.lifecycle-hook", Fail, "is other", "--lifecycle-hook-name other"},
	}
}

// moveEndpoints gives the gateway endpoint the name that it has in a Region.
func (w *world) moveEndpoints(region string) {
	for i := range w.Endpoints {
		w.Endpoints[i].Service = "com.amazonaws." + region + ".s3"
	}
}

func networkScenarios() []scenario {
	// acl puts an entry in front of the others, for the subnet of one zone alone.
	acl := func(subnet string, e awsfake.ACLEntry) func(*world) {
		return func(w *world) {
			own := w.NetworkACLs[0]
			e.Number, e.Action, e.Protocol = 10, "deny", "6"
			own.ID, own.Entries = "acl-0a100000000000002", append([]awsfake.ACLEntry{e}, own.Entries...)
			own.Associations = []awsfake.ACLAssociation{{ID: "aclassoc-0a1", ACL: own.ID, Subnet: subnet}}
			w.NetworkACLs[0].Associations = slices.DeleteFunc(w.NetworkACLs[0].Associations, func(a awsfake.ACLAssociation) bool { return a.Subnet == subnet })
			w.NetworkACLs = append(w.NetworkACLs, own)
		}
	}
	const a, b = "subnet-0a100000000000a1", "subnet-0a100000000000b1"
	return []scenario{
		{"the VPC resolves nothing", func(w *world) { w.VPCs[0].DNSSupport = false }, "vpc.dns", Fail, "enableDnsSupport", "--enable-dns-support"},
		{"the VPC gives no host names", func(w *world) { w.VPCs[0].DNSHostnames = false }, "vpc.dns", Warn, "enableDnsHostnames", "--enable-dns-hostnames"},
		{"an ACL keeps the load balancer out", acl(a, awsfake.ACLEntry{CIDR: "10.0.2.0/24", Ports: &awsfake.PortRange{From: 22, To: 22}}), "bastion.network-acl", Fail, "port 22 from 10.0.2.25", "--ingress"},
		{"an ACL keeps health checks out", acl(a, awsfake.ACLEntry{CIDR: "10.0.2.0/24", Ports: &awsfake.PortRange{From: 8000, To: 9000}}), "bastion.network-acl", Fail, "port 8022 from 10.0.2.25", "--ingress"},
		{"an ACL keeps answers in", acl(a, awsfake.ACLEntry{CIDR: "10.0.2.0/24", Egress: true, Ports: &awsfake.PortRange{From: 32768, To: 60999}}), "bastion.network-acl", Fail, "port 32768 to 10.0.2.25", "--egress"},
		{"an ACL keeps the load balancer in", acl(b, awsfake.ACLEntry{CIDR: "10.0.1.0/24", Egress: true, Ports: &awsfake.PortRange{From: 22, To: 22}}), "nlb.network-acl", Fail, "port 22 to 10.0.1.10", "--egress"},
		{"an ACL keeps answers from the load balancer", acl(b, awsfake.ACLEntry{CIDR: "10.0.1.0/24", Ports: &awsfake.PortRange{From: 1024, To: 65535}}), "nlb.network-acl", Fail, "port 1024 from 10.0.1.10", "--ingress"},
	}
}

func balancerScenarios() []scenario {
	balancer := func(change func(*awsfake.LoadBalancer)) func(*world) {
		return func(w *world) { change(&w.LoadBalancers[0]) }
	}
	listener := func(change func(*awsfake.Listener)) func(*world) {
		return func(w *world) { change(&w.LoadBalancers[0].Listeners[0]) }
	}
	return []scenario{
		{"a load balancer that is gone", func(w *world) { w.LoadBalancers = nil }, "nlb.found", Fail, "there is no load balancer", "describe-load-balancers"},
		{"a load balancer open to the internet", balancer(func(b *awsfake.LoadBalancer) { b.Scheme = "internet-facing" }), "nlb.scheme", Fail, "internet-facing", "--scheme internal"},
		{"a load balancer that failed", balancer(func(b *awsfake.LoadBalancer) { b.State = "failed" }), "nlb.state", Fail, "failed", "describe-load-balancers"},
		{"a load balancer that can't grow", balancer(func(b *awsfake.LoadBalancer) { b.State = "active_impaired" }), "nlb.state", Warn, "impaired", "8 free addresses"},
		{"a load balancer in another VPC", func(w *world) { w.Interfaces[0].VPC, w.Instances[0].VPC = "vpc-0b1", "vpc-0b1" }, "nlb.vpc", Fail, "vpc-0b1", awsfake.GateVPC},
		{"one zone", func(w *world) {
			w.LoadBalancers[0].Zones = w.LoadBalancers[0].Zones[:1]
			w.Interfaces = w.Interfaces[:3]
			w.setup.Gate.Peers = w.setup.Gate.Peers[:1]
		}, "nlb.zones", Warn, "only use1-az1", "set-subnets"},
		{"public subnets", func(w *world) {
			w.RouteTables[2].Routes = append(w.RouteTables[2].Routes, w.RouteTables[1].Routes[2])
			w.LoadBalancers[0].Zones[1].Subnet, w.Interfaces[3].Subnet = "subnet-0a100000000000b9", "subnet-0a100000000000b9"
			w.Interfaces[3].PrivateIP, w.Interfaces[3].PrivateIPs[0].Address = "10.0.102.25", "10.0.102.25"
			w.setup.Gate.Peers = prefixes("10.0.1.25/32", "10.0.102.25/32")
		}, "nlb.subnets", Warn, "igw-", "set-subnets"},
		{"no address in a zone", func(w *world) { w.Interfaces = w.Interfaces[:3]; w.setup.Gate.Peers = w.setup.Gate.Peers[:1] }, "nlb.addresses", Fail, "none in us-east-1b", "describe-network-interfaces"},
		{"no listener", balancer(func(b *awsfake.LoadBalancer) { b.Listeners = nil }), "nlb.listener", Fail, "there is none", "create-listener"},
		{"a TLS listener", listener(func(l *awsfake.Listener) { l.Protocol = "TLS" }), "nlb.listener", Fail, "TLS on port 22", "--protocol TCP"},
		{"a listener on another port", func(w *world) {
			w.LoadBalancers[0].Listeners[0].Port = 2222
			rule("04", func(r *awsfake.SecurityRule) { r.From, r.To = 2222, 2222 })(w)
		}, "nlb.listener", Warn, "port 2222", "--port 22"},
		{"an idle time shorter than the keepalives", listener(func(l *awsfake.Listener) { l.Attributes["tcp.idle_timeout.seconds"] = "60" }), "nlb.idle-timeout", Fail, "after 1m0s, keepalives come every 1m0s", "Value=350"},
		{"keepalives longer than PrivateLink remembers", func(w *world) {
			w.setup.Gate.AliveInterval = 6 * time.Minute
			w.LoadBalancers[0].Listeners[0].Attributes["tcp.idle_timeout.seconds"] = "6000"
		}, "nlb.idle-timeout", Fail, "after 5m50s", "client_alive_interval"},
		{"no security group", func(w *world) {
			w.LoadBalancers[0].Groups, w.LoadBalancers[0].Enforce = nil, ""
			for _, id := range []string{"01", "02"} {
				rule(id, func(r *awsfake.SecurityRule) { r.FromGroup, r.CIDR = "", "10.0.1.25/32" })(w)
			}
			for i, port := range []int{22, 8022} {
				w.SecurityRules = append(w.SecurityRules, awsfake.SecurityRule{ID: fmt.Sprint("sgr-0a100000000000e", i), Group: awsfake.GateSG, Protocol: "tcp", From: port, To: port, CIDR: "10.0.2.25/32"})
			}
		}, "nlb.security-group", Warn, "none", "create-load-balancer"},
		{"only our own test clients are let in", rule("04", func(r *awsfake.SecurityRule) { r.CIDR = "10.0.0.0/16" }), "nlb.vendor-rule", Fail, "10.20.0.0/16 of admission.sources", "--cidr 10.20.0.0/16"},
		{"half of the vendor's clients are let in", rule("04", func(r *awsfake.SecurityRule) { r.CIDR = "10.20.0.0/17" }), "nlb.vendor-rule", Fail, "10.20.0.0/16", "inbound-rules-on-private-link-traffic off"},
		{"the load balancer may not reach the health port", rule("06", nil), "nlb.egress-rule", Fail, "port 8022", "authorize-security-group-egress"},
		{"a peer that is nobody's", func(w *world) { w.setup.Gate.Peers = prefixes("10.0.1.25/32", "10.0.2.25/32", "10.0.2.99/32") }, "admission.load-balancers", Warn, "10.0.2.99/32", "take it out"},
		{"peers from everywhere in the VPC", func(w *world) { w.setup.Gate.Peers = prefixes("10.0.0.0/16") }, "admission.load-balancers", Warn, "reaches beyond", "[10.0.1.25, 10.0.2.25]"},
	}
}

func targetScenarios() []scenario {
	check := func(change func(*awsfake.HealthCheck)) func(*world) {
		return func(w *world) { change(&w.TargetGroups[0].Check) }
	}
	target := func(state, reason string) func(*world) {
		return func(w *world) {
			w.TargetGroups[0].Targets[0].State, w.TargetGroups[0].Targets[0].Reason = state, reason
		}
	}
	return []scenario{
		{"a listener to a group that is gone", func(w *world) { w.TargetGroups[0].Balancers = nil }, "targets.group", Fail, "no target group", "modify-listener"},
		{"a target group of UDP too", func(w *world) { w.TargetGroups[0].Protocol = "TCP_UDP" }, "targets.protocol", Fail, "TCP_UDP", "create-target-group"},
		{"PROXY protocol off and required", attribute(attrProxy, "false"), "targets.proxy-protocol", Fail, "every connection is refused", "Key=proxy_protocol_v2.enabled,Value=true"},
		{"PROXY protocol on and not expected", func(w *world) { w.setup.Gate.ProxyProtocol = false }, "targets.proxy-protocol", Fail, "admission.proxy_protocol is off", "required"},
		{"no PROXY protocol anywhere", func(w *world) { attribute(attrProxy, "false")(w); w.setup.Gate.ProxyProtocol = false }, "targets.proxy-protocol", Warn, "both sides", "Value=true"},
		{"client addresses are preserved", attribute(attrClientIP, "true"), "targets.client-ip", Warn, "true", "Value=false"},
		{"the bastion is no target", func(w *world) { w.TargetGroups[0].Targets[0].ID = "i-0a1000000000000ff" }, "targets.registered", Fail, awsfake.GateInstance + " is not", "register-targets"},
		{"the bastion is a target on another port", func(w *world) { w.TargetGroups[0].Targets[0].Port = 2222 }, "targets.registered", Fail, "on port 2222", "Port=22"},
		{"the bastion does not answer 200", target("unhealthy", "Target.ResponseCodeMismatch"), "targets.healthy", Fail, "ResponseCodeMismatch", "curl -sS http://localhost:8022/readyz"},
		{"the bastion does not answer", target("unhealthy", "Target.Timeout"), "targets.healthy", Fail, "Timeout", "systemctl status postern.socket"},
		{"the bastion's zone is not the load balancer's", target("unused", "Target.NotInUse"), "targets.healthy", Fail, "NotInUse", "set-subnets"},
		{"the bastion has stopped", target("unused", "Target.InvalidState"), "targets.healthy", Fail, "InvalidState", "start-instances"},
		{"the bastion is new", target("initial", "Elb.InitialHealthChecking"), "targets.healthy", Warn, "initial", "wait"},
		{"a zone without bastion", func(w *world) {
			w.LoadBalancers[0].Attributes[attrCrossZone] = "false"
			w.TargetGroups[0].Targets[1].ID = awsfake.GateInstance // both of zone a
			w.TargetGroups[0].Targets[1].Port = 22
		}, "targets.zones", Fail, "us-east-1b", "Key=load_balancing.cross_zone.enabled,Value=true"},
		{"one bastion", func(w *world) { w.TargetGroups[0].Targets = w.TargetGroups[0].Targets[:1] }, "targets.count", Warn, "1 of 1", "at least two"},
		{"health checks by TCP", check(func(c *awsfake.HealthCheck) { c.Protocol, c.Path, c.Matcher = "TCP", "", "" }), "health.protocol", Fail, "TCP, the gate answers HTTP", "--health-check-protocol HTTP"},
		{"health checks by HTTPS of a gate without", check(func(c *awsfake.HealthCheck) { c.Protocol = "HTTPS" }), "health.protocol", Fail, "HTTPS", "HTTP"},
		{"health checks of the SSH port", check(func(c *awsfake.HealthCheck) { c.Port = "traffic-port" }), "health.port", Fail, "traffic-port", "--health-check-port 8022"},
		{"health checks of a path that is not there", check(func(c *awsfake.HealthCheck) { c.Path = "/" }), "health.path", Fail, "does not have", "/readyz"},
		{"health checks of life alone", check(func(c *awsfake.HealthCheck) { c.Path = "/livez" }), "health.path", Warn, "/livez", "/readyz"},
		{"redirects are healthy", check(func(c *awsfake.HealthCheck) { c.Matcher = "200-399" }), "health.codes", Warn, "200-399", "HttpCode=200"},
		{"errors are healthy", check(func(c *awsfake.HealthCheck) { c.Matcher = "200-599" }), "health.codes", Fail, "200-599", "HttpCode=200"},
		{"a drain is noticed too late", check(func(c *awsfake.HealthCheck) { c.Interval = 30 }), "health.timing", Warn, "2 x 30s", "drain.settle: 1m0s"},
		{"unhealthy cuts sessions", attribute(attrTermination, "true"), "drain.termination", Fail, "is on", "Value=false"},
		{"the default of unhealthy cuts sessions", func(w *world) { delete(w.TargetGroups[0].Attributes, attrTermination) }, "drain.termination", Fail, "is on", "Value=false"},
		{"sessions of an unhealthy bastion have an hour", attribute(attrDraining, "3600"), "drain.unhealthy-interval", Warn, "1h0m0s, drain.timeout is 8h0m0s", "Value=28800"},
		{"a deregistration without delay", attribute(attrDelay, "0"), "drain.delay", Warn, "0s", "Value=300"},
		{"a deregistration that cuts", attribute(attrDelayTermination, "true"), "drain.delay-termination", Fail, "5m0s after", "Value=false"},
	}
}

func serviceScenarios() []scenario {
	service := func(change func(*awsfake.EndpointService)) func(*world) {
		return func(w *world) { change(&w.Services[0]) }
	}
	connect := func(c awsfake.Connection) func(*world) {
		return service(func(s *awsfake.EndpointService) { s.Connections = append(s.Connections, c) })
	}
	everybody := awsfake.Principal{ARN: "*", Type: "All"}
	return []scenario{
		{"an endpoint service that is gone", func(w *world) { w.Services = nil }, "service.found", Fail, "there is no endpoint service", "describe-vpc-endpoint-service-configurations"},
		{"an endpoint service that failed", service(func(s *awsfake.EndpointService) { s.State = "Failed" }), "service.state", Fail, "Failed", "create-vpc-endpoint-service-configuration"},
		{"another load balancer in the service", service(func(s *awsfake.EndpointService) { s.Balancers[0] += "0" }), "service.load-balancer", Fail, "passes connections to", "--add-network-load-balancer-arns"},
		{"two load balancers in the service", service(func(s *awsfake.EndpointService) { s.Balancers = append(s.Balancers, s.Balancers[0]+"0") }), "service.load-balancer", Warn, ",", "--remove-network-load-balancer-arns"},
		{"a zone that the service does not know", service(func(s *awsfake.EndpointService) { s.Zones = s.Zones[:1] }), "service.zones", Fail, "us-east-1b (use1-az2)", "modify-vpc-endpoint-service-configuration --service-id " + awsfake.GateService},
		{"endpoints that nobody accepts", service(func(s *awsfake.EndpointService) { s.Acceptance = false }), "service.acceptance", Warn, "not required", "--acceptance-required"},
		{"endpoints of everybody that nobody accepts", service(func(s *awsfake.EndpointService) { s.Acceptance, s.Principals = false, []awsfake.Principal{everybody} }), "service.acceptance", Fail, "every AWS account", "--acceptance-required"},
		{"everybody may ask", service(func(s *awsfake.EndpointService) { s.Principals = append(s.Principals, everybody) }), "service.principals", Warn, "every AWS account", "--remove-allowed-principals '*'"},
		{"nobody may ask", service(func(s *awsfake.EndpointService) { s.Principals = nil }), "service.principals", Fail, "nobody", "arn:aws:iam::" + awsfake.VendorAccount + ":root"},
		{"an account that is left over", service(func(s *awsfake.EndpointService) {
			s.Principals = append(s.Principals, awsfake.Principal{ARN: "arn:aws:iam::777788889999:role/old", Type: "Role"})
		}), "service.owners", Warn, "777788889999", "--remove-allowed-principals arn:aws:iam::777788889999:role/old"},
		{"an owner that may not ask", func(w *world) {
			w.setup.EndpointOwners = append(w.setup.EndpointOwners, "333344445555")
			connect(awsfake.Connection{Endpoint: "vpce-0c1", Owner: "333344445555", State: "available"})(w)
		}, "service.owners", Warn, "333344445555", "--add-allowed-principals arn:aws:iam::333344445555:root"},
		{"the only endpoint waits", service(func(s *awsfake.EndpointService) { s.Connections[0].State = "pendingAcceptance" }), "endpoints.connected", Fail, "pendingAcceptance", "accept-vpc-endpoint-connections"},
		{"the only endpoint was rejected", service(func(s *awsfake.EndpointService) { s.Connections[0].State = "rejected" }), "endpoints.connected", Fail, "rejected", "com.amazonaws.vpce.us-east-1." + awsfake.GateService},
		{"no endpoint yet", service(func(s *awsfake.EndpointService) { s.Connections = nil }), "endpoints.connected", Fail, awsfake.VendorAccount, "vendor.yaml"},
		{"a second request waits", connect(awsfake.Connection{Endpoint: "vpce-0c1", Owner: awsfake.VendorAccount, State: "pendingAcceptance", Created: time.Now().Add(-time.Hour)}), "endpoints.pending", Warn, "vpce-0c1", "--vpc-endpoint-ids vpce-0c1"},
		{"an endpoint of a stranger", connect(awsfake.Connection{Endpoint: "vpce-0c1", Owner: "777788889999", State: "available"}), "endpoints.foreign", Fail, "vpce-0c1 of 777788889999", "reject-vpc-endpoint-connections"},
		{"an endpoint in the list that is gone", func(w *world) { w.setup.Gate.Endpoints = append(w.setup.Gate.Endpoints, "vpce-0c1") }, "admission.endpoints", Warn, "vpce-0c1", "take it out"},
		{"every endpoint in the list", func(w *world) { w.setup.Gate.Endpoints = []string{"*"} }, "admission.endpoints", Warn, "every endpoint is admitted", awsfake.GateEndpoint},
	}
}

func keptScenarios() []scenario {
	return []scenario{
		{"no gateway endpoint", func(w *world) { w.Endpoints = nil }, "s3.endpoint", Fail, "none", "create-vpc-endpoint --vpc-endpoint-type Gateway"},
		{"no gateway endpoint and no archive", func(w *world) { w.Endpoints, w.setup.Bucket = nil, Bucket{} }, "s3.endpoint", Warn, "none", "create-vpc-endpoint"},
		{"a gateway endpoint at the main table alone", func(w *world) {
			w.RouteTables[0].Routes = append(w.RouteTables[0].Routes, w.RouteTables[1].Routes[2])
			w.RouteTables[1].Routes = w.RouteTables[1].Routes[:2]
		}, "s3.route", Fail, "rtb-0a100000000000001 has no route", "--add-route-table-ids rtb-0a100000000000001"},
		{"a route to an endpoint that is gone", func(w *world) { w.RouteTables[1].Routes[2].State = "blackhole" }, "s3.route", Fail, "blackhole", "modify-vpc-endpoint"},
		{"an endpoint policy for another bucket", func(w *world) {
			w.Endpoints[0].Policy = `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::other/*"}]}`
		}, "s3.policy", Fail, "does not allow", "arn:aws:s3:::" + awsfake.GateBucket},
		{"an endpoint policy with conditions", func(w *world) {
			w.Endpoints[0].Policy = `{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalAccount":"1"}}}}`
		}, "s3.policy", Unknown, "conditions", "PolicyDocument"},
		{"the bastion may only reach the VPC", rule("03", func(r *awsfake.SecurityRule) { r.CIDR = "10.0.0.0/8" }), "s3.egress-rule", Fail, "443", "PrefixListIds=[{PrefixListId=pl-63a5400a}]"},
		{"a bucket that is gone", func(w *world) { w.Buckets = nil }, "archive.bucket", Fail, "no bucket", "--object-lock-enabled-for-bucket"},
		{"a bucket in another Region", func(w *world) {
			w.aws.Serve("s3", func(r awsfake.Request) (int, []byte) {
				r.Header.Set("X-Amz-Bucket-Region", "eu-central-1")
				return http.StatusMovedPermanently, awsfake.ErrorBody(r, "PermanentRedirect", "The bucket you are attempting to access must be addressed using the specified endpoint.")
			})
		}, "archive.bucket", Fail, "is in eu-central-1", "archive.region in postern.yaml to eu-central-1"},
		{"a bucket without lock", func(w *world) { w.Buckets[0].Lock = false }, "archive.lock", Fail, "none", "put-object-lock-configuration"},
		{"a bucket without retention, and none set", func(w *world) { w.Buckets[0].Mode, w.setup.Bucket.RetentionDays = "", 0 }, "archive.retention", Fail, "no default retention", "COMPLIANCE"},
		{"a retention that can be shortened", func(w *world) { w.Buckets[0].Mode, w.setup.Bucket.RetentionDays = "GOVERNANCE", 0 }, "archive.retention", Warn, "GOVERNANCE", "COMPLIANCE"},
		{"a retention of ours that can be shortened", func(w *world) { w.setup.Bucket.Governance = true }, "archive.retention", Warn, "governance", "retention_mode"},
		{"a bucket that keeps no versions", func(w *world) { w.Buckets[0].Versioning = "Suspended" }, "archive.versioning", Fail, "Suspended", "Status=Enabled"},
		{"a key that is disabled", func(w *world) { w.kms.SetState(w.setup.Keys[0].ARN, "Disabled") }, "kms.key", Fail, "disabled", "enable-key"},
		{"a key that is to be deleted", func(w *world) { w.kms.SetState(w.setup.Keys[0].ARN, "PendingDeletion") }, "kms.key", Fail, "pending deletion", "cancel-key-deletion"},
		{"a key that is gone", func(w *world) { w.setup.Keys[0].ARN += "0" }, "kms.key", Fail, "does not exist", "describe-key"},
		{"a key of another kind", func(w *world) { w.setup.Keys[0].ARN = w.kms.Make("ECC_NIST_P256", "SIGN_VERIFY") }, "kms.key", Fail, "ECC_NIST_P256", "ECC_NIST_EDWARDS25519"},
		{"a key that may not sign", func(w *world) {
			w.aws.Fail(awsfake.Fault{Service: "kms", Operation: "Sign", Status: 400, Code: "AccessDeniedException", Message: "not authorized"})
		}, "kms.sign", Fail, "kms:Sign", `"Action":"kms:Sign"`},
	}
}
