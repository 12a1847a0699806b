package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"postern/internal/admission"
	"postern/internal/audit"
	"postern/internal/config"
	"postern/internal/metrics"
	"postern/internal/privatelink"
)

// What the gate asks AWS about while it runs, as metrics and events name it.
const (
	awsAddresses  = "addresses"  // of the load balancer
	awsEndpoints  = "endpoints"  // at the endpoint service
	awsAcceptance = "acceptance" // of pending endpoints
	awsPolicy     = "policy"     // in S3
)

// keysTimeout is how long a start waits for keys and a policy that only AWS has.
const keysTimeout = 20 * time.Second

// locateTimeout is within the second in which a gate is to listen.
const locateTimeout = 300 * time.Millisecond

// openAWS sets up the way to AWS, and asks nobody.
func openAWS(c *config.Config) (*privatelink.Client, error) {
	o := privatelink.Options{}
	if c.AWS != nil {
		o.Region = c.AWS.Region
	}
	return privatelink.Open(context.Background(), o)
}

// locate says in the audit log where in AWS the gate is. The instance metadata is
// on the host itself: where it does not answer at once there is none.
func (g *gate) locate(c *config.Config, h *audit.Host) {
	if c.AWS == nil {
		return
	}
	h.Region, h.LoadBalancer = c.AWS.Region, c.AWS.LoadBalancer
	ctx, cancel := context.WithTimeout(context.Background(), locateTimeout)
	defer cancel()
	self, err := g.aws.Identity(ctx)
	if err != nil {
		g.log.Info("no instance metadata: events do not name the instance", zap.Error(err))
		return
	}
	h.InstanceID, h.Region, h.Zone, h.Account = self.Instance, self.Region, self.Zone, self.Account
}

// wayIn follows what AWS says of the way in, and of the policy, and keeps the
// rules equal to it. A nil wayIn follows nothing.
type wayIn struct {
	client   *privatelink.Client
	follower *privatelink.Follower // nil = no way in is followed
	policy   *privatelink.ObjectName
	rules    *rules
	log      *zap.Logger
	audit    *audit.Log
	metrics  *metrics.Metrics
	began    time.Time

	mu       sync.Mutex           // guards what follows
	answered map[string]time.Time // when a look last brought an answer
	failing  map[string]string    // why the last look brought none
}

// newWayIn is called before the gate's rules are read again; it makes them
// follow.
func newWayIn(c *config.Config, client *privatelink.Client, r *rules) *wayIn {
	w := &wayIn{client: client, rules: r, log: r.log, audit: r.audit, metrics: r.metrics, began: time.Now(),
		answered: map[string]time.Time{}, failing: map[string]string{}}
	if c.AWS != nil {
		w.follower = client.Follower(privatelink.FollowOptions{Watch: watchOf(c), Changed: w.changed, Accepting: w.accepting})
		r.follower = w.follower
	}
	if name, ok := privatelink.ParseObject(c.PolicyObject); ok {
		w.policy = &name
	}
	if w.follower == nil && w.policy == nil {
		return nil
	}
	w.metrics.WatchAWS(w.stand)
	return w
}

// watchOf is what c says of the way in. Where the peer itself is the client
// nothing is discovered.
func watchOf(c *config.Config) privatelink.Watch {
	if c.AWS == nil || c.Admission.ProxyProtocol != admission.ProxyRequired {
		return privatelink.Watch{}
	}
	return privatelink.Watch{LoadBalancer: c.AWS.LoadBalancer, EndpointService: c.AWS.EndpointService,
		EndpointOwners: c.AWS.EndpointOwners, Accept: c.AWS.AcceptEndpoints, Refresh: c.AWS.Refresh}
}

// run follows until ctx ends, and then returns nil.
func (w *wayIn) run(ctx context.Context) error {
	if w == nil {
		return nil
	}
	parts, ctx := errgroup.WithContext(ctx)
	if w.follower != nil {
		parts.Go(func() error { return w.follower.Run(ctx) })
	}
	if w.policy != nil {
		parts.Go(func() error { return w.followPolicy(ctx) })
	}
	return parts.Wait()
}

// changed takes what AWS says now.
func (w *wayIn) changed(ctx context.Context, v privatelink.View) {
	if v.Addresses.Err != nil || !v.Addresses.At.IsZero() {
		w.looked(awsAddresses, v.Addresses.Err)
	}
	if v.Endpoints.Err != nil || !v.Endpoints.At.IsZero() {
		w.looked(awsEndpoints, v.Endpoints.Err)
		w.looked(awsAcceptance, unaccepted(v))
	}
	w.rules.discovered(ctx)
}

// unaccepted is one error for all pending endpoints that AWS did not accept.
func unaccepted(v privatelink.View) error {
	var all []error
	for id, err := range v.Unaccepted {
		all = append(all, fmt.Errorf("%s: %w", id, err))
	}
	slices.SortFunc(all, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(all...)
}

// accepting writes down what is about to be accepted. The error keeps it from
// being done.
func (w *wayIn) accepting(ctx context.Context, endpoints []privatelink.Endpoint) error {
	for _, e := range endpoints {
		err := w.rules.write(ctx, audit.Event{Code: audit.EndpointAccept, Entity: e.ID, Admin: ownProcess("endpoints.accept", viaAWS),
			Message: "endpoint " + e.ID + " of account " + e.Owner + " is accepted", Extra: map[string]any{"owner": e.Owner}})
		if err != nil {
			return err
		}
		w.log.Info("accepting an endpoint", zap.String("endpoint", e.ID), zap.String("owner", e.Owner))
	}
	return nil
}

// looked takes how a look at AWS ended. What goes on failing is told once.
func (w *wayIn) looked(what string, err error) {
	reason := privatelink.Reason(err)
	w.mu.Lock()
	before := w.failing[what]
	w.failing[what] = reason
	if err == nil {
		w.answered[what] = time.Now()
	}
	age := w.age(what)
	w.mu.Unlock()
	if err != nil {
		w.metrics.AWSFailed(what, reason)
	}
	switch {
	case err != nil && before == "":
		w.log.Warn("AWS does not answer, what it said before holds", zap.String("what", what), zap.String("reason", reason), zap.Error(err))
		w.audit.Note(audit.Event{Code: audit.AWSFailure, Reason: reason, Detail: err.Error(),
			Message: "AWS does not say " + what + ", what it said before holds", Extra: map[string]any{"what": what, "age_s": int(age.Seconds())}})
	case err == nil && before != "":
		w.log.Info("AWS answers again", zap.String("what", what))
		w.audit.Note(audit.Event{Code: audit.AWSRecovered, Message: "AWS says " + what + " again", Extra: map[string]any{"what": what}})
	}
}

// age is how old the last answer is, or this gate, where there was none. It is
// called with mu held.
func (w *wayIn) age(what string) time.Duration {
	if at, ok := w.answered[what]; ok {
		return time.Since(at)
	}
	return time.Since(w.began)
}

// stand is what the metrics say.
func (w *wayIn) stand() metrics.AWS {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := metrics.AWS{Ages: map[string]time.Duration{}}
	if w.policy != nil {
		m.Ages[awsPolicy] = w.age(awsPolicy)
	}
	if w.follower == nil {
		return m
	}
	watch, view := w.follower.Watch(), w.follower.View()
	if watch.LoadBalancer != "" {
		m.Ages[awsAddresses], m.Addresses = w.age(awsAddresses), len(view.Addresses.Value)
	}
	if watch.EndpointService != "" {
		m.Ages[awsEndpoints] = w.age(awsEndpoints)
	}
	for _, e := range view.Endpoints.Value {
		switch {
		case e.Allowed(watch.EndpointOwners):
			m.Endpoints++
		case e.Pending():
			m.Pending++
		}
	}
	return m
}
