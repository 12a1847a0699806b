package privatelink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/aws/smithy-go"
)

// Why a question to AWS has no answer, for the audit log and metrics.
const (
	ReasonDenied      = "denied"      // IAM does not allow the call
	ReasonCredentials = "credentials" // there are none, or they are not good
	ReasonThrottled   = "throttled"
	ReasonUnreachable = "unreachable" // no answer in time, or no connection
	ReasonGarbled     = "garbled"     // an answer that is not AWS's
	ReasonNotFound    = "not_found"   // what was asked for does not exist
	ReasonOther       = "other"
)

// Reason is why err came, of a fixed set; "" for nil.
func Reason(err error) string {
	if err == nil {
		return ""
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return reasonOf(api.ErrorCode())
	}
	_, network := errors.AsType[net.Error](err)
	_, decoding := errors.AsType[*smithy.DeserializationError](err)
	switch text := err.Error(); {
	case decoding, strings.Contains(text, "fetching xml error response code"):
		return ReasonGarbled
	case strings.Contains(text, "get identity"), strings.Contains(text, "retrieve credentials"):
		// Before the network: credentials are fetched over it too, and what is
		// missing then is the role.
		return ReasonCredentials
	case network, errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return ReasonUnreachable
	}
	return ReasonOther
}

// reasonOf goes by an error's code: services call the same thing by different
// names.
func reasonOf(code string) string {
	switch code {
	case "UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "AuthorizationError":
		return ReasonDenied
	case "AuthFailure", "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException",
		"SignatureDoesNotMatch", "InvalidSignatureException", "RequestExpired", "InvalidAccessKeyId":
		return ReasonCredentials
	case "RequestLimitExceeded", "SlowDown":
		return ReasonThrottled
	case "NoSuchKey", "NoSuchBucket", "ParameterNotFound", "ResourceNotFoundException", "LoadBalancerNotFound":
		return ReasonNotFound
	case "UnknownError":
		return ReasonGarbled
	}
	if strings.HasPrefix(code, "Throttl") || strings.HasPrefix(code, "TooManyRequests") {
		return ReasonThrottled
	}
	return ReasonOther
}

// explain adds to the error of a call what an operator can do about it; action
// is what IAM calls it.
func explain(action string, err error) error {
	advice := map[string]string{
		ReasonDenied:      "allow " + action + " to the role of this instance",
		ReasonCredentials: "look at the role of this instance, and at its clock",
		ReasonThrottled:   "this account and its organization ask too often; a longer aws.refresh helps",
		ReasonUnreachable: "let this host reach it: a NAT gateway or an endpoint in the VPC, its security group, DNS",
		ReasonGarbled:     "the answer is not AWS's; look at HTTPS_PROXY, NO_PROXY and AWS_ENDPOINT_URL",
		ReasonNotFound:    "it does not exist in this account and region",
	}[Reason(err)]
	if advice == "" {
		return fmt.Errorf("%s: %w", action, err)
	}
	return fmt.Errorf("%s: %s: %w", action, advice, err)
}

func hasCode(err error, code string) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && api.ErrorCode() == code
}
