package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/aws/smithy-go"
)

// FailureKind is why a question has no answer.
type FailureKind string

// The kinds of failures.
const (
	Denied        FailureKind = "denied"      // IAM does not allow the call
	NoCredentials FailureKind = "credentials" // there are none, or they are not good
	Throttled     FailureKind = "throttled"
	Unreachable   FailureKind = "unreachable" // no answer in time, or no connection
	Garbled       FailureKind = "garbled"     // an answer that is not AWS's
	ServiceError  FailureKind = "error"       // AWS says that it failed
	Absent        FailureKind = "absent"      // nothing says where to look
	Waiting       FailureKind = "waiting"     // another answer must come first
)

// Failure is why a question has no answer.
type Failure struct {
	Action   string // the IAM action of the call, such as ec2:DescribeSubnets; "" = none was made
	Kind     FailureKind
	WaitsFor string // ID of the check that must be good before
	Err      error
}

// waitFor is the failure of a question that can't be asked before a check is good.
func waitFor(id string) *Failure { return &Failure{Kind: Waiting, WaitsFor: id} }

// failure tells why a call to AWS failed; nil for no error.
func failure(action string, err error) *Failure {
	if err == nil {
		return nil
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		switch code := api.ErrorCode(); {
		case code == "LoadBalancerNotFound":
			return waitFor("nlb.found")
		case strings.HasPrefix(code, "InvalidVpcEndpointService") && strings.HasSuffix(code, ".NotFound"):
			return waitFor("service.found")
		}
	}
	f := &Failure{Action: action, Kind: kind(err), Err: err}
	if f.Kind == NoCredentials {
		f.WaitsFor = "aws.credentials"
	}
	return f
}

func kind(err error) FailureKind {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return kindOf(api)
	}
	var network net.Error
	var decoding *smithy.DeserializationError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.As(err, &network):
		return Unreachable
	case errors.As(err, &decoding), strings.Contains(err.Error(), "fetching xml error response code"):
		return Garbled
	case strings.Contains(err.Error(), "credentials"):
		return NoCredentials
	}
	return ServiceError
}

// kindOf goes by the code: services call the same thing by different names.
func kindOf(err smithy.APIError) FailureKind {
	code := err.ErrorCode()
	switch code {
	case "UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "AuthorizationError", "Client.UnauthorizedOperation":
		return Denied
	case "AuthFailure", "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "RequestExpired", "InvalidAccessKeyId":
		return NoCredentials
	case "RequestLimitExceeded", "SlowDown":
		return Throttled
	case "UnknownError":
		return Garbled
	}
	if strings.HasPrefix(code, "Throttling") || strings.HasPrefix(code, "TooManyRequests") {
		return Throttled
	}
	return ServiceError
}

// saw is what the operator reads of it.
func (f *Failure) saw() string {
	switch f.Kind {
	case Denied:
		return "IAM does not allow " + f.Action
	case NoCredentials:
		return f.Action + " was not asked: no good credentials"
	case Throttled:
		return f.Action + " is throttled: too many calls in this account"
	case Unreachable:
		return f.Action + " got no answer"
	case Garbled:
		return f.Action + " got an answer that is not AWS's"
	case Waiting:
		return "waits for " + f.WaitsFor
	case Absent:
		return f.Err.Error()
	}
	return fmt.Sprintf("%s: %v", f.Action, f.Err)
}

// mend is what brings the answer.
func (f *Failure) mend(s *Snapshot) []string {
	service, name, _ := strings.Cut(f.Action, ":")
	switch f.Kind {
	case Denied:
		return []string{fmt.Sprintf(`allow it to %s: {"Effect":"Allow","Action":"%s:%s","Resource":"*"}`, s.role(), service, name)}
	case NoCredentials:
		return []string{"see aws.credentials"}
	case Throttled:
		return []string{"run this again in a minute"}
	case Unreachable:
		return []string{
			fmt.Sprintf("let this host reach https://%s: a NAT gateway, or an endpoint in the VPC:", apiHost(service, s.Region)),
			s.aws("ec2 create-vpc-endpoint --vpc-endpoint-type Interface --vpc-id %s --service-name com.amazonaws.%s.%s --private-dns-enabled --subnet-ids SUBNET --security-group-ids GROUP",
				orWord(s.vpc(), "VPC"), s.Region, service),
		}
	case Garbled:
		return []string{"a proxy answers in the place of AWS: look at HTTPS_PROXY, NO_PROXY and AWS_ENDPOINT_URL", "run this again in a minute"}
	case Waiting:
		return []string{"mend " + f.WaitsFor + " first"}
	case ServiceError:
		return []string{"run this again in a minute; https://health.aws.amazon.com says what AWS knows"}
	}
	return nil
}

// role is who asked.
func (s *Snapshot) role() string {
	if s.Caller.Failure != nil || s.Caller.Value.ARN == "" {
		return "the role of this instance"
	}
	if _, session, assumed := strings.Cut(s.Caller.Value.ARN, ":assumed-role/"); assumed {
		name, _, _ := strings.Cut(session, "/")
		return "the role " + name
	}
	return s.Caller.Value.ARN
}

func apiHost(service, region string) string {
	return service + "." + region + ".amazonaws.com"
}

func orWord(s, word string) string {
	if s == "" {
		return word
	}
	return s
}
