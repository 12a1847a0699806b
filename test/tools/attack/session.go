package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"postern/test/gateclient"
)

// session authenticates and misbehaves then.
func (a attack) session(ctx context.Context) error {
	stall := &stallable{}
	c, err := a.Dial(ctx, gateclient.Client(1), func(nc net.Conn) net.Conn {
		stall.Conn = nc
		return stall
	})
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	switch a.kind {
	case "channels":
		tally(a.kind, a.channels(c, false))
	case "channel-storm":
		tally(a.kind, a.channels(c, true))
	case "unknown-channel":
		tally(a.kind, a.unknownChannels(c))
	case "global-requests":
		tally(a.kind, a.globalRequests(c))
	case "stalled-reader":
		return a.stalledReader(ctx, c, stall)
	default:
		return fmt.Errorf("unknown kind %q", a.kind)
	}
	return nil
}

// channels opens count tunnels, all at once or each closed before the next.
func (a attack) channels(c *ssh.Client, storm bool) map[string]int {
	results := map[string]int{}
	for range a.count {
		ch, err := c.Dial("tcp", a.target)
		results[result(err)]++
		if err == nil && storm {
			ch.Close()
		}
	}
	return results
}

func (a attack) unknownChannels(c *ssh.Client) map[string]int {
	results := map[string]int{}
	for range a.count {
		_, _, err := c.OpenChannel("no-such@example.com", nil)
		results[result(err)]++
	}
	return results
}

func (a attack) globalRequests(c *ssh.Client) map[string]int {
	results := map[string]int{}
	for i := range a.count {
		ok, _, err := c.SendRequest(fmt.Sprintf("keepalive-%d@example.com", i), true, nil)
		switch {
		case err != nil:
			results["lost"]++
		case ok:
			results["success"]++
		default:
			results["failure"]++
		}
	}
	return results
}

// result names how a channel open ended, with RFC 4254 §5.1 reasons.
func result(err error) string {
	var refused *ssh.OpenChannelError
	switch {
	case err == nil:
		return "opened"
	case !errors.As(err, &refused):
		return "lost"
	}
	switch refused.Reason {
	case ssh.Prohibited:
		return "prohibited"
	case ssh.ConnectionFailed:
		return "connect_failed"
	case ssh.UnknownChannelType:
		return "unknown_type"
	case ssh.ResourceShortage:
		return "resource_shortage"
	}
	return fmt.Sprintf("reason_%d", refused.Reason)
}

// stalledReader opens a tunnel to a target that sends, then stops reading from
// TCP and prints when the gate let go.
func (a attack) stalledReader(ctx context.Context, c *ssh.Client, stall *stallable) error {
	ch, err := c.Dial("tcp", a.target)
	if err != nil {
		return err
	}
	go io.Copy(io.Discard, ch)
	stall.stalled.Store(true)
	start := time.Now()
	<-ctx.Done()
	fmt.Printf("%s: stalled for %.0f s\n", a.kind, time.Since(start).Seconds())
	return nil
}

// stallable is a connection whose reads can stop for ever.
type stallable struct {
	net.Conn
	stalled atomic.Bool
}

func (s *stallable) Read(b []byte) (int, error) {
	if s.stalled.Load() {
		select {} // the process ends with the attack
	}
	return s.Conn.Read(b)
}

// authFailures tries count logins with a key that nobody knows.
func (a attack) authFailures(ctx context.Context) error {
	results := map[string]int{}
	for n := range a.count {
		c, err := a.Dial(ctx, a.client(n), nil)
		if err == nil {
			c.Close()
			results["admitted"]++
			continue
		}
		// x/crypto/ssh has no type for it.
		if strings.Contains(err.Error(), "unable to authenticate") {
			results["refused"]++
		} else {
			results["closed"]++
		}
	}
	tally(a.kind, results)
	return nil
}
