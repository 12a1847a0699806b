package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"postern/internal/config"
	"postern/internal/privatelink"
)

// completeTimeout bounds the last call to Auto Scaling.
const completeTimeout = 15 * time.Second

// lifecycle drains the gate when AWS is about to take the instance, and lets it
// go when the gate has drained. A nil lifecycle does nothing.
type lifecycle struct {
	client      *privatelink.Client
	hook        privatelink.Hook // zero = there is none
	log         *zap.Logger
	drain       func(ending)
	terminating atomic.Bool
}

// newLifecycle watches where AWS is configured at all.
func newLifecycle(c *config.Config, client *privatelink.Client, log *zap.Logger, drain func(ending)) *lifecycle {
	if c.AWS == nil {
		return nil
	}
	return &lifecycle{client: client, log: log, drain: drain,
		hook: privatelink.Hook{Group: c.AWS.AutoScalingGroup, Name: c.AWS.LifecycleHook}}
}

// run watches until ctx ends, and then returns nil.
func (l *lifecycle) run(ctx context.Context) error {
	if l == nil {
		return nil
	}
	var holding sync.WaitGroup
	defer holding.Wait()
	return l.client.WatchNotices(ctx, privatelink.NoticeOptions{
		Notice: func(n privatelink.Notice) {
			l.log.Warn("AWS takes this instance", zap.String("notice", n.Kind), zap.String("detail", n.Detail), zap.Time("at", n.At))
			l.drain(ending{reason: n.Kind, at: n.At})
			if n.Kind != privatelink.ReasonTermination || l.hook == (privatelink.Hook{}) {
				return
			}
			l.terminating.Store(true)
			holding.Go(func() { l.hold(ctx) })
		},
		Failed: func(err error) {
			if err != nil {
				l.log.Warn("instance metadata can't be read: that AWS takes this instance would go unnoticed", zap.Error(err))
				return
			}
			l.log.Info("instance metadata can be read again")
		},
	})
}

// hold keeps Auto Scaling waiting while the gate drains.
func (l *lifecycle) hold(ctx context.Context) {
	// It only returns nil.
	_ = l.client.HoldTermination(ctx, l.hook, func(err error) {
		l.log.Warn("Auto Scaling does not wait for the drain", zap.Error(err))
	})
}

// complete lets Auto Scaling end the instance. It is called when the gate has
// ended.
func (l *lifecycle) complete() {
	if l == nil || !l.terminating.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), completeTimeout)
	defer cancel()
	if err := l.client.CompleteTermination(ctx, l.hook); err != nil {
		l.log.Warn("Auto Scaling was not told that the gate has drained: it waits for the hook's timeout", zap.Error(err))
		return
	}
	l.log.Info("Auto Scaling may end this instance")
}
