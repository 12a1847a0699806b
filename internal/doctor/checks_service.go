package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// pendingFor is how long a request may wait for somebody to accept it.
const pendingFor = 10 * time.Minute

func serviceChecks() []check {
	known := []need{serviceKnown}
	return []check{
		{id: "service.found", title: "the endpoint service is there",
			why:  "it is what the vendor connects to",
			when: hasService, needs: []need{func(s *Snapshot) *Failure { return s.Service.Failure }}, look: serviceFound},
		{id: "service.state", title: "the endpoint service is available",
			why:  "endpoints can connect to no other",
			when: hasService, needs: known, look: serviceState},
		{id: "service.load-balancer", title: "the endpoint service passes connections to the load balancer, and to no other",
			why:  "with several, each endpoint sticks to one of them: all must lead to the same gate",
			when: func(s *Snapshot) bool { return hasService(s) && hasBalancer(s) }, needs: known, look: serviceBalancer},
		{id: "service.zones", title: "the endpoint service is in the zones of the load balancer",
			why:  "a zone that the load balancer got later is not the service's until somebody says so; vendors there are told that it is not supported",
			when: func(s *Snapshot) bool { return hasService(s) && hasBalancer(s) }, needs: []need{serviceKnown, balancerKnown}, look: serviceZones},
		{id: "service.acceptance", title: "endpoints must be accepted",
			why:  "else whoever may connect is connected, and everything in an allowed account may",
			when: hasService, needs: []need{serviceKnown, principalsKnown}, look: acceptance},
		{id: "service.principals", title: "only the vendor may connect",
			why:  "* lets every AWS account ask, and see the service; with automatic acceptance the load balancer is public",
			when: hasService, needs: []need{serviceKnown, principalsKnown}, look: principals},
		{id: "service.owners", title: "the accounts that may connect are those of aws.endpoint_owners",
			why:  "an account that may ask but is not admitted is left over; one that is admitted but may not ask can't make its endpoint",
			when: hasService, needs: []need{serviceKnown, principalsKnown}, look: owners},
	}
}

// modifyService is the command that changes the service, or with nothing to
// change makes it take the load balancer's zones.
func (s *Snapshot) modifyService(change string) string {
	return s.aws("%s", strings.TrimSpace("ec2 modify-vpc-endpoint-service-configuration --service-id "+orWord(s.Setup.EndpointService, "SERVICE")+" "+change))
}

func serviceFound(s *Snapshot) verdict {
	if v := s.Service.Value; v != nil {
		return good("%s", v.Name)
	}
	return bad("there is no endpoint service "+s.Setup.EndpointService+" in "+s.Region,
		s.aws("ec2 describe-vpc-endpoint-service-configurations --query 'ServiceConfigurations[].[ServiceId,ServiceName]'"), "set aws.endpoint_service in postern.yaml to the right one")
}

func serviceState(s *Snapshot) verdict {
	v := s.Service.Value
	if strings.EqualFold(v.State, "available") {
		return good("%s", v.State)
	}
	return bad(v.State, "Pending: wait some minutes and run this again; Deleting or Failed: make it again,",
		s.aws("ec2 create-vpc-endpoint-service-configuration --acceptance-required --network-load-balancer-arns %s", orWord(s.Setup.LoadBalancer, "LOAD_BALANCER")))
}

func serviceBalancer(s *Snapshot) verdict {
	v := s.Service.Value
	switch {
	case !slices.Contains(v.Balancers, s.Setup.LoadBalancer):
		return bad("it passes connections to "+orWord(joined(v.Balancers), "nobody"), s.modifyService("--add-network-load-balancer-arns "+s.Setup.LoadBalancer))
	case len(v.Balancers) > 1:
		return doubtful(joined(v.Balancers), "run this once for each of them, with its ARN in aws.load_balancer; or leave one:", s.modifyService("--remove-network-load-balancer-arns OTHER"))
	}
	return good("%s", joined(v.Balancers))
}

func serviceZones(s *Snapshot) verdict {
	v := s.Service.Value
	var missing []string
	for _, z := range s.Balancer.Value.Zones {
		if !slices.Contains(v.Zones, z.Name) {
			missing = append(missing, s.zone(z))
		}
	}
	if len(missing) > 0 {
		return bad("it is not in "+joined(missing), s.modifyService("")+"   # without any change it takes the zones of the load balancer")
	}
	return good("%s", joined(s.zoneNames()))
}

// zone names a zone by the ID that is the same in every account, if it is known.
func (s *Snapshot) zone(z BalancerZone) string {
	if n, ok := s.subnet(z.Subnet); ok && n.ZoneID != "" {
		return z.Name + " (" + n.ZoneID + ")"
	}
	return z.Name
}

func (s *Snapshot) zoneNames() []string {
	var all []string
	for _, z := range s.Balancer.Value.Zones {
		all = append(all, s.zone(z))
	}
	return all
}

func acceptance(s *Snapshot) verdict {
	switch {
	case s.Service.Value.Acceptance:
		return good("required")
	case everybody(s.Principals.Value):
		return bad("not required, and every AWS account may connect", s.modifyService("--acceptance-required"))
	}
	return doubtful("not required: whatever "+joined(s.Principals.Value)+" makes is connected", s.modifyService("--acceptance-required"))
}

func everybody(principals []string) bool { return slices.Contains(principals, "*") }

func principals(s *Snapshot) verdict {
	all := s.Principals.Value
	remove := s.permissions("remove", "'*'")
	switch {
	case everybody(all) && !s.Service.Value.Acceptance:
		return good("every AWS account; service.acceptance says what that means")
	case everybody(all):
		return doubtful("every AWS account may ask", s.permissions("add", "arn:aws:iam::"+first(s.Setup.EndpointOwners)+":root"), remove)
	case len(all) == 0:
		return bad("nobody may connect", s.permissions("add", "arn:aws:iam::"+orWord(strings.Join(s.Setup.EndpointOwners[:min(1, len(s.Setup.EndpointOwners))], ""), "VENDOR_ACCOUNT")+":root"))
	}
	return good("%s", joined(all))
}

func (s *Snapshot) permissions(what, principal string) string {
	return s.aws("ec2 modify-vpc-endpoint-service-permissions --service-id %s --%s-allowed-principals %s", s.Setup.EndpointService, what, principal)
}

// owners compares accounts; a principal that is no ARN of an account is not
// compared.
func owners(s *Snapshot) verdict {
	if len(s.Setup.EndpointOwners) == 0 {
		return bad("aws.endpoint_owners is empty: no endpoint of the service is admitted", "set aws.endpoint_owners in postern.yaml to the vendor's account")
	}
	var allowed, left []string
	for _, p := range s.Principals.Value {
		account := arnPart(p, 4)
		allowed = append(allowed, account)
		if account != "" && !slices.Contains(s.Setup.EndpointOwners, account) {
			left = append(left, p)
		}
	}
	if len(left) > 0 {
		return doubtful(joined(left)+" may connect, and is not in aws.endpoint_owners", s.permissions("remove", strings.Join(left, " ")),
			"this cuts nobody: endpoints that were accepted stay until they are rejected")
	}
	return s.ownersMayAsk(allowed)
}

func (s *Snapshot) ownersMayAsk(allowed []string) verdict {
	for _, owner := range s.Setup.EndpointOwners {
		if !everybody(s.Principals.Value) && len(allowed) > 0 && !slices.Contains(allowed, owner) {
			return doubtful(owner+" of aws.endpoint_owners may not connect", s.permissions("add", "arn:aws:iam::"+owner+":root"), "or take it out of aws.endpoint_owners in postern.yaml")
		}
	}
	return good("%s", joined(s.Setup.EndpointOwners))
}

func endpointChecks() []check {
	known := []need{serviceKnown, connectionsKnown}
	return []check{
		{id: "endpoints.connected", title: "the vendor's endpoint is connected",
			why:  "without one nobody gets here",
			when: hasService, needs: known, look: connected},
		{id: "endpoints.pending", title: "no request of the vendor waits",
			why:  "a request that nobody accepts runs out",
			when: hasService, needs: known, look: pending},
		{id: "endpoints.foreign", title: "no other account is connected",
			why:  "removing a principal does not cut an endpoint that was accepted",
			when: hasService, needs: known, look: foreign},
		{id: "admission.endpoints", title: "admission.endpoints names endpoints that are connected",
			why:  "an endpoint that is listed and gone is left over; one that never was is a typing error",
			when: hasService, needs: known, look: listedEndpoints},
	}
}

// of returns the connections of the owners that may be here, or of the others,
// that are in one of states.
func (s *Snapshot) of(owned bool, states ...string) []Connection {
	return slices.DeleteFunc(slices.Clone(s.Connections.Value), func(c Connection) bool {
		return slices.Contains(s.Setup.EndpointOwners, c.Owner) != owned ||
			!slices.ContainsFunc(states, func(state string) bool { return strings.EqualFold(state, c.State) })
	})
}

func ids(all []Connection) []string {
	var out []string
	for _, c := range all {
		out = append(out, c.Endpoint)
	}
	return out
}

func connected(s *Snapshot) verdict {
	var missing []string
	available := s.of(true, "available")
	for _, owner := range s.Setup.EndpointOwners {
		if !slices.ContainsFunc(available, func(c Connection) bool { return c.Owner == owner }) {
			missing = append(missing, owner)
		}
	}
	if len(missing) == 0 {
		return good("%s", joined(ids(available)))
	}
	saw := "no endpoint of " + joined(missing) + " is available"
	for _, c := range s.Connections.Value {
		if slices.Contains(missing, c.Owner) {
			saw += fmt.Sprintf("; %s is %s", c.Endpoint, c.State)
		}
	}
	if waiting := s.of(true, "pendingAcceptance"); len(waiting) > 0 {
		return bad(saw, s.settle("accept", waiting))
	}
	return bad(saw, "hand the vendor the name of the service, its Region and its zones: "+s.Service.Value.Name+", "+s.Region+", "+joined(s.Service.Value.Zones),
		"the vendor's side: packaging/cloudformation/vendor.yaml")
}

func (s *Snapshot) settle(what string, all []Connection) string {
	return s.aws("ec2 %s-vpc-endpoint-connections --service-id %s --vpc-endpoint-ids %s", what, s.Setup.EndpointService, strings.Join(ids(all), " "))
}

// pending leaves to endpoints.connected what keeps the only endpoint out.
func pending(s *Snapshot) verdict {
	waiting := slices.DeleteFunc(s.of(true, "pendingAcceptance"), func(c Connection) bool { return s.At.Sub(c.Created) < pendingFor || !s.served(c.Owner) })
	if len(waiting) == 0 {
		return good("none")
	}
	return doubtful(joined(ids(waiting))+" since "+waiting[0].Created.UTC().Format(time.RFC3339), s.settle("accept", waiting), "or "+s.settle("reject", waiting))
}

func (s *Snapshot) served(owner string) bool {
	return slices.ContainsFunc(s.of(true, "available"), func(c Connection) bool { return c.Owner == owner })
}

func foreign(s *Snapshot) verdict {
	others := s.of(false, "available", "pending", "partial")
	if len(others) == 0 || len(s.Setup.EndpointOwners) == 0 {
		return good("none")
	}
	var all []string
	for _, c := range others {
		all = append(all, fmt.Sprintf("%s of %s is %s", c.Endpoint, c.Owner, c.State))
	}
	return bad(strings.Join(all, ", "), s.settle("reject", others), "or, if it is meant to be, put the account in aws.endpoint_owners in postern.yaml")
}

func listedEndpoints(s *Snapshot) verdict {
	available := ids(slices.DeleteFunc(slices.Clone(s.Connections.Value), func(c Connection) bool { return !strings.EqualFold(c.State, "available") }))
	var stale []string
	for _, id := range s.Setup.Gate.Endpoints {
		switch {
		case id == "*":
			return doubtful("it has *: every endpoint is admitted, and clients of the load balancer that come through none",
				"name the endpoints: "+orWord(joined(available), "vpce-...")+"; those of aws.endpoint_owners are found without being named")
		case !slices.Contains(available, id) && len(available) > 0:
			stale = append(stale, id)
		}
	}
	if len(stale) > 0 {
		return doubtful(joined(stale)+" is not connected to the service", "take it out of admission.endpoints in postern.yaml")
	}
	return good("%s", orWord(joined(s.Setup.Gate.Endpoints), "none: all come from discovery"))
}
