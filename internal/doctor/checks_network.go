package doctor

import (
	"fmt"
	"net/netip"
)

// Answers go to a port that the other side chose.
const (
	ephemeralFrom = 1024
	ephemeralTo   = 65535
)

func networkChecks() []check {
	return []check{
		{id: "vpc.dns", title: "the VPC resolves names",
			why:  "without the resolver neither AWS nor any target that is named is found",
			when: func(s *Snapshot) bool { return hasBalancer(s) || hasBastion(s) }, needs: []need{func(s *Snapshot) *Failure { return s.DNS.Failure }}, look: vpcDNS},
		{id: "bastion.network-acl", title: "the network ACL of the bastion's subnet lets the load balancer through, both ways",
			why:  "network ACLs keep no state: without the way back every connection hangs",
			when: hasBoth, needs: []need{placeKnown, balancerKnown, addressed, aclsKnown, subnetsKnown}, look: bastionACL},
		{id: "nlb.network-acl", title: "the network ACLs of the load balancer's subnets let it reach the bastion, both ways",
			why:  "network ACLs keep no state: without the way back every connection hangs",
			when: hasBoth, needs: []need{placeKnown, balancerKnown, addressed, aclsKnown, subnetsKnown}, look: balancerACL},
	}
}

func vpcDNS(s *Snapshot) verdict {
	d := s.DNS.Value
	switch {
	case !d.Support:
		return bad("enableDnsSupport is off", s.aws("ec2 modify-vpc-attribute --vpc-id %s --enable-dns-support '{\"Value\":true}'", s.vpc()))
	case !d.Hostnames:
		return doubtful("enableDnsHostnames is off: private names of interface endpoints do not work",
			s.aws("ec2 modify-vpc-attribute --vpc-id %s --enable-dns-hostnames '{\"Value\":true}'", s.vpc()))
	}
	return good("%s: names and host names", s.vpc())
}

// way is a direction in which an ACL must let something through.
type way struct {
	egress   bool
	from, to int
}

// bastionACL looks at what comes from the load balancer and at the answers.
func bastionACL(s *Snapshot) verdict {
	p := s.Place.Value
	acl := s.acl(p.Subnet)
	if acl == nil {
		return undecided("no network ACL of " + p.Subnet + " was found")
	}
	ports := s.ports()
	for _, other := range s.peers() {
		if n, ok := s.subnet(p.Subnet); ok && n.CIDR.Contains(other) {
			continue // within a subnet no ACL is asked
		}
		for _, w := range []way{{false, ports[0], ports[0]}, {false, ports[1], ports[1]}, {true, ephemeralFrom, ephemeralTo}} {
			if v, is := s.stopped(acl, w, other); is {
				return v
			}
		}
	}
	return good("%s", acl.ID)
}

// balancerACL looks at what goes to the bastion and at its answers.
func balancerACL(s *Snapshot) verdict {
	var seen []string
	ports := s.ports()
	for _, i := range s.Interfaces.Value {
		acl := s.acl(i.Subnet)
		n, ok := s.subnet(i.Subnet)
		if acl == nil || !ok {
			return undecided("no network ACL of " + i.Subnet + " was found")
		}
		seen = append(seen, acl.ID)
		for _, other := range s.Place.Value.Addresses {
			if n.CIDR.Contains(other) {
				continue
			}
			for _, w := range []way{{true, ports[0], ports[0]}, {true, ports[1], ports[1]}, {false, ephemeralFrom, ephemeralTo}} {
				if v, is := s.stopped(acl, w, other); is {
					return v
				}
			}
		}
	}
	return good("%s", joined(distinct(seen)))
}

func (s *Snapshot) ports() [2]int {
	return [2]int{int(s.Setup.Gate.Port), int(s.Setup.Gate.HealthPort)}
}

func (s *Snapshot) stopped(acl *ACL, w way, other netip.Addr) (verdict, bool) {
	port := acl.blocked(w.egress, other, w.from, w.to)
	if port == "" {
		return verdict{}, false
	}
	side, flag := "from", "--ingress"
	if w.egress {
		side, flag = "to", "--egress"
	}
	return bad(fmt.Sprintf("%s stops %s %s %s", acl.ID, port, side, other),
		s.aws("ec2 create-network-acl-entry --network-acl-id %s %s --rule-number NUMBER --protocol 6 --port-range From=%d,To=%d --cidr-block %s --rule-action allow",
			acl.ID, flag, w.from, w.to, netip.PrefixFrom(other, other.BitLen())),
		"NUMBER must be smaller than that of the entry that denies"), true
}

func distinct(all []string) []string {
	var out []string
	seen := map[string]bool{}
	for _, x := range all {
		if !seen[x] {
			out = append(out, x)
		}
		seen[x] = true
	}
	return out
}
