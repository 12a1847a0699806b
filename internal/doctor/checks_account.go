package doctor

import (
	"fmt"
	"strings"
	"time"
)

func accountChecks() []check {
	return []check{
		{id: "aws.credentials", title: "AWS knows who asks",
			why:  "without credentials the gate runs from its static lists alone, and nothing below can be looked at",
			look: credentials},
		{id: "aws.account", title: "the credentials are of the account that has the load balancer",
			why:  "another account's credentials see nothing of this gate, and so does the gate",
			when: hasBalancer, needs: []need{callerKnown}, look: account},
		{id: "aws.region", title: "configuration, load balancer and instance are in one Region",
			why:  "each Region has an API of its own: what is in another one is not found, and an NLB does not reach it",
			when: func(s *Snapshot) bool { return hasBalancer(s) || s.Setup.Region != "" }, look: region},
		{id: "aws.clock", title: "this host's clock and AWS's agree",
			why:   "AWS refuses calls that are more than five minutes off, and certificates, rules with hours and the audit log go by this clock",
			needs: []need{func(s *Snapshot) *Failure { return s.Skew.Failure }}, look: clock},
	}
}

func credentials(s *Snapshot) verdict {
	f := s.Caller.Failure
	switch {
	case f == nil:
		return good("%s", s.Caller.Value.ARN)
	case f.Kind == NoCredentials:
		mend := "give this host credentials: AWS_PROFILE, or an instance profile on EC2"
		if id := s.Place.Value.Instance; id != "" {
			mend = s.aws("ec2 associate-iam-instance-profile --instance-id %s --iam-instance-profile Name=PROFILE", id)
		}
		saw := "there are none that AWS takes: " + reasonOf(f.Err)
		if !s.named() {
			return undecided(saw, mend) // the gate does without
		}
		return bad(saw, mend)
	}
	return undecided(f.saw(), f.mend(s)...)
}

// reasonOf is the last part of what the SDK wraps many times.
func reasonOf(err error) string {
	text := err.Error()
	if i := strings.LastIndex(text, ": "); i >= 0 && len(text)-i > 12 {
		text = text[i+2:]
	}
	return text
}

func account(s *Snapshot) verdict {
	have, want := s.Caller.Value.Account, arnPart(s.Setup.LoadBalancer, 4)
	if have == want {
		return good("%s", have)
	}
	return bad(fmt.Sprintf("the credentials are of %s, aws.load_balancer is in %s", have, want),
		"use a role of account "+want+", or correct aws.load_balancer in postern.yaml")
}

// arnPart is a part of an ARN: 3 is the Region, 4 the account.
func arnPart(arn string, n int) string {
	if parts := strings.SplitN(arn, ":", 6); len(parts) == 6 {
		return parts[n]
	}
	return ""
}

func region(s *Snapshot) verdict {
	for _, other := range []struct{ region, what string }{
		{arnPart(s.Setup.LoadBalancer, 3), "aws.load_balancer"},
		{s.Place.Value.Region, "this instance"},
	} {
		if other.region != "" && other.region != s.Region {
			return bad(fmt.Sprintf("asked in %s, but %s is in %s", s.Region, other.what, other.region), "set aws.region in postern.yaml to "+other.region+", if that is where the gate is")
		}
	}
	return good("%s", s.Region)
}

func clock(s *Snapshot) verdict {
	skew := s.Skew.Value.Abs().Round(time.Second)
	way := "ahead"
	if s.Skew.Value < 0 {
		way = "behind"
	}
	mend := []string{"chronyc tracking", "let chrony use Amazon's time: server 169.254.169.123 prefer iburst"}
	switch {
	case skew <= 5*time.Second:
		return good("less than 6s apart")
	case skew <= time.Minute:
		return doubtful(fmt.Sprintf("this host is %s %s", skew, way), mend...)
	}
	return bad(fmt.Sprintf("this host is %s %s", skew, way), mend...)
}
