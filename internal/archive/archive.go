// Package archive copies what proves the gate's history to S3, under Object
// Lock, and reads it back: closed audit segments, signed checkpoints and
// recordings. It never holds up a session: what could not be copied yet waits
// on the disk.
//
// The role that copies needs s3:PutObject below the prefix, and
// s3:PutObjectRetention where Options.Retention is set; s3:GetObject and
// s3:ListBucket to compare an object that is there already, which a lost ledger
// makes necessary; s3:AbortMultipartUpload to clear away what was broken off. With
// s3:GetBucketObjectLockConfiguration a bucket that locks nothing is found before
// the first object is put; without, by the first answer.
//
// Who reads needs s3:ListBucketVersions and s3:GetObjectVersion: what counts of a
// key is the first version that was put there, whatever came on top. Object Lock
// keeps that one, and does not keep the next from covering it.
//
// Nobody on the gate may have s3:DeleteObject, s3:DeleteObjectVersion,
// s3:BypassGovernanceRetention or s3:PutBucket*.
package archive

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Options configure an Archive. Fields are set once, before Open.
type Options struct {
	Bucket string // "" = there is no archive
	Prefix string // of every key, without a slash at its end; "" = none
	Region string // "" = that of the environment or the instance
	// Endpoint is the URL of an S3-compatible server, which is asked in path
	// style; "" = AWS, or what the SDK's own configuration names.
	Endpoint string
	// Retention is set at each object, in the mode RetentionMode ("compliance" or
	// "governance"); 0 = the bucket's default retention holds.
	Retention     time.Duration
	RetentionMode string
	// Ledger is the file that remembers what is in the archive, made where
	// missing. An archive that is only read needs none.
	Ledger   string
	Interval time.Duration // from look to look at Backlog; 0 = 1 min
	// Backlog lists all that ought to be in the archive, the most urgent first.
	// It is called on the goroutine of Run or Flush. An archive that is only read
	// needs none.
	Backlog func() ([]Item, error)
	// Changed, if set, is called after each pass over the backlog, and must not
	// call the archive's Run or Flush.
	Changed func(Status)
}

// Item is one object to be. Of a file, Size bytes from Offset on are copied;
// they must not change any more.
type Item struct {
	Key    string // below Prefix
	Path   string
	Offset int64
	Size   int64     // -1 = to the end of the file
	Data   []byte    // the object itself, where Path is ""
	Since  time.Time // since when it could have been copied
}

// Status is how the archive stands after a pass.
type Status struct {
	Files  int       // that still wait
	Bytes  int64     // that still wait
	Oldest time.Time // Since of the one that waits longest; zero = none waits
	Copied int       // in this pass
	Err    error     // the first failure of this pass
	Reason string    // of Err, from a fixed set: throttled, denied, unreachable, conflict, clock_skew, missing_bucket, no_lock, file, other
}

// Archive is an open archive. Its methods may be called from any goroutine.
type Archive struct {
	o      Options
	remote *remote
	ledger *ledger
	wake   chan struct{} // holds one if a pass is wanted now
	turn   chan struct{} // holds one while a pass is made

	// Owned by whoever has the turn.
	listed  time.Time       // when Backlog was asked last
	copied  int             // in this pass
	bad     map[string]bool // keys that failed in the pass before, and are tried last
	lock    lockState
	exposed bool      // the last put was not told of a version: the bucket keeps none
	looked  time.Time // when lock was found out; zero = never
	buf     []byte    // holds one part
}

// Open reads the ledger and sets up the client. It asks nobody: an S3 that
// can't be reached is no reason not to start.
func Open(ctx context.Context, o Options) (*Archive, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	if o.Interval == 0 {
		o.Interval = time.Minute
	}
	remote, err := newRemote(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	ledger, err := openLedger(o.Ledger)
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	return &Archive{o: o, remote: remote, ledger: ledger, wake: make(chan struct{}, 1), turn: make(chan struct{}, 1)}, nil
}

func (o Options) validate() error {
	switch {
	case o.Bucket == "":
		return errors.New("no bucket is named; set archive.bucket")
	case strings.HasPrefix(o.Prefix, "/") || strings.HasSuffix(o.Prefix, "/"):
		return fmt.Errorf("prefix %q begins or ends with a slash; leave it out", o.Prefix)
	case o.Prefix != "" && !validKey(o.Prefix):
		return fmt.Errorf("prefix %q is too long or has characters that make no good key", o.Prefix)
	case o.Retention < 0 || o.Interval < 0:
		return errors.New("a retention or interval below zero makes no sense")
	case o.Retention > 0 && o.RetentionMode != "compliance" && o.RetentionMode != "governance":
		return fmt.Errorf("retention mode %q is neither compliance nor governance", o.RetentionMode)
	}
	return validEndpoint(o.Endpoint)
}

func validEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return fmt.Errorf("endpoint %q is no http or https URL", endpoint)
	}
	return nil
}

// Close ends the connections that wait for the next request. Run does it too.
func (a *Archive) Close() { a.remote.transport.CloseIdleConnections() }

// Wake makes Run's next pass now: when a session has ended or a segment was
// closed. While S3 fails, the pause between passes holds.
func (a *Archive) Wake() {
	select {
	case a.wake <- struct{}{}:
	default: // one is on its way
	}
}

// Holds reports whether the ledger says that the archive has that key.
func (a *Archive) Holds(key string) bool {
	_, ok := a.ledger.size(key)
	return ok
}

// fullKey is key as the bucket has it.
func (a *Archive) fullKey(key string) string {
	if a.o.Prefix == "" {
		return key
	}
	return a.o.Prefix + "/" + key
}
