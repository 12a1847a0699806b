package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// upload is an object that is uploaded in parts.
type upload struct {
	a     *Archive
	key   string
	id    *string
	src   *source
	parts []types.CompletedPart
	sum   *digest
}

// putLarge puts an object in parts. Gigabytes are not sent to learn that they
// are there already: it asks first.
func (a *Archive) putLarge(ctx context.Context, key string, src *source) (string, error) {
	if _, err := a.head(ctx, key); err == nil {
		return a.compareLarge(ctx, key, src)
	} else if global(reasonOf(err)) && reasonOf(err) != reasonDenied {
		return "", err // without s3:ListBucket, what is not there is denied
	}
	u := &upload{a: a, key: key, src: src, sum: newDigest(src.size)}
	if err := u.begin(ctx); err != nil {
		return "", err
	}
	checksum, err := u.send(ctx)
	if err != nil {
		u.abort(ctx)
	}
	switch statusOf(err) {
	case http.StatusPreconditionFailed, http.StatusNotFound:
		// Another was faster, or the first attempt was served and its answer lost.
		return checksum, a.compare(ctx, key, src.size, checksum)
	}
	return checksum, err
}

func (a *Archive) compareLarge(ctx context.Context, key string, src *source) (string, error) {
	sum := newDigest(src.size)
	if _, err := io.CopyBuffer(sum, io.NewSectionReader(src, src.offset, src.size), a.buffer(1<<20)); err != nil {
		return "", &failure{reasonFile, err}
	}
	checksum := sum.String()
	return checksum, a.compare(ctx, key, src.size, checksum)
}

func (u *upload) begin(ctx context.Context) error {
	return u.a.protected(func(p protection) error {
		return u.call(ctx, "begin to put ", 0, func(ctx context.Context, c *s3.Client) error {
			out, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
				Bucket: &u.a.o.Bucket, Key: u.fullKey(), ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
				ObjectLockMode: p.mode, ObjectLockRetainUntilDate: p.until,
			})
			if err == nil {
				u.id = out.UploadId
			}
			return err
		})
	})
}

// send puts all parts and makes them one object. The checksum is good even if
// only the last step fails.
func (u *upload) send(ctx context.Context) (checksum string, err error) {
	size := partSize(u.src.size)
	for off := int64(0); off < u.src.size; off += size {
		data, err := u.src.part(u.a.buffer(size), off)
		if err != nil {
			return "", err
		}
		if err := u.putPart(ctx, data); err != nil {
			return "", err
		}
		u.a.urgent(ctx) // data is sent: its buffer may be used
	}
	checksum = u.sum.String()
	return checksum, u.complete(ctx)
}

func (u *upload) putPart(ctx context.Context, data []byte) error {
	sum := sha256.Sum256(data)
	part := types.CompletedPart{ChecksumSHA256: aws.String(encode(sum[:])), PartNumber: aws.Int32(int32(len(u.parts) + 1))}
	err := u.call(ctx, "put a part of ", int64(len(data)), func(ctx context.Context, c *s3.Client) error {
		out, err := c.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &u.a.o.Bucket, Key: u.fullKey(), UploadId: u.id, PartNumber: part.PartNumber, Body: bytes.NewReader(data),
			ChecksumAlgorithm: types.ChecksumAlgorithmSha256, ChecksumSHA256: part.ChecksumSHA256,
		})
		if err == nil {
			part.ETag = out.ETag
		}
		return err
	})
	if err != nil {
		return err
	}
	u.parts = append(u.parts, part)
	_, err = u.sum.Write(data)
	return err
}

func (u *upload) complete(ctx context.Context) error {
	return u.call(ctx, "put ", 0, func(ctx context.Context, c *s3.Client) error {
		_, err := c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: &u.a.o.Bucket, Key: u.fullKey(), UploadId: u.id, IfNoneMatch: aws.String("*"), MpuObjectSize: &u.src.size,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: u.parts},
		})
		return err
	})
}

// abort clears away the parts, also when ctx has ended. What stays after a
// crash is left to a lifecycle rule of the bucket.
func (u *upload) abort(ctx context.Context) {
	// It is a courtesy: the failure that led here is the one to tell.
	_ = u.call(context.WithoutCancel(ctx), "abort ", 0, func(ctx context.Context, c *s3.Client) error {
		_, err := c.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &u.a.o.Bucket, Key: u.fullKey(), UploadId: u.id})
		return err
	})
}

func (u *upload) call(ctx context.Context, what string, size int64, do func(context.Context, *s3.Client) error) error {
	return u.a.remote.call(ctx, what+u.key, size, do)
}

func (u *upload) fullKey() *string { return aws.String(u.a.fullKey(u.key)) }
