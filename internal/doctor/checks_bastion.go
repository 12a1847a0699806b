package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

func bastionChecks() []check {
	return []check{
		{id: "bastion.public-address", title: "the bastion has no public address",
			why:  "the only way in is to be the endpoint service: a public address is a second one that nobody watches",
			when: hasBastion, needs: []need{placeKnown}, look: publicAddress},
		{id: "bastion.imds", title: "the bastion's metadata need a token (IMDSv2)",
			why:  "without tokens a request that a program is tricked into makes is enough to take the instance role's credentials",
			when: hasBastion, needs: []need{placeKnown, machineKnown}, look: imdsV2},
		{id: "bastion.subnet", title: "the bastion is in a private subnet",
			why:  "with a route to an internet gateway one address is all that is missing to be reached from everywhere",
			when: hasBastion, needs: []need{placeKnown, routesKnown}, look: bastionSubnet},
		{id: "bastion.ssh-rule", title: "the bastion's security group admits the load balancer on the gate's port",
			why:  "what it does not admit is dropped without a trace: clients of the vendor hang",
			when: hasBoth, needs: []need{placeKnown, balancerKnown, addressed, rulesKnown}, look: sshRule},
		{id: "bastion.health-rule", title: "the bastion's security group admits the load balancer on the health check's port",
			why:  "without health checks every target is unhealthy",
			when: hasBoth, needs: []need{placeKnown, balancerKnown, addressed, rulesKnown}, look: healthRule},
		{id: "bastion.open-rule", title: "the bastion's security group admits nobody else",
			why:  "whoever reaches the gate past the load balancer can try, and fill its limits",
			when: hasBastion, needs: []need{placeKnown, rulesKnown, subnetsKnown}, look: openRule},
		{id: "bastion.conntrack", title: "connection tracking outlasts the keepalives",
			why:  "a connection that the network interface has forgotten is dropped at its next packet",
			when: hasBastion, needs: []need{placeKnown, machineKnown}, look: conntrack},
		{id: "bastion.lifecycle-hook", title: "Auto Scaling waits for the drain before it ends a bastion",
			why:   "without a hook an instance is gone within minutes, and with it every session and what of the audit log was not archived",
			when:  func(s *Snapshot) bool { return hasBastion(s) && s.Machine.Value.AutoScaling != "" },
			needs: []need{machineKnown, func(s *Snapshot) *Failure { return s.Hooks.Failure }},
			look:  lifecycleHook},
	}
}

func publicAddress(s *Snapshot) verdict {
	p := s.Place.Value
	if len(p.Public) == 0 {
		return good("%s has %s", p.Instance, joined(p.Addresses))
	}
	return bad(fmt.Sprintf("%s has the public address %s", p.Instance, joined(p.Public)),
		"start bastions without one: AssociatePublicIpAddress=false in the launch template, MapPublicIpOnLaunch=false at the subnet",
		s.aws("ec2 modify-subnet-attribute --subnet-id %s --no-map-public-ip-on-launch", p.Subnet),
		"an Elastic IP: "+s.aws("ec2 disassociate-address --public-ip %s", p.Public[0]))
}

func imdsV2(s *Snapshot) verdict {
	if s.Machine.Value.TokensRequired {
		return good("HttpTokens is required")
	}
	return bad("HttpTokens is optional: IMDSv1 answers too",
		s.aws("ec2 modify-instance-metadata-options --instance-id %s --http-tokens required --http-put-response-hop-limit 1", s.Place.Value.Instance),
		"and MetadataOptions.HttpTokens: required in the launch template")
}

func bastionSubnet(s *Snapshot) verdict {
	p := s.Place.Value
	t := s.routes(p.Subnet)
	if t == nil {
		return undecided("no route table of " + p.Subnet + " was found")
	}
	if r, public := t.internet(); public {
		return bad(fmt.Sprintf("%s goes to %s: %s of %s is a public subnet's", r.Destination, r.Via, t.ID, p.Subnet),
			"move the bastion to a private subnet, or take the route away if nothing else needs it:",
			s.aws("ec2 delete-route --route-table-id %s --destination-cidr-block %s", t.ID, r.Destination))
	}
	return good("%s, %s", p.Subnet, t.ID)
}

// internet returns the route to an internet gateway.
func (t *RouteTable) internet() (Route, bool) {
	i := slices.IndexFunc(t.Routes, func(r Route) bool { return strings.HasPrefix(r.Via, "igw-") })
	if i < 0 {
		return Route{}, false
	}
	return t.Routes[i], true
}

func sshRule(s *Snapshot) verdict {
	return s.admits(int(s.Setup.Gate.Port), !s.Balancer.Value.Enforce)
}

// Health checks come from the load balancer itself, so its group is enough.
func healthRule(s *Snapshot) verdict {
	return s.admits(int(s.Setup.Gate.HealthPort), false)
}

// admits says whether the bastion's groups admit the load balancer. A rule for
// the load balancer's group is not enough where that does not enforce its rules
// on PrivateLink traffic: such traffic then comes from its addresses alone.
func (s *Snapshot) admits(port int, byAddress bool) verdict {
	p, b := s.Place.Value, s.Balancer.Value
	rules := s.with(p.SecurityGroups, false, port)
	byAddress = byAddress || len(b.SecurityGroups) == 0
	if !byAddress && toGroup(rules, b.SecurityGroups) {
		return good("port %d from %s", port, joined(b.SecurityGroups))
	}
	missing := outside(rules, s.peers())
	switch {
	case len(missing) == 0:
		return good("port %d from %s", port, joined(s.peers()))
	case listed(rules) != "":
		return undecided(fmt.Sprintf("port %d from the prefix list %s, whose addresses are not looked at; it must have %s", port, listed(rules), joined(missing)),
			s.aws("ec2 get-managed-prefix-list-entries --prefix-list-id %s", listed(rules)))
	case byAddress:
		saw := fmt.Sprintf("port %d is not open for %s", port, joined(missing))
		if toGroup(rules, b.SecurityGroups) {
			saw += ": the rule for " + joined(b.SecurityGroups) + " does not count for PrivateLink traffic, because the load balancer does not enforce its rules on it"
		}
		return bad(saw, s.authorize(first(p.SecurityGroups), "ingress", port, missing))
	}
	return bad(fmt.Sprintf("port %d is not open for %s", port, joined(b.SecurityGroups)),
		s.aws("ec2 authorize-security-group-ingress --group-id %s --protocol tcp --port %d --source-group %s", first(p.SecurityGroups), port, first(b.SecurityGroups)))
}

// authorize is the command that lets addrs through a security group.
func (s *Snapshot) authorize(group, way string, port int, addrs []netip.Addr) string {
	var ranges []string
	for _, a := range addrs {
		ranges = append(ranges, "{CidrIp="+netip.PrefixFrom(a, a.BitLen()).String()+"}")
	}
	return s.aws("ec2 authorize-security-group-%s --group-id %s --ip-permissions 'IpProtocol=tcp,FromPort=%d,ToPort=%d,IpRanges=[%s]'",
		way, group, port, port, strings.Join(ranges, ","))
}

func first(all []string) string {
	if len(all) == 0 {
		return "GROUP"
	}
	return all[0]
}

// openRule looks for rules that admit more than the load balancer: everybody at
// any port, or others at the gate's own two.
func openRule(s *Snapshot) verdict {
	var wide, everybody []Rule
	for _, r := range s.Rules.Value {
		switch {
		case r.Egress || !slices.Contains(s.Place.Value.SecurityGroups, r.Group):
		case r.CIDR.IsValid() && r.CIDR.Bits() == 0:
			everybody = append(everybody, r)
		case (r.about(int(s.Setup.Gate.Port)) || r.about(int(s.Setup.Gate.HealthPort))) && s.foreign(r):
			wide = append(wide, r)
		}
	}
	switch {
	case len(everybody) > 0:
		return bad("everybody is admitted: "+described(everybody), s.revoke(everybody)...)
	case len(wide) > 0:
		return doubtful("others than the load balancer are admitted: "+described(wide), s.revoke(wide)...)
	}
	return good("nobody but the load balancer at ports %d and %d", s.Setup.Gate.Port, s.Setup.Gate.HealthPort)
}

// foreign says whether a rule is about more than the load balancer, its subnets
// included. Without a load balancer to compare with nothing is.
func (s *Snapshot) foreign(r Rule) bool {
	b := s.Balancer.Value
	switch {
	case b == nil || r.PrefixList != "":
		return false
	case r.Peer != "":
		return !slices.Contains(b.SecurityGroups, r.Peer)
	}
	return !slices.ContainsFunc(b.Zones, func(z BalancerZone) bool {
		n, ok := s.subnet(z.Subnet)
		return ok && n.CIDR.Bits() <= r.CIDR.Bits() && n.CIDR.Contains(r.CIDR.Addr())
	})
}

func described(rules []Rule) string {
	var all []string
	for _, r := range rules {
		ports := fmt.Sprintf("port %d", r.From)
		switch {
		case r.Protocol == "-1":
			ports = "everything"
		case r.From != r.To:
			ports = fmt.Sprintf("ports %d-%d", r.From, r.To)
		}
		all = append(all, ports+" from "+r.who())
	}
	return strings.Join(all, ", ")
}

func (s *Snapshot) revoke(rules []Rule) []string {
	var mend []string
	for _, r := range rules {
		mend = append(mend, s.aws("ec2 revoke-security-group-ingress --group-id %s --security-group-rule-ids %s", r.Group, r.ID))
	}
	return mend
}

func conntrack(s *Snapshot) verdict {
	established, alive := s.Machine.Value.Established, s.Setup.Gate.AliveInterval
	if established == 0 {
		return good("the default of the instance type, at least 350s; keepalives every %s", alive)
	}
	mend := []string{
		s.aws("ec2 modify-network-interface-attribute --network-interface-id %s --connection-tracking-specification TcpEstablishedTimeout=432000", orWord(s.Place.Value.Interface, "INTERFACE")),
		"and ConnectionTrackingSpecification in the launch template",
	}
	switch {
	case alive >= established:
		return bad(fmt.Sprintf("forgotten after %s, keepalives every %s", established, alive), mend...)
	case s.IdleTimeout.Failure == nil && established < s.IdleTimeout.Value:
		return doubtful(fmt.Sprintf("forgotten after %s, by the load balancer after %s", established, s.IdleTimeout.Value), mend...)
	}
	return good("forgotten after %s, keepalives every %s", established, alive)
}

// lifecycleHook looks for a hook, and for the one that the gate is to complete.
func lifecycleHook(s *Snapshot) verdict {
	const ending = "autoscaling:EC2_INSTANCE_TERMINATING"
	group, named := s.Machine.Value.AutoScaling, s.Setup.Hook
	hooks := slices.DeleteFunc(slices.Clone(s.Hooks.Value), func(h Hook) bool { return h.Transition != ending })
	put := s.aws("autoscaling put-lifecycle-hook --auto-scaling-group-name %s --lifecycle-hook-name %s --lifecycle-transition %s --heartbeat-timeout 300 --default-result CONTINUE",
		group, orWord(named, "postern-drain"), ending)
	is := func(h Hook) bool { return h.Name == named && (s.Setup.Group == "" || s.Setup.Group == group) }
	switch {
	case len(hooks) == 0:
		return doubtful("none of "+group+" is for EC2_INSTANCE_TERMINATING", put)
	case named == "":
		return doubtful(group+" has "+hooks[0].Name+", and the gate does not know of it: a drained bastion waits until the hook runs out, and a long drain is cut then",
			fmt.Sprintf("in postern.yaml: aws: { auto_scaling_group: %s, lifecycle_hook: %s }", group, hooks[0].Name))
	case !slices.ContainsFunc(hooks, is):
		return bad(fmt.Sprintf("aws.lifecycle_hook is %s of %s, the bastion's group is %s and has %s", named, s.Setup.Group, group, hooks[0].Name), put,
			fmt.Sprintf("or in postern.yaml: aws: { auto_scaling_group: %s, lifecycle_hook: %s }", group, hooks[0].Name))
	}
	return good("%s of %s", named, group)
}
