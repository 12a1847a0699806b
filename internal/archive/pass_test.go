package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"postern/test/s3server"
)

func TestAnArchiveWithoutABucketIsRefused(t *testing.T) {
	for name, o := range map[string]Options{
		"zero":              {},
		"slash":             {Bucket: "b", Prefix: "gates/"},
		"control":           {Bucket: "b", Prefix: "a\nb"},
		"no mode":           {Bucket: "b", Retention: time.Hour},
		"unknown mode":      {Bucket: "b", Retention: time.Hour, RetentionMode: "COMPLIANCE"},
		"negative":          {Bucket: "b", Retention: -1, RetentionMode: "compliance"},
		"negative interval": {Bucket: "b", Interval: -1},
		"endpoint":          {Bucket: "b", Endpoint: "s3.example.com"},
	} {
		if _, err := Open(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAnEndpointIsAskedInPathStyle(t *testing.T) {
	s := newStore(t)
	t.Setenv("AWS_ENDPOINT_URL_S3", "")
	t.Setenv("AWS_REGION", "")
	o := s.o
	o.Endpoint = s.server.Endpoint
	s.reopen(t, o)
	s.anchors(1)
	if err := s.Flush(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestWithoutARegionTheOptionIsNamed(t *testing.T) {
	s := newStore(t)
	t.Setenv("AWS_REGION", "")
	s.reopen(t, s.o)
	s.anchors(1)
	err := s.Flush(t.Context())
	if err == nil || !strings.Contains(err.Error(), "archive.region") {
		t.Errorf("got %v", err)
	}
}

func TestPassesComeInTimeAndSlowerWhileS3Fails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		wake := make(chan struct{}, 1)
		passes := make(chan time.Time, 1000)
		var reason atomic.Value
		reason.Store("")
		go run(ctx, time.Minute, wake, func(context.Context) (Status, error) {
			passes <- time.Now()
			return Status{Reason: reason.Load().(string)}, nil
		})
		last := <-passes
		gap := func() time.Duration {
			at := <-passes
			defer func() { last = at }()
			return at.Sub(last)
		}
		for range 50 {
			if d := gap(); d < 54*time.Second || d > 66*time.Second {
				t.Errorf("a pass after %s", d)
			}
		}
		synctest.Wait()
		wake <- struct{}{}
		if d := gap(); d != 0 {
			t.Errorf("woken after %s", d)
		}
		reason.Store(reasonConflict) // no failure of S3
		gap()
		if d := gap(); d < 54*time.Second {
			t.Errorf("a pass after %s", d)
		}
		reason.Store(reasonThrottled)
		gap()
		for i := range 50 {
			synctest.Wait()
			wake <- struct{}{} // does not shorten the pause
			d := gap()
			if most := min(time.Second<<min(i, 10), time.Minute); d == 0 || d > most {
				t.Errorf("pause %d: %s, want at most %s", i, d, most)
			}
			select {
			case <-wake:
			default:
			}
		}
	})
}

func TestRunEndsInAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Minute, stop)
		for _, reason := range []string{"", reasonUnreachable} {
			err := run(ctx, time.Hour, nil, func(context.Context) (Status, error) { return Status{Reason: reason}, nil })
			if err != nil {
				t.Error(err)
			}
		}
	})
}

func TestACheckpointDoesNotWaitForALargeRecording(t *testing.T) {
	s := newStore(t)
	_, data := s.file(t, "recordings/large", 3*smallestPart)
	// A session ends, or a minute has passed, while the first part is sent.
	defer s.server.Wire.Break(s3server.Fault{Query: "partNumber", Times: 1, Do: func() {
		s.anchors(2)
		s.file(t, "recordings/second", 2*smallestPart)
		s.Wake()
	}})()
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	puts := s.puts()
	at := func(key string) int {
		for i, k := range puts {
			if k == key {
				return i
			}
		}
		return -1
	}
	if first := at("recordings/large"); first != 0 || at(anchorKey(1)) != 1 || at(anchorKey(2)) != 2 {
		t.Errorf("got %q", puts)
	}
	if len(s.passes) != 2 || s.passes[0].Copied != 2 || s.passes[0].Files != 2 || s.last().Copied != 3 {
		t.Errorf("got %+v", s.passes)
	}
	s.wantGet(t, "recordings/large", data)
}

func TestAFileThatGrowsWhileItIsReadIsNotPut(t *testing.T) {
	for _, size := range []int{100, 2 * smallestPart} {
		s := newStore(t)
		path, _ := s.file(t, "recordings/open", size)
		src, err := s.items[0].open()
		if err != nil {
			t.Fatal(err)
		}
		defer src.close()
		if err := os.WriteFile(path, make([]byte, size+1), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.put(t.Context(), "recordings/open", src); reasonOf(err) != reasonFile || len(s.keys(t)) != 0 {
			t.Errorf("got %v", err)
		}
		s.wantNoRest(t)
	}
}

// tireless takes every object, so that the archive's own memory is seen.
type tireless struct{ puts int }

func (r *tireless) RoundTrip(req *http.Request) (*http.Response, error) {
	resp := &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}
	if req.Method == http.MethodPut {
		r.puts++
		resp.Header.Set("X-Amz-Version-Id", "1")
		resp.Header.Set("X-Amz-Checksum-Sha256", req.Header.Get("X-Amz-Checksum-Sha256"))
		return resp, req.Body.Close()
	}
	resp.StatusCode = http.StatusForbidden
	return resp, nil
}

func TestTenThousandItemsTakeLittleMemory(t *testing.T) {
	s := newStore(t)
	if fast, err := os.MkdirTemp("/dev/shm", "ledger-"); err == nil { // each line is synced
		t.Cleanup(func() { os.RemoveAll(fast) })
		s.o.Ledger = fast + "/ledger"
	}
	s.reopen(t, s.o)
	take := &tireless{}
	client, err := s.remote.s3(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	o := client.Options()
	o.HTTPClient = &http.Client{Transport: take}
	s.remote.client = s3.New(o)
	data := bytes.Repeat([]byte("x"), 50_000)
	for i := range 10_000 {
		s.items = append(s.items, Item{Key: fmt.Sprintf("segments/%020d", i), Data: data})
	}
	before := heap()
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if grown := heap() - before; take.puts != 10_000 || s.last().Copied != 10_000 || grown > 8<<20 {
		t.Errorf("after %d puts the heap has grown by %d bytes", take.puts, grown)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestAStalledReadEnds(t *testing.T) {
	s := newStore(t)
	s.anchors(1)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.server.Wire.Break(s3server.Fault{Query: "versionId", Hang: true})()
	s.remote.timeout = 300 * time.Millisecond
	err := s.Get(t.Context(), anchorKey(0), &bytes.Buffer{})
	if !errors.Is(err, errStalled) || reasonOf(err) != reasonUnreachable {
		t.Errorf("got %v", err)
	}
}
