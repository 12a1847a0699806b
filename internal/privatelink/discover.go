package privatelink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
)

const (
	stateAvailable = "available"
	statePending   = "pendingAcceptance"
)

// Endpoint is somebody's endpoint at the endpoint service.
type Endpoint struct {
	ID    string
	Owner string // account
	State string // as AWS writes it: available, pendingAcceptance, rejected ...
}

// Allowed reports whether clients may come through the endpoint: it is
// available and belongs to one of the owners.
func (e Endpoint) Allowed(owners []string) bool {
	return e.Available() && slices.Contains(owners, e.Owner)
}

// Available reports whether the endpoint is connected.
func (e Endpoint) Available() bool { return e.is(stateAvailable) }

// Pending reports whether the endpoint waits to be accepted.
func (e Endpoint) Pending() bool { return e.is(statePending) }

// is compares states without case: the wire has them in camel case, the SDK's
// constants in Pascal case.
func (e Endpoint) is(state string) bool { return strings.EqualFold(e.State, state) }

// Addresses are all addresses from which the load balancer connects to its
// targets, in their order. A load balancer that does not exist has none. It
// needs elasticloadbalancing:DescribeLoadBalancers and
// ec2:DescribeNetworkInterfaces.
func (c *Client) Addresses(ctx context.Context, loadBalancer string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	s, err := c.in(ctx)
	if err != nil {
		return nil, err
	}
	return discoverAddresses(ctx, s, loadBalancer)
}

func discoverAddresses(ctx context.Context, s *services, arn string) ([]netip.Addr, error) {
	vpc, err := balancerVPC(ctx, s.balancer, arn)
	if err != nil || vpc == "" {
		return nil, err
	}
	_, name, _ := strings.Cut(arn, ":loadbalancer/") // net/NAME/ID
	nodes, err := nodes(ctx, s.ec2, vpc, "ELB "+name)
	if err != nil {
		return nil, err
	}
	var all []netip.Addr
	for _, node := range nodes {
		own, err := nodeAddresses(node)
		if err != nil {
			return nil, err
		}
		all = append(all, own...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the load balancer %s has no network interface yet, or DescribeNetworkInterfaces shows none", name)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all), nil
}

// balancerVPC is "" where there is no such load balancer: its addresses may
// belong to others by now.
func balancerVPC(ctx context.Context, api balancerCalls, arn string) (string, error) {
	out, err := api.balancers(ctx, &elb.DescribeLoadBalancersInput{LoadBalancerArns: []string{arn}})
	if hasCode(err, "LoadBalancerNotFound") {
		return "", nil
	}
	if err != nil {
		return "", explain("elasticloadbalancing:DescribeLoadBalancers", err)
	}
	for _, b := range out.LoadBalancers {
		if aws.ToString(b.LoadBalancerArn) == arn && aws.ToString(b.VpcId) != "" {
			return *b.VpcId, nil
		}
	}
	return "", errors.New("ask for the load balancer: the answer of DescribeLoadBalancers lacks it, or its VPC")
}

// nodes are the network interfaces of a load balancer's nodes. What the filters
// ask for is compared again: these addresses may send PROXY headers, and
// anybody who may make an interface can copy a description, but not the type.
func nodes(ctx context.Context, api ec2Calls, vpc, description string) ([]types.NetworkInterface, error) {
	const kind = types.NetworkInterfaceTypeNetworkLoadBalancer
	all, err := pages(func(token *string) ([]types.NetworkInterface, *string, error) {
		out, err := api.interfaces(ctx, &ec2.DescribeNetworkInterfacesInput{NextToken: token, Filters: []types.Filter{
			filter("interface-type", string(kind)), filter("vpc-id", vpc), filter("description", description)}})
		if err != nil {
			return nil, nil, explain("ec2:DescribeNetworkInterfaces", err)
		}
		return out.NetworkInterfaces, out.NextToken, nil
	})
	return slices.DeleteFunc(all, func(i types.NetworkInterface) bool {
		return i.InterfaceType != kind || aws.ToString(i.VpcId) != vpc || aws.ToString(i.Description) != description
	}), err
}

// nodeAddresses are the secondary ones too: a load balancer connects from them.
func nodeAddresses(node types.NetworkInterface) ([]netip.Addr, error) {
	texts := []string{aws.ToString(node.PrivateIpAddress)}
	for _, p := range node.PrivateIpAddresses {
		texts = append(texts, aws.ToString(p.PrivateIpAddress))
	}
	for _, p := range node.Ipv6Addresses {
		texts = append(texts, aws.ToString(p.Ipv6Address))
	}
	var all []netip.Addr
	for _, text := range texts {
		if text == "" {
			continue // an IPv6-only node has no primary IPv4 address
		}
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("the answer of DescribeNetworkInterfaces for %s has an address that is none: %w", aws.ToString(node.NetworkInterfaceId), err)
		}
		all = append(all, a)
	}
	return all, nil
}

// Endpoints are the endpoints at an endpoint service, whatever their state, in
// the order of their IDs. It needs ec2:DescribeVpcEndpointConnections.
func (c *Client) Endpoints(ctx context.Context, service string) ([]Endpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	s, err := c.in(ctx)
	if err != nil {
		return nil, err
	}
	return discoverEndpoints(ctx, s.ec2, service)
}

func discoverEndpoints(ctx context.Context, api ec2Calls, service string) ([]Endpoint, error) {
	connections, err := pages(func(token *string) ([]types.VpcEndpointConnection, *string, error) {
		out, err := api.connections(ctx, &ec2.DescribeVpcEndpointConnectionsInput{NextToken: token,
			Filters: []types.Filter{filter("service-id", service)}})
		if err != nil {
			return nil, nil, explain("ec2:DescribeVpcEndpointConnections", err)
		}
		return out.VpcEndpointConnections, out.NextToken, nil
	})
	if err != nil {
		return nil, err
	}
	var all []Endpoint
	for _, c := range connections {
		if aws.ToString(c.ServiceId) == service {
			all = append(all, Endpoint{ID: aws.ToString(c.VpcEndpointId), Owner: aws.ToString(c.VpcEndpointOwner), State: string(c.VpcEndpointState)})
		}
	}
	slices.SortFunc(all, func(a, b Endpoint) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

func filter(name, value string) types.Filter {
	return types.Filter{Name: &name, Values: []string{value}}
}
