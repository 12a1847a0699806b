package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
)

// Limits of PutLogEvents (CloudWatch Logs API reference).
const (
	batchEvents = 10_000
	batchBytes  = 1 << 20
	eventExtra  = 26 // bytes that each event counts beside its message
	batchSpan   = 24 * time.Hour
)

const (
	batchWait = time.Second // that an event waits for others
	callTime  = 10 * time.Second
	setupTime = 5 * time.Second
)

// CloudWatchOptions are of a log stream in CloudWatch Logs.
type CloudWatchOptions struct {
	Group    string // must exist; "" = none
	Stream   string // is made where missing
	Region   string // "" = that of the environment or the instance
	Endpoint string // URL of another server; "" = AWS, or what the environment says
	Queue    int    // bytes that may wait; 0 = 8 MiB
}

// CloudWatch makes a sink. Nothing is sent before Run. ctx is for finding out
// region and credentials. It needs logs:PutLogEvents and logs:CreateLogStream.
func CloudWatch(ctx context.Context, o CloudWatchOptions) (*Sink, error) {
	out, err := newCloudWatch(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("set up the CloudWatch sink: %w", err)
	}
	s := newSink("cloudwatch", o.Queue)
	s.out = out
	return s, nil
}

func newCloudWatch(ctx context.Context, o CloudWatchOptions) (*cloudWatch, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, setupTime)
	defer cancel()
	load := []func(*config.LoadOptions) error{
		config.WithLogger(logging.Nop{}), // what matters comes as an error
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
	}
	if o.Region != "" {
		load = append(load, config.WithRegion(o.Region))
	} else {
		load = append(load, config.WithEC2IMDSRegion())
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("find out region and credentials; say region if this is no EC2 instance: %w", err)
	}
	if cfg.Region == "" {
		return nil, errors.New("its region is not known: say region")
	}
	client := cloudwatchlogs.NewFromConfig(cfg, func(c *cloudwatchlogs.Options) {
		if o.Endpoint != "" {
			c.BaseEndpoint = aws.String(o.Endpoint)
		}
	})
	return &cloudWatch{calls: logCalls{put: client.PutLogEvents, create: client.CreateLogStream}, group: o.Group, stream: o.Stream, region: cfg.Region, most: batchEvents, patience: callTime}, nil
}

// validate checks the names (CloudWatch Logs API reference, CreateLogStream).
func (o CloudWatchOptions) validate() error {
	if o.Group == "" || len(o.Group) > 512 || strings.ContainsFunc(o.Group, notInGroup) {
		return fmt.Errorf("its log group is %q: want 1 to 512 characters of a-z A-Z 0-9 . - _ / #", o.Group)
	}
	if o.Stream == "" || len(o.Stream) > 512 || strings.ContainsAny(o.Stream, ":*") {
		return fmt.Errorf("its log stream is %q: want 1 to 512 characters without : and *", o.Stream)
	}
	return nil
}

func notInGroup(r rune) bool {
	letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	return !letter && !strings.ContainsRune(".-_/#", r)
}

// logCalls are what is asked of CloudWatch Logs. They are functions and not the
// SDK's client: an outlet is an interface, the command line is read by
// reflection, and so the linker would keep every method of a client in it.
type logCalls struct {
	put    func(context.Context, *cloudwatchlogs.PutLogEventsInput, ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.PutLogEventsOutput, error)
	create func(context.Context, *cloudwatchlogs.CreateLogStreamInput, ...func(*cloudwatchlogs.Options)) (*cloudwatchlogs.CreateLogStreamOutput, error)
}

// cloudWatch is an outlet to a log stream. It is owned by the goroutine in Run.
type cloudWatch struct {
	calls                 logCalls
	group, stream, region string
	most                  int           // events in the next batch: fewer after one was invalid, to find out which of them is
	patience              time.Duration // for one call
}

func (c *cloudWatch) limits() limits {
	return limits{events: batchEvents, bytes: batchBytes, extra: eventExtra, longest: batchBytes - eventExtra, linger: batchWait}
}

func (c *cloudWatch) send(ctx context.Context, lines [][]byte) (outcome, error) {
	batch := batchOf(lines[:min(len(lines), c.most)])
	rejectedInfo, err := c.put(ctx, batch)
	var invalid *types.InvalidParameterException
	switch {
	case err == nil:
		c.most = batchEvents
		return count(len(batch), rejectedInfo), nil
	case errors.As(err, &invalid) && len(batch) > 1:
		c.most = len(batch) / 2
		return c.send(ctx, lines)
	case errors.As(err, &invalid):
		c.most = batchEvents
		return outcome{rejected: 1}, err
	}
	return outcome{}, err
}

// batchOf makes events of the longest part of lines, from the first on, that
// spans no more than a batch may, in the order of time that it must have.
func batchOf(lines [][]byte) []types.InputLogEvent {
	var batch []types.InputLogEvent
	var oldest, newest time.Time
	for _, line := range lines {
		at := readFacts(line).time
		if at.IsZero() {
			at = time.Now()
		}
		if len(batch) == 0 || at.Before(oldest) {
			oldest = at
		}
		if len(batch) == 0 || at.After(newest) {
			newest = at
		}
		if newest.Sub(oldest) > batchSpan {
			break
		}
		batch = append(batch, types.InputLogEvent{Timestamp: aws.Int64(at.UnixMilli()), Message: aws.String(string(line))})
	}
	slices.SortStableFunc(batch, func(a, b types.InputLogEvent) int { return cmp.Compare(*a.Timestamp, *b.Timestamp) })
	return batch
}

// put puts a batch, and makes the stream first if it has to.
func (c *cloudWatch) put(ctx context.Context, batch []types.InputLogEvent) (*types.RejectedLogEventsInfo, error) {
	info, err := c.putOnce(ctx, batch)
	var missing *types.ResourceNotFoundException
	if !errors.As(err, &missing) {
		return info, err
	}
	if err := c.create(ctx); err != nil {
		return nil, err
	}
	return c.putOnce(ctx, batch)
}

func (c *cloudWatch) putOnce(ctx context.Context, batch []types.InputLogEvent) (*types.RejectedLogEventsInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	out, err := c.calls.put(ctx, &cloudwatchlogs.PutLogEventsInput{
		LogGroupName: aws.String(c.group), LogStreamName: aws.String(c.stream), LogEvents: batch})
	if err != nil {
		return nil, c.explain("logs:PutLogEvents", err)
	}
	return out.RejectedLogEventsInfo, nil
}

func (c *cloudWatch) create(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	_, err := c.calls.create(ctx, &cloudwatchlogs.CreateLogStreamInput{
		LogGroupName: aws.String(c.group), LogStreamName: aws.String(c.stream)})
	var exists *types.ResourceAlreadyExistsException
	if err == nil || errors.As(err, &exists) {
		return nil
	}
	return c.explain("logs:CreateLogStream", err)
}

// count reads which events of a batch of n were not taken although the call
// succeeded. The old ones are at its beginning, those too new at its end.
func count(n int, info *types.RejectedLogEventsInfo) outcome {
	if info == nil {
		return outcome{sent: n}
	}
	old := max(aws.ToInt32(info.TooOldLogEventEndIndex), aws.ToInt32(info.ExpiredLogEventEndIndex))
	o := outcome{tooOld: min(max(int(old), 0), n)}
	if first := info.TooNewLogEventStartIndex; first != nil {
		o.rejected = n - min(max(int(*first), o.tooOld), n)
	}
	o.sent = n - o.tooOld - o.rejected
	return o
}

// close has nothing to do: the client's idle connections end by themselves.
func (c *cloudWatch) close() {}

// explain says what an operator can do about an error of a call that needs the
// IAM action.
func (c *cloudWatch) explain(action string, err error) error {
	return fmt.Errorf("%s to stream %s of log group %s in %s: %s: %w", action, c.stream, c.group, c.region, c.advise(action, err), err)
}

func (c *cloudWatch) advise(action string, err error) string {
	var answer smithy.APIError
	if !errors.As(err, &answer) {
		return "CloudWatch gave no answer; look at the way to it (VPC endpoint, security group, DNS) and at the credentials"
	}
	switch answer.ErrorCode() {
	case "ResourceNotFoundException":
		return "make the log group there, the gate makes only the stream"
	case "AccessDeniedException":
		return "allow " + action + " on the group to this host's role"
	case "ThrottlingException":
		return "this account puts too many log events"
	case "UnrecognizedClientException", "InvalidClientTokenId", "ExpiredTokenException", "InvalidSignatureException":
		return "the credentials of this host are not valid, or its clock is wrong"
	}
	return "CloudWatch refuses it"
}
