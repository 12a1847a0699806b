// Package doctor says of each step of the way in through AWS whether it is
// right, and what to do if it isn't: from the load balancer over the endpoint
// service to what the gate keeps in AWS. Collect asks AWS, and all checks are
// about the plain values that it brings.
package doctor

import (
	"fmt"
	"strings"
)

// Status is how a check ends.
type Status string

// The statuses. Unknown is a question that could not be answered.
const (
	OK      Status = "ok"
	Warn    Status = "warn"
	Fail    Status = "fail"
	Unknown Status = "unknown"
)

// Result is what one check found. Mend has command lines and steps that put it
// right, in their order.
type Result struct {
	ID       string   `json:"id"`
	Status   Status   `json:"status"`
	Title    string   `json:"title"` // what is asked
	Saw      string   `json:"saw"`
	Why      string   `json:"why"` // it matters
	Mend     []string `json:"mend,omitempty"`
	Action   string   `json:"missing_action,omitempty"` // the IAM action that is not allowed
	WaitsFor string   `json:"waits_for,omitempty"`      // the check that must be good before
}

// Gap is something that was not looked at, because nothing says where it is.
type Gap struct {
	What string `json:"what"`
	Why  string `json:"why"`
	Mend string `json:"mend"`
}

// verdict is the outcome of a check's look.
type verdict struct {
	status Status
	saw    string
	mend   []string
}

func good(format string, args ...any) verdict {
	return verdict{status: OK, saw: fmt.Sprintf(format, args...)}
}

func bad(saw string, mend ...string) verdict { return verdict{Fail, saw, mend} }

func doubtful(saw string, mend ...string) verdict { return verdict{Warn, saw, mend} }

func undecided(saw string, mend ...string) verdict { return verdict{Unknown, saw, mend} }

// check is one question to a Snapshot. look is only called when all that it
// needs is there.
type check struct {
	id, title, why string
	when           func(*Snapshot) bool // nil = always; false = the question doesn't arise
	needs          []need
	look           func(*Snapshot) verdict
}

// need says what keeps a check from being made, nil if nothing does.
type need func(*Snapshot) *Failure

// Check answers every question that arises, in a fixed order; none where there
// is nothing to look at. It asks nobody.
func (s *Snapshot) Check() []Result {
	var all []Result
	if s.nothing() {
		return nil
	}
	for _, c := range checks() {
		if c.when == nil || c.when(s) {
			all = append(all, c.result(s))
		}
	}
	return all
}

// nothing says whether there is nothing to look at: nothing in AWS is named, and
// this host is not there.
func (s *Snapshot) nothing() bool { return !s.named() && !hasBastion(s) }

// named says whether the setup names anything in AWS.
func (s *Snapshot) named() bool {
	return hasBalancer(s) || hasService(s) || s.Setup.Instance != "" || hasBucket(s) || hasKey(s)
}

func (c check) result(s *Snapshot) Result {
	r := Result{ID: c.id, Title: c.title, Why: c.why}
	for _, missing := range c.needs {
		if f := missing(s); f != nil {
			r.Status, r.Saw, r.Mend = Unknown, f.saw(), f.mend(s)
			r.WaitsFor = f.WaitsFor
			if f.Kind == Denied {
				r.Action = f.Action
			}
			return r
		}
	}
	v := c.look(s)
	r.Status, r.Saw, r.Mend = v.status, v.saw, v.mend
	return r
}

// CheckIDs lists the IDs of all checks of Check.
func CheckIDs() []string {
	var ids []string
	for _, c := range checks() {
		ids = append(ids, c.id)
	}
	return ids
}

// Gaps lists what Check says nothing about.
func (s *Snapshot) Gaps() []Gap {
	var gaps []Gap
	if s.Setup.LoadBalancer == "" {
		gaps = append(gaps, Gap{"the load balancer, its target group and the network between it and the bastion",
			"aws.load_balancer is not set", "set aws.load_balancer in postern.yaml to the ARN that `aws elbv2 describe-load-balancers` shows"})
	}
	if s.Setup.EndpointService == "" {
		gaps = append(gaps, Gap{"the endpoint service, its principals and its endpoints",
			"aws.endpoint_service is not set", "set aws.endpoint_service in postern.yaml to the ID that `aws ec2 describe-vpc-endpoint-service-configurations` shows"})
	}
	if s.Place.Failure != nil && s.Place.Failure.Kind == Absent {
		gaps = append(gaps, Gap{"the bastion: its address, metadata options, security group, subnet and place in the target group",
			s.Place.Failure.Err.Error(), "run this on the bastion, or name it: --instance i-..."})
	}
	return gaps
}

// aws is a command line of AWS's own tool.
func (s *Snapshot) aws(format string, args ...any) string {
	return strings.TrimSpace("aws --region " + s.Region + " " + fmt.Sprintf(format, args...))
}
