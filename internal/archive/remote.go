package archive

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
)

const (
	dialTimeout = 5 * time.Second
	callTimeout = 20 * time.Second // of a call without a body
	slowest     = 64 << 10         // bytes a second; a body that takes longer is broken off
	attempts    = 3                // of one call
	longestWait = 5 * time.Second  // from attempt to attempt
	pageKeys    = 1000             // of a listing; S3 gives no more
)

// remote makes clients of the bucket's server.
type remote struct {
	cfg       aws.Config
	endpoint  string
	transport *http.Transport
	timeout   time.Duration // callTimeout, but in tests
	pageKeys  int32         // pageKeys, but in tests

	mu     sync.Mutex // guards client
	client *s3.Client // nil until the region is known
}

// newRemote reads the SDK's own configuration: environment, files, and from
// where credentials will come. It asks nobody.
func newRemote(ctx context.Context, o Options) (*remote, error) {
	httpClient := awshttp.NewBuildableClient().
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTimeout }).
		WithTransportOptions(func(t *http.Transport) { t.MaxIdleConnsPerHost = 2 })
	cfg, err := config.LoadDefaultConfig(ctx, config.WithHTTPClient(httpClient), config.WithRegion(o.Region), config.WithRetryer(retryer), config.WithLogger(logging.Nop{}))
	if err != nil {
		return nil, fmt.Errorf("read AWS configuration: %w", err)
	}
	// The SDK may have added AWS_CA_BUNDLE to it.
	built, ok := cfg.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		return nil, errors.New("read AWS configuration: it replaces the HTTP client")
	}
	r := &remote{cfg: cfg, endpoint: o.Endpoint, transport: built.GetTransport(), timeout: callTimeout, pageKeys: pageKeys}
	if r.cfg.Region == "" && o.Endpoint != "" {
		r.cfg.Region = "us-east-1" // what servers that have no regions call theirs
	}
	return r, nil
}

// retryer tries a call again after a pause with full jitter, also when two
// writers of one key were in each other's way.
func retryer() aws.Retryer {
	return retry.AddWithErrorCodes(retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = attempts
		o.MaxBackoff = longestWait
	}), "ConditionalRequestConflict", "OperationAborted")
}

// s3 is the client, made when it is needed first: only then may the instance be
// asked for its region.
func (r *remote) s3(ctx context.Context) (*s3.Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.client != nil {
		return r.client, nil
	}
	if err := r.findRegion(ctx); err != nil {
		return nil, err
	}
	r.client = s3.NewFromConfig(r.cfg, func(o *s3.Options) {
		o.HTTPClient = &http.Client{Transport: r.transport}
		if r.endpoint != "" {
			o.BaseEndpoint = aws.String(r.endpoint)
		}
		o.UsePathStyle = o.BaseEndpoint != nil
		o.DisableLogOutputChecksumValidationSkipped = true // Get compares those itself
	})
	return r.client, nil
}

func (r *remote) findRegion(ctx context.Context) error {
	if r.cfg.Region != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	out, err := imds.NewFromConfig(r.cfg).GetRegion(ctx, nil)
	if err != nil {
		return &failure{reasonOther, fmt.Errorf("ask the instance for its region: %w; set archive.region", err)}
	}
	r.cfg.Region = out.Region
	return nil
}

// call runs one request, whose body has size bytes, with a client that has
// credentials, and breaks it off after its time. Its error is a *failure.
func (r *remote) call(ctx context.Context, what string, size int64, do func(context.Context, *s3.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout+time.Duration(size)*time.Second/slowest)
	defer cancel()
	client, err := r.ready(ctx)
	if err == nil {
		err = do(ctx, client)
	}
	if err == nil {
		return nil
	}
	return classify(what, err)
}

// ready is the client, once credentials have been found. The SDK would look for
// them by itself, but its error could not be told from another.
func (r *remote) ready(ctx context.Context) (*s3.Client, error) {
	client, err := r.s3(ctx)
	if err != nil {
		return nil, err
	}
	if r.cfg.Credentials == nil {
		return nil, &failure{reasonDenied, errors.New("there are no credentials")}
	}
	if _, err := r.cfg.Credentials.Retrieve(ctx); err != nil {
		return nil, &failure{reasonDenied, fmt.Errorf("get credentials: %w", err)}
	}
	return client, nil
}
