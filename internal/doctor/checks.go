package doctor

import "slices"

// checks are all questions, in the order of the way in: who asks, then the
// bastion, its network, the load balancer, its targets, the endpoint service
// and its endpoints, and last what the gate keeps in AWS.
func checks() []check {
	return slices.Concat(accountChecks(), bastionChecks(), networkChecks(), balancerChecks(), admissionChecks(),
		targetChecks(), healthChecks(), drainChecks(), serviceChecks(), endpointChecks(), s3Checks(), keptChecks())
}

// What has to be set, or known, for a question to arise.

func hasBalancer(s *Snapshot) bool { return s.Setup.LoadBalancer != "" }

func hasService(s *Snapshot) bool { return s.Setup.EndpointService != "" }

func hasBastion(s *Snapshot) bool { return s.Place.Failure == nil || s.Place.Failure.Kind != Absent }

func hasBoth(s *Snapshot) bool { return hasBalancer(s) && hasBastion(s) }

func hasBucket(s *Snapshot) bool { return s.Setup.Bucket.Name != "" }

// inS3 is false of a bucket at another server.
func inS3(s *Snapshot) bool { return hasBucket(s) && s.Setup.Bucket.Endpoint == "" }

func hasKey(s *Snapshot) bool { return len(s.Setup.Keys) > 0 }

// What has to be answered before a question can be.

func callerKnown(s *Snapshot) *Failure      { return s.Caller.Failure }
func placeKnown(s *Snapshot) *Failure       { return s.Place.Failure }
func machineKnown(s *Snapshot) *Failure     { return s.Machine.Failure }
func listenersKnown(s *Snapshot) *Failure   { return s.Listeners.Failure }
func interfacesKnown(s *Snapshot) *Failure  { return s.Interfaces.Failure }
func attributesKnown(s *Snapshot) *Failure  { return s.Attributes.Failure }
func targetsKnown(s *Snapshot) *Failure     { return s.Targets.Failure }
func crossZoneKnown(s *Snapshot) *Failure   { return s.CrossZone.Failure }
func principalsKnown(s *Snapshot) *Failure  { return s.Principals.Failure }
func connectionsKnown(s *Snapshot) *Failure { return s.Connections.Failure }
func subnetsKnown(s *Snapshot) *Failure     { return s.Subnets.Failure }
func routesKnown(s *Snapshot) *Failure      { return s.RouteTables.Failure }
func rulesKnown(s *Snapshot) *Failure       { return s.Rules.Failure }
func aclsKnown(s *Snapshot) *Failure        { return s.ACLs.Failure }
func gatewaysKnown(s *Snapshot) *Failure    { return s.Gateways.Failure }

func balancerKnown(s *Snapshot) *Failure {
	if s.Balancer.Failure == nil && s.Balancer.Value == nil {
		return waitFor("nlb.found")
	}
	return s.Balancer.Failure
}

func listenerKnown(s *Snapshot) *Failure {
	if f := s.Listeners.Failure; f != nil {
		return f
	}
	if s.listener() == nil {
		return waitFor("nlb.listener")
	}
	return nil
}

func groupKnown(s *Snapshot) *Failure {
	if f := listenerKnown(s); f != nil {
		return f
	}
	if s.Groups.Failure == nil && s.group() == nil {
		return waitFor("targets.group")
	}
	return s.Groups.Failure
}

func serviceKnown(s *Snapshot) *Failure {
	if s.Service.Failure == nil && s.Service.Value == nil {
		return waitFor("service.found")
	}
	return s.Service.Failure
}

// registered waits until the bastion is a target.
func registered(s *Snapshot) *Failure {
	if f := s.Targets.Failure; f != nil {
		return f
	}
	if s.target() == nil {
		return waitFor("targets.registered")
	}
	return nil
}

// addressed waits until the load balancer's addresses are seen.
func addressed(s *Snapshot) *Failure {
	if f := s.Interfaces.Failure; f != nil {
		return f
	}
	if len(s.peers()) == 0 {
		return waitFor("nlb.addresses")
	}
	return nil
}

func lockable(s *Snapshot) *Failure {
	if s.Lock.Failure == nil && (s.Lock.Value.Missing || s.Lock.Value.Region != "") {
		return waitFor("archive.bucket")
	}
	return s.Lock.Failure
}

func locked(s *Snapshot) *Failure {
	if f := lockable(s); f != nil {
		return f
	}
	if !s.Lock.Value.Enabled {
		return waitFor("archive.lock")
	}
	return nil
}
