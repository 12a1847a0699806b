package awsfake

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
)

func one[T any](f func(T) string) func(T) []string {
	return func(t T) []string { return []string{f(t)} }
}

// ec2 answers as EC2's query protocol does, version 2016-11-15.
func (a *Account) ec2(c call) (int, []byte) {
	if status, body, is := a.denied(c, "ec2:"+c.Operation); is {
		return status, body
	}
	if c.Get("DryRun") == "true" {
		return c.fail(http.StatusPreconditionFailed, "DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
	}
	switch c.Operation {
	case "DescribeVpcs":
		return describe(a, c, a.VPCs, kind[VPC]{set: "vpcSet", ids: "VpcId", missing: "InvalidVpcID.NotFound", id: func(v VPC) string { return v.ID },
			filters: map[string]func(VPC) []string{"vpc-id": one(func(v VPC) string { return v.ID })}})
	case "DescribeVpcAttribute":
		return a.vpcAttribute(c)
	case "DescribeSubnets":
		return describe(a, c, a.Subnets, subnets())
	case "DescribeRouteTables":
		return describe(a, c, a.RouteTables, routeTables())
	case "DescribeNetworkAcls":
		return describe(a, c, a.NetworkACLs, networkACLs())
	case "DescribeSecurityGroupRules":
		return describe(a, c, a.SecurityRules, kind[SecurityRule]{set: "securityGroupRuleSet", ids: "SecurityGroupRuleId",
			missing: "InvalidSecurityGroupRuleId.NotFound", id: func(r SecurityRule) string { return r.ID },
			filters: map[string]func(SecurityRule) []string{"group-id": one(func(r SecurityRule) string { return r.Group })}})
	case "DescribeInstances":
		return a.instances(c)
	case "DescribeNetworkInterfaces":
		return describe(a, c, a.Interfaces, interfaces())
	case "DescribeVpcEndpoints":
		return describe(a, c, a.Endpoints, endpoints())
	case "DescribePrefixLists":
		return describe(a, c, a.PrefixLists, kind[PrefixList]{set: "prefixListSet", ids: "PrefixListId", missing: "InvalidPrefixListId.NotFound",
			id: func(l PrefixList) string { return l.ID }, filters: map[string]func(PrefixList) []string{
				"prefix-list-id": one(func(l PrefixList) string { return l.ID }), "prefix-list-name": one(func(l PrefixList) string { return l.Name })}})
	case "DescribeVpcEndpointServiceConfigurations":
		return describe(a, c, a.Services, services())
	case "DescribeVpcEndpointServicePermissions":
		return a.permissions(c)
	case "DescribeVpcEndpointConnections":
		return describe(a, c, a.connections(), connections())
	case "AcceptVpcEndpointConnections":
		return a.settle(c, "available", "pendingAcceptance")
	case "RejectVpcEndpointConnections":
		return a.settle(c, "rejected", "pendingAcceptance", "pending", "available")
	}
	return c.fail(http.StatusBadRequest, "InvalidAction", "The action %s is not valid for this web service.", c.Operation)
}

func ec2Reply(c call, inner string) (int, []byte) {
	return http.StatusOK, fmt.Appendf(nil, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+
		`<%[1]sResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>00000000-0000-0000-0000-000000000000</requestId>%[2]s</%[1]sResponse>`, c.Operation, inner)
}

func describe[T any](a *Account, c call, items []T, k kind[T]) (int, []byte) {
	items, code, fault := k.choose(c, items, a.Unfiltered)
	if code != "" {
		return c.fail(http.StatusBadRequest, code, "%s", fault)
	}
	if n, err := strconv.Atoi(c.Get("MaxResults")); err == nil && (n < 5 || n > 1000) {
		return c.fail(http.StatusBadRequest, "InvalidParameterValue", "Value ( %d ) for parameter maxResults is invalid. Expecting a value between 5 and 1000.", n)
	}
	most := a.most(c.Get("MaxResults"))
	if k.ids != "" && len(c.all(k.ids)) > 0 {
		most = 0
	}
	items, next, ok := page(items, c.Get("NextToken"), most)
	if !ok {
		return c.fail(http.StatusBadRequest, "InvalidNextToken", "The token is not valid.")
	}
	inner := "<" + k.set + ">" + elements("item", items) + "</" + k.set + ">"
	if next != "" {
		inner += "<nextToken>" + next + "</nextToken>"
	}
	return ec2Reply(c, inner)
}

func subnets() kind[Subnet] {
	return kind[Subnet]{set: "subnetSet", ids: "SubnetId", missing: "InvalidSubnetID.NotFound", id: func(s Subnet) string { return s.ID },
		filters: map[string]func(Subnet) []string{
			"subnet-id": one(func(s Subnet) string { return s.ID }),
			"vpc-id":    one(func(s Subnet) string { return s.VPC }),
		}}
}

func routeTables() kind[RouteTable] {
	return kind[RouteTable]{set: "routeTableSet", ids: "RouteTableId", missing: "InvalidRouteTableID.NotFound", id: func(t RouteTable) string { return t.ID },
		filters: map[string]func(RouteTable) []string{
			"vpc-id":         one(func(t RouteTable) string { return t.VPC }),
			"route-table-id": one(func(t RouteTable) string { return t.ID }),
			"association.subnet-id": func(t RouteTable) (ids []string) {
				for _, s := range t.Associations {
					ids = append(ids, s.Subnet)
				}
				return ids
			},
			"association.main": func(t RouteTable) (main []string) {
				for _, s := range t.Associations {
					main = append(main, strconv.FormatBool(s.Main))
				}
				return main
			},
		}}
}

func networkACLs() kind[NetworkACL] {
	return kind[NetworkACL]{set: "networkAclSet", ids: "NetworkAclId", missing: "InvalidNetworkAclID.NotFound", id: func(n NetworkACL) string { return n.ID },
		filters: map[string]func(NetworkACL) []string{
			"vpc-id": one(func(n NetworkACL) string { return n.VPC }),
			"association.subnet-id": func(n NetworkACL) (ids []string) {
				for _, s := range n.Associations {
					ids = append(ids, s.Subnet)
				}
				return ids
			},
		}}
}

func interfaces() kind[Interface] {
	return kind[Interface]{set: "networkInterfaceSet", ids: "NetworkInterfaceId", missing: "InvalidNetworkInterfaceID.NotFound",
		id: func(i Interface) string { return i.ID },
		filters: map[string]func(Interface) []string{
			"interface-type":         one(func(i Interface) string { return i.Type }),
			"vpc-id":                 one(func(i Interface) string { return i.VPC }),
			"subnet-id":              one(func(i Interface) string { return i.Subnet }),
			"description":            one(func(i Interface) string { return i.Description }),
			"attachment.instance-id": one(func(i Interface) string { return i.Instance }),
		}}
}

func endpoints() kind[Endpoint] {
	return kind[Endpoint]{set: "vpcEndpointSet", ids: "VpcEndpointId", missing: "InvalidVpcEndpointId.NotFound", id: func(e Endpoint) string { return e.ID },
		filters: map[string]func(Endpoint) []string{
			"vpc-id":            one(func(e Endpoint) string { return e.VPC }),
			"vpc-endpoint-id":   one(func(e Endpoint) string { return e.ID }),
			"vpc-endpoint-type": one(func(e Endpoint) string { return e.Type }),
			"service-name":      one(func(e Endpoint) string { return e.Service }),
		}}
}

func services() kind[EndpointService] {
	return kind[EndpointService]{set: "serviceConfigurationSet", ids: "ServiceId", missing: "InvalidVpcEndpointServiceId.NotFound",
		id: func(s EndpointService) string { return s.ID },
		filters: map[string]func(EndpointService) []string{
			"service-id":    one(func(s EndpointService) string { return s.ID }),
			"service-name":  one(func(s EndpointService) string { return s.Name }),
			"service-state": one(func(s EndpointService) string { return s.State }),
		}}
}

func connections() kind[Connection] {
	return kind[Connection]{set: "vpcEndpointConnectionSet", filters: map[string]func(Connection) []string{
		"service-id":         one(func(c Connection) string { return c.Service }),
		"vpc-endpoint-id":    one(func(c Connection) string { return c.Endpoint }),
		"vpc-endpoint-owner": one(func(c Connection) string { return c.Owner }),
		"vpc-endpoint-state": one(func(c Connection) string { return c.State }),
	}}
}

func (a *Account) connections() (all []Connection) {
	for _, s := range a.Services {
		for _, c := range s.Connections {
			c.Service = s.ID
			all = append(all, c)
		}
	}
	return all
}

func (a *Account) permissions(c call) (int, []byte) {
	i := slices.IndexFunc(a.Services, func(s EndpointService) bool { return s.ID == c.Get("ServiceId") })
	if i < 0 {
		return c.fail(http.StatusBadRequest, "InvalidVpcEndpointServiceId.NotFound", "The VpcEndpointService Id '%s' does not exist", c.Get("ServiceId"))
	}
	return describe(a, c, a.Services[i].Principals, kind[Principal]{set: "allowedPrincipals", filters: map[string]func(Principal) []string{
		"principal":      one(func(p Principal) string { return p.ARN }),
		"principal-type": one(func(p Principal) string { return p.Type }),
	}})
}

// reservation holds one instance: who launched several at once sees no
// difference that the gate looks at.
type reservation struct {
	ID        string     `xml:"reservationId"`
	Instances []Instance `xml:"instancesSet>item"`
}

func (a *Account) instances(c call) (int, []byte) {
	var all []reservation
	for _, i := range a.Instances {
		all = append(all, reservation{ID: "r-" + i.ID[len("i-"):], Instances: []Instance{i}})
	}
	return describe(a, c, all, kind[reservation]{set: "reservationSet", ids: "InstanceId", missing: "InvalidInstanceID.NotFound",
		id: func(r reservation) string { return r.Instances[0].ID },
		filters: map[string]func(reservation) []string{
			"vpc-id":      one(func(r reservation) string { return r.Instances[0].VPC }),
			"instance-id": one(func(r reservation) string { return r.Instances[0].ID }),
		}})
}

func (a *Account) vpcAttribute(c call) (int, []byte) {
	i := slices.IndexFunc(a.VPCs, func(v VPC) bool { return v.ID == c.Get("VpcId") })
	if i < 0 {
		return c.fail(http.StatusBadRequest, "InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", c.Get("VpcId"))
	}
	value := a.VPCs[i].DNSSupport
	switch c.Get("Attribute") {
	case "enableDnsSupport":
	case "enableDnsHostnames":
		value = a.VPCs[i].DNSHostnames
	default:
		return c.fail(http.StatusBadRequest, "InvalidParameterValue", "Value (%s) for parameter attribute is invalid.", c.Get("Attribute"))
	}
	return ec2Reply(c, fmt.Sprintf("<vpcId>%s</vpcId><%[2]s><value>%[3]t</value></%[2]s>", a.VPCs[i].ID, c.Get("Attribute"), value))
}

// settle moves connections to a state, where they are in one of those that
// allow it. As with AWS what can't be moved is told in an answer that succeeds.
func (a *Account) settle(c call, to string, from ...string) (int, []byte) {
	var failed string
	for _, id := range c.all("VpcEndpointId") {
		connection := a.connection(c.Get("ServiceId"), id)
		switch {
		case connection == nil:
			failed += unsuccessful(id, "InvalidVpcEndpointId.NotFound", "The VpcEndpoint Id '"+id+"' does not exist")
		case !slices.Contains(from, connection.State):
			failed += unsuccessful(id, "InvalidState", "The endpoint connection is in state "+connection.State)
		default:
			connection.State = to
		}
	}
	return ec2Reply(c, "<unsuccessful>"+failed+"</unsuccessful>")
}

func unsuccessful(id, code, message string) string {
	return fmt.Sprintf("<item><error><code>%s</code><message>%s</message></error><resourceId>%s</resourceId></item>", code, escape(message), escape(id))
}

func (a *Account) connection(service, id string) *Connection {
	for i := range a.Services {
		for j := range a.Services[i].Connections {
			if a.Services[i].ID == service && a.Services[i].Connections[j].Endpoint == id {
				return &a.Services[i].Connections[j]
			}
		}
	}
	return nil
}
