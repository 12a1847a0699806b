package s3server

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

func (s *Server) put(ctx context.Context, c *s3.Client, key string, in s3.PutObjectInput) (string, error) {
	in.Bucket, in.Key, in.Body = &s.Bucket, &key, strings.NewReader("hello")
	if in.ChecksumSHA256 == nil {
		in.ChecksumAlgorithm = types.ChecksumAlgorithmSha256
	}
	out, err := c.PutObject(ctx, &in)
	if err != nil {
		return "", err
	}
	return aws.ToString(out.VersionId), nil
}

// wantCode fails the test unless err is an S3 error of that code; "" = none.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var api smithy.APIError
	switch {
	case err == nil && code == "":
	case errors.As(err, &api) && api.ErrorCode() == code:
	default:
		t.Errorf("got %v, want %q", err, code)
	}
}

func TestTheServerKeepsWhatIsLocked(t *testing.T) {
	s := StartWith(t, Options{DefaultRetention: 1})
	c, ctx := s.Client(), t.Context()
	byDefault, err := s.put(ctx, c, "default", s3.PutObjectInput{})
	wantCode(t, err, "")
	until := time.Now().Add(time.Hour)
	own, err := s.put(ctx, c, "own", s3.PutObjectInput{ObjectLockMode: types.ObjectLockModeCompliance, ObjectLockRetainUntilDate: &until})
	wantCode(t, err, "")
	for key, version := range map[string]string{"default": byDefault, "own": own} {
		_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.Bucket, Key: &key, VersionId: &version, BypassGovernanceRetention: aws.Bool(true)})
		wantCode(t, err, "AccessDenied")
	}
	_, err = c.PutObjectRetention(ctx, &s3.PutObjectRetentionInput{
		Bucket: &s.Bucket, Key: aws.String("own"), VersionId: &own,
		Retention: &types.ObjectLockRetention{Mode: types.ObjectLockRetentionModeCompliance, RetainUntilDate: aws.Time(time.Now().Add(time.Minute))},
	})
	wantCode(t, err, "AccessDenied")
}

func TestTheServerChecksConditionsChecksumsAndSignatures(t *testing.T) {
	s := Start(t)
	c, ctx := s.Client(), t.Context()
	_, err := s.put(ctx, c, "a", s3.PutObjectInput{IfNoneMatch: aws.String("*")})
	wantCode(t, err, "")
	_, err = s.put(ctx, c, "a", s3.PutObjectInput{IfNoneMatch: aws.String("*")})
	wantCode(t, err, "PreconditionFailed")
	_, err = s.put(ctx, c, "b", s3.PutObjectInput{ChecksumSHA256: aws.String("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")})
	wantCode(t, err, "BadDigest")
	_, err = s.put(ctx, s.clientWith("another secret"), "b", s3.PutObjectInput{})
	wantCode(t, err, "SignatureDoesNotMatch")

	in := s3.ListObjectsV2Input{Bucket: &s.Bucket, StartAfter: aws.String("a")}
	out, err := c.ListObjectsV2(ctx, &in)
	if err != nil || len(out.Contents) != 0 {
		t.Errorf("got %v, %v", out, err)
	}
}

func (s *Server) clientWith(secret string) *s3.Client {
	o := s.Client().Options()
	o.Credentials = credentials.NewStaticCredentialsProvider(s.AccessKey, secret, "")
	return s3.New(o)
}

// TestWhatTheServerIsNot shows where it differs from AWS, so that nobody
// believes to have tried what it can't show.
func TestWhatTheServerIsNot(t *testing.T) {
	s := StartWith(t, Options{DefaultRetention: 1})
	c, ctx := s.Client(), t.Context()

	// AWS refuses an upload to a locked bucket that names no checksum algorithm.
	o := c.Options()
	o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	_, err := s3.New(o).PutObject(ctx, &s3.PutObjectInput{Bucket: &s.Bucket, Key: aws.String("a"), Body: bytes.NewReader([]byte("hello"))})
	wantCode(t, err, "")

	// AWS shows the bucket's default as the object's own retention.
	_, err = c.GetObjectRetention(ctx, &s3.GetObjectRetentionInput{Bucket: &s.Bucket, Key: aws.String("a")})
	wantCode(t, err, "NoSuchObjectLockConfiguration")

	// Below a delete marker AWS has no object, and takes another.
	_, err = c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.Bucket, Key: aws.String("a")})
	wantCode(t, err, "")
	_, err = s.put(ctx, c, "a", s3.PutObjectInput{IfNoneMatch: aws.String("*")})
	wantCode(t, err, "PreconditionFailed")

	// AWS lists the versions of keys after the marker, not the marker's own.
	out, err := c.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: &s.Bucket, KeyMarker: aws.String("a")})
	if err != nil || len(out.Versions) != 1 {
		t.Errorf("got %+v, %v", out, err)
	}
}

func TestABucketWithoutLockKeepsNothing(t *testing.T) {
	s := StartWith(t, Options{NoLock: true})
	c, ctx := s.Client(), t.Context()
	version, err := s.put(ctx, c, "a", s3.PutObjectInput{})
	wantCode(t, err, "")
	if version != "" {
		t.Errorf("got version %q", version)
	}
	until := time.Now().Add(time.Hour)
	_, err = s.put(ctx, c, "b", s3.PutObjectInput{ObjectLockMode: types.ObjectLockModeCompliance, ObjectLockRetainUntilDate: &until})
	wantCode(t, err, "InvalidRequest")
	_, err = c.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: &s.Bucket})
	wantCode(t, err, "ObjectLockConfigurationNotFoundError")
}

func TestTheWireBreaksAsItIsTold(t *testing.T) {
	s := Start(t)
	o := s.Client().Options()
	o.BaseEndpoint, o.Retryer = &s.Endpoint, aws.NopRetryer{}
	for name, test := range map[string]struct {
		fault Fault
		code  string // "" = no S3 error, but another
	}{
		"throttled": {Fault{Throttle: true}, "SlowDown"},
		"denied":    {Fault{Deny: true}, "AccessDenied"},
		"skewed":    {Fault{Skew: time.Hour}, "RequestTimeTooSkewed"},
		"chosen":    {Fault{Error: "InternalError", Status: 500}, "InternalError"},
		"html":      {Fault{HTML: true}, "BadGateway"}, // the SDK's own
		"down":      {Fault{Down: true}, ""},
		"hang":      {Fault{Hang: true}, ""},
		"upload":    {Fault{Upload: 3}, ""},
		"answer":    {Fault{Answer: -1}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			mend := s.Wire.Break(test.fault)
			_, err := s.put(ctx, s3.New(o), name, s3.PutObjectInput{})
			mend()
			var api smithy.APIError
			if err == nil || errors.As(err, &api) != (test.code != "") {
				t.Errorf("got %v", err)
			}
			if test.code != "" {
				wantCode(t, err, test.code)
			}
			_, err = s.put(t.Context(), s3.New(o), name, s3.PutObjectInput{})
			wantCode(t, err, "")
		})
	}
}

func TestAFaultHitsWhatItIsAbout(t *testing.T) {
	s := Start(t)
	defer s.Wire.Break(Fault{Method: http.MethodGet, Query: "list-type", After: 1, Times: 1, Deny: true})()
	o := s.Client().Options()
	o.BaseEndpoint = &s.Endpoint
	c := s3.New(o)
	for _, code := range []string{"", "AccessDenied", ""} {
		_, err := s.put(t.Context(), c, "a", s3.PutObjectInput{})
		wantCode(t, err, "")
		_, err = c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &s.Bucket})
		wantCode(t, err, code)
	}
	if got := s.Wire.Requests(); len(got) != 6 || !strings.HasPrefix(got[0], "PUT /evidence/a") {
		t.Errorf("got %q", got)
	}
}
