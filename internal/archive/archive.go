// Package archive copies what proves the gate's history to S3, under Object
// Lock, and reads it back: closed audit segments, signed checkpoints and
// recordings. It never holds up a session: what could not be copied yet waits
// on the disk.
package archive

import (
	"context"
	"io"
	"iter"
	"time"
)

// Options configure an Archive. Fields are set once, before Open.
type Options struct {
	Bucket string // "" = there is no archive
	Prefix string // of every key, without a slash at its end; "" = none
	Region string // "" = that of the environment or the instance
	// Endpoint is the URL of an S3-compatible server, which is asked in path
	// style; "" = AWS.
	Endpoint string
	// Retention is set at each object, in the mode RetentionMode ("compliance" or
	// "governance"); 0 = the bucket's default retention holds.
	Retention     time.Duration
	RetentionMode string
	Ledger        string        // file that remembers what is in the archive, made where missing
	Interval      time.Duration // from look to look at Backlog; 0 = 1 min
	// Backlog lists all that ought to be in the archive, the most urgent first.
	// It is called on the goroutine of Run or Flush.
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

// Object is one object of the archive.
type Object struct {
	Key  string // below Prefix
	Size int64  // bytes
}

// Archive is an open archive. Its methods may be called from any goroutine.
type Archive struct{}

// Open reads the ledger and sets up the client. It asks nobody: an S3 that
// can't be reached is no reason not to start.
func Open(ctx context.Context, o Options) (*Archive, error) { panic("stub") }

// Run copies what Backlog lists until ctx ends, and then returns nil.
func (a *Archive) Run(ctx context.Context) error { panic("stub") }

// Flush makes one pass over the backlog now. It returns the first failure.
func (a *Archive) Flush(ctx context.Context) error { panic("stub") }

// Holds reports whether the ledger says that the archive has that key.
func (a *Archive) Holds(key string) bool { panic("stub") }

// List yields the objects whose keys begin with prefix and come after after,
// in the order of their keys.
func (a *Archive) List(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	panic("stub")
}

// Folders are the names that follow prefix up to the next slash.
func (a *Archive) Folders(ctx context.Context, prefix string) ([]string, error) { panic("stub") }

// Newest is the last key below prefix, of keys that end with a number of 20
// digits. hint is a number from which the search begins; it takes a few requests
// whatever the number of keys. It returns "" if there is none.
func (a *Archive) Newest(ctx context.Context, prefix string, hint int64) (string, error) {
	panic("stub")
}

// Get writes the object to w, and compares it with its checksum where it has
// one. An error may come after all has been written.
func (a *Archive) Get(ctx context.Context, key string, w io.Writer) error { panic("stub") }
