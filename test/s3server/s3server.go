// Package s3server starts a real S3 server with Object Lock for a test, and a
// wire before it that can be broken.
//
// The server is versitygw with its posix backend: it is one Go program that the
// module proxy has, and of those the one that knows Object Lock, versions,
// If-None-Match and checksums, and checks signatures.
//
// What it can't show: it has one account that may do all, so the actions a role
// needs are not tried; it takes uploads without a checksum into a locked bucket;
// it keeps the bucket's default retention but does not show it at the object; it
// refuses If-None-Match below a delete marker; and it lists a marker's own
// versions again, which AWS does not. TestWhatTheServerIsNot pins these.
package s3server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Version of versitygw. test/install-tools builds the same.
const Version = "v1.8.0"

// Server is a running server with one bucket.
type Server struct {
	Endpoint, Bucket, Region, AccessKey, SecretKey string

	Wire *Wire // what Endpoint leads to

	direct string // the server itself
	stop   []func()
}

// Options say how the bucket is made.
type Options struct {
	NoLock           bool  // neither Object Lock nor versioning
	DefaultRetention int32 // days in compliance mode; 0 = none
}

// Start starts a server, which ends with the test. The bucket has Object Lock
// and versioning, and keeps objects for a day by default. A missing server skips
// the test, and fails it where CI=true.
func Start(t testing.TB) *Server {
	t.Helper()
	return StartWith(t, Options{DefaultRetention: 1})
}

// StartWith is Start with another bucket.
func StartWith(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{Bucket: "evidence", Region: "us-east-1", AccessKey: "AKIDEXAMPLE", SecretKey: "secretexample"}
	t.Cleanup(s.Stop)
	s.direct = "http://" + s.run(t, program(t))
	s.Wire = newWire(t, s.direct)
	s.stop = append(s.stop, s.Wire.close)
	s.Endpoint = s.Wire.URL
	if err := s.makeBucket(t.Context(), o); err != nil {
		t.Fatalf("make bucket: %v", err)
	}
	return s
}

// Stop ends the server and the wire before the test does.
func (s *Server) Stop() {
	for _, stop := range s.stop {
		stop()
	}
}

// program finds versitygw where test/install-tools puts it.
func program(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("POSTERN_TOOLS")
	if dir == "" {
		dir = filepath.Join(moduleRoot(t), ".tools")
	}
	path := filepath.Join(dir, "versitygw-"+Version)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	message := fmt.Sprintf("no S3 server: %s is missing; make tools builds it", path)
	if os.Getenv("CI") == "true" {
		t.Fatal(message)
	}
	t.Skip(message)
	return ""
}

// moduleRoot is the folder of go.mod, above the test's own.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above this test")
		}
	}
}

// run starts the server on a free port and returns its address once it answers.
func (s *Server) run(t testing.TB, program string) string {
	t.Helper()
	var err error
	for range 3 { // another may take the port before the server does
		addr := freePort(t)
		if err = s.runAt(t, program, addr); err == nil {
			return addr
		}
	}
	t.Fatal(err)
	return ""
}

func (s *Server) runAt(t testing.TB, program, addr string) error {
	t.Helper()
	var output bytes.Buffer
	cmd := exec.Command(program, "--port", addr, "--health", "/health", "--keep-alive", "--quiet",
		"posix", "--versioning-dir", t.TempDir(), t.TempDir())
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.AccessKey, "ROOT_SECRET_KEY="+s.SecretKey, "VGW_REGION="+s.Region)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatalf("start S3 server: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop := func() {
		cmd.Process.Kill() // fails if it has ended
		ended <- <-ended
	}
	if err := answers(t.Context(), addr, ended); err != nil {
		stop()
		return fmt.Errorf("start S3 server: %w: %s", err, &output)
	}
	s.stop = append(s.stop, sync.OnceFunc(stop))
	return nil
}

// answers waits until the server at addr is healthy.
func answers(ctx context.Context, addr string, ended chan error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if healthy(ctx, "http://"+addr+"/health") {
			return nil
		}
		select {
		case err := <-ended:
			ended <- err
			return fmt.Errorf("it has ended: %w", errors.Join(err))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func healthy(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func freePort(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func (s *Server) makeBucket(ctx context.Context, o Options) error {
	c := s.Client()
	_, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &s.Bucket, ObjectLockEnabledForBucket: aws.Bool(!o.NoLock)})
	if err != nil || o.DefaultRetention == 0 {
		return err
	}
	_, err = c.PutObjectLockConfiguration(ctx, &s3.PutObjectLockConfigurationInput{
		Bucket: &s.Bucket,
		ObjectLockConfiguration: &types.ObjectLockConfiguration{
			ObjectLockEnabled: types.ObjectLockEnabledEnabled,
			Rule: &types.ObjectLockRule{DefaultRetention: &types.DefaultRetention{
				Mode: types.ObjectLockRetentionModeCompliance, Days: &o.DefaultRetention,
			}},
		},
	})
	return err
}

// Client is a client of the server's owner, past the wire.
func (s *Server) Client() *s3.Client {
	return s3.New(s3.Options{
		Region: s.Region, BaseEndpoint: &s.direct, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
		HTTPClient:  &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	})
}

// Env is what a daemon or an AWS SDK needs in its environment to reach it,
// through the wire.
func (s *Server) Env() []string {
	return []string{
		"AWS_ENDPOINT_URL_S3=" + s.Endpoint, "AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.SecretKey, "AWS_SESSION_TOKEN=",
		"AWS_REGION=" + s.Region, "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true",
	}
}
