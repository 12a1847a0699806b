package privatelink

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"postern/test/awsfake"
)

func TestWhatNamesAnObject(t *testing.T) {
	for reference, want := range map[string]bool{"s3://gate/policy.yaml": true, "s3://gate/fleet/a/policy.yaml": true,
		"s3://gate/": false, "s3://gate": false, "s3:///policy.yaml": false, "/etc/policy.yaml": false, "": false} {
		n, got := ParseObject(reference)
		if got != want || want && n.String() != reference {
			t.Errorf("%q: %v, %t", reference, n, got)
		}
	}
}

func fleetPolicy() ObjectName { return ObjectName{awsfake.GateBucket, "fleet/policy.yaml"} }

func TestAnObjectIsReadOnceForEachContent(t *testing.T) {
	a := awsfake.Correct()
	a.Buckets[0].Objects["fleet/policy.yaml"] = []byte("rules: []\n")
	_, _, client := fake(t, a)
	data, etag, err := client.Object(t.Context(), fleetPolicy(), "")
	if err != nil || string(data) != "rules: []\n" {
		t.Fatalf("%q, %v", data, err)
	}
	if _, _, err := client.Object(t.Context(), fleetPolicy(), etag); !errors.Is(err, ErrUnchanged) {
		t.Errorf("unchanged: %v", err)
	}
	a.Change(func() { a.Buckets[0].Objects["fleet/policy.yaml"] = []byte("frozen: [vendor]\n") })
	if data, _, err = client.Object(t.Context(), fleetPolicy(), etag); err != nil || string(data) != "frozen: [vendor]\n" {
		t.Errorf("changed: %q, %v", data, err)
	}
}

func TestAnObjectThatCannotBeReadSaysWhy(t *testing.T) {
	for name, c := range map[string]struct {
		change       func(*awsfake.Account)
		fault        awsfake.Fault
		reason, text string
	}{
		"no object": {func(*awsfake.Account) {}, awsfake.Fault{}, ReasonNotFound, "s3://gate-archive/fleet/policy.yaml"},
		"no bucket": {func(a *awsfake.Account) { a.Buckets = nil }, awsfake.Fault{}, ReasonNotFound, "s3:GetObject"},
		"no right":  {func(a *awsfake.Account) { a.Denied = []string{"s3:GetObject"} }, awsfake.Fault{}, ReasonDenied, "allow s3:GetObject"},
		"too large": {func(a *awsfake.Account) {
			a.Buckets[0].Objects["fleet/policy.yaml"] = bytes.Repeat([]byte("#"), maxObject+1)
		}, awsfake.Fault{}, ReasonOther, "4 MiB"},
		"cut short": {func(a *awsfake.Account) {
			a.Buckets[0].Objects["fleet/policy.yaml"] = []byte("rules: []\nfrozen: []\n")
		}, awsfake.Fault{Truncate: 12}, ReasonOther, "breaks off"},
		"no answer": {func(*awsfake.Account) {}, awsfake.Fault{Hang: true}, ReasonUnreachable, "endpoint in the VPC"},
	} {
		t.Run(name, func(t *testing.T) {
			a := awsfake.Correct()
			c.change(a)
			server, _, client := fake(t, a)
			client.timeout = time.Second
			if c.fault != (awsfake.Fault{}) {
				server.Fail(c.fault)
			}
			data, _, err := client.Object(t.Context(), fleetPolicy(), "")
			if data != nil || Reason(err) != c.reason || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%q, reason %s, %v", data, Reason(err), err)
			}
		})
	}
}

// contents is S3 in memory, for bubbles.
type contents struct {
	mu    sync.Mutex
	of    string
	down  error
	asked int
}

func (c *contents) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *contents) GetObject(_ context.Context, in *s3.GetObjectInput, _ ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if c.down != nil {
		return nil, c.down
	}
	etag := awsfake.ETag([]byte(c.of))
	if aws.ToString(in.IfNoneMatch) == etag {
		return nil, ErrUnchanged
	}
	return &s3.GetObjectOutput{Body: body{strings.NewReader(c.of)}, ETag: &etag}, nil
}

type body struct{ *strings.Reader }

func (body) Close() error { return nil }

func TestAChangedObjectIsToldOfWithinSecondsAndOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		s := &contents{of: "one"}
		client := &Client{timeout: time.Second, services: &services{object: s.GetObject}}
		var mu sync.Mutex
		var told []string
		answered, failed := 0, 0
		done := make(chan error)
		go func() {
			done <- client.FollowObject(ctx, ObjectOptions{Name: fleetPolicy(),
				Changed: func(_ context.Context, data []byte) { mu.Lock(); defer mu.Unlock(); told = append(told, string(data)) },
				Looked: func(err error) {
					mu.Lock()
					defer mu.Unlock()
					if err != nil {
						failed++
						return
					}
					answered++
				}})
		}()
		pass(time.Hour)
		if s.set(func() {}); s.asked < 200 || s.asked > 270 {
			t.Errorf("asked %d times in an hour", s.asked)
		}
		s.set(func() { s.of = "two" })
		pass(17 * time.Second)
		s.set(func() { s.down = errors.New("no route to host") })
		pass(time.Hour)
		s.set(func() { s.down = nil })
		pass(17 * time.Second)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if want := []string{"one", "two"}; !slices.Equal(told, want) {
			t.Errorf("told of %v", told)
		}
		if failed < 200 || failed > 270 || answered < 200 || answered > 280 {
			t.Errorf("%d looks were answered and %d were not", answered, failed)
		}
	})
}
