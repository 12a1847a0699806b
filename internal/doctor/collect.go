package doctor

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
)

// patience is how long the doctor waits: for the metadata service, and for the
// pages of one answer with its repetitions.
type patience struct{ metadata, call time.Duration }

// total is the longest that all takes: a question waits for at most two others.
func (p patience) total() time.Duration { return 2*p.metadata + 3*p.call }

// collector asks AWS and fills in a Snapshot. Each of its goroutines writes
// facts of its own.
type collector struct {
	*Snapshot
	ec2  *ec2.Client
	elb  *elasticloadbalancingv2.Client
	asg  *autoscaling.Client
	sts  *sts.Client
	s3   *s3.Client
	kms  *kms.Client
	fail *Failure // why there are no clients

	patience patience
}

// Collect looks at the account as far as the setup names things in it. It
// returns within 30 s; what could not be seen by then is a Failure in its fact.
// Credentials and endpoints are those of the environment, as AWS's own tools
// take them.
func Collect(ctx context.Context, setup Setup) *Snapshot {
	return collect(ctx, setup, operators())
}

// operators is what the one who waits at the terminal has.
func operators() patience { return patience{metadata: 2 * time.Second, call: 8 * time.Second} }

func collect(ctx context.Context, setup Setup, p patience) *Snapshot {
	ctx, cancel := context.WithTimeout(ctx, p.total())
	defer cancel()
	c := &collector{Snapshot: &Snapshot{Setup: setup, At: time.Now(), Region: setup.Region}, patience: p}
	c.where(ctx)
	if c.nothing() {
		return c.Snapshot
	}
	if err := c.connect(ctx); err != nil {
		c.fail = failure("", err)
	}
	c.inParallel(ctx, c.caller, c.machine, c.balancer, c.crossZone, c.listeners, c.interfaces, c.groups,
		c.service, c.principals, c.connections, c.lock, c.versioning, c.keys)
	c.inParallel(ctx, c.hooks, c.idleTimeout, c.attributes, c.targets, c.subnets, c.routeTables, c.rules, c.acls, c.dns, c.gateways)
	c.inParallel(ctx, c.targetZones)
	return c.Snapshot
}

func (c *collector) inParallel(ctx context.Context, questions ...func(context.Context)) {
	var wg sync.WaitGroup
	for _, ask := range questions {
		wg.Go(func() { ask(ctx) })
	}
	wg.Wait()
}

// where finds out on which instance this runs and which Region is meant.
func (c *collector) where(ctx context.Context) {
	c.Place = c.place(ctx, c.Setup.Instance)
	if c.Region == "" {
		c.Region = orWord(arnPart(c.Setup.LoadBalancer, 3), c.Place.Value.Region)
	}
}

func (c *collector) connect(ctx context.Context) error {
	options := []func(*config.LoadOptions) error{
		config.WithLogger(logging.Nop{}), // what matters comes as an error
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(c.patience.call / 2)),
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = 3, time.Second })
		}),
	}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return err
	}
	if cfg.Region == "" {
		return errors.New("the Region is not known: set aws.region in postern.yaml")
	}
	c.Region = cfg.Region
	c.ec2, c.elb = ec2.NewFromConfig(cfg), elasticloadbalancingv2.NewFromConfig(cfg)
	c.asg, c.sts = autoscaling.NewFromConfig(cfg), sts.NewFromConfig(cfg)
	c.s3 = s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.Region = c.bucketRegion()
		// A server other than AWS has no names for buckets.
		o.UsePathStyle = cfg.BaseEndpoint != nil || c.Setup.Bucket.Endpoint != ""
		if c.Setup.Bucket.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.Setup.Bucket.Endpoint)
		}
	})
	c.kms = kms.NewFromConfig(cfg)
	return nil
}

// ask makes one call, or several of one kind, within the time for a call.
func ask[T any](ctx context.Context, c *collector, action string, call func(context.Context) (T, error)) Fact[T] {
	if c.fail != nil {
		return unanswered[T](&Failure{Action: action, Kind: c.fail.Kind, Err: c.fail.Err})
	}
	ctx, cancel := context.WithTimeout(ctx, c.patience.call)
	defer cancel()
	v, err := call(ctx)
	if err != nil {
		return unanswered[T](failure(action, err))
	}
	return Fact[T]{Value: v}
}

// unanswered is the fact that f keeps from being known.
func unanswered[T any](f *Failure) Fact[T] { return Fact[T]{Failure: f} }

// unless is f, or absent where there is none, for a question that was not asked.
func unless(f *Failure, what string) *Failure {
	if f != nil {
		return f
	}
	return &Failure{Kind: Absent, Err: errors.New(what)}
}

func (c *collector) caller(ctx context.Context) {
	var skew Fact[time.Duration]
	c.Caller = ask(ctx, c, "sts:GetCallerIdentity", func(ctx context.Context) (Caller, error) {
		out, err := c.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		if err != nil {
			return Caller{}, err
		}
		ahead, ok := middleware.GetAttemptSkew(out.ResultMetadata)
		if !ok {
			skew.Failure = unless(nil, "AWS did not say what time it is")
		}
		skew.Value = -ahead
		return Caller{Account: aws.ToString(out.Account), ARN: aws.ToString(out.Arn)}, nil
	})
	if c.Caller.Failure != nil {
		skew.Failure = waitFor("aws.credentials")
	}
	c.Skew = skew
}
