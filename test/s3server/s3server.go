// Package s3server starts a real S3 server with Object Lock for a test, and a
// wire before it that can be broken.
package s3server

import "testing"

// Server is a running server with one bucket.
type Server struct {
	Endpoint, Bucket, Region, AccessKey, SecretKey string
}

// Start starts a server, which ends with the test. The bucket has Object Lock
// and versioning. A missing server skips the test, and fails it where CI=true.
func Start(t testing.TB) *Server { t.Helper(); panic("stub") }

// Env is what a daemon or an AWS SDK needs in its environment to reach it.
func (s *Server) Env() []string { panic("stub") }
