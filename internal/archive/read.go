package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Object is one object of the archive, as it was put there. Object Lock keeps
// that version from being changed and removed, but not from being covered: by
// another version, or by a delete marker. Neither counts here.
type Object struct {
	Key      string // below Prefix
	Size     int64  // bytes
	Versions int    // more than 1 = somebody has put another on top
	Deleted  bool   // somebody has put a delete marker on top

	version string
}

// List yields the objects whose keys begin with prefix and come after after,
// in the order of their keys. An error is the last that it yields.
func (a *Archive) List(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		var held Object // its older versions may follow on the next page
		var before page
		for at := (place{key: after}); ; at = before.next {
			p, err := a.page(ctx, prefix, "", at)
			if err != nil {
				yield(Object{}, err)
				return
			}
			for _, v := range p.versions {
				// S3 goes on after the place, other servers with it.
				if v.Key <= after || v.Key == held.Key && v.version == held.version {
					continue
				}
				if v.Key != held.Key && held.Versions > 0 && !yield(held, nil) {
					return
				}
				held = v.under(held)
				held.Deleted = p.deleted[v.Key] || before.deleted[v.Key]
			}
			if before = p; p.next == (place{}) {
				break
			}
		}
		if held.Versions > 0 {
			yield(held, nil)
		}
	}
}

// under is v, which comes after o in a listing: it may be an older version.
func (v Object) under(o Object) Object {
	v.Versions = 1
	if v.Key == o.Key {
		v.Versions = o.Versions + 1
	}
	return v
}

// place is where a listing goes on: after a version of a key, or after all of
// them. The zero value is its beginning, and its end.
type place struct{ key, version string }

// page is a part of a listing.
type page struct {
	versions []Object        // in the order of their keys, of one key the newest first
	deleted  map[string]bool // keys with a delete marker on top
	folders  []string
	next     place
}

// page asks for up to 1,000 versions of keys that begin with prefix.
func (a *Archive) page(ctx context.Context, prefix, delimiter string, at place) (page, error) {
	in := &s3.ListObjectVersionsInput{Bucket: &a.o.Bucket, Prefix: aws.String(a.fullKey(prefix)), MaxKeys: &a.remote.pageKeys}
	if at.key != "" {
		in.KeyMarker = aws.String(a.fullKey(at.key))
	}
	if at.version != "" {
		in.VersionIdMarker = &at.version
	}
	if delimiter != "" {
		in.Delimiter = &delimiter
	}
	var out *s3.ListObjectVersionsOutput
	err := a.remote.call(ctx, "list "+prefix, 0, func(ctx context.Context, c *s3.Client) (err error) {
		out, err = c.ListObjectVersions(ctx, in)
		return err
	})
	if err != nil {
		return page{}, err
	}
	return a.pageOf(out), nil
}

func (a *Archive) pageOf(out *s3.ListObjectVersionsOutput) page {
	p := page{deleted: map[string]bool{}}
	for _, v := range out.Versions {
		p.versions = append(p.versions, Object{Key: a.shortKey(v.Key), Size: aws.ToInt64(v.Size), version: aws.ToString(v.VersionId)})
	}
	for _, d := range out.DeleteMarkers {
		p.deleted[a.shortKey(d.Key)] = aws.ToBool(d.IsLatest) || p.deleted[a.shortKey(d.Key)]
	}
	for _, f := range out.CommonPrefixes {
		p.folders = append(p.folders, a.shortKey(f.Prefix))
	}
	if aws.ToBool(out.IsTruncated) {
		p.next = place{a.shortKey(out.NextKeyMarker), aws.ToString(out.NextVersionIdMarker)}
	}
	return p
}

// shortKey is the reverse of fullKey.
func (a *Archive) shortKey(full *string) string {
	return strings.TrimPrefix(aws.ToString(full), a.fullKey(""))
}

// Folders are the names that follow prefix up to the next slash.
func (a *Archive) Folders(ctx context.Context, prefix string) ([]string, error) {
	var names []string
	for at := (place{}); ; {
		p, err := a.page(ctx, prefix, "/", at)
		if err != nil {
			return nil, err
		}
		for _, folder := range p.folders {
			names = append(names, strings.TrimSuffix(strings.TrimPrefix(folder, prefix), "/"))
		}
		if at = p.next; at == (place{}) {
			return names, nil
		}
	}
}

// Get writes the object to w, and compares it with its checksum where it has
// one. An error may come after all has been written.
func (a *Archive) Get(ctx context.Context, key string, w io.Writer) error {
	for o, err := range a.List(ctx, key, "") {
		if err != nil {
			return err
		}
		if o.Key == key {
			return a.Fetch(ctx, o, w)
		}
		break // it would have been the first
	}
	return &failure{reasonOther, fmt.Errorf("get %s: the archive has no such object", key)}
}

// Fetch is Get of an object that List has yielded. It asks once less.
func (a *Archive) Fetch(ctx context.Context, o Object, w io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The time is that between two reads: an object may be large.
	watch := time.AfterFunc(a.remote.timeout, func() { cancel(errStalled) })
	defer watch.Stop()
	err := a.fetch(ctx, o, w, watch)
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		err = fmt.Errorf("%w: %w", errStalled, err)
	}
	if err != nil {
		return classify("get "+o.Key, err)
	}
	return nil
}

var errStalled = errors.New("no byte came in time")

func (a *Archive) fetch(ctx context.Context, o Object, w io.Writer, watch *time.Timer) error {
	client, err := a.remote.ready(ctx)
	if err != nil {
		return err
	}
	out, err := client.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &a.o.Bucket, Key: aws.String(a.fullKey(o.Key)), VersionId: &o.version, ChecksumMode: types.ChecksumModeEnabled,
	})
	if err != nil {
		return err
	}
	defer out.Body.Close()
	want := aws.ToString(out.ChecksumSHA256)
	sum := newDigest(o.Size)
	sum.single = sum.single || !strings.Contains(want, "-")
	n, err := io.Copy(io.MultiWriter(sink{w}, sum), &watched{out.Body, watch, a.remote.timeout})
	// The SDK compares some checksums too, but its error could not be told from
	// that of a connection.
	if n == o.Size && want != "" && want != sum.String() {
		return &failure{reasonOther, fmt.Errorf("its SHA-256 is %s and ought to be %s: it is not what was put there", sum, want)}
	}
	if err == nil && n != o.Size {
		err = fmt.Errorf("it has %d bytes, not the %d of the listing: %w", n, o.Size, io.ErrUnexpectedEOF)
	}
	return err
}

// sink tells a failure of its writer from one of the archive.
type sink struct{ io.Writer }

func (s sink) Write(p []byte) (int, error) {
	n, err := s.Writer.Write(p)
	if err != nil {
		return n, &failure{reasonFile, fmt.Errorf("write what was read: %w", err)}
	}
	return n, nil
}

// watched sets its timer anew with each read.
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
