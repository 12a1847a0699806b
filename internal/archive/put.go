package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// copy brings one item to the archive. When it returns nil, the archive has it,
// and so says the ledger. An object that is there already is left as it is.
// Its error is a *failure.
func (a *Archive) copy(ctx context.Context, it Item) error {
	if !validKey(it.Key) {
		return &failure{reasonOther, fmt.Errorf("%q makes no good key", it.Key)}
	}
	src, err := it.open()
	if err != nil {
		return err
	}
	defer src.close()
	checksum, err := a.put(ctx, it.Key, src)
	if err != nil {
		return err
	}
	if err := a.ledger.add(it.Key, src.size, checksum); err != nil {
		return &failure{reasonFile, err}
	}
	a.copied++
	return nil
}

func (a *Archive) put(ctx context.Context, key string, src *source) (checksum string, err error) {
	if src.size > partSize(src.size) {
		return a.putLarge(ctx, key, src)
	}
	data, err := src.part(a.buffer(src.size), 0)
	if err != nil {
		return "", err
	}
	return a.putSmall(ctx, key, data)
}

// buffer is room for size bytes, the same for all items.
func (a *Archive) buffer(size int64) []byte {
	if int64(cap(a.buf)) < size {
		a.buf = make([]byte, size)
	}
	return a.buf[:size]
}

// putSmall puts data in one request.
func (a *Archive) putSmall(ctx context.Context, key string, data []byte) (string, error) {
	sum := sha256.Sum256(data)
	checksum := encode(sum[:])
	var out *s3.PutObjectOutput
	err := a.protected(func(p protection) error {
		return a.remote.call(ctx, "put "+key, int64(len(data)), func(ctx context.Context, c *s3.Client) (err error) {
			out, err = c.PutObject(ctx, &s3.PutObjectInput{
				Bucket: &a.o.Bucket, Key: aws.String(a.fullKey(key)), Body: bytes.NewReader(data), IfNoneMatch: aws.String("*"),
				ChecksumAlgorithm: types.ChecksumAlgorithmSha256, ChecksumSHA256: &checksum,
				ObjectLockMode: p.mode, ObjectLockRetainUntilDate: p.until,
			})
			return err
		})
	})
	if statusOf(err) == http.StatusPreconditionFailed {
		return checksum, a.compare(ctx, key, int64(len(data)), checksum)
	}
	if err != nil {
		return "", err
	}
	a.exposed = out.VersionId == nil
	// A proxy's page of HTML is an answer too, if its status is 200.
	if aws.ToString(out.ChecksumSHA256) != checksum {
		return checksum, a.compare(ctx, key, int64(len(data)), checksum)
	}
	return checksum, nil
}

// compare is nil if the object that the archive has of key is the one that was
// to be put there.
func (a *Archive) compare(ctx context.Context, key string, size int64, checksum string) error {
	head, err := a.head(ctx, key)
	if reasonOf(err) == reasonDenied {
		return &failure{reasonConflict, fmt.Errorf("put %s: the archive has an object there: %w", key, err)}
	}
	if err != nil {
		return err
	}
	if aws.ToInt64(head.ContentLength) != size || aws.ToString(head.ChecksumSHA256) != checksum {
		return &failure{reasonConflict, fmt.Errorf("put %s: the archive has another object there, of %d bytes and SHA-256 %q, not of %d and %q; it is left alone: find out who wrote it",
			key, aws.ToInt64(head.ContentLength), aws.ToString(head.ChecksumSHA256), size, checksum)}
	}
	return nil
}

func (a *Archive) head(ctx context.Context, key string) (head *s3.HeadObjectOutput, err error) {
	err = a.remote.call(ctx, "compare "+key, 0, func(ctx context.Context, c *s3.Client) (err error) {
		head, err = c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &a.o.Bucket, Key: aws.String(a.fullKey(key)), ChecksumMode: types.ChecksumModeEnabled})
		return err
	})
	return head, err
}

// protection is what is asked of S3 for an object; zero = the bucket's default.
type protection struct {
	mode  types.ObjectLockMode
	until *time.Time
}

// protected runs put with the retention that is configured. Where the bucket
// can't keep it, a copy without is better than none: Status tells.
func (a *Archive) protected(put func(protection) error) error {
	if a.o.Retention == 0 || a.lock == lockOff {
		return put(protection{})
	}
	err := put(protection{
		mode:  types.ObjectLockMode(strings.ToUpper(a.o.RetentionMode)),
		until: aws.Time(time.Now().Add(a.o.Retention)),
	})
	if reasonOf(err) != reasonNoLock {
		return err
	}
	a.lock = lockOff
	return put(protection{})
}
