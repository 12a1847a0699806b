package s3server

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func TestTry(t *testing.T) {
	for _, o := range []Options{{}, {DefaultRetention: 1}, {NoLock: true}} {
		t.Logf("== %+v", o)
		s := StartWith(t, o)
		c := s.Client()
		ctx := t.Context()
		sum := sha256.Sum256([]byte("hello"))
		good := base64.StdEncoding.EncodeToString(sum[:])
		put := func(name string, in *s3.PutObjectInput) *s3.PutObjectOutput {
			in.Bucket = &s.Bucket
			if in.Body == nil {
				in.Body = bytes.NewReader([]byte("hello"))
			}
			out, err := c.PutObject(ctx, in)
			t.Logf("%s: %v", name, err)
			if err == nil {
				t.Logf("   version %q sha %q", aws.ToString(out.VersionId), aws.ToString(out.ChecksumSHA256))
			}
			return out
		}
		k := aws.String("a/b")
		plain := put("plain", &s3.PutObjectInput{Key: k, ChecksumAlgorithm: "SHA256"})
		put("again", &s3.PutObjectInput{Key: k, ChecksumAlgorithm: "SHA256"})
		put("ifnonematch", &s3.PutObjectInput{Key: k, ChecksumAlgorithm: "SHA256", IfNoneMatch: aws.String("*")})
		put("default checksum", &s3.PutObjectInput{Key: aws.String("crc")})
		put("wrong sum", &s3.PutObjectInput{Key: aws.String("w"), ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(make([]byte, 32)))})
		ret := put("retention", &s3.PutObjectInput{Key: aws.String("r"), ChecksumSHA256: &good, ObjectLockMode: "COMPLIANCE", ObjectLockRetainUntilDate: aws.Time(time.Now().Add(time.Hour))})
		put("retention past", &s3.PutObjectInput{Key: aws.String("r2"), ChecksumSHA256: &good, ObjectLockMode: "COMPLIANCE", ObjectLockRetainUntilDate: aws.Time(time.Now().Add(-time.Hour))})
		h, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.Bucket, Key: k, ChecksumMode: "ENABLED"})
		t.Logf("head %v %+v", err, h)
		if h != nil {
			t.Log(h.ObjectLockMode, h.ObjectLockRetainUntilDate, aws.ToString(h.ChecksumSHA256), h.ChecksumType)
		}
		g, err := c.GetObjectRetention(ctx, &s3.GetObjectRetentionInput{Bucket: &s.Bucket, Key: k})
		t.Log("retention of plain", err, g != nil && g.Retention != nil)
		l, err := c.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: &s.Bucket})
		t.Log("lock conf", err)
		if err == nil {
			t.Logf("%+v %+v", l.ObjectLockConfiguration, l.ObjectLockConfiguration.Rule)
		}
		if plain != nil {
			_, err = c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.Bucket, Key: k, VersionId: plain.VersionId})
			t.Log("delete version plain", err)
		}
		if ret != nil {
			_, err = c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.Bucket, Key: aws.String("r"), VersionId: ret.VersionId})
			t.Log("delete version retained", err)
			_, err = c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.Bucket, Key: aws.String("r"), VersionId: ret.VersionId, BypassGovernanceRetention: aws.Bool(true)})
			t.Log("delete version retained bypass", err)
			_, err = c.PutObjectRetention(ctx, &s3.PutObjectRetentionInput{Bucket: &s.Bucket, Key: aws.String("r"), VersionId: ret.VersionId, Retention: &types.ObjectLockRetention{Mode: "COMPLIANCE", RetainUntilDate: aws.Time(time.Now().Add(time.Minute))}})
			t.Log("shorten", err)
		}
		_, err = c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.Bucket, Key: k})
		t.Log("delete plain (marker)", err)
		put("ifnonematch after marker", &s3.PutObjectInput{Key: k, ChecksumAlgorithm: "SHA256", IfNoneMatch: aws.String("*")})
		v, err := c.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: &s.Bucket})
		t.Log("versions", err)
		if err == nil {
			for _, v := range v.Versions {
				t.Log("  v", *v.Key, *v.VersionId, *v.IsLatest, v.LastModified)
			}
			for _, v := range v.DeleteMarkers {
				t.Log("  d", *v.Key, *v.VersionId)
			}
		}
	}
}
