package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// The attributes of a target group that matter here.
const (
	attrProxy             = "proxy_protocol_v2.enabled"
	attrClientIP          = "preserve_client_ip.enabled"
	attrTermination       = "target_health_state.unhealthy.connection_termination.enabled"
	attrDraining          = "target_health_state.unhealthy.draining_interval_seconds"
	attrDelay             = "deregistration_delay.timeout_seconds"
	attrDelayTermination  = "deregistration_delay.connection_termination.enabled"
	attrCrossZone         = "load_balancing.cross_zone.enabled"
	crossZoneFromBalancer = "use_load_balancer_configuration"
)

func targetChecks() []check {
	known := []need{groupKnown, attributesKnown}
	return []check{
		{id: "targets.group", title: "the listener's target group is there",
			why:  "the listener passes connections to nobody",
			when: hasBalancer, needs: []need{balancerKnown, listenerKnown, func(s *Snapshot) *Failure { return s.Groups.Failure }}, look: groupFound},
		{id: "targets.protocol", title: "the target group's protocol is TCP",
			why:  "SSH is no TLS, and UDP has no place here",
			when: hasBalancer, needs: []need{groupKnown}, look: groupProtocol},
		{id: "targets.proxy-protocol", title: "PROXY protocol v2 is what the gate expects",
			why:  "the gate refuses what has no header where one is required, and takes a header for garbage where none is; without it nobody can tell one endpoint from another",
			when: hasBalancer, needs: known, look: proxyProtocol},
		{id: "targets.client-ip", title: "the client's address is not preserved",
			why:  "clients inside the VPC would then come from their own addresses, which are not the load balancer's, and the bastion could not reach itself through it",
			when: hasBalancer, needs: known, look: clientIP},
		{id: "targets.registered", title: "the bastion is a target, on the gate's port",
			why:  "the load balancer passes connections to registered targets only",
			when: hasBoth, needs: []need{placeKnown, groupKnown, targetsKnown}, look: isRegistered},
		{id: "targets.healthy", title: "the load balancer finds the bastion healthy",
			why:  "an unhealthy target gets no new connections, unless all are unhealthy: then each gets them",
			when: hasBoth, needs: []need{placeKnown, groupKnown, registered}, look: isHealthy},
		{id: "targets.zones", title: "each zone of the load balancer has a healthy bastion, or gets the connections of others",
			why:  "without cross-zone a zone passes connections only to its own targets; a vendor that uses the zone's own name hangs",
			when: hasBalancer, needs: []need{groupKnown, balancerKnown, targetsKnown, attributesKnown, crossZoneKnown}, look: zonesServed},
		{id: "targets.count", title: "there are at least two healthy bastions",
			why:  "with one, the load balancer has nobody to turn to: it sends connections to it even when it is unhealthy, and a replacement is an outage",
			when: hasBalancer, needs: []need{groupKnown, targetsKnown}, look: spare},
	}
}

// target is the bastion among the targets.
func (s *Snapshot) target() *Target {
	p := s.Place.Value
	for i, t := range s.Targets.Value {
		if t.ID == p.Instance || slices.ContainsFunc(p.Addresses, func(a netip.Addr) bool { return a.String() == t.ID }) {
			return &s.Targets.Value[i]
		}
	}
	return nil
}

func (s *Snapshot) attribute(key string) string { return s.Attributes.Value[key] }

func (s *Snapshot) set(key, value string) string {
	return s.aws("elbv2 modify-target-group-attributes --target-group-arn %s --attributes Key=%s,Value=%s", s.group().ARN, key, value)
}

func groupFound(s *Snapshot) verdict {
	if s.group() == nil {
		return bad("the load balancer has no target group "+joined(s.listener().Groups),
			s.aws("elbv2 modify-listener --listener-arn %s --default-actions Type=forward,TargetGroupArn=TARGET_GROUP", s.listener().ARN))
	}
	return good("%s", s.group().Name)
}

func groupProtocol(s *Snapshot) verdict {
	g := s.group()
	if g.Protocol == "TCP" {
		return good("TCP %d", g.Port)
	}
	return bad(g.Protocol, "a target group's protocol can't be changed: make another one and let the listener forward to it,",
		s.aws("elbv2 create-target-group --name NAME --protocol TCP --port %d --vpc-id %s --target-type instance --health-check-protocol HTTP --health-check-port %d --health-check-path /readyz --matcher HttpCode=200",
			s.Setup.Gate.Port, g.VPC, s.Setup.Gate.HealthPort))
}

func proxyProtocol(s *Snapshot) verdict {
	on, wanted := s.attribute(attrProxy) == "true", s.Setup.Gate.ProxyProtocol
	switch {
	case on && !wanted:
		return bad("it is on, and admission.proxy_protocol is off: every connection begins with what the gate does not expect",
			"set admission.proxy_protocol: required in postern.yaml, with load_balancers and endpoints")
	case !on && wanted:
		return bad("it is off, and admission.proxy_protocol is required: every connection is refused", s.set(attrProxy, "true"))
	case !on:
		return doubtful("it is off on both sides: endpoints can't be told apart, and every client has the load balancer's address",
			s.set(attrProxy, "true"), "and at the same time admission.proxy_protocol: required in postern.yaml")
	}
	return good("on, and required")
}

func clientIP(s *Snapshot) verdict {
	if s.attribute(attrClientIP) == "true" {
		return doubtful("preserve_client_ip.enabled is true", s.set(attrClientIP, "false"))
	}
	return good("preserve_client_ip.enabled is false")
}

func isRegistered(s *Snapshot) verdict {
	t, p, port := s.target(), s.Place.Value, int(s.Setup.Gate.Port)
	id := p.Instance
	if s.group().Type == "ip" && len(p.Addresses) > 0 {
		id = p.Addresses[0].String()
	}
	register := s.aws("elbv2 register-targets --target-group-arn %s --targets Id=%s,Port=%d", s.group().ARN, id, port)
	switch {
	case t == nil:
		return bad(id+" is not", register, "or let the Auto Scaling group do it: TargetGroupARNs")
	case t.Port != port:
		return bad(fmt.Sprintf("on port %d, the gate listens on %d", t.Port, port), register,
			s.aws("elbv2 deregister-targets --target-group-arn %s --targets Id=%s,Port=%d", s.group().ARN, id, t.Port))
	}
	return good("%s, port %d", t.ID, t.Port)
}

func isHealthy(s *Snapshot) verdict {
	t := s.target()
	saw := strings.TrimSpace(t.State + " " + t.Reason)
	if t.Description != "" {
		saw += " (" + t.Description + ")"
	}
	switch t.State {
	case "healthy":
		return good("healthy")
	case "initial":
		return doubtful(saw, "wait for the first health checks and run this again")
	case "draining", "unhealthy.draining":
		return doubtful(saw, "it is being replaced or drained; if it is not meant to be: systemctl status postern")
	}
	return bad(saw, s.healthMend(t.Reason)...)
}

// healthMend says what the reasons of AWS mean here.
func (s *Snapshot) healthMend(reason string) []string {
	local := fmt.Sprintf("curl -sS http://localhost:%d/readyz", s.Setup.Gate.HealthPort)
	switch reason {
	case "Target.ResponseCodeMismatch":
		return []string{local + "   # on the bastion: its answer names what is not ready", "journalctl -u postern"}
	case "Target.Timeout", "Target.FailedHealthChecks":
		return []string{local + "   # on the bastion: is somebody there?", "systemctl status postern.socket postern.service", "then security groups and network ACLs: the checks of this report"}
	case "Target.NotInUse":
		return []string{"the group is at no listener, or the load balancer is not in the bastion's zone:",
			s.aws("elbv2 set-subnets --load-balancer-arn %s --subnets %s SUBNET_OF_THE_ZONE", s.Setup.LoadBalancer, strings.Join(subnetsOf(s.Balancer.Value), " "))}
	case "Target.InvalidState":
		return []string{"the instance is stopped or ending: " + s.aws("ec2 start-instances --instance-ids %s", s.Place.Value.Instance)}
	}
	return []string{s.aws("elbv2 describe-target-health --target-group-arn %s", s.group().ARN)}
}

func zonesServed(s *Snapshot) verdict {
	if s.crossZone() {
		return good("cross-zone is on")
	}
	if f := s.TargetZones.Failure; f != nil {
		return undecided("cross-zone is off, and the zones of the targets are not known: "+f.saw(), f.mend(s)...)
	}
	var bare []string
	for _, z := range s.Balancer.Value.Zones {
		if !slices.ContainsFunc(s.Targets.Value, func(t Target) bool { return t.State == "healthy" && s.TargetZones.Value[t.ID] == z.Name }) {
			bare = append(bare, z.Name)
		}
	}
	if len(bare) == 0 {
		return good("cross-zone is off, each zone has a healthy target")
	}
	return bad("cross-zone is off, and there is no healthy target in "+joined(bare), s.set(attrCrossZone, "true"), "or a bastion in each zone")
}

func (s *Snapshot) crossZone() bool {
	if v := s.attribute(attrCrossZone); v != "" && v != crossZoneFromBalancer {
		return v == "true"
	}
	return s.CrossZone.Value
}

func spare(s *Snapshot) verdict {
	healthy := 0
	for _, t := range s.Targets.Value {
		if t.State == "healthy" {
			healthy++
		}
	}
	if healthy >= 2 || len(s.Targets.Value) >= 2 {
		return good("%d of %d are healthy", healthy, len(s.Targets.Value))
	}
	return doubtful(fmt.Sprintf("%d of %d", healthy, len(s.Targets.Value)), "let the Auto Scaling group have at least two instances, in two zones")
}
