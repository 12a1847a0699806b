package doctor

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// notSet is why the load balancer is not looked at.
const notSet = "aws.load_balancer is not set"

func askBalancer[T any](ctx context.Context, c *collector, action string, call func(context.Context, *string) (T, error)) Fact[T] {
	if c.Setup.LoadBalancer == "" {
		return unanswered[T](unless(nil, notSet))
	}
	return ask(ctx, c, action, func(ctx context.Context) (T, error) { return call(ctx, aws.String(c.Setup.LoadBalancer)) })
}

func (c *collector) balancer(ctx context.Context) {
	c.Balancer = askBalancer(ctx, c, "elasticloadbalancing:DescribeLoadBalancers", func(ctx context.Context, arn *string) (*Balancer, error) {
		out, err := c.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{LoadBalancerArns: []string{*arn}})
		if err != nil || len(out.LoadBalancers) == 0 {
			return nil, err
		}
		return balancerOf(out.LoadBalancers[0]), nil
	})
	if f := c.Balancer.Failure; f != nil && f.WaitsFor == "nlb.found" {
		c.Balancer = Fact[*Balancer]{} // there is none: that is an answer
	}
}

func balancerOf(b types.LoadBalancer) *Balancer {
	out := &Balancer{ARN: aws.ToString(b.LoadBalancerArn), Name: aws.ToString(b.LoadBalancerName), Type: string(b.Type), Scheme: string(b.Scheme),
		VPC: aws.ToString(b.VpcId), SecurityGroups: b.SecurityGroups,
		// Without a word it is as AWS makes it: on.
		Enforce: len(b.SecurityGroups) > 0 && aws.ToString(b.EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic) != "off"}
	if b.State != nil {
		out.State = string(b.State.Code)
	}
	for _, z := range b.AvailabilityZones {
		out.Zones = append(out.Zones, BalancerZone{aws.ToString(z.ZoneName), aws.ToString(z.SubnetId)})
	}
	return out
}

func (c *collector) crossZone(ctx context.Context) {
	c.CrossZone = askBalancer(ctx, c, "elasticloadbalancing:DescribeLoadBalancerAttributes", func(ctx context.Context, arn *string) (bool, error) {
		out, err := c.elb.DescribeLoadBalancerAttributes(ctx, &elb.DescribeLoadBalancerAttributesInput{LoadBalancerArn: arn})
		if err != nil {
			return false, err
		}
		return slices.ContainsFunc(out.Attributes, func(a types.LoadBalancerAttribute) bool {
			return aws.ToString(a.Key) == attrCrossZone && aws.ToString(a.Value) == "true"
		}), nil
	})
}

func (c *collector) listeners(ctx context.Context) {
	c.Listeners = askBalancer(ctx, c, "elasticloadbalancing:DescribeListeners", func(ctx context.Context, arn *string) ([]Listener, error) {
		var all []Listener
		pages := elb.NewDescribeListenersPaginator(describeListeners(c.elb.DescribeListeners), &elb.DescribeListenersInput{LoadBalancerArn: arn})
		for pages.HasMorePages() {
			out, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, l := range out.Listeners {
				all = append(all, listenerOf(l))
			}
		}
		return all, nil
	})
}

func listenerOf(l types.Listener) Listener {
	out := Listener{ARN: aws.ToString(l.ListenerArn), Protocol: string(l.Protocol), Port: int(aws.ToInt32(l.Port))}
	groups := map[string]bool{}
	for _, a := range l.DefaultActions {
		if a.TargetGroupArn != nil {
			groups[*a.TargetGroupArn] = true
		}
		if a.ForwardConfig == nil {
			continue
		}
		for _, g := range a.ForwardConfig.TargetGroups {
			groups[aws.ToString(g.TargetGroupArn)] = true
		}
	}
	out.Groups = slices.Sorted(maps.Keys(groups))
	return out
}

// interfaces takes only what AWS itself made for this load balancer: anybody may
// give an interface the same description, but not the same type.
func (c *collector) interfaces(ctx context.Context) {
	c.Interfaces = askBalancer(ctx, c, "ec2:DescribeNetworkInterfaces", func(ctx context.Context, arn *string) ([]Interface, error) {
		_, suffix, _ := strings.Cut(*arn, ":loadbalancer/")
		pages := ec2.NewDescribeNetworkInterfacesPaginator(describeNetworkInterfaces(c.ec2.DescribeNetworkInterfaces), &ec2.DescribeNetworkInterfacesInput{Filters: []ec2types.Filter{
			filter("interface-type", "network_load_balancer"), filter("description", "ELB "+suffix)}})
		var all []Interface
		for pages.HasMorePages() {
			out, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, i := range out.NetworkInterfaces {
				if i.InterfaceType == ec2types.NetworkInterfaceTypeNetworkLoadBalancer && aws.ToString(i.Description) == "ELB "+suffix {
					all = append(all, interfaceOf(i))
				}
			}
		}
		return all, nil
	})
}

func filter(name string, values ...string) ec2types.Filter {
	return ec2types.Filter{Name: aws.String(name), Values: values}
}

func interfaceOf(i ec2types.NetworkInterface) Interface {
	out := Interface{ID: aws.ToString(i.NetworkInterfaceId), Zone: aws.ToString(i.AvailabilityZone), Subnet: aws.ToString(i.SubnetId)}
	texts := []string{aws.ToString(i.PrivateIpAddress)}
	for _, p := range i.PrivateIpAddresses {
		texts = append(texts, aws.ToString(p.PrivateIpAddress))
	}
	for _, p := range i.Ipv6Addresses {
		texts = append(texts, aws.ToString(p.Ipv6Address))
	}
	out.Addresses = slices.CompactFunc(addresses(texts), func(a, b netip.Addr) bool { return a == b })
	return out
}

func (c *collector) groups(ctx context.Context) {
	c.Groups = askBalancer(ctx, c, "elasticloadbalancing:DescribeTargetGroups", func(ctx context.Context, arn *string) ([]TargetGroup, error) {
		var all []TargetGroup
		pages := elb.NewDescribeTargetGroupsPaginator(describeTargetGroups(c.elb.DescribeTargetGroups), &elb.DescribeTargetGroupsInput{LoadBalancerArn: arn})
		for pages.HasMorePages() {
			out, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, g := range out.TargetGroups {
				all = append(all, groupOf(g))
			}
		}
		return all, nil
	})
}

func groupOf(g types.TargetGroup) TargetGroup {
	out := TargetGroup{ARN: aws.ToString(g.TargetGroupArn), Name: aws.ToString(g.TargetGroupName), Protocol: string(g.Protocol), Type: string(g.TargetType),
		VPC: aws.ToString(g.VpcId), Port: int(aws.ToInt32(g.Port)),
		Check: HealthCheck{Protocol: string(g.HealthCheckProtocol), Port: aws.ToString(g.HealthCheckPort), Path: aws.ToString(g.HealthCheckPath),
			Interval: time.Duration(aws.ToInt32(g.HealthCheckIntervalSeconds)) * time.Second,
			Healthy:  int(aws.ToInt32(g.HealthyThresholdCount)), Unhealthy: int(aws.ToInt32(g.UnhealthyThresholdCount))}}
	if g.Matcher != nil {
		out.Check.Codes = aws.ToString(g.Matcher.HttpCode)
	}
	return out
}

func (c *collector) idleTimeout(ctx context.Context) {
	if f := listenerKnown(c.Snapshot); f != nil {
		c.IdleTimeout = unanswered[time.Duration](f)
		return
	}
	c.IdleTimeout = ask(ctx, c, "elasticloadbalancing:DescribeListenerAttributes", func(ctx context.Context) (time.Duration, error) {
		out, err := c.elb.DescribeListenerAttributes(ctx, &elb.DescribeListenerAttributesInput{ListenerArn: aws.String(c.listener().ARN)})
		if err != nil {
			return 0, err
		}
		for _, a := range out.Attributes {
			if n, err := strconv.Atoi(aws.ToString(a.Value)); err == nil && aws.ToString(a.Key) == "tcp.idle_timeout.seconds" {
				return time.Duration(n) * time.Second, nil
			}
		}
		return privateLinkIdle, nil // the default
	})
}

func (c *collector) attributes(ctx context.Context) {
	if f := groupKnown(c.Snapshot); f != nil {
		c.Attributes = unanswered[map[string]string](f)
		return
	}
	c.Attributes = ask(ctx, c, "elasticloadbalancing:DescribeTargetGroupAttributes", func(ctx context.Context) (map[string]string, error) {
		out, err := c.elb.DescribeTargetGroupAttributes(ctx, &elb.DescribeTargetGroupAttributesInput{TargetGroupArn: aws.String(c.group().ARN)})
		if err != nil {
			return nil, err
		}
		all := map[string]string{}
		for _, a := range out.Attributes {
			all[aws.ToString(a.Key)] = aws.ToString(a.Value)
		}
		return all, nil
	})
}

func (c *collector) targets(ctx context.Context) {
	if f := groupKnown(c.Snapshot); f != nil {
		c.Targets = unanswered[[]Target](f)
		return
	}
	c.Targets = ask(ctx, c, "elasticloadbalancing:DescribeTargetHealth", func(ctx context.Context) ([]Target, error) {
		out, err := c.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: aws.String(c.group().ARN)})
		if err != nil {
			return nil, err
		}
		var all []Target
		for _, d := range out.TargetHealthDescriptions {
			all = append(all, targetOf(d))
		}
		return all, nil
	})
}

func targetOf(d types.TargetHealthDescription) Target {
	var t Target
	if d.Target != nil {
		t.ID, t.Port = aws.ToString(d.Target.Id), int(aws.ToInt32(d.Target.Port))
	}
	if h := d.TargetHealth; h != nil {
		t.State, t.Reason, t.Description = string(h.State), string(h.Reason), aws.ToString(h.Description)
	}
	return t
}

// targetZones finds the zones of the targets: instances are asked for, addresses
// looked for among the subnets.
func (c *collector) targetZones(ctx context.Context) {
	if f := c.Targets.Failure; f != nil {
		c.TargetZones = unanswered[map[string]string](f)
		return
	}
	zones := map[string]string{}
	var ids []string
	for _, t := range c.Targets.Value {
		if addr, err := netip.ParseAddr(t.ID); err == nil {
			zones[t.ID] = c.zoneOf(addr)
			continue
		}
		ids = append(ids, t.ID)
	}
	if len(ids) == 0 {
		c.TargetZones = Fact[map[string]string]{Value: zones}
		return
	}
	c.TargetZones = ask(ctx, c, "ec2:DescribeInstances", func(ctx context.Context) (map[string]string, error) {
		all, err := instances(ctx, c.ec2, distinct(ids)...)
		for _, i := range all {
			if i.Placement != nil {
				zones[aws.ToString(i.InstanceId)] = aws.ToString(i.Placement.AvailabilityZone)
			}
		}
		return zones, err
	})
}

func (c *collector) zoneOf(addr netip.Addr) string {
	for _, n := range c.Subnets.Value {
		if n.CIDR.Contains(addr) {
			return n.Zone
		}
	}
	return ""
}
