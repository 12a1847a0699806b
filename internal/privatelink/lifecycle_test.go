package privatelink

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"postern/test/awsfake"
)

// paths is instance metadata in memory, for bubbles.
type paths struct {
	mu   sync.Mutex
	of   map[string]string
	down error
}

func (p *paths) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func (p *paths) GetInstanceIdentityDocument(context.Context, *imds.GetInstanceIdentityDocumentInput, ...func(*imds.Options)) (*imds.GetInstanceIdentityDocumentOutput, error) {
	return nil, errors.New("there is none")
}

func (p *paths) GetMetadata(_ context.Context, in *imds.GetMetadataInput, _ ...func(*imds.Options)) (*imds.GetMetadataOutput, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down != nil {
		return nil, p.down
	}
	value, ok := p.of[in.Path]
	if !ok {
		return nil, &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: &http.Response{StatusCode: http.StatusNotFound}}, Err: errors.New("404")}
	}
	return &imds.GetMetadataOutput{Content: io.NopCloser(strings.NewReader(value))}, nil
}

// watch collects the notices and failures of a bubble's metadata.
func watch(t *testing.T, p *paths, test func(seen func() ([]Notice, []error))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		c := &Client{metadata: p, timeout: defaultTimeout}
		var mu sync.Mutex
		var notices []Notice
		var failures []error
		done := make(chan error)
		go func() {
			done <- c.WatchNotices(ctx, NoticeOptions{
				Notice: func(n Notice) { mu.Lock(); defer mu.Unlock(); notices = append(notices, n) },
				Failed: func(err error) { mu.Lock(); defer mu.Unlock(); failures = append(failures, err) },
			})
		}()
		synctest.Wait()
		test(func() ([]Notice, []error) {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(notices), slices.Clone(failures)
		})
		stop()
		if err := <-done; err != nil {
			t.Errorf("WatchNotices: %v", err)
		}
	})
}

func TestANoticeIsGivenOnceAndWithinSeconds(t *testing.T) {
	p := &paths{of: map[string]string{"autoscaling/target-lifecycle-state": "InService"}}
	watch(t, p, func(seen func() ([]Notice, []error)) {
		pass(time.Hour)
		if notices, failures := seen(); len(notices) > 0 || len(failures) > 0 {
			t.Fatalf("in service: %v, %v", notices, failures)
		}
		p.set(func() { p.of["autoscaling/target-lifecycle-state"] = "Terminated" })
		pass(6 * time.Second)
		notices, _ := seen()
		if len(notices) != 1 || notices[0].Kind != ReasonTermination || notices[0].Detail != "Terminated" {
			t.Fatalf("terminated: %v", notices)
		}
		p.set(func() {
			p.of["spot/instance-action"] = `{"action":"terminate","time":"2026-11-24T12:02:00Z"}`
			p.of["events/recommendations/rebalance"] = `{"noticeTime":"2026-11-24T12:00:00Z"}`
		})
		pass(time.Hour)
		notices, _ = seen()
		if len(notices) != 3 || notices[1].Kind != ReasonSpot || !notices[1].At.Equal(time.Date(2026, 11, 24, 12, 2, 0, 0, time.UTC)) || notices[2].Kind != ReasonRebalance {
			t.Errorf("all three: %v", notices)
		}
	})
}

func TestOnlyAStateWithoutAWayBackIsANotice(t *testing.T) {
	for state, want := range map[string]bool{"Terminated": true, "Warmed:Terminated": true, "InService": false, "Standby": false, "Detached": false,
		"Warmed:Stopped": false, "Warmed:Running": false, "": false, "terminated": false} {
		if _, got := readLifecycleState(state); got != want {
			t.Errorf("%q: %t", state, got)
		}
	}
}

func TestASpotNoticeThatCannotBeReadIsANotice(t *testing.T) {
	if n, ok := readSpotAction("<html>"); !ok || n.Kind != ReasonSpot || !n.At.IsZero() {
		t.Errorf("%+v, %t", n, ok)
	}
}

func TestMetadataThatCannotBeReadIsToldOnce(t *testing.T) {
	p := &paths{of: map[string]string{}, down: errors.New("connection refused")}
	watch(t, p, func(seen func() ([]Notice, []error)) {
		pass(time.Minute)
		if _, failures := seen(); len(failures) != 1 || failures[0] == nil {
			t.Fatalf("down for a minute: %v", failures)
		}
		p.set(func() { p.down, p.of = nil, map[string]string{"spot/instance-action": "{}"} })
		pass(6 * time.Second)
		if notices, failures := seen(); len(failures) != 2 || failures[1] != nil || len(notices) != 1 {
			t.Errorf("up again: %v, %v", failures, notices)
		}
	})
}

func hook() Hook { return Hook{Group: awsfake.GateGroup, Name: awsfake.GateHook} }

func TestATerminationIsHeldUntilItIsCompleted(t *testing.T) {
	a := awsfake.Correct()
	a.Metadata.LifecycleState = "Terminated"
	_, _, client := fake(t, a)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- client.HoldTermination(ctx, hook(), func(err error) { t.Error(err) }) }()
	actions := func() (all []awsfake.LifecycleAction) {
		a.Change(func() { all = slices.Clone(a.LifecycleResult) })
		return all
	}
	for len(actions()) == 0 {
		if t.Context().Err() != nil {
			t.Fatal("no heartbeat")
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := client.CompleteTermination(t.Context(), hook()); err != nil {
		t.Fatal(err)
	}
	want := []awsfake.LifecycleAction{
		{Operation: "RecordLifecycleActionHeartbeat", Group: awsfake.GateGroup, Hook: awsfake.GateHook, Instance: awsfake.GateInstance},
		{Operation: "CompleteLifecycleAction", Group: awsfake.GateGroup, Hook: awsfake.GateHook, Instance: awsfake.GateInstance, Result: "CONTINUE"},
	}
	if got := actions(); !slices.Equal(got, want) {
		t.Errorf("Auto Scaling was asked %+v", got)
	}
}

func TestAHookThatIsNotActiveOrNotAllowedIsAnError(t *testing.T) {
	a := awsfake.Correct()
	_, metadata, client := fake(t, a)
	if err := client.CompleteTermination(t.Context(), hook()); err == nil || !strings.Contains(err.Error(), "No active Lifecycle Action") {
		t.Errorf("in service: %v", err)
	}
	a.Change(func() { a.Denied = []string{"autoscaling:RecordLifecycleActionHeartbeat"} })
	if err := client.heartbeat(t.Context(), hook()); Reason(err) != ReasonDenied || !strings.Contains(err.Error(), "autoscaling:RecordLifecycleActionHeartbeat") {
		t.Errorf("not allowed: %v", err)
	}
	metadata.Break(true)
	client.timeout = 200 * time.Millisecond
	if err := client.heartbeat(t.Context(), hook()); err == nil {
		t.Error("an instance that does not know who it is sent a heartbeat")
	}
}

func TestTheMetadataServiceIsReadWithATokenOnly(t *testing.T) {
	a := awsfake.Correct()
	a.Metadata = awsfake.Metadata{LifecycleState: "Terminated", SpotAction: "{}", Rebalance: "{}"}
	_, metadata, client := fake(t, a)
	got, err := client.notices(t.Context())
	if err != nil || len(got) != 3 {
		t.Errorf("notices %v, %v", got, err)
	}
	if want := 3; len(metadata.Paths()) != want {
		t.Errorf("paths %v", metadata.Paths())
	}
	kinds := map[string]bool{}
	for _, n := range got {
		kinds[n.Kind] = true
	}
	if all := slices.Sorted(maps.Keys(kinds)); !slices.Equal(all, []string{ReasonRebalance, ReasonSpot, ReasonTermination}) {
		t.Errorf("kinds %v", all)
	}
}
