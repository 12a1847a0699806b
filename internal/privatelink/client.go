package privatelink

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go/logging"
)

const (
	defaultTimeout = 10 * time.Second
	attempts       = 3
	// maxBackoff keeps all attempts within a timeout of some seconds.
	maxBackoff = 2 * time.Second
)

// Options say how AWS is reached.
type Options struct {
	Region   string        // "" = that of the environment, or of the instance metadata
	Endpoint string        // URL of another server, for every service; "" = AWS, or what the environment says
	Metadata string        // URL of another metadata service; "" = the instance's, or what the environment says
	Timeout  time.Duration // of one question with its repetitions and pages; 0 = 10 s
}

// Client asks AWS. It may be used from any goroutine.
type Client struct {
	metadata metadataAPI
	config   aws.Config
	timeout  time.Duration

	mu       sync.Mutex // guards services
	services *services  // nil until the region is known
}

// services are the calls that the gate makes, in one region. They are functions
// and not the SDK's clients behind interfaces: the command line is read by
// reflection, and so the linker keeps every method of a type that is ever
// converted to an interface. EC2's client has a thousand, of 40 MB.
type services struct {
	region   string
	balancer balancerCalls
	ec2      ec2Calls
	scaling  scalingCalls
	secrets  secretCalls
	object   getObject
}

// ec2Calls are what is asked of EC2.
type ec2Calls struct {
	interfaces  func(context.Context, *ec2.DescribeNetworkInterfacesInput, ...func(*ec2.Options)) (*ec2.DescribeNetworkInterfacesOutput, error)
	connections func(context.Context, *ec2.DescribeVpcEndpointConnectionsInput, ...func(*ec2.Options)) (*ec2.DescribeVpcEndpointConnectionsOutput, error)
	accept      func(context.Context, *ec2.AcceptVpcEndpointConnectionsInput, ...func(*ec2.Options)) (*ec2.AcceptVpcEndpointConnectionsOutput, error)
}

// balancerCalls are what is asked of Elastic Load Balancing.
type balancerCalls struct {
	balancers func(context.Context, *elb.DescribeLoadBalancersInput, ...func(*elb.Options)) (*elb.DescribeLoadBalancersOutput, error)
}

// scalingCalls are what is asked of Auto Scaling.
type scalingCalls struct {
	complete  func(context.Context, *autoscaling.CompleteLifecycleActionInput, ...func(*autoscaling.Options)) (*autoscaling.CompleteLifecycleActionOutput, error)
	heartbeat func(context.Context, *autoscaling.RecordLifecycleActionHeartbeatInput, ...func(*autoscaling.Options)) (*autoscaling.RecordLifecycleActionHeartbeatOutput, error)
}

// secretCalls are what is asked of Parameter Store and Secrets Manager.
type secretCalls struct {
	parameter func(context.Context, *ssm.GetParameterInput, ...func(*ssm.Options)) (*ssm.GetParameterOutput, error)
	secret    func(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
}

// getObject is what is asked of S3.
type getObject func(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)

// metadataAPI is what is asked of the instance metadata, version 2.
type metadataAPI interface {
	GetInstanceIdentityDocument(context.Context, *imds.GetInstanceIdentityDocumentInput, ...func(*imds.Options)) (*imds.GetInstanceIdentityDocumentOutput, error)
	GetMetadata(context.Context, *imds.GetMetadataInput, ...func(*imds.Options)) (*imds.GetMetadataOutput, error)
}

// Open sets up the client. It asks nobody: an AWS that can't be reached is no
// reason not to start.
func Open(ctx context.Context, o Options) (*Client, error) {
	c := &Client{metadata: openMetadata(o.Metadata), timeout: o.Timeout}
	if c.timeout <= 0 {
		c.timeout = defaultTimeout
	}
	load := []func(*config.LoadOptions) error{
		config.WithLogger(logging.Nop{}), // what matters comes as an error
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(c.timeout / 2)),
		config.WithRetryer(retryer),
		config.WithEC2RoleCredentialOptions(func(r *ec2rolecreds.Options) {
			if client, ok := c.metadata.(ec2rolecreds.GetMetadataAPIClient); ok {
				r.Client = client
			}
		}),
	}
	if o.Region != "" {
		load = append(load, config.WithRegion(o.Region))
	}
	if o.Endpoint != "" {
		load = append(load, config.WithBaseEndpoint(o.Endpoint))
	}
	var err error
	if c.config, err = config.LoadDefaultConfig(ctx, load...); err != nil {
		return nil, fmt.Errorf("set up the AWS SDK; look at AWS_CONFIG_FILE and what it names: %w", err)
	}
	return c, nil
}

func retryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = attempts, maxBackoff })
}

// in returns the clients of the gate's region, which it may have to ask the
// instance metadata for.
func (c *Client) in(ctx context.Context) (*services, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.services != nil {
		return c.services, nil
	}
	cfg := c.config.Copy()
	if cfg.Region == "" {
		document, err := c.identity(ctx)
		if err != nil {
			return nil, fmt.Errorf("find out the region; set aws.region where there is no instance metadata: %w", err)
		}
		cfg.Region = document.Region
	}
	c.services = connect(cfg)
	return c.services, nil
}

func connect(cfg aws.Config) *services {
	cloud, scaling := ec2.NewFromConfig(cfg), autoscaling.NewFromConfig(cfg)
	return &services{
		region:   cfg.Region,
		balancer: balancerCalls{balancers: elb.NewFromConfig(cfg).DescribeLoadBalancers},
		ec2: ec2Calls{interfaces: cloud.DescribeNetworkInterfaces, connections: cloud.DescribeVpcEndpointConnections,
			accept: cloud.AcceptVpcEndpointConnections},
		scaling: scalingCalls{complete: scaling.CompleteLifecycleAction, heartbeat: scaling.RecordLifecycleActionHeartbeat},
		secrets: secretCalls{parameter: ssm.NewFromConfig(cfg).GetParameter, secret: secretsmanager.NewFromConfig(cfg).GetSecretValue},
		object:  s3.NewFromConfig(cfg, pathStyle).GetObject,
	}
}

// pathStyle is for other servers than AWS: a bucket of theirs has no host name.
func pathStyle(o *s3.Options) { o.UsePathStyle = o.BaseEndpoint != nil }

// Region is the gate's region.
func (c *Client) Region(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	s, err := c.in(ctx)
	if err != nil {
		return "", err
	}
	return s.region, nil
}

// pages collects the items of all pages: next asks for one and returns the
// token of the next page, "" with the last.
func pages[T any](next func(token *string) ([]T, *string, error)) ([]T, error) {
	var all []T
	seen := map[string]bool{}
	for token := (*string)(nil); ; {
		items, following, err := next(token)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if aws.ToString(following) == "" {
			return all, nil
		}
		// A server that gives a token twice would be asked for ever.
		if seen[*following] {
			return nil, errors.New("the answer's pages go round in a circle")
		}
		seen[*following], token = true, following
	}
}
