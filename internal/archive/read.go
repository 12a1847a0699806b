package archive

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// List yields the objects whose keys begin with prefix and come after after,
// in the order of their keys. An error is the last that it yields.
func (a *Archive) List(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		for {
			page, err := a.page(ctx, prefix, after, "")
			if err != nil {
				yield(Object{}, err)
				return
			}
			for _, o := range page.Contents {
				object := Object{Key: a.shortKey(o.Key), Size: aws.ToInt64(o.Size)}
				if !yield(object, nil) {
					return
				}
				after = object.Key
			}
			if !aws.ToBool(page.IsTruncated) || len(page.Contents) == 0 {
				return
			}
		}
	}
}

// page asks for up to 1,000 keys that begin with prefix and come after after.
func (a *Archive) page(ctx context.Context, prefix, after, delimiter string) (page *s3.ListObjectsV2Output, err error) {
	in := &s3.ListObjectsV2Input{Bucket: &a.o.Bucket, Prefix: aws.String(a.fullKey(prefix))}
	if after != "" {
		in.StartAfter = aws.String(a.fullKey(after))
	}
	if delimiter != "" {
		in.Delimiter = &delimiter
	}
	err = a.remote.call(ctx, "list "+prefix, 0, func(ctx context.Context, c *s3.Client) (err error) {
		page, err = c.ListObjectsV2(ctx, in)
		return err
	})
	return page, err
}

// shortKey is the reverse of fullKey.
func (a *Archive) shortKey(full *string) string {
	return strings.TrimPrefix(aws.ToString(full), a.fullKey(""))
}

// Folders are the names that follow prefix up to the next slash.
func (a *Archive) Folders(ctx context.Context, prefix string) ([]string, error) {
	var names []string
	for after := ""; ; {
		page, err := a.page(ctx, prefix, after, "/")
		if err != nil {
			return nil, err
		}
		for _, p := range page.CommonPrefixes {
			folder := a.shortKey(p.Prefix)
			names = append(names, strings.TrimSuffix(strings.TrimPrefix(folder, prefix), "/"))
			after = max(after, folder)
		}
		for _, o := range page.Contents {
			after = max(after, a.shortKey(o.Key))
		}
		if !aws.ToBool(page.IsTruncated) || len(page.CommonPrefixes)+len(page.Contents) == 0 {
			return names, nil
		}
	}
}

// Get writes the object to w, and compares it with its checksum where it has
// one. An error may come after all has been written.
func (a *Archive) Get(ctx context.Context, key string, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The time is that between two reads: an object may be large.
	watch := time.AfterFunc(a.remote.timeout, cancel)
	defer watch.Stop()
	client, err := a.remote.ready(ctx)
	if err != nil {
		return classify("get "+key, err)
	}
	out, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &a.o.Bucket, Key: aws.String(a.fullKey(key)), ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		return classify("get "+key, err)
	}
	defer out.Body.Close()
	want := aws.ToString(out.ChecksumSHA256)
	sum := newDigest(aws.ToInt64(out.ContentLength))
	sum.single = sum.single || !strings.Contains(want, "-")
	n, err := io.Copy(io.MultiWriter(w, sum), &watched{out.Body, watch, a.remote.timeout})
	// The SDK compares some checksums too, and its error could not be told from
	// that of a connection.
	if whole := n == aws.ToInt64(out.ContentLength); whole && want != "" && want != sum.String() {
		return &failure{reasonOther, fmt.Errorf("get %s: its SHA-256 is %s and ought to be %s: it is not what was put there", key, sum, want)}
	}
	if err != nil {
		return classify("get "+key, err)
	}
	return nil
}

// watched puts its timer back with each read.
type watched struct {
	io.Reader
	timer *time.Timer
	d     time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	w.timer.Reset(w.d)
	return n, err
}
