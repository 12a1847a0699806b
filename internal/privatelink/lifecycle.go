package privatelink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
)

// Kinds of notices, and reasons why a gate ends.
const (
	ReasonTermination = "termination" // Auto Scaling is about to end the instance
	ReasonSpot        = "spot"        // EC2 takes the spot instance back, in about two minutes
	ReasonRebalance   = "rebalance"   // EC2 is likely to take the spot instance back
)

const (
	noticeInterval = 5 * time.Second
	// heartbeatInterval is shorter than the shortest heartbeat timeout of a hook,
	// 30 s.
	heartbeatInterval = 20 * time.Second
)

// Notice says that the instance is about to go.
type Notice struct {
	Kind   string
	Detail string    // as the instance metadata has it
	At     time.Time // when it goes; zero = that is not said
}

// NoticeOptions are of WatchNotices.
type NoticeOptions struct {
	Interval time.Duration // from look to look; 0 = 5 s
	Notice   func(Notice)  // called once for each kind
	Failed   func(error)   // called when the metadata can't be read, and with nil when it can again
}

// WatchNotices looks at the instance metadata until ctx ends, and then returns
// nil. It needs no permission.
func (c *Client) WatchNotices(ctx context.Context, o NoticeOptions) error {
	if o.Interval <= 0 {
		o.Interval = noticeInterval
	}
	tick := time.NewTicker(o.Interval)
	defer tick.Stop()
	given := map[string]bool{}
	for failing := false; ; {
		found, err := c.notices(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if (err != nil) != failing {
			failing = !failing
			o.Failed(err)
		}
		for _, n := range found {
			if !given[n.Kind] {
				given[n.Kind] = true
				o.Notice(n)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// notices are those that there are now; what can't be read hides no other.
func (c *Client) notices(ctx context.Context) ([]Notice, error) {
	var found []Notice
	var failed []error
	for _, look := range []struct {
		path string
		read func(string) (Notice, bool)
	}{
		{"autoscaling/target-lifecycle-state", readLifecycleState},
		{"spot/instance-action", readSpotAction},
		{"events/recommendations/rebalance", readRebalance},
	} {
		ctx, cancel := context.WithTimeout(ctx, c.timeout)
		value, there, err := c.lookup(ctx, look.path)
		cancel()
		failed = append(failed, err)
		if n, ok := look.read(value); there && ok {
			n.Detail = value
			found = append(found, n)
		}
	}
	return found, errors.Join(failed...)
}

// readLifecycleState takes the states after which there is no way back: an
// instance in Standby, say, goes on later.
func readLifecycleState(state string) (Notice, bool) {
	return Notice{Kind: ReasonTermination}, state == "Terminated" || state == "Warmed:Terminated"
}

// readSpotAction reads {"action":"terminate","time":"2026-11-24T12:00:00Z"}. One
// that can't be read is a notice all the same.
func readSpotAction(text string) (Notice, bool) {
	var action struct{ Time time.Time }
	_ = json.Unmarshal([]byte(text), &action)
	return Notice{Kind: ReasonSpot, At: action.Time}, true
}

func readRebalance(string) (Notice, bool) { return Notice{Kind: ReasonRebalance}, true }

// Hook is a lifecycle hook of an Auto Scaling group.
type Hook struct{ Group, Name string }

// HoldTermination keeps Auto Scaling from ending this instance until ctx ends:
// it sends heartbeats, the first at once. failed is called with each that was
// not taken. It returns nil, and needs
// autoscaling:RecordLifecycleActionHeartbeat.
func (c *Client) HoldTermination(ctx context.Context, h Hook, failed func(error)) error {
	tick := time.NewTicker(heartbeatInterval)
	defer tick.Stop()
	for {
		if err := c.heartbeat(ctx, h); err != nil && ctx.Err() == nil {
			failed(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (c *Client) heartbeat(ctx context.Context, h Hook) error {
	return c.lifecycleAction(ctx, "RecordLifecycleActionHeartbeat", func(ctx context.Context, api scalingCalls, instance string) error {
		_, err := api.heartbeat(ctx, &autoscaling.RecordLifecycleActionHeartbeatInput{
			AutoScalingGroupName: &h.Group, LifecycleHookName: &h.Name, InstanceId: &instance})
		return err
	})
}

// CompleteTermination lets Auto Scaling end this instance. It needs
// autoscaling:CompleteLifecycleAction.
func (c *Client) CompleteTermination(ctx context.Context, h Hook) error {
	return c.lifecycleAction(ctx, "CompleteLifecycleAction", func(ctx context.Context, api scalingCalls, instance string) error {
		_, err := api.complete(ctx, &autoscaling.CompleteLifecycleActionInput{
			AutoScalingGroupName: &h.Group, LifecycleHookName: &h.Name, InstanceId: &instance, LifecycleActionResult: aws.String("CONTINUE")})
		return err
	})
}

func (c *Client) lifecycleAction(ctx context.Context, name string, call func(context.Context, scalingCalls, string) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	self, err := c.identity(ctx)
	if err != nil {
		return err
	}
	s, err := c.in(ctx)
	if err != nil {
		return err
	}
	if err := call(ctx, s.scaling, self.Instance); err != nil {
		return fmt.Errorf("lifecycle hook of instance %s: %w", self.Instance, explain("autoscaling:"+name, err))
	}
	return nil
}
