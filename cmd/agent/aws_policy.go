package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"go.uber.org/zap"

	"postern/internal/config"
	"postern/internal/durable"
	"postern/internal/privatelink"
)

// policyInterval is from look to look at a policy in S3, a tenth more or less.
const policyInterval = 15 * time.Second

// firstPolicy fetches the policy from S3 where there is no copy of it. A start
// with a copy waits for nobody; followPolicy then looks whether it is still the
// one.
func firstPolicy(c *config.Config, client *privatelink.Client) error {
	name, ok := privatelink.ParseObject(c.PolicyObject)
	if !ok {
		return nil
	}
	if _, err := os.Stat(c.PolicyPath); !errors.Is(err, fs.ErrNotExist) {
		return nil // loading it says what is wrong with it
	}
	ctx, cancel := context.WithTimeout(context.Background(), keysTimeout)
	defer cancel()
	data, _, err := client.Object(ctx, name, "")
	if err != nil {
		return &fault{status: exitWrong, err: fmt.Errorf("fetch the policy: %w", err), hints: []string{
			"the gate needs s3:GetObject for it by its role, and a way to S3 (a gateway endpoint on the route table of its subnet)",
		}}
	}
	if err := keepPolicy(c.PolicyPath, data); err != nil {
		return configFault(fmt.Errorf("the policy at %s: %w", name, err))
	}
	return nil
}

// keepPolicy makes a policy the copy at path if it is a good one.
func keepPolicy(path string, data []byte) error {
	tried := path + ".new"
	defer os.Remove(tried)
	if err := durable.WriteFile(tried, data, 0o640); err != nil {
		return fmt.Errorf("keep a copy: %w", err)
	}
	if _, err := config.LoadPolicy(tried); err != nil {
		return err
	}
	if err := durable.WriteFile(path, data, 0o640); err != nil {
		return fmt.Errorf("keep a copy: %w", err)
	}
	return nil
}

// followPolicy keeps the copy of the policy equal to the object in S3; the
// rules' own watch then puts it in force.
func (w *wayIn) followPolicy(ctx context.Context) error {
	c := w.rules.current()
	path, interval := c.PolicyPath, policyInterval
	if c.AWS != nil {
		interval = min(interval, c.AWS.Refresh)
	}
	return w.client.FollowObject(ctx, privatelink.ObjectOptions{
		Name: *w.policy, Interval: interval,
		Looked: func(err error) { w.looked(awsPolicy, err) },
		Changed: func(ctx context.Context, data []byte) {
			if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
				w.rules.fetched(ctx, w.policy.String(), nil)
				return
			}
			w.log.Info("the policy in S3 has changed", zap.Stringer("object", *w.policy))
			w.rules.fetched(ctx, w.policy.String(), keepPolicy(path, data))
		},
	})
}

// fetched takes whether the policy in S3 is good; a bad one changes nothing.
func (r *rules) fetched(ctx context.Context, object string, fault error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if fault != nil {
		r.objectFault = fault.Error()
		// What is wrong has been logged and written down when this returns.
		_ = r.keep(ctx, ownProcess("config.reload", viaAWS), object, r.policy.Version, fault)
		return
	}
	if r.objectFault != "" {
		r.objectFault = ""
		r.reloaded()
	}
}

// policyPlace is where the policy is from now on. Whether it is in S3, and
// where there, can't be changed without a restart, which fetches it.
func (r *rules) policyPlace(c *config.Config) (path, object string) {
	if c.PolicyObject != r.config.PolicyObject {
		return r.config.PolicyPath, r.config.PolicyObject
	}
	return c.PolicyPath, c.PolicyObject
}
