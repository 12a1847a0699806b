package awsfake

import (
	"fmt"
	"time"
)

// Names of what Correct makes, for tests that ask for them.
const (
	OwnAccount    = "222233334444"
	VendorAccount = "111122223333"
	GateVPC       = "vpc-0a10000000000000a"
	GateInstance  = "i-0a10000000000001a"
	GateBalancer  = "arn:aws:elasticloadbalancing:us-east-1:222233334444:loadbalancer/net/gate/50dc6c495c0c9188"
	GateTargets   = "arn:aws:elasticloadbalancing:us-east-1:222233334444:targetgroup/gate/6d0ecf831eec9f09"
	GateService   = "vpce-svc-0127881c0d25a3123"
	GateEndpoint  = "vpce-0a1b2c3d4e5f60718"
	GateBucket    = "gate-archive"
	GateGroup     = "gate" // of Auto Scaling
	GateHook      = "postern-drain"
	GateSG        = "sg-0a1000000000ba570"
	BalancerSG    = "sg-0a1000000000001b0"
	VendorCIDR    = "10.20.0.0/16" // the clients' addresses in the vendor's VPC
)

// Correct is an account in which the ten steps were done right: two bastions in
// private subnets of two zones behind an internal load balancer, which one
// vendor reaches through an endpoint service, and S3 through a gateway endpoint.
// Answers have two items a page.
func Correct() *Account {
	a := &Account{ID: OwnAccount, Region: "us-east-1", Self: GateInstance, Page: 2}
	a.network()
	a.filters()
	a.bastions()
	a.balancer()
	a.targets()
	a.service()
	a.storage()
	return a
}

func (a *Account) network() {
	a.VPCs = []VPC{{ID: GateVPC, CIDR: "10.0.0.0/16", State: "available", DNSSupport: true, DNSHostnames: true}}
	for i, zone := range []string{"a", "b"} {
		subnet := Subnet{VPC: GateVPC, Zone: a.Region + zone, ZoneID: fmt.Sprintf("use1-az%d", i+1), State: "available"}
		subnet.ID, subnet.CIDR = "subnet-0a100000000000"+zone+"1", fmt.Sprintf("10.0.%d.0/24", i+1)
		a.Subnets = append(a.Subnets, subnet)
		subnet.ID, subnet.CIDR, subnet.MapPublicIP = "subnet-0a100000000000"+zone+"9", fmt.Sprintf("10.0.%d.0/24", i+101), true
		a.Subnets = append(a.Subnets, subnet)
	}
	local := Route{CIDR: "10.0.0.0/16", Gateway: "local", State: "active"}
	tied := func(table, subnet string) RouteAssociation {
		return RouteAssociation{ID: "rtbassoc-" + subnet[len("subnet-"):], Table: table, Subnet: subnet, State: "associated"}
	}
	main := RouteAssociation{ID: "rtbassoc-0a10000000000000f", Table: "rtb-0a10000000000000f", Main: true, State: "associated"}
	private, public := "rtb-0a100000000000001", "rtb-0a100000000000009"
	a.RouteTables = []RouteTable{
		{ID: main.Table, VPC: GateVPC, Routes: []Route{local}, Associations: []RouteAssociation{main}},
		{ID: private, VPC: GateVPC, Routes: []Route{local, {CIDR: "0.0.0.0/0", NAT: "nat-0a100000000000001", State: "active"},
			{PrefixList: "pl-63a5400a", Gateway: "vpce-0a100000000000053", State: "active"}},
			Associations: []RouteAssociation{tied(private, "subnet-0a100000000000a1"), tied(private, "subnet-0a100000000000b1")}},
		{ID: public, VPC: GateVPC, Routes: []Route{local, {CIDR: "0.0.0.0/0", Gateway: "igw-0a100000000000001", State: "active"}},
			Associations: []RouteAssociation{tied(public, "subnet-0a100000000000a9"), tied(public, "subnet-0a100000000000b9")}},
	}
}

func (a *Account) filters() {
	acl := NetworkACL{ID: "acl-0a100000000000001", VPC: GateVPC, Default: true}
	for _, egress := range []bool{true, false} {
		acl.Entries = append(acl.Entries, ACLEntry{Number: 100, Protocol: "-1", Action: "allow", Egress: egress, CIDR: "0.0.0.0/0"},
			ACLEntry{Number: 32767, Protocol: "-1", Action: "deny", Egress: egress, CIDR: "0.0.0.0/0"})
	}
	for _, s := range a.Subnets {
		acl.Associations = append(acl.Associations, ACLAssociation{ID: "aclassoc-" + s.ID[len("subnet-"):], ACL: acl.ID, Subnet: s.ID})
	}
	a.NetworkACLs = []NetworkACL{acl}
	a.SecurityRules = []SecurityRule{
		{ID: "sgr-0a100000000000001", Group: GateSG, Protocol: "tcp", From: 22, To: 22, FromGroup: BalancerSG},
		{ID: "sgr-0a100000000000002", Group: GateSG, Protocol: "tcp", From: 8022, To: 8022, FromGroup: BalancerSG},
		{ID: "sgr-0a100000000000003", Group: GateSG, Egress: true, Protocol: "-1", From: -1, To: -1, CIDR: "0.0.0.0/0"},
		{ID: "sgr-0a100000000000004", Group: BalancerSG, Protocol: "tcp", From: 22, To: 22, CIDR: VendorCIDR},
		{ID: "sgr-0a100000000000005", Group: BalancerSG, Egress: true, Protocol: "tcp", From: 22, To: 22, FromGroup: GateSG},
		{ID: "sgr-0a100000000000006", Group: BalancerSG, Egress: true, Protocol: "tcp", From: 8022, To: 8022, FromGroup: GateSG},
	}
}

func (a *Account) bastions() {
	for i, zone := range []string{"a", "b"} {
		host := Instance{ID: fmt.Sprintf("i-0a10000000000001%s", zone), Image: "ami-0a100000000000001", Type: "m7g.large", State: "running",
			VPC: GateVPC, Subnet: "subnet-0a100000000000" + zone + "1", Zone: a.Region + zone, PrivateIP: fmt.Sprintf("10.0.%d.10", i+1),
			Groups: []Group{{GateSG}}, Tokens: "required", Endpoint: "enabled", HopLimit: 1,
			Tags: []Tag{{"aws:autoscaling:groupName", GateGroup}, {"Name", "gate"}}}
		a.Instances = append(a.Instances, host)
		a.Interfaces = append(a.Interfaces, Interface{ID: "eni-0a1000000000001" + zone + "1", Type: "interface", VPC: GateVPC, Subnet: host.Subnet,
			Zone: host.Zone, ZoneID: fmt.Sprintf("use1-az%d", i+1), Owner: a.ID, Status: "in-use", MAC: "0a:10:00:00:00:1" + zone, Instance: host.ID,
			Groups: host.Groups, PrivateIP: host.PrivateIP, PrivateIPs: []PrivateIP{{host.PrivateIP, true}}})
	}
	a.LifecycleHooks = []LifecycleHook{{Name: GateHook, Group: GateGroup, Transition: "autoscaling:EC2_INSTANCE_TERMINATING",
		Default: "CONTINUE", Heartbeat: 300, Global: 30_000}}
	a.Metadata = Metadata{LifecycleState: "InService", Tags: map[string]string{"Name": "gate"}}
}

func (a *Account) balancer() {
	b := LoadBalancer{ARN: GateBalancer, Name: "gate", DNSName: "gate-50dc6c495c0c9188.elb.us-east-1.amazonaws.com", Type: "network",
		Scheme: "internal", State: "active", VPC: GateVPC, IPType: "ipv4", Groups: []string{BalancerSG}, Enforce: "on",
		Attributes: map[string]string{"load_balancing.cross_zone.enabled": "true", "deletion_protection.enabled": "true",
			"secondary_ips.auto_assigned.per_subnet": "0", "dns_record.client_routing_policy": "any_availability_zone"}}
	for i, zone := range []string{"a", "b"} {
		subnet, ip := "subnet-0a100000000000"+zone+"1", fmt.Sprintf("10.0.%d.25", i+1)
		b.Zones = append(b.Zones, BalancerZone{Zone: a.Region + zone, Subnet: subnet})
		a.Interfaces = append(a.Interfaces, Interface{ID: "eni-0a1000000000002" + zone + "1", Type: "network_load_balancer",
			Description: "ELB net/gate/50dc6c495c0c9188", VPC: GateVPC, Subnet: subnet, Zone: a.Region + zone, ZoneID: fmt.Sprintf("use1-az%d", i+1),
			Owner: a.ID, Requester: "amazon-elb", Managed: true, Status: "in-use", MAC: "0a:10:00:00:00:2" + zone, Groups: []Group{{BalancerSG}},
			PrivateIP: ip, PrivateIPs: []PrivateIP{{ip, true}}})
	}
	b.Listeners = []Listener{{ARN: "arn:aws:elasticloadbalancing:us-east-1:222233334444:listener/net/gate/50dc6c495c0c9188/f2f7dc8efc522ab2",
		Balancer: b.ARN, Protocol: "TCP", Port: 22, Actions: []Action{{Type: "forward", TargetGroup: GateTargets}},
		Attributes: map[string]string{"tcp.idle_timeout.seconds": "350"}}}
	a.LoadBalancers = []LoadBalancer{b}
}

func (a *Account) targets() {
	g := TargetGroup{ARN: GateTargets, Name: "gate", Protocol: "TCP", Port: 22, TargetType: "instance", VPC: GateVPC, Balancers: []string{GateBalancer},
		Check: HealthCheck{Enabled: true, Protocol: "HTTP", Port: "8022", Path: "/readyz", Matcher: "200", Interval: 10, Timeout: 6, Healthy: 3, Unhealthy: 2},
		Attributes: map[string]string{
			"proxy_protocol_v2.enabled":                                                 "true",
			"preserve_client_ip.enabled":                                                "false",
			"deregistration_delay.timeout_seconds":                                      "300",
			"deregistration_delay.connection_termination.enabled":                       "false",
			"target_health_state.unhealthy.connection_termination.enabled":              "false",
			"target_health_state.unhealthy.draining_interval_seconds":                   "28800",
			"load_balancing.cross_zone.enabled":                                         "use_load_balancer_configuration",
			"stickiness.enabled":                                                        "false",
			"target_group_health.dns_failover.minimum_healthy_targets.count":            "1",
			"target_group_health.unhealthy_state_routing.minimum_healthy_targets.count": "1",
		}}
	for _, host := range a.Instances {
		g.Targets = append(g.Targets, Target{ID: host.ID, Port: 22, CheckPort: "8022", State: "healthy"})
	}
	a.TargetGroups = []TargetGroup{g}
}

func (a *Account) service() {
	a.Services = []EndpointService{{ID: GateService, Name: "com.amazonaws.vpce.us-east-1." + GateService, State: "Available", Type: "Interface",
		Acceptance: true, Zones: []string{"us-east-1a", "us-east-1b"}, ZoneIDs: []string{"use1-az1", "use1-az2"}, Balancers: []string{GateBalancer},
		DNSNames: []string{GateService + ".us-east-1.vpce.amazonaws.com"}, IPTypes: []string{"ipv4"},
		Principals: []Principal{{ARN: "arn:aws:iam::" + VendorAccount + ":root", Type: "Account"}},
		Connections: []Connection{{Endpoint: GateEndpoint, Owner: VendorAccount, State: "available",
			Created: time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC), Region: "us-east-1", IPType: "ipv4"}}}}
}

func (a *Account) storage() {
	a.PrefixLists = []PrefixList{{ID: "pl-63a5400a", Name: "com.amazonaws.us-east-1.s3", CIDRs: []string{"52.216.0.0/15"}},
		{ID: "pl-02cd2c6b", Name: "com.amazonaws.us-east-1.dynamodb", CIDRs: []string{"52.94.0.0/22"}}}
	a.Endpoints = []Endpoint{{ID: "vpce-0a100000000000053", Type: "Gateway", VPC: GateVPC, Service: "com.amazonaws.us-east-1.s3", State: "available",
		Policy:      `{"Version":"2008-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}`,
		RouteTables: []string{"rtb-0a100000000000001"}}}
	a.Buckets = []Bucket{{Name: GateBucket, Versioning: "Enabled", Lock: true, Mode: "COMPLIANCE", Days: 365, Objects: map[string][]byte{}}}
	a.Parameters, a.Secrets = map[string]string{}, map[string]string{}
}
