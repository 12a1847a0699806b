package archive

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Reasons of a Status. Each is "" or one of these.
const (
	reasonThrottled     = "throttled"      // S3 asks for fewer requests
	reasonDenied        = "denied"         // no credentials, or they may not
	reasonUnreachable   = "unreachable"    // no answer, none in time, or that the server is broken
	reasonConflict      = "conflict"       // the archive has another object of that key
	reasonClockSkew     = "clock_skew"     // this host's clock is wrong
	reasonMissingBucket = "missing_bucket" // not there, or in another region
	reasonNoLock        = "no_lock"        // the bucket protects nothing
	reasonFile          = "file"           // what is to be copied has gone or changed
	reasonOther         = "other"
)

// failure is an error with its reason.
type failure struct {
	reason string
	err    error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// Reason is that of an error which this package has returned, as Status.Reason
// has it; "" = there is no error.
func Reason(err error) string { return reasonOf(err) }

// reasonOf is the reason of err; "" = there is no error.
func reasonOf(err error) string {
	var f *failure
	switch {
	case err == nil:
		return ""
	case errors.As(err, &f):
		return f.reason
	}
	return reasonOther
}

// global reports whether what failed for reason fails for all other objects
// too, so that it is no use to try them now.
func global(reason string) bool {
	switch reason {
	case reasonThrottled, reasonDenied, reasonUnreachable, reasonClockSkew, reasonMissingBucket:
		return true
	}
	return false
}

// codes are the error codes of S3 that say more than their status does.
var codes = map[string]string{
	"SlowDown":                             reasonThrottled,
	"Throttling":                           reasonThrottled,
	"ThrottlingException":                  reasonThrottled,
	"RequestThrottled":                     reasonThrottled,
	"RequestThrottledException":            reasonThrottled,
	"RequestLimitExceeded":                 reasonThrottled,
	"TooManyRequestsException":             reasonThrottled,
	"RequestTimeTooSkewed":                 reasonClockSkew,
	"RequestExpired":                       reasonClockSkew,
	"RequestInTheFuture":                   reasonClockSkew,
	"NoSuchBucket":                         reasonMissingBucket,
	"PermanentRedirect":                    reasonMissingBucket,
	"TemporaryRedirect":                    reasonMissingBucket,
	"IllegalLocationConstraintException":   reasonMissingBucket,
	"AuthorizationHeaderMalformed":         reasonMissingBucket,
	"ExpiredToken":                         reasonDenied,
	"InvalidToken":                         reasonDenied,
	"TokenRefreshRequired":                 reasonDenied,
	"ObjectLockConfigurationNotFoundError": reasonNoLock,
	"RequestTimeout":                       reasonUnreachable,
}

// hints say what to do about a reason.
var hints = map[string]string{
	reasonThrottled:     "it is tried again, more slowly",
	reasonDenied:        "let the role do s3:PutObject, and s3:PutObjectRetention where a retention is set, below the prefix",
	reasonUnreachable:   "look at the route and the VPC endpoint to S3; it is tried again",
	reasonClockSkew:     "set this host's clock",
	reasonMissingBucket: "set archive.bucket and archive.region to what exists",
	reasonNoLock:        "give the bucket Object Lock and a default retention, or set archive.retention_days",
}

// classify makes a *failure of what the SDK returned for what was being done.
func classify(what string, err error) *failure {
	reason := reasonOf(err)
	var known *failure
	if !errors.As(err, &known) {
		reason = reasonOfCall(err)
	}
	if hint := hints[reason]; hint != "" {
		return &failure{reason, fmt.Errorf("%s: %w; %s", what, err, hint)}
	}
	return &failure{reason, fmt.Errorf("%s: %w", what, err)}
}

// reasonOfCall tells the reasons apart by S3's error code, then by the status
// of the answer: a proxy's page of HTML and the answer to HEAD have no code.
func reasonOfCall(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		if reason := codes[api.ErrorCode()]; reason != "" {
			return reason
		}
		// AWS says "Object Lock Configuration", others write it without spaces.
		if strings.Contains(strings.ReplaceAll(api.ErrorMessage(), " ", ""), "missingObjectLockConfiguration") {
			return reasonNoLock
		}
	}
	switch status := statusOf(err); {
	case status == 0 || status >= 500 || status < 300:
		return reasonUnreachable // no answer, or half of one
	case status == http.StatusTooManyRequests:
		return reasonThrottled
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return reasonDenied
	case status == http.StatusMovedPermanently || status == http.StatusTemporaryRedirect:
		return reasonMissingBucket
	}
	return reasonOther
}

// statusOf is the HTTP status of the answer; 0 = there was none.
func statusOf(err error) int {
	var answer *smithyhttp.ResponseError
	if errors.As(err, &answer) && answer.Response != nil {
		return answer.HTTPStatusCode()
	}
	return 0
}
