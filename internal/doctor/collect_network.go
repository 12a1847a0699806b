package doctor

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// network is why nothing of the network can be asked: neither load balancer nor
// bastion is known.
func (c *collector) network() *Failure {
	if c.vpc() != "" {
		return nil
	}
	if f := c.Balancer.Failure; c.Setup.LoadBalancer != "" {
		if f == nil {
			return waitFor("nlb.found")
		}
		return f
	}
	return unless(c.Place.Failure, "neither load balancer nor bastion is known")
}

func askNetwork[T any](ctx context.Context, c *collector, action string, call func(context.Context) (T, error)) Fact[T] {
	if f := c.network(); f != nil {
		return unanswered[T](f)
	}
	return ask(ctx, c, action, call)
}

func (c *collector) subnets(ctx context.Context) {
	c.Subnets = askNetwork(ctx, c, "ec2:DescribeSubnets", func(ctx context.Context) ([]Subnet, error) {
		pages := ec2.NewDescribeSubnetsPaginator(describeSubnets(c.ec2.DescribeSubnets), &ec2.DescribeSubnetsInput{Filters: []types.Filter{filter("subnet-id", c.privateSubnets()...)}})
		var all []Subnet
		for pages.HasMorePages() {
			out, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, n := range out.Subnets {
				all = append(all, Subnet{ID: aws.ToString(n.SubnetId), Zone: aws.ToString(n.AvailabilityZone), ZoneID: aws.ToString(n.AvailabilityZoneId), CIDR: cidr(n.CidrBlock)})
			}
		}
		return all, nil
	})
}

// cidr is the zero Prefix where there is none.
func cidr(text *string) netip.Prefix {
	p, err := netip.ParsePrefix(aws.ToString(text))
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

func (c *collector) routeTables(ctx context.Context) {
	c.RouteTables = askNetwork(ctx, c, "ec2:DescribeRouteTables", func(ctx context.Context) ([]RouteTable, error) {
		pages := ec2.NewDescribeRouteTablesPaginator(describeRouteTables(c.ec2.DescribeRouteTables), &ec2.DescribeRouteTablesInput{Filters: []types.Filter{filter("vpc-id", c.vpc())}})
		var all []RouteTable
		for pages.HasMorePages() {
			out, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, t := range out.RouteTables {
				all = append(all, routeTableOf(t))
			}
		}
		return all, nil
	})
}

func routeTableOf(t types.RouteTable) RouteTable {
	out := RouteTable{ID: aws.ToString(t.RouteTableId)}
	for _, a := range t.Associations {
		out.Main = out.Main || aws.ToBool(a.Main)
		if a.SubnetId != nil {
			out.Subnets = append(out.Subnets, *a.SubnetId)
		}
	}
	for _, r := range t.Routes {
		out.Routes = append(out.Routes, Route{
			Destination: firstOf(r.DestinationCidrBlock, r.DestinationPrefixListId, r.DestinationIpv6CidrBlock),
			Via:         firstOf(r.GatewayId, r.NatGatewayId, r.TransitGatewayId, r.VpcPeeringConnectionId, r.NetworkInterfaceId),
			State:       string(r.State)})
	}
	return out
}

func firstOf(all ...*string) string {
	for _, s := range all {
		if s != nil {
			return *s
		}
	}
	return ""
}

// rules are of the groups of load balancer and bastion.
func (c *collector) rules(ctx context.Context) {
	groups := slices.Clone(c.Place.Value.SecurityGroups)
	if b := c.Balancer.Value; b != nil {
		groups = append(groups, b.SecurityGroups...)
	}
	if f := c.network(); f == nil && len(groups) == 0 {
		c.Rules = Fact[[]Rule]{}
		return
	}
	c.Rules = askNetwork(ctx, c, "ec2:DescribeSecurityGroupRules", func(ctx context.Context) ([]Rule, error) {
		pages := ec2.NewDescribeSecurityGroupRulesPaginator(describeSecurityGroupRules(c.ec2.DescribeSecurityGroupRules), &ec2.DescribeSecurityGroupRulesInput{Filters: []types.Filter{filter("group-id", groups...)}})
		var all []Rule
		for pages.HasMorePages() {
			out, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, r := range out.SecurityGroupRules {
				all = append(all, ruleOf(r))
			}
		}
		return all, nil
	})
}

func ruleOf(r types.SecurityGroupRule) Rule {
	out := Rule{ID: aws.ToString(r.SecurityGroupRuleId), Group: aws.ToString(r.GroupId), Egress: aws.ToBool(r.IsEgress), Protocol: aws.ToString(r.IpProtocol),
		From: int(aws.ToInt32(r.FromPort)), To: int(aws.ToInt32(r.ToPort)), PrefixList: aws.ToString(r.PrefixListId)}
	if r.ReferencedGroupInfo != nil {
		out.Peer = aws.ToString(r.ReferencedGroupInfo.GroupId)
	}
	if out.CIDR = cidr(r.CidrIpv4); !out.CIDR.IsValid() {
		out.CIDR = cidr(r.CidrIpv6)
	}
	return out
}

func (c *collector) acls(ctx context.Context) {
	c.ACLs = askNetwork(ctx, c, "ec2:DescribeNetworkAcls", func(ctx context.Context) ([]ACL, error) {
		pages := ec2.NewDescribeNetworkAclsPaginator(describeNetworkAcls(c.ec2.DescribeNetworkAcls), &ec2.DescribeNetworkAclsInput{Filters: []types.Filter{filter("vpc-id", c.vpc())}})
		var all []ACL
		for pages.HasMorePages() {
			out, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, a := range out.NetworkAcls {
				all = append(all, aclOf(a))
			}
		}
		return all, nil
	})
}

func aclOf(a types.NetworkAcl) ACL {
	out := ACL{ID: aws.ToString(a.NetworkAclId)}
	for _, x := range a.Associations {
		out.Subnets = append(out.Subnets, aws.ToString(x.SubnetId))
	}
	for _, e := range a.Entries {
		entry := ACLEntry{Number: int(aws.ToInt32(e.RuleNumber)), Egress: aws.ToBool(e.Egress), Allow: e.RuleAction == types.RuleActionAllow, Protocol: aws.ToString(e.Protocol)}
		if entry.CIDR = cidr(e.CidrBlock); !entry.CIDR.IsValid() {
			entry.CIDR = cidr(e.Ipv6CidrBlock)
		}
		if e.PortRange != nil {
			entry.From, entry.To = int(aws.ToInt32(e.PortRange.From)), int(aws.ToInt32(e.PortRange.To))
		}
		out.Entries = append(out.Entries, entry)
	}
	return out
}

func (c *collector) dns(ctx context.Context) {
	c.DNS = askNetwork(ctx, c, "ec2:DescribeVpcAttribute", func(ctx context.Context) (DNS, error) {
		support, err := c.ec2.DescribeVpcAttribute(ctx, &ec2.DescribeVpcAttributeInput{VpcId: aws.String(c.vpc()), Attribute: types.VpcAttributeNameEnableDnsSupport})
		if err != nil {
			return DNS{}, err
		}
		names, err := c.ec2.DescribeVpcAttribute(ctx, &ec2.DescribeVpcAttributeInput{VpcId: aws.String(c.vpc()), Attribute: types.VpcAttributeNameEnableDnsHostnames})
		if err != nil {
			return DNS{}, err
		}
		return DNS{Support: on(support.EnableDnsSupport), Hostnames: on(names.EnableDnsHostnames)}, nil
	})
}

func on(v *types.AttributeBooleanValue) bool { return v != nil && aws.ToBool(v.Value) }

func (c *collector) gateways(ctx context.Context) {
	c.Gateways = askNetwork(ctx, c, "ec2:DescribeVpcEndpoints", func(ctx context.Context) ([]Gateway, error) {
		pages := ec2.NewDescribeVpcEndpointsPaginator(describeVpcEndpoints(c.ec2.DescribeVpcEndpoints), &ec2.DescribeVpcEndpointsInput{Filters: []types.Filter{
			filter("vpc-id", c.vpc()), filter("vpc-endpoint-type", "Gateway"), filter("service-name", "com.amazonaws."+c.Region+".s3")}})
		var all []Gateway
		for pages.HasMorePages() {
			out, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, e := range out.VpcEndpoints {
				if e.VpcEndpointType != types.VpcEndpointTypeGateway || aws.ToString(e.VpcId) != c.vpc() || !strings.HasSuffix(aws.ToString(e.ServiceName), ".s3") {
					continue
				}
				all = append(all, Gateway{ID: aws.ToString(e.VpcEndpointId), State: string(e.State), Policy: aws.ToString(e.PolicyDocument), RouteTables: e.RouteTableIds})
			}
		}
		return all, nil
	})
}
