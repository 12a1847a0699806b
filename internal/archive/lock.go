package archive

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// lockAge is how long it is believed that a bucket locks what is put there.
const lockAge = time.Hour

// lockState is what is known of the bucket's Object Lock.
type lockState int

const (
	lockUnknown lockState = iota // the role may not ask
	lockOn
	lockOff // or without a retention for what is put there
)

// findLock asks whether the bucket locks what is put there: now and then, and
// as long as it does not at each pass. Who may not ask learns it from answers to
// puts.
func (a *Archive) findLock(ctx context.Context) error {
	if a.lock != lockOff && time.Since(a.looked) < lockAge {
		return nil
	}
	var out *s3.GetObjectLockConfigurationOutput
	err := a.remote.call(ctx, "look at the Object Lock of "+a.o.Bucket, 0, func(ctx context.Context, c *s3.Client) (err error) {
		out, err = c.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: &a.o.Bucket})
		return err
	})
	reason := reasonOf(err)
	switch {
	case err == nil:
		a.lock = a.stateOf(out.ObjectLockConfiguration)
	case reason == reasonNoLock:
		a.lock = lockOff
	case global(reason) && reason != reasonDenied:
		return err
	}
	a.looked = time.Now()
	return nil
}

func (a *Archive) stateOf(c *types.ObjectLockConfiguration) lockState {
	switch {
	case c == nil || c.ObjectLockEnabled != types.ObjectLockEnabledEnabled:
		return lockOff
	case a.o.Retention == 0 && (c.Rule == nil || c.Rule.DefaultRetention == nil):
		return lockOff
	}
	return lockOn
}

// lockFailure is the failure to tell if what is put in the bucket can be
// removed from it: what is copied is copied all the same.
func (a *Archive) lockFailure() error {
	switch {
	case a.lock == lockOff:
		return classify("archive to "+a.o.Bucket, &failure{reasonNoLock, errors.New("the bucket locks no objects: what is copied there can be removed")})
	case a.exposed:
		return classify("archive to "+a.o.Bucket, &failure{reasonNoLock, errors.New("the bucket keeps no versions: what is copied there can be removed")})
	}
	return nil
}
