package awsfake

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// s3 answers as S3 does, in path style, what is asked of a bucket before it is
// written to and what is read from one. For the rest there is a real S3 server.
func (a *Account) s3(c call) (int, []byte) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(c.HTTP.URL.Path, "/"), "/")
	query := c.HTTP.URL.Query()
	read := c.HTTP.Method == http.MethodGet || c.HTTP.Method == http.MethodHead
	action := "s3:ListBucket"
	switch {
	case key != "" && !read:
		action = "s3:PutObject"
	case key != "":
		action = "s3:GetObject"
	case query.Has("object-lock"):
		action = "s3:GetBucketObjectLockConfiguration"
	case query.Has("versioning"):
		action = "s3:GetBucketVersioning"
	}
	if status, body, is := a.denied(c, action); is {
		return status, body
	}
	i := slices.IndexFunc(a.Buckets, func(b Bucket) bool { return b.Name == bucket })
	if i < 0 {
		return c.fail(http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist")
	}
	c.Header.Set("X-Amz-Bucket-Region", a.Region)
	switch b := a.Buckets[i]; {
	case key != "" && read:
		return b.object(c, key)
	case query.Has("object-lock"):
		return b.lock(c)
	case query.Has("versioning"):
		return http.StatusOK, []byte(`<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">` + b.versioning() + `</VersioningConfiguration>`)
	case key == "" && read:
		return http.StatusOK, nil
	}
	return c.fail(http.StatusNotImplemented, "NotImplemented", "awsfake keeps no objects")
}

// ETag is what S3 calls the content of an object that was written in one part.
func ETag(content []byte) string {
	sum := md5.Sum(content)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func (b Bucket) object(c call, key string) (int, []byte) {
	content, ok := b.Objects[key]
	if !ok {
		return c.fail(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
	}
	c.Header.Set("ETag", ETag(content))
	if c.HTTP.Header.Get("If-None-Match") == ETag(content) {
		return http.StatusNotModified, nil
	}
	return http.StatusOK, content
}

func (b Bucket) versioning() string {
	if b.Versioning == "" {
		return ""
	}
	return "<Status>" + b.Versioning + "</Status>"
}

func (b Bucket) lock(c call) (int, []byte) {
	if !b.Lock {
		return c.fail(http.StatusNotFound, "ObjectLockConfigurationNotFoundError", "Object Lock configuration does not exist for this bucket")
	}
	rule := ""
	if b.Mode != "" {
		rule = fmt.Sprintf("<Rule><DefaultRetention><Mode>%s</Mode><Days>%d</Days></DefaultRetention></Rule>", b.Mode, b.Days)
	}
	return http.StatusOK, []byte(`<ObjectLockConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><ObjectLockEnabled>Enabled</ObjectLockEnabled>` +
		rule + `</ObjectLockConfiguration>`)
}
