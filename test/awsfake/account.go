package awsfake

import (
	"sync"
	"time"
)

// Account is one AWS account in one region: what is on the way in to the gate,
// and what the gate keeps there. Correct makes one in which all is right; a test
// changes what it is about. The tags are AWS's names on the wire.
//
// Before it is served it may be changed freely, after that by Change only.
type Account struct {
	mu sync.Mutex // held by Change and while a call is answered

	ID, Region string
	Self       string   // the instance whose metadata IMDS shows
	Denied     []string // IAM actions that are refused: "ec2:DescribeSubnets"
	Page       int      // most items in an answer, whatever was asked for; 0 = no limit
	Unfiltered bool     // filters are taken no notice of

	VPCs            []VPC
	Subnets         []Subnet
	RouteTables     []RouteTable
	NetworkACLs     []NetworkACL
	SecurityRules   []SecurityRule // of all security groups
	Instances       []Instance
	Interfaces      []Interface
	LoadBalancers   []LoadBalancer
	TargetGroups    []TargetGroup
	Services        []EndpointService
	Endpoints       []Endpoint // in the account's own VPC
	PrefixLists     []PrefixList
	Buckets         []Bucket
	LifecycleHooks  []LifecycleHook
	LifecycleResult []LifecycleAction // what was asked of Auto Scaling, in order
	Parameters      map[string]string // SSM, by name
	Secrets         map[string]string // Secrets Manager, by name or ARN
	Metadata        Metadata
}

// Change changes an account that is being served.
func (a *Account) Change(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// VPC is a virtual network.
type VPC struct {
	ID           string `xml:"vpcId"`
	CIDR         string `xml:"cidrBlock"`
	State        string `xml:"state"`
	DNSSupport   bool   `xml:"-"` // the attributes of DescribeVpcAttribute
	DNSHostnames bool   `xml:"-"`
}

// Subnet is a subnet.
type Subnet struct {
	ID          string `xml:"subnetId"`
	VPC         string `xml:"vpcId"`
	CIDR        string `xml:"cidrBlock"`
	Zone        string `xml:"availabilityZone"`
	ZoneID      string `xml:"availabilityZoneId"`
	State       string `xml:"state"`
	MapPublicIP bool   `xml:"mapPublicIpOnLaunch"`
}

// RouteTable is a route table. A main one has an association without a subnet.
type RouteTable struct {
	ID           string             `xml:"routeTableId"`
	VPC          string             `xml:"vpcId"`
	Routes       []Route            `xml:"routeSet>item"`
	Associations []RouteAssociation `xml:"associationSet>item"`
}

// Route is one route, to one of its gateways.
type Route struct {
	CIDR       string `xml:"destinationCidrBlock,omitempty"`
	PrefixList string `xml:"destinationPrefixListId,omitempty"`
	Gateway    string `xml:"gatewayId,omitempty"` // local, igw-… or vpce-…
	NAT        string `xml:"natGatewayId,omitempty"`
	State      string `xml:"state"` // active or blackhole
}

// RouteAssociation ties a route table to a subnet, or makes it the main one.
type RouteAssociation struct {
	ID     string `xml:"routeTableAssociationId"`
	Table  string `xml:"routeTableId"`
	Subnet string `xml:"subnetId,omitempty"`
	Main   bool   `xml:"main"`
	State  string `xml:"associationState>state"`
}

// NetworkACL is a stateless filter of subnets.
type NetworkACL struct {
	ID           string           `xml:"networkAclId"`
	VPC          string           `xml:"vpcId"`
	Default      bool             `xml:"default"`
	Entries      []ACLEntry       `xml:"entrySet>item"`
	Associations []ACLAssociation `xml:"associationSet>item"`
}

// ACLEntry is one rule of a network ACL. Without Ports it is about all.
type ACLEntry struct {
	Number   int        `xml:"ruleNumber"`
	Protocol string     `xml:"protocol"` // -1 = all, 6 = TCP
	Action   string     `xml:"ruleAction"`
	Egress   bool       `xml:"egress"`
	CIDR     string     `xml:"cidrBlock"`
	Ports    *PortRange `xml:"portRange"`
}

// PortRange has both its ends.
type PortRange struct {
	From int `xml:"from"`
	To   int `xml:"to"`
}

// ACLAssociation ties a network ACL to a subnet.
type ACLAssociation struct {
	ID     string `xml:"networkAclAssociationId"`
	ACL    string `xml:"networkAclId"`
	Subnet string `xml:"subnetId"`
}

// SecurityRule is one rule of a security group, with one of CIDR, IPv6CIDR,
// FromGroup and PrefixList. All protocols is "-1" with ports -1.
type SecurityRule struct {
	ID         string `xml:"securityGroupRuleId"`
	Group      string `xml:"groupId"`
	Egress     bool   `xml:"isEgress"`
	Protocol   string `xml:"ipProtocol"`
	From       int    `xml:"fromPort"`
	To         int    `xml:"toPort"`
	CIDR       string `xml:"cidrIpv4,omitempty"`
	IPv6CIDR   string `xml:"cidrIpv6,omitempty"`
	FromGroup  string `xml:"referencedGroupInfo>groupId,omitempty"`
	PrefixList string `xml:"prefixListId,omitempty"`
}

// Instance is a bastion.
type Instance struct {
	ID        string  `xml:"instanceId"`
	Image     string  `xml:"imageId"`
	Type      string  `xml:"instanceType"`
	State     string  `xml:"instanceState>name"`
	VPC       string  `xml:"vpcId"`
	Subnet    string  `xml:"subnetId"`
	Zone      string  `xml:"placement>availabilityZone"`
	PrivateIP string  `xml:"privateIpAddress"`
	PublicIP  string  `xml:"ipAddress,omitempty"`
	Groups    []Group `xml:"groupSet>item"`
	Tokens    string  `xml:"metadataOptions>httpTokens"` // required or optional
	Endpoint  string  `xml:"metadataOptions>httpEndpoint"`
	HopLimit  int     `xml:"metadataOptions>httpPutResponseHopLimit"`
	Tags      []Tag   `xml:"tagSet>item"`
	// Established is the connection tracking's timeout of established TCP, in seconds; 0 = not set.
	Established int `xml:"networkInterfaceSet>item>connectionTrackingConfiguration>tcpEstablishedTimeout,omitempty"`
}

// Group names a security group.
type Group struct {
	ID string `xml:"groupId"`
}

// Tag is a tag.
type Tag struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

// Interface is a network interface: of an instance, or of a node of a load
// balancer (Type network_load_balancer, Description "ELB net/NAME/ID").
type Interface struct {
	ID          string      `xml:"networkInterfaceId"`
	Type        string      `xml:"interfaceType"`
	Description string      `xml:"description"`
	VPC         string      `xml:"vpcId"`
	Subnet      string      `xml:"subnetId"`
	Zone        string      `xml:"availabilityZone"`
	ZoneID      string      `xml:"availabilityZoneId"`
	Owner       string      `xml:"ownerId"`
	Requester   string      `xml:"requesterId,omitempty"`
	Managed     bool        `xml:"requesterManaged"`
	Status      string      `xml:"status"`
	MAC         string      `xml:"macAddress"`
	Instance    string      `xml:"attachment>instanceId,omitempty"`
	Groups      []Group     `xml:"groupSet>item"`
	PrivateIP   string      `xml:"privateIpAddress"` // the primary one
	PrivateIPs  []PrivateIP `xml:"privateIpAddressesSet>item"`
	IPv6        []IPv6      `xml:"ipv6AddressesSet>item"`
	PublicIP    string      `xml:"association>publicIp,omitempty"`
}

// PrivateIP is one of an interface's addresses.
type PrivateIP struct {
	Address string `xml:"privateIpAddress"`
	Primary bool   `xml:"primary"`
}

// IPv6 is one of an interface's addresses.
type IPv6 struct {
	Address string `xml:"ipv6Address"`
}

// LoadBalancer is a Network Load Balancer with its listeners.
type LoadBalancer struct {
	ARN        string            `xml:"LoadBalancerArn"`
	Name       string            `xml:"LoadBalancerName"`
	DNSName    string            `xml:"DNSName"`
	Type       string            `xml:"Type"`   // network
	Scheme     string            `xml:"Scheme"` // internal
	State      string            `xml:"State>Code"`
	VPC        string            `xml:"VpcId"`
	IPType     string            `xml:"IpAddressType"`
	Groups     []string          `xml:"SecurityGroups>member,omitempty"`
	Enforce    string            `xml:"EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic,omitempty"` // on or off; "" without groups
	Zones      []BalancerZone    `xml:"AvailabilityZones>member"`
	Attributes map[string]string `xml:"-"`
	Listeners  []Listener        `xml:"-"`
}

// BalancerZone is a zone in which a load balancer has a node.
type BalancerZone struct {
	Zone   string `xml:"ZoneName"`
	Subnet string `xml:"SubnetId"`
}

// Listener is a port of a load balancer.
type Listener struct {
	ARN        string            `xml:"ListenerArn"`
	Balancer   string            `xml:"LoadBalancerArn"`
	Protocol   string            `xml:"Protocol"`
	Port       int               `xml:"Port"`
	Actions    []Action          `xml:"DefaultActions>member"`
	Attributes map[string]string `xml:"-"`
}

// Action is what a listener does.
type Action struct {
	Type        string `xml:"Type"` // forward
	TargetGroup string `xml:"TargetGroupArn"`
}

// TargetGroup is a target group with its targets.
type TargetGroup struct {
	ARN        string            `xml:"TargetGroupArn"`
	Name       string            `xml:"TargetGroupName"`
	Protocol   string            `xml:"Protocol"`
	Port       int               `xml:"Port"`
	TargetType string            `xml:"TargetType"` // instance or ip
	VPC        string            `xml:"VpcId"`
	Balancers  []string          `xml:"LoadBalancerArns>member,omitempty"`
	Check      HealthCheck       `xml:"-"` // its fields are those of the group on the wire
	Attributes map[string]string `xml:"-"`
	Targets    []Target          `xml:"-"`
}

// HealthCheck is how the load balancer looks after targets.
type HealthCheck struct {
	Enabled            bool
	Protocol           string // TCP, HTTP or HTTPS
	Port               string // a number, or traffic-port
	Path, Matcher      string // with TCP ""
	Interval, Timeout  int    // seconds
	Healthy, Unhealthy int    // thresholds
}

// Target is a registered target and its health.
type Target struct {
	ID          string `xml:"Target>Id"`
	Port        int    `xml:"Target>Port"`
	Zone        string `xml:"Target>AvailabilityZone,omitempty"`
	CheckPort   string `xml:"HealthCheckPort"`
	State       string `xml:"TargetHealth>State"`
	Reason      string `xml:"TargetHealth>Reason,omitempty"`
	Description string `xml:"TargetHealth>Description,omitempty"`
}

// EndpointService is an endpoint service with what is allowed to connect and
// what is connected.
type EndpointService struct {
	ID          string       `xml:"serviceId"`
	Name        string       `xml:"serviceName"`
	State       string       `xml:"serviceState"` // Available
	Type        string       `xml:"serviceType>item>serviceType"`
	Acceptance  bool         `xml:"acceptanceRequired"`
	Zones       []string     `xml:"availabilityZoneSet>item"`
	ZoneIDs     []string     `xml:"availabilityZoneIdSet>item"`
	Balancers   []string     `xml:"networkLoadBalancerArnSet>item"`
	DNSNames    []string     `xml:"baseEndpointDnsNameSet>item"`
	IPTypes     []string     `xml:"supportedIpAddressTypeSet>item"`
	Principals  []Principal  `xml:"-"`
	Connections []Connection `xml:"-"`
}

// Principal may ask for a connection to an endpoint service.
type Principal struct {
	ARN  string `xml:"principal"`
	Type string `xml:"principalType"`
}

// Connection is somebody's endpoint at an endpoint service.
type Connection struct {
	Service  string    `xml:"serviceId"`
	Endpoint string    `xml:"vpcEndpointId"`
	Owner    string    `xml:"vpcEndpointOwner"`
	State    string    `xml:"vpcEndpointState"` // pendingAcceptance, available ...
	Created  time.Time `xml:"creationTimestamp"`
	Region   string    `xml:"vpcEndpointRegion"`
	IPType   string    `xml:"ipAddressType"`
}

// Endpoint is an endpoint in the account's own VPC.
type Endpoint struct {
	ID          string   `xml:"vpcEndpointId"`
	Type        string   `xml:"vpcEndpointType"` // Gateway or Interface
	VPC         string   `xml:"vpcId"`
	Service     string   `xml:"serviceName"`
	State       string   `xml:"state"`
	Policy      string   `xml:"policyDocument,omitempty"`
	RouteTables []string `xml:"routeTableIdSet>item,omitempty"`
	Subnets     []string `xml:"subnetIdSet>item,omitempty"`
	Groups      []Group  `xml:"groupSet>item,omitempty"`
	PrivateDNS  bool     `xml:"privateDnsEnabled"`
}

// PrefixList is the addresses of one of AWS's services.
type PrefixList struct {
	ID    string   `xml:"prefixListId"`
	Name  string   `xml:"prefixListName"`
	CIDRs []string `xml:"cidrSet>item"`
}

// Bucket is a bucket of S3 with its objects.
type Bucket struct {
	Name       string
	Versioning string // Enabled, Suspended or ""
	Lock       bool
	Mode       string // COMPLIANCE or GOVERNANCE: the default retention; "" = none
	Days       int
	Objects    map[string][]byte
}

// LifecycleHook makes Auto Scaling wait before it ends an instance.
type LifecycleHook struct {
	Name       string `xml:"LifecycleHookName"`
	Group      string `xml:"AutoScalingGroupName"`
	Transition string `xml:"LifecycleTransition"`
	Default    string `xml:"DefaultResult"`
	Heartbeat  int    `xml:"HeartbeatTimeout"`
	Global     int    `xml:"GlobalTimeout"`
}

// LifecycleAction is a call that a lifecycle hook got. Result is "" of a
// heartbeat.
type LifecycleAction struct{ Operation, Group, Hook, Instance, Result string }

// Metadata is what of IMDS does not follow from the account.
type Metadata struct {
	LifecycleState string // autoscaling/target-lifecycle-state; "" = 404
	SpotAction     string // spot/instance-action, JSON; "" = 404
	Rebalance      string // events/recommendations/rebalance, JSON; "" = 404
	Tags           map[string]string
	V1             bool // requests without a token are answered
}
