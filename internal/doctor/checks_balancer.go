package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// privateLinkIdle is after how long PrivateLink forgets a silent connection,
// whatever the load balancer is set to.
const privateLinkIdle = 350 * time.Second

func balancerChecks() []check {
	known := []need{balancerKnown}
	return []check{
		{id: "nlb.found", title: "the load balancer is there",
			why:  "the endpoint service has nothing to pass connections to",
			when: hasBalancer, needs: []need{func(s *Snapshot) *Failure { return s.Balancer.Failure }}, look: balancerFound},
		{id: "nlb.scheme", title: "the load balancer is an internal Network Load Balancer",
			why:  "an endpoint service takes no other kind, and an internet-facing one is a public door",
			when: hasBalancer, needs: known, look: scheme},
		{id: "nlb.state", title: "the load balancer is active",
			why:  "one that is not passes nothing",
			when: hasBalancer, needs: known, look: balancerState},
		{id: "nlb.vpc", title: "the load balancer is in the bastion's VPC",
			why:  "targets by instance ID must be in the load balancer's own VPC",
			when: hasBoth, needs: []need{balancerKnown, placeKnown}, look: sameVPC},
		{id: "nlb.zones", title: "the load balancer is in at least two zones",
			why:  "the loss of one zone must not be the loss of the gate, and the vendor can only connect from zones that it is in",
			when: hasBalancer, needs: []need{balancerKnown, subnetsKnown}, look: zones},
		{id: "nlb.subnets", title: "the load balancer's subnets are private",
			why:  "an internal load balancer has no use for a route to an internet gateway, and what else is in such a subnet may get a public address",
			when: hasBalancer, needs: []need{balancerKnown, routesKnown}, look: balancerSubnets},
		{id: "nlb.addresses", title: "the load balancer has addresses in each of its zones",
			why:  "these are the peers that the gate trusts to say whose connection it is",
			when: hasBalancer, needs: []need{balancerKnown, interfacesKnown}, look: balancerAddresses},
		{id: "nlb.listener", title: "a TCP listener on port 22 forwards to one target group",
			why:  "a TLS listener would end the connection at the load balancer; a listener without a group passes nothing",
			when: hasBalancer, needs: []need{balancerKnown, listenersKnown}, look: oneListener},
		{id: "nlb.idle-timeout", title: "keepalives come before the load balancer forgets a connection",
			why:  "it drops what was silent for too long without a word, and resets at the next packet",
			when: hasBalancer, needs: []need{listenerKnown, func(s *Snapshot) *Failure { return s.IdleTimeout.Failure }}, look: idleTimeout},
		{id: "nlb.security-group", title: "the load balancer has a security group",
			why:  "one that was made without can never get one, and the bastion must then admit addresses, which change with the zones",
			when: hasBalancer, needs: known, look: securityGroup},
		{id: "nlb.vendor-rule", title: "the load balancer admits the vendor's clients",
			why:  "where it enforces its inbound rules on PrivateLink traffic, they go by the client's address in the vendor's VPC; what they do not admit is dropped without a trace, though a test from your own VPC works",
			when: hasBalancer, needs: []need{balancerKnown, listenerKnown, rulesKnown}, look: vendorRule},
		{id: "nlb.egress-rule", title: "the load balancer's security group lets it reach the bastion",
			why:  "connections and health checks both go by the outbound rules",
			when: hasBoth, needs: []need{balancerKnown, placeKnown, rulesKnown}, look: egressRule},
	}
}

func balancerFound(s *Snapshot) verdict {
	if s.Balancer.Value == nil {
		return bad("there is no load balancer "+s.Setup.LoadBalancer+" in "+s.Region,
			s.aws("elbv2 describe-load-balancers --query 'LoadBalancers[].LoadBalancerArn'"), "set aws.load_balancer in postern.yaml to the right one")
	}
	return good("%s", s.Balancer.Value.Name)
}

func scheme(s *Snapshot) verdict {
	b := s.Balancer.Value
	if b.Type == "network" && b.Scheme == "internal" {
		return good("network, internal")
	}
	return bad(b.Type+", "+b.Scheme, "type and scheme can't be changed: make another one and put it in the endpoint service,",
		s.aws("elbv2 create-load-balancer --type network --scheme internal --name NAME --security-groups GROUP --subnets %s", strings.Join(subnetsOf(b), " ")))
}

func subnetsOf(b *Balancer) []string {
	var ids []string
	for _, z := range b.Zones {
		ids = append(ids, z.Subnet)
	}
	return ids
}

func balancerState(s *Snapshot) verdict {
	switch state := s.Balancer.Value.State; state {
	case "active":
		return good("active")
	case "active_impaired":
		return doubtful("active_impaired: it can't grow", "look at its subnets: each needs at least 8 free addresses")
	case "provisioning":
		return bad(state, "wait some minutes and run this again")
	default:
		return bad(state, "make it again; "+s.aws("elbv2 describe-load-balancers --load-balancer-arns %s", s.Setup.LoadBalancer)+" says why it is not active")
	}
}

func sameVPC(s *Snapshot) verdict {
	b, p := s.Balancer.Value.VPC, s.Place.Value.VPC
	if b == p {
		return good("%s", b)
	}
	return bad(fmt.Sprintf("the load balancer is in %s, the bastion in %s", b, p), "start the bastion in "+b+", or correct aws.load_balancer in postern.yaml")
}

func zones(s *Snapshot) verdict {
	b := s.Balancer.Value
	var ids []string
	for _, z := range b.Zones {
		n, _ := s.subnet(z.Subnet)
		ids = append(ids, orWord(n.ZoneID, z.Name))
	}
	if len(ids) >= 2 {
		return good("%s", joined(ids))
	}
	return doubtful("only "+joined(ids),
		s.aws("elbv2 set-subnets --load-balancer-arn %s --subnets %s OTHER_SUBNET", b.ARN, strings.Join(subnetsOf(b), " ")),
		"and tell the endpoint service of the new zone: "+s.modifyService(""))
}

func balancerSubnets(s *Snapshot) verdict {
	for _, z := range s.Balancer.Value.Zones {
		t := s.routes(z.Subnet)
		if t == nil {
			return undecided("no route table of " + z.Subnet + " was found")
		}
		if r, public := t.internet(); public {
			return doubtful(fmt.Sprintf("%s goes to %s: %s of %s is a public subnet's", r.Destination, r.Via, t.ID, z.Subnet),
				"move the load balancer to private subnets of the same zones:", s.aws("elbv2 set-subnets --load-balancer-arn %s --subnets SUBNETS", s.Balancer.Value.ARN))
		}
	}
	return good("%s", joined(subnetsOf(s.Balancer.Value)))
}

func balancerAddresses(s *Snapshot) verdict {
	for _, z := range s.Balancer.Value.Zones {
		if !slices.ContainsFunc(s.Interfaces.Value, func(i Interface) bool { return i.Subnet == z.Subnet && len(i.Addresses) > 0 }) {
			return bad("none in "+z.Name+" ("+z.Subnet+")", "wait some minutes if the zone is new;",
				s.aws("ec2 describe-network-interfaces --filters Name=interface-type,Values=network_load_balancer Name=subnet-id,Values=%s", z.Subnet))
		}
	}
	return good("%s", joined(s.peers()))
}

func oneListener(s *Snapshot) verdict {
	l := s.listener()
	make := s.aws("elbv2 create-listener --load-balancer-arn %s --protocol TCP --port 22 --default-actions Type=forward,TargetGroupArn=TARGET_GROUP", s.Setup.LoadBalancer)
	switch {
	case len(s.Listeners.Value) == 0:
		return bad("there is none", make)
	case l == nil:
		return bad("none of several is TCP on port 22", make)
	case l.Protocol != "TCP":
		return bad(fmt.Sprintf("the only one is %s on port %d", l.Protocol, l.Port), s.aws("elbv2 modify-listener --listener-arn %s --protocol TCP --port 22", l.ARN))
	case len(l.Groups) != 1:
		return bad(fmt.Sprintf("it forwards to %d target groups", len(l.Groups)),
			s.aws("elbv2 modify-listener --listener-arn %s --default-actions Type=forward,TargetGroupArn=TARGET_GROUP", l.ARN))
	case l.Port != 22:
		return doubtful(fmt.Sprintf("it is on port %d, so clients need -p %d", l.Port, l.Port), s.aws("elbv2 modify-listener --listener-arn %s --port 22", l.ARN))
	}
	return good("TCP 22")
}

// idleTimeout goes by the shorter of the load balancer's time and PrivateLink's.
func idleTimeout(s *Snapshot) verdict {
	idle, alive := s.IdleTimeout.Value, s.Setup.Gate.AliveInterval
	set := s.aws("elbv2 modify-listener-attributes --listener-arn %s --attributes Key=tcp.idle_timeout.seconds,Value=350", s.listener().ARN)
	switch {
	case alive >= min(idle, privateLinkIdle):
		return bad(fmt.Sprintf("silent connections are forgotten after %s, keepalives come every %s", min(idle, privateLinkIdle), alive), set,
			"or set ssh.client_alive_interval in postern.yaml below it: 60s")
	case idle > privateLinkIdle && s.Service.Value != nil && s.Service.Value.Remote:
		return doubtful(fmt.Sprintf("%s: the service takes endpoints of other Regions, for which a timeout of one's own is not supported", idle), set)
	}
	return good("%s, keepalives every %s", idle, alive)
}

func securityGroup(s *Snapshot) verdict {
	b := s.Balancer.Value
	if len(b.SecurityGroups) > 0 {
		return good("%s", joined(b.SecurityGroups))
	}
	return doubtful("it has none", "make another one with a security group and put it in the endpoint service in this one's place:",
		s.aws("elbv2 create-load-balancer --type network --scheme internal --name NAME --security-groups GROUP --subnets %s", strings.Join(subnetsOf(b), " ")))
}

func vendorRule(s *Snapshot) verdict {
	b := s.Balancer.Value
	switch {
	case len(b.SecurityGroups) == 0:
		return good("it has no security group, so everybody behind an accepted endpoint gets to it")
	case !b.Enforce:
		return good("its inbound rules are not enforced on PrivateLink traffic")
	}
	port := s.listener().Port
	rules := s.with(b.SecurityGroups, false, port)
	var missing []netip.Prefix
	for _, source := range s.Setup.Gate.Sources {
		if !covered(source, cidrs(rules)) {
			missing = append(missing, source)
		}
	}
	switch {
	case len(missing) == 0:
		return good("port %d from %s", port, joined(s.Setup.Gate.Sources))
	case listed(rules) != "":
		return undecided(fmt.Sprintf("port %d from the prefix list %s, whose addresses are not looked at; it must have %s", port, listed(rules), joined(missing)),
			s.aws("ec2 get-managed-prefix-list-entries --prefix-list-id %s", listed(rules)))
	}
	return bad(fmt.Sprintf("port %d is not open for %s of admission.sources", port, joined(missing)), s.admitVendor(port, missing)...)
}

func (s *Snapshot) admitVendor(port int, sources []netip.Prefix) []string {
	b := s.Balancer.Value
	var mend []string
	for _, p := range sources {
		mend = append(mend, s.aws("ec2 authorize-security-group-ingress --group-id %s --protocol tcp --port %d --cidr %s", b.SecurityGroups[0], port, p))
	}
	return append(mend, "or leave it to the gate, which knows the endpoints too: "+
		s.aws("elbv2 set-security-groups --load-balancer-arn %s --security-groups %s --enforce-security-group-inbound-rules-on-private-link-traffic off",
			b.ARN, strings.Join(b.SecurityGroups, " ")))
}

func egressRule(s *Snapshot) verdict {
	b, p := s.Balancer.Value, s.Place.Value
	if len(b.SecurityGroups) == 0 {
		return good("it has no security group, so nothing holds it back")
	}
	for _, port := range s.ports() {
		rules := s.with(b.SecurityGroups, true, port)
		if toGroup(rules, p.SecurityGroups) || len(outside(rules, p.Addresses)) == 0 {
			continue
		}
		return bad(fmt.Sprintf("port %d to the bastion is closed", port),
			s.aws("ec2 authorize-security-group-egress --group-id %s --ip-permissions 'IpProtocol=tcp,FromPort=%d,ToPort=%d,UserIdGroupPairs=[{GroupId=%s}]'",
				b.SecurityGroups[0], port, port, first(p.SecurityGroups)))
	}
	return good("ports %d and %d to %s", s.Setup.Gate.Port, s.Setup.Gate.HealthPort, joined(p.SecurityGroups))
}

func admissionChecks() []check {
	return []check{
		{id: "admission.load-balancers", title: "admission.load_balancers has the load balancer and nobody else",
			why:  "who is listed there may claim to be any client of any endpoint",
			when: func(s *Snapshot) bool { return hasBalancer(s) && s.Setup.Gate.ProxyProtocol }, needs: []need{balancerKnown, addressed, subnetsKnown}, look: trustedPeers},
	}
}

// trustedPeers takes the load balancer's addresses and its subnets for right.
func trustedPeers(s *Snapshot) verdict {
	var stale, wide []netip.Prefix
	for _, p := range s.Setup.Gate.Peers {
		switch {
		case !slices.ContainsFunc(s.peers(), p.Contains):
			stale = append(stale, p)
		case s.foreign(Rule{CIDR: p}):
			wide = append(wide, p)
		}
	}
	found := s.found()
	switch {
	case len(stale) > 0:
		return doubtful(fmt.Sprintf("%s has no address of the load balancer", joined(stale)), "take it out of admission.load_balancers in postern.yaml")
	case len(wide) > 0:
		return doubtful(fmt.Sprintf("%s reaches beyond the subnets of the load balancer", joined(wide)),
			fmt.Sprintf("write the load balancer's own addresses: load_balancers: [%s]", joined(s.peers())))
	case len(found) > 0:
		return good("%s; from discovery alone: %s", joined(s.peers()), joined(found))
	}
	return good("%s", joined(s.peers()))
}

// found are the addresses that only discovery knows.
func (s *Snapshot) found() []netip.Addr {
	return slices.DeleteFunc(s.peers(), func(a netip.Addr) bool {
		return slices.ContainsFunc(s.Setup.Gate.Peers, func(p netip.Prefix) bool { return p.Contains(a) })
	})
}
