package doctor

import (
	"net/netip"
	"slices"
	"time"
)

// Setup is what the doctor examines: what the configuration says of the way in.
type Setup struct {
	Region          string   // "" = that of the load balancer, or of the instance
	LoadBalancer    string   // ARN; "" = nothing of it is looked at
	EndpointService string   // ID; "" = nothing of it is looked at
	EndpointOwners  []string // accounts whose endpoints may connect
	Group, Hook     string   // the lifecycle hook that the gate completes, and its Auto Scaling group
	Instance        string   // ID of the bastion; "" = the instance that this runs on
	Gate            Gate
	Bucket          Bucket // of the archive; without a Name nothing of S3 objects is looked at
	Keys            []KeySetup
}

// Gate is what the gate does with what comes in.
type Gate struct {
	Port          uint16 // of SSH
	HealthPort    uint16
	HealthTLS     bool
	ProxyProtocol bool           // a PROXY header is required
	Peers         []netip.Prefix // admission.load_balancers
	Endpoints     []string       // admission.endpoints
	Sources       []netip.Prefix // admission.sources
	AliveInterval time.Duration  // between keepalives
	DrainSettle   time.Duration  // from turning unready until no connection is accepted
	DrainTimeout  time.Duration  // what sessions then have
}

// Bucket is where the archive is.
type Bucket struct {
	Name, Prefix, Region string
	Endpoint             string // URL of another server; "" = AWS
	RetentionDays        int    // set at each object; 0 = the bucket's default
	Governance           bool   // the mode that is set with it
}

// KeySetup is a signing key in KMS that the configuration names.
type KeySetup struct {
	Setting string // of postern.yaml: audit.signing_key
	ARN     string
	Ed25519 bool // it takes no other kind
}

// Fact is the answer to one question, or why there is none.
type Fact[T any] struct {
	Value   T
	Failure *Failure // nil = Value holds
}

// Snapshot is what was seen of an account at one time: plain values, so that
// checks ask nobody.
type Snapshot struct {
	Setup  Setup
	Region string
	At     time.Time

	Caller Fact[Caller]
	Skew   Fact[time.Duration] // how far this host's clock is ahead of AWS's

	Place   Fact[Place]
	Machine Fact[Machine]
	Hooks   Fact[[]Hook] // of the bastion's Auto Scaling group

	Balancer    Fact[*Balancer] // nil = there is none of that ARN
	CrossZone   Fact[bool]      // of the load balancer
	Listeners   Fact[[]Listener]
	IdleTimeout Fact[time.Duration] // of the gate's listener
	Interfaces  Fact[[]Interface]   // of the load balancer

	Groups     Fact[[]TargetGroup]
	Attributes Fact[map[string]string] // of the gate's target group
	Targets    Fact[[]Target]
	// TargetZones are the zones of targets by ID: a load balancer tells them of
	// some only.
	TargetZones Fact[map[string]string]

	Service     Fact[*Service] // nil = there is none of that ID
	Principals  Fact[[]string]
	Connections Fact[[]Connection]

	Subnets     Fact[[]Subnet] // of load balancer and bastion
	RouteTables Fact[[]RouteTable]
	Rules       Fact[[]Rule] // of the security groups of load balancer and bastion
	ACLs        Fact[[]ACL]  // of those subnets
	DNS         Fact[DNS]
	Gateways    Fact[[]Gateway] // gateway endpoints to S3 in the VPC

	Lock       Fact[Lock]
	Versioning Fact[string]
	Keys       []KeyFacts
}

// Caller is whose credentials are used.
type Caller struct{ Account, ARN string }

// Place is where the bastion is.
type Place struct {
	Instance, Region, Zone, Account string
	VPC, Subnet, Interface          string
	SecurityGroups                  []string
	Addresses, Public               []netip.Addr
}

// Machine is how the bastion is set up.
type Machine struct {
	TokensRequired bool          // IMDSv2 only
	Established    time.Duration // connection tracking of established TCP; 0 = the default of its type
	AutoScaling    string        // its group; "" = none
}

// Hook is a lifecycle hook of an Auto Scaling group.
type Hook struct {
	Name, Transition string
	Heartbeat        time.Duration
}

// Balancer is a load balancer.
type Balancer struct {
	ARN, Name, Type, Scheme, State, VPC string
	SecurityGroups                      []string
	Enforce                             bool // inbound rules hold for PrivateLink traffic
	Zones                               []BalancerZone
}

// BalancerZone is a zone in which a load balancer is.
type BalancerZone struct{ Name, Subnet string }

// Listener is a listener of a load balancer; Groups are ARNs that it forwards to.
type Listener struct {
	ARN, Protocol string
	Port          int
	Groups        []string
}

// Interface is a network interface of a load balancer.
type Interface struct {
	ID, Zone, Subnet string
	Addresses        []netip.Addr // secondary ones too
}

// TargetGroup is a target group.
type TargetGroup struct {
	ARN, Name, Protocol, Type, VPC string
	Port                           int
	Check                          HealthCheck
}

// HealthCheck is how a load balancer asks after a target.
type HealthCheck struct {
	Protocol, Port, Path, Codes string
	Interval                    time.Duration
	Healthy, Unhealthy          int // answers in a row
}

// Target is a target and what the load balancer thinks of it.
type Target struct {
	ID                         string
	Port                       int
	State, Reason, Description string
}

// Service is an endpoint service.
type Service struct {
	ID, Name, State  string
	Acceptance       bool // required
	Balancers, Zones []string
	Remote           bool // other Regions may connect
}

// Connection is an endpoint of an endpoint service.
type Connection struct {
	Endpoint, Owner, State string
	Created                time.Time
}

// Subnet is a subnet.
type Subnet struct {
	ID, Zone, ZoneID string
	CIDR             netip.Prefix
}

// RouteTable is a route table of the VPC; Main is the one of subnets that have
// no other.
type RouteTable struct {
	ID      string
	Main    bool
	Subnets []string
	Routes  []Route
}

// Route is a route; Destination is a CIDR or the ID of a prefix list.
type Route struct{ Destination, Via, State string }

// Rule is a rule of a security group. One of CIDR, Peer and PrefixList says
// with whom.
type Rule struct {
	ID, Group  string
	Egress     bool
	Protocol   string // tcp, or -1 for all
	From, To   int
	CIDR       netip.Prefix
	Peer       string // a security group
	PrefixList string
}

// ACL is a network ACL.
type ACL struct {
	ID      string
	Subnets []string
	Entries []ACLEntry
}

// ACLEntry is a rule of a network ACL.
type ACLEntry struct {
	Number   int
	Egress   bool
	Allow    bool
	Protocol string // 6 is TCP, -1 all
	CIDR     netip.Prefix
	From, To int // both 0 where the protocol is all
}

// DNS is what a VPC does with names.
type DNS struct{ Support, Hostnames bool }

// Gateway is a gateway endpoint.
type Gateway struct {
	ID, State, Policy string
	RouteTables       []string
}

// Lock is the Object Lock of a bucket and the retention that it gives to
// objects that come without one.
type Lock struct {
	Enabled bool
	Mode    string // COMPLIANCE, GOVERNANCE, or "" = none
	Days    int
	Missing bool   // there is no such bucket
	Region  string // where the bucket is, if it isn't in the configured region
}

// Key is a key in KMS.
type Key struct {
	Spec, Usage string
	Unusable    string // what KMS says of one that is not there or not for use
}

// KeyFacts are the answers about one key.
type KeyFacts struct {
	KeySetup
	Key     Fact[Key]
	Signing Fact[bool] // that it may be signed with
}

// listener is the gate's: the TCP listener on port 22, else the only one.
func (s *Snapshot) listener() *Listener {
	all := s.Listeners.Value
	for i := range all {
		if all[i].Protocol == "TCP" && all[i].Port == 22 {
			return &all[i]
		}
	}
	if len(all) == 1 {
		return &all[0]
	}
	return nil
}

// group is the target group that the gate's listener forwards to.
func (s *Snapshot) group() *TargetGroup {
	l := s.listener()
	if l == nil {
		return nil
	}
	for i := range s.Groups.Value {
		if slices.Contains(l.Groups, s.Groups.Value[i].ARN) {
			return &s.Groups.Value[i]
		}
	}
	return nil
}

// subnet returns the subnet of that ID.
func (s *Snapshot) subnet(id string) (Subnet, bool) {
	for _, n := range s.Subnets.Value {
		if n.ID == id {
			return n, true
		}
	}
	return Subnet{}, false
}

// routes returns the route table of a subnet.
func (s *Snapshot) routes(subnet string) *RouteTable {
	var main *RouteTable
	for i, t := range s.RouteTables.Value {
		if slices.Contains(t.Subnets, subnet) {
			return &s.RouteTables.Value[i]
		}
		if t.Main {
			main = &s.RouteTables.Value[i]
		}
	}
	return main
}

// acl returns the network ACL of a subnet.
func (s *Snapshot) acl(subnet string) *ACL {
	for i, a := range s.ACLs.Value {
		if slices.Contains(a.Subnets, subnet) {
			return &s.ACLs.Value[i]
		}
	}
	return nil
}

// peers are all addresses of the load balancer.
func (s *Snapshot) peers() []netip.Addr {
	var all []netip.Addr
	for _, i := range s.Interfaces.Value {
		all = append(all, i.Addresses...)
	}
	return all
}

// vpc is that of the load balancer, else that of the bastion.
func (s *Snapshot) vpc() string {
	if b := s.Balancer.Value; b != nil {
		return b.VPC
	}
	return s.Place.Value.VPC
}
