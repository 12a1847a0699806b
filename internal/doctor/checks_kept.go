package doctor

import (
	"fmt"
	"slices"
	"strings"
)

func s3Checks() []check {
	when := func(s *Snapshot) bool { return hasBalancer(s) || hasBastion(s) }
	return []check{
		{id: "s3.endpoint", title: "the VPC has a gateway endpoint to S3",
			why:  "private subnets reach S3 by it, without NAT: the archive and the data of clusters take this way",
			when: when, needs: []need{gatewaysKnown}, look: s3Endpoint},
		{id: "s3.route", title: "the route tables of the private subnets lead to S3's endpoint",
			why:  "an endpoint that is not in a subnet's own route table does nothing for it, the main table included",
			when: when, needs: []need{gateway, routesKnown}, look: s3Route},
		{id: "s3.policy", title: "the endpoint's policy lets the archive through",
			why:  "what it does not allow is refused as if the bucket did",
			when: func(s *Snapshot) bool { return when(s) && inS3(s) }, needs: []need{gateway}, look: s3Policy},
		{id: "s3.egress-rule", title: "the bastion's security group lets it reach S3",
			why:  "the archive waits on the disk until it is full",
			when: func(s *Snapshot) bool { return hasBastion(s) && inS3(s) }, needs: []need{placeKnown, rulesKnown, routesKnown}, look: s3Egress},
	}
}

func gateway(s *Snapshot) *Failure {
	if f := s.Gateways.Failure; f != nil {
		return f
	}
	if s.s3() == nil {
		return waitFor("s3.endpoint")
	}
	return nil
}

// s3 is the gateway endpoint that works.
func (s *Snapshot) s3() *Gateway {
	for i, g := range s.Gateways.Value {
		if strings.EqualFold(g.State, "available") {
			return &s.Gateways.Value[i]
		}
	}
	return nil
}

func s3Endpoint(s *Snapshot) verdict {
	if g := s.s3(); g != nil {
		return good("%s", g.ID)
	}
	saw := "there is none"
	for _, g := range s.Gateways.Value {
		saw = g.ID + " is " + g.State
	}
	return s.needed(saw, s.aws("ec2 create-vpc-endpoint --vpc-endpoint-type Gateway --vpc-id %s --service-name com.amazonaws.%s.s3 --route-table-ids %s",
		s.vpc(), s.Region, strings.Join(s.privateTables(), " ")))
}

// needed is bad where the gate itself archives to S3, and doubtful where only
// others may want to go there.
func (s *Snapshot) needed(saw string, mend ...string) verdict {
	if inS3(s) {
		return bad(saw, mend...)
	}
	return doubtful(saw, mend...)
}

// privateSubnets are those of the load balancer and the bastion.
func (s *Snapshot) privateSubnets() []string {
	var all []string
	if b := s.Balancer.Value; b != nil {
		all = subnetsOf(b)
	}
	if p := s.Place.Value.Subnet; p != "" {
		all = append(all, p)
	}
	return distinct(all)
}

func (s *Snapshot) privateTables() []string {
	var all []string
	for _, n := range s.privateSubnets() {
		if t := s.routes(n); t != nil {
			all = append(all, t.ID)
		}
	}
	return distinct(all)
}

func s3Route(s *Snapshot) verdict {
	g := s.s3()
	for _, id := range s.privateTables() {
		var route *Route
		for _, t := range s.RouteTables.Value {
			if t.ID == id {
				route = t.to(g.ID)
			}
		}
		add := s.aws("ec2 modify-vpc-endpoint --vpc-endpoint-id %s --add-route-table-ids %s", g.ID, id)
		const cuts = "connections to S3 that are open break off when the endpoint is changed"
		switch {
		case route == nil:
			return s.needed(id+" has no route to "+g.ID, add, cuts)
		case route.State != "active":
			return s.needed(id+": the route to "+g.ID+" is "+route.State, add, cuts)
		}
	}
	return good("%s by %s", joined(s.privateTables()), g.ID)
}

func (t RouteTable) to(gateway string) *Route {
	i := slices.IndexFunc(t.Routes, func(r Route) bool { return r.Via == gateway && strings.HasPrefix(r.Destination, "pl-") })
	if i < 0 {
		return nil
	}
	return &t.Routes[i]
}

func s3Policy(s *Snapshot) verdict {
	g, b := s.s3(), s.Setup.Bucket
	allowed, known := permits(g.Policy, "s3:PutObject", "arn:aws:s3:::"+b.Name+"/"+strings.TrimSuffix(b.Prefix+"/", "/")+"/x")
	look := s.aws("ec2 describe-vpc-endpoints --vpc-endpoint-ids %s --query 'VpcEndpoints[0].PolicyDocument' --output text", g.ID)
	switch {
	case !known:
		return undecided("the policy of "+g.ID+" has conditions that are not judged here", look)
	case !allowed:
		return bad("the policy of "+g.ID+" does not allow s3:PutObject to "+b.Name,
			fmt.Sprintf(`add to it: {"Effect":"Allow","Principal":"*","Action":["s3:PutObject","s3:GetObject","s3:ListBucket"],"Resource":["arn:aws:s3:::%s","arn:aws:s3:::%s/*"]}`, b.Name, b.Name), look)
	}
	return good("s3:PutObject to %s", b.Name)
}

func s3Egress(s *Snapshot) verdict {
	p := s.Place.Value
	rules := s.with(p.SecurityGroups, true, 443)
	list := "PREFIX_LIST"
	if t := s.routes(p.Subnet); t != nil {
		for _, r := range t.Routes {
			if strings.HasPrefix(r.Destination, "pl-") && strings.HasPrefix(r.Via, "vpce-") {
				list = r.Destination
			}
		}
	}
	open := slices.ContainsFunc(rules, func(r Rule) bool { return r.PrefixList == list || r.CIDR.IsValid() && r.CIDR.Bits() == 0 })
	if open {
		return good("port 443")
	}
	return bad("port 443 to S3 is closed", s.aws("ec2 authorize-security-group-egress --group-id %s --ip-permissions 'IpProtocol=tcp,FromPort=443,ToPort=443,PrefixListIds=[{PrefixListId=%s}]'",
		first(p.SecurityGroups), list))
}

func keptChecks() []check {
	return []check{
		{id: "archive.bucket", title: "the archive's bucket is there, in its Region",
			why:  "what can't be archived waits on the disk until it is full",
			when: hasBucket, needs: []need{func(s *Snapshot) *Failure { return s.Lock.Failure }}, look: bucket},
		{id: "archive.lock", title: "the bucket has Object Lock",
			why:  "without it whoever has the bastion's role, or another's, can remove what proves what was done",
			when: hasBucket, needs: []need{lockable}, look: objectLock},
		{id: "archive.retention", title: "objects are retained as long as they are to be",
			why:  "in the mode GOVERNANCE a privileged user can shorten it, with no retention anybody can remove an object",
			when: hasBucket, needs: []need{locked}, look: retention},
		{id: "archive.versioning", title: "the bucket keeps versions",
			why:  "Object Lock protects versions: without them an object can be written over",
			when: hasBucket, needs: []need{lockable, func(s *Snapshot) *Failure { return s.Versioning.Failure }}, look: versioning},
		{id: "kms.key", title: "keys in KMS are there and for signing",
			why:  "without the one of the audit log no checkpoint is signed, and the log proves nothing; without a CA's no inspected session begins",
			when: hasKey, needs: []need{keysKnown}, look: signingKeys},
		{id: "kms.sign", title: "the gate may sign with them",
			why:  "without the one of the audit log no checkpoint is signed, and the log proves nothing; without a CA's no inspected session begins",
			when: hasKey, needs: []need{keysKnown, keysUsable}, look: signing},
	}
}

func bucket(s *Snapshot) verdict {
	b, l := s.Setup.Bucket, s.Lock.Value
	switch {
	case l.Missing:
		return bad("there is no bucket "+b.Name, s.aws("s3api create-bucket --bucket %s --object-lock-enabled-for-bucket --create-bucket-configuration LocationConstraint=%s", b.Name, s.bucketRegion()))
	case l.Region != "":
		return bad(fmt.Sprintf("%s is in %s, asked in %s: a gateway endpoint does not reach another Region", b.Name, l.Region, s.bucketRegion()), "set archive.region in postern.yaml to "+l.Region)
	}
	return good("%s, %s", b.Name, s.bucketRegion())
}

func (s *Snapshot) bucketRegion() string { return orWord(s.Setup.Bucket.Region, s.Region) }

func objectLock(s *Snapshot) verdict {
	if s.Lock.Value.Enabled {
		return good("enabled")
	}
	return bad("it has none", s.aws("s3api put-object-lock-configuration --bucket %s --object-lock-configuration '{\"ObjectLockEnabled\":\"Enabled\",\"Rule\":{\"DefaultRetention\":{\"Mode\":\"COMPLIANCE\",\"Days\":%d}}}'",
		s.Setup.Bucket.Name, s.days()))
}

func (s *Snapshot) days() int {
	if d := s.Setup.Bucket.RetentionDays; d > 0 {
		return d
	}
	return 365
}

func retention(s *Snapshot) verdict {
	l, own := s.Lock.Value, s.Setup.Bucket.RetentionDays
	set := s.aws("s3api put-object-lock-configuration --bucket %s --object-lock-configuration '{\"ObjectLockEnabled\":\"Enabled\",\"Rule\":{\"DefaultRetention\":{\"Mode\":\"COMPLIANCE\",\"Days\":%d}}}'",
		s.Setup.Bucket.Name, s.days())
	switch {
	case own > 0 && s.Setup.Bucket.Governance:
		return doubtful(fmt.Sprintf("%d days in the mode governance, set at each object", own), "set archive.retention_mode: compliance in postern.yaml")
	case own > 0:
		return good("%d days, set at each object", own)
	case l.Mode == "":
		return bad("the bucket has no default retention, and archive.retention_days is 0", set)
	case l.Mode == "GOVERNANCE":
		return doubtful(fmt.Sprintf("the default is GOVERNANCE, %d days", l.Days), set)
	}
	return good("the bucket's default: %s, %d days", l.Mode, l.Days)
}

func versioning(s *Snapshot) verdict {
	if s.Versioning.Value == "Enabled" {
		return good("Enabled")
	}
	return bad(orWord(s.Versioning.Value, "it does not"), s.aws("s3api put-bucket-versioning --bucket %s --versioning-configuration Status=Enabled", s.Setup.Bucket.Name))
}

// signingKeys stops at the first key that is not good.
func signingKeys(s *Snapshot) verdict {
	var seen []string
	for _, k := range s.Keys {
		v := k.Key.Value
		switch {
		case v.Unusable != "":
			return bad(k.Setting+": "+v.Unusable, s.aws("kms describe-key --key-id %s", k.ARN),
				"disabled: "+s.aws("kms enable-key --key-id %s", k.ARN), "to be deleted: "+s.aws("kms cancel-key-deletion --key-id %s", k.ARN))
		case v.Usage != "SIGN_VERIFY":
			return bad(fmt.Sprintf("%s: the key is for %s", k.Setting, v.Usage), s.createKey(k.Ed25519))
		case k.Ed25519 && v.Spec != "ECC_NIST_EDWARDS25519":
			return bad(fmt.Sprintf("%s: the key is %s, checkpoints take Ed25519", k.Setting, v.Spec), s.createKey(true))
		}
		seen = append(seen, k.Setting+" "+v.Spec)
	}
	return good("%s", joined(seen))
}

func (s *Snapshot) createKey(ed25519 bool) string {
	spec := "ECC_NIST_P256"
	if ed25519 {
		spec = "ECC_NIST_EDWARDS25519"
	}
	return s.aws("kms create-key --key-usage SIGN_VERIFY --key-spec %s", spec)
}

// signing takes a refusal for what it is: the gate needs no other permission.
func signing(s *Snapshot) verdict {
	for _, k := range s.Keys {
		switch f := k.Signing.Failure; {
		case f == nil:
		case f.Kind == Denied:
			return bad(k.Setting+": "+f.saw()+" to "+s.role(), f.mend(s)...)
		default:
			return undecided(k.Setting+": "+f.saw(), f.mend(s)...)
		}
	}
	return good("allowed")
}

func keysKnown(s *Snapshot) *Failure {
	for _, k := range s.Keys {
		if f := k.Key.Failure; f != nil {
			return f
		}
	}
	return nil
}

func keysUsable(s *Snapshot) *Failure {
	for _, k := range s.Keys {
		if k.Key.Value.Unusable != "" {
			return waitFor("kms.key")
		}
	}
	return nil
}
