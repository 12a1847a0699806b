package awsfake

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
)

// elbv2 answers as Elastic Load Balancing's query protocol does, version
// 2015-12-01.
func (a *Account) elbv2(c call) (int, []byte) {
	if status, body, is := a.denied(c, "elasticloadbalancing:"+c.Operation); is {
		return status, body
	}
	switch c.Operation {
	case "DescribeLoadBalancers":
		return elbList(a, c, a.LoadBalancers, kind[LoadBalancer]{set: "LoadBalancers", ids: "LoadBalancerArns", missing: "LoadBalancerNotFound",
			id: func(b LoadBalancer) string { return b.ARN }})
	case "DescribeLoadBalancerAttributes":
		i := slices.IndexFunc(a.LoadBalancers, func(b LoadBalancer) bool { return b.ARN == c.Get("LoadBalancerArn") })
		if i < 0 {
			return c.fail(http.StatusBadRequest, "LoadBalancerNotFound", "Load balancer '%s' not found", c.Get("LoadBalancerArn"))
		}
		return elbReply(c, "<Attributes>"+attributes(a.LoadBalancers[i].Attributes)+"</Attributes>")
	case "DescribeListeners":
		return a.listeners(c)
	case "DescribeListenerAttributes":
		return a.listenerAttributes(c)
	case "DescribeTargetGroups":
		return a.targetGroups(c)
	case "DescribeTargetGroupAttributes":
		return a.ofTargetGroup(c, func(g TargetGroup) string { return "<Attributes>" + attributes(g.Attributes) + "</Attributes>" })
	case "DescribeTargetHealth":
		return a.ofTargetGroup(c, func(g TargetGroup) string {
			return "<TargetHealthDescriptions>" + elements("member", g.Targets) + "</TargetHealthDescriptions>"
		})
	}
	return c.fail(http.StatusBadRequest, "InvalidAction", "Could not find operation %s for version 2015-12-01", c.Operation)
}

func elbReply(c call, inner string) (int, []byte) {
	return http.StatusOK, fmt.Appendf(nil, `<%[1]sResponse xmlns="http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/">`+
		`<%[1]sResult>%[2]s</%[1]sResult><ResponseMetadata><RequestId>00000000-0000-0000-0000-000000000000</RequestId></ResponseMetadata></%[1]sResponse>`,
		c.Operation, inner)
}

func elbList[T any](a *Account, c call, items []T, k kind[T]) (int, []byte) {
	items, code, fault := k.choose(c, items, a.Unfiltered)
	if code != "" {
		return c.fail(http.StatusBadRequest, code, "%s", fault)
	}
	items, next, ok := page(items, c.Get("Marker"), a.most(c.Get("PageSize")))
	if !ok {
		return c.fail(http.StatusBadRequest, "ValidationError", "The marker is not valid.")
	}
	inner := "<" + k.set + ">" + elements("member", items) + "</" + k.set + ">"
	if next != "" {
		inner += "<NextMarker>" + next + "</NextMarker>"
	}
	return elbReply(c, inner)
}

func (a *Account) listeners(c call) (int, []byte) {
	var all []Listener
	found := !c.Has("LoadBalancerArn")
	for _, b := range a.LoadBalancers {
		if !c.Has("LoadBalancerArn") || b.ARN == c.Get("LoadBalancerArn") {
			all, found = append(all, b.Listeners...), true
		}
	}
	if !found {
		return c.fail(http.StatusBadRequest, "LoadBalancerNotFound", "Load balancer '%s' not found", c.Get("LoadBalancerArn"))
	}
	return elbList(a, c, all, kind[Listener]{set: "Listeners", ids: "ListenerArns", missing: "ListenerNotFound", id: func(l Listener) string { return l.ARN }})
}

func (a *Account) listenerAttributes(c call) (int, []byte) {
	for _, b := range a.LoadBalancers {
		for _, l := range b.Listeners {
			if l.ARN == c.Get("ListenerArn") {
				return elbReply(c, "<Attributes>"+attributes(l.Attributes)+"</Attributes>")
			}
		}
	}
	return c.fail(http.StatusBadRequest, "ListenerNotFound", "Listener '%s' not found", c.Get("ListenerArn"))
}

func (a *Account) targetGroups(c call) (int, []byte) {
	all := slices.Clone(a.TargetGroups)
	if arn := c.Get("LoadBalancerArn"); arn != "" {
		all = slices.DeleteFunc(all, func(g TargetGroup) bool { return !slices.Contains(g.Balancers, arn) })
	}
	return elbList(a, c, all, kind[TargetGroup]{set: "TargetGroups", ids: "TargetGroupArns", missing: "TargetGroupNotFound",
		id: func(g TargetGroup) string { return g.ARN }})
}

func (a *Account) ofTargetGroup(c call, answer func(TargetGroup) string) (int, []byte) {
	i := slices.IndexFunc(a.TargetGroups, func(g TargetGroup) bool { return g.ARN == c.Get("TargetGroupArn") })
	if i < 0 {
		return c.fail(http.StatusBadRequest, "TargetGroupNotFound", "Target group '%s' not found", c.Get("TargetGroupArn"))
	}
	return elbReply(c, answer(a.TargetGroups[i]))
}

// MarshalXML writes the health check's fields among those of the group, as AWS
// does.
func (g TargetGroup) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	type plain TargetGroup // without this method
	type check struct {
		Enabled   bool   `xml:"HealthCheckEnabled"`
		Protocol  string `xml:"HealthCheckProtocol"`
		Port      string `xml:"HealthCheckPort"`
		Path      string `xml:"HealthCheckPath,omitempty"`
		Matcher   string `xml:"Matcher>HttpCode,omitempty"`
		Interval  int    `xml:"HealthCheckIntervalSeconds"`
		Timeout   int    `xml:"HealthCheckTimeoutSeconds"`
		Healthy   int    `xml:"HealthyThresholdCount"`
		Unhealthy int    `xml:"UnhealthyThresholdCount"`
	}
	return e.EncodeElement(struct {
		plain
		check
	}{plain(g), check(g.Check)}, start)
}
