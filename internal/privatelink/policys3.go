package privatelink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	objectInterval = 15 * time.Second
	maxObject      = 4 << 20 // bytes
)

// ErrUnchanged says that an object is still the one that the caller has.
var ErrUnchanged = errors.New("the object has not changed")

// ObjectName names an object of S3.
type ObjectName struct{ Bucket, Key string }

// ParseObject reads s3://BUCKET/KEY.
func ParseObject(reference string) (ObjectName, bool) {
	rest, ok := strings.CutPrefix(reference, "s3://")
	bucket, key, _ := strings.Cut(rest, "/")
	return ObjectName{bucket, key}, ok && bucket != "" && key != ""
}

func (n ObjectName) String() string { return "s3://" + n.Bucket + "/" + n.Key }

// Object reads an object of at most 4 MiB, and its ETag. If etag is still the
// object's, the error is ErrUnchanged. It needs s3:GetObject.
func (c *Client) Object(ctx context.Context, name ObjectName, etag string) (data []byte, now string, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	s, err := c.in(ctx)
	if err == nil {
		data, now, err = object(ctx, s.object, name, etag)
	}
	if err != nil && !errors.Is(err, ErrUnchanged) {
		err = fmt.Errorf("read %s: %w", name, err)
	}
	return data, now, err
}

func object(ctx context.Context, get getObject, name ObjectName, etag string) ([]byte, string, error) {
	in := &s3.GetObjectInput{Bucket: &name.Bucket, Key: &name.Key}
	if etag != "" {
		in.IfNoneMatch = &etag
	}
	out, err := get(ctx, in)
	if response, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && response.HTTPStatusCode() == http.StatusNotModified {
		return nil, "", ErrUnchanged
	}
	if err != nil {
		return nil, "", explain("s3:GetObject", err)
	}
	defer out.Body.Close()
	data, err := io.ReadAll(io.LimitReader(out.Body, maxObject+1))
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("s3:GetObject: the answer breaks off: %w", err)
	case len(data) > maxObject:
		return nil, "", errors.New("s3:GetObject: the object is larger than 4 MiB")
	}
	return data, aws.ToString(out.ETag), nil
}

// ObjectOptions are of FollowObject.
type ObjectOptions struct {
	Name     ObjectName
	ETag     string                                 // of what the caller has; "" = nothing
	Interval time.Duration                          // from look to look, a tenth more or less; 0 = 15 s
	Changed  func(ctx context.Context, data []byte) // called with each new content
	Looked   func(error)                            // called after each look, with nil where it was answered
}

// FollowObject looks whether an object has changed until ctx ends, and then
// returns nil.
func (c *Client) FollowObject(ctx context.Context, o ObjectOptions) error {
	if o.Interval <= 0 {
		o.Interval = objectInterval
	}
	for {
		data, etag, err := c.Object(ctx, o.Name, o.ETag)
		if ctx.Err() != nil {
			return nil
		}
		unchanged := errors.Is(err, ErrUnchanged)
		if unchanged {
			err = nil
		}
		o.Looked(err)
		if err == nil && !unchanged {
			o.ETag = etag
			o.Changed(ctx, data)
		}
		t := time.NewTimer(o.Interval - o.Interval/10 + time.Duration(rand.Int64N(int64(o.Interval/5)+1)))
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}
