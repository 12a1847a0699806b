package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"postern/test/s3server"
)

func (s *store) wantNoRest(t *testing.T) {
	t.Helper()
	out, err := s.server.Client().ListMultipartUploads(context.WithoutCancel(t.Context()), &s3.ListMultipartUploadsInput{Bucket: &s.server.Bucket})
	if err != nil || len(out.Uploads) != 0 {
		t.Errorf("got %d uploads that are not complete, %v", len(out.Uploads), err)
	}
}

func TestALargeObjectComesInParts(t *testing.T) {
	s := newStore(t)
	key := "recordings/large"
	_, data := s.file(t, key, 3*smallestPart+5)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	parts := 0
	for _, r := range s.server.Wire.Requests() {
		if strings.Contains(r, "partNumber") {
			parts++
		}
	}
	if parts != 4 || cap(s.buf) != smallestPart {
		t.Errorf("got %d parts, and a buffer of %d bytes", parts, cap(s.buf))
	}
	s.wantGet(t, key, data)
	s.wantNoRest(t)
}

func TestABrokenUploadIsClearedAway(t *testing.T) {
	for name, fault := range map[string]s3server.Fault{
		"denied":    {Query: "partNumber", After: 2, Deny: true},
		"half sent": {Query: "partNumber", After: 2, Upload: 1 << 20},
		"the end":   {Method: "POST", After: 1, Error: "InternalError", Status: 500},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			_, data := s.file(t, "recordings/large", 20<<20)
			s.anchors(1)
			mend := s.server.Wire.Break(fault)
			if err := s.Flush(t.Context()); err == nil || s.Holds("recordings/large") {
				t.Errorf("got %v", err)
			}
			mend()
			s.wantNoRest(t)
			if err := s.Flush(t.Context()); err != nil {
				t.Error(err)
			}
			s.wantGet(t, "recordings/large", data)
		})
	}
}

func TestAnUploadThatIsBrokenOffIsClearedAway(t *testing.T) {
	s := newStore(t)
	s.file(t, "recordings/large", 20<<20)
	ctx, cancel := context.WithCancel(t.Context())
	s.items = append([]Item{}, s.items...)
	defer s.server.Wire.Break(s3server.Fault{Query: "partNumber", After: 1, Do: cancel})()
	if err := s.Flush(ctx); err == nil {
		t.Error("no error")
	}
	s.wantNoRest(t)
}

func TestALostAnswerToTheEndOfAnUploadIsNoConflict(t *testing.T) {
	s := newStore(t)
	_, data := s.file(t, "recordings/large", 9<<20)
	defer s.server.Wire.Break(s3server.Fault{Method: "POST", After: 1, Answer: -1, Times: 1})()
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.wantGet(t, "recordings/large", data)
}

func TestOfTwoThatUploadOneKeyTheFirstStays(t *testing.T) {
	s := newStore(t)
	_, data := s.file(t, "recordings/same", 9<<20)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.o.Ledger += "-2"
	s.reopen(t, s.o)
	// It looks first, and is told that there is nothing yet.
	s.server.Wire.Break(s3server.Fault{Method: "HEAD", Deny: true, Times: 1})
	if err := s.Flush(t.Context()); err != nil || !s.Holds("recordings/same") {
		t.Errorf("got %v", err)
	}
	s.wantNoRest(t)
	s.wantGet(t, "recordings/same", data)

	_, _ = s.file(t, "recordings/other", 10<<20)
	s.putOnTop(t, "recordings/other", "somebody else's")
	s.wantReason(t, s.Flush(t.Context()), "conflict")
	if got := s.objects(t, "", ""); len(got) != 2 || got[0].Versions != 1 || got[1].Versions != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestPartsAreFewEnoughForS3(t *testing.T) {
	for _, size := range []int64{0, 1, smallestPart, smallestPart + 1, smallestPart * mostParts, smallestPart*mostParts + 1, 5 << 40} {
		n := partSize(size)
		if n < 5<<20 || n > 5<<30 || (size+n-1)/n > mostParts {
			t.Errorf("%d bytes in parts of %d", size, n)
		}
	}
}

func FuzzDigestIsTheSameHoweverItIsWritten(f *testing.F) {
	f.Add(uint64(1), 2*smallestPart, 1000)
	f.Add(uint64(2), smallestPart+1, 3<<20)
	f.Fuzz(func(t *testing.T, seed uint64, size, step int) {
		size, step = max(0, size)%(3*smallestPart), max(1000, step)
		data := make([]byte, size)
		rand.NewChaCha8([32]byte{byte(seed)}).Read(data)
		d := newDigest(int64(size))
		for rest := data; len(rest) > 0; rest = rest[min(step, len(rest)):] {
			d.Write(rest[:min(step, len(rest))])
		}
		if got, want := d.String(), checksumOf(data); got != want {
			t.Errorf("%d bytes, %d at a time: got %s, want %s", size, step, got, want)
		}
	})
}

// checksumOf is S3's checksum of data, made of its parts.
func checksumOf(data []byte) string {
	if len(data) <= smallestPart {
		sum := sha256.Sum256(data)
		return encode(sum[:])
	}
	var sums bytes.Buffer
	parts := 0
	for ; len(data) > 0; parts++ {
		n := min(smallestPart, len(data))
		sum := sha256.Sum256(data[:n])
		sums.Write(sum[:])
		data = data[n:]
	}
	whole := sha256.Sum256(sums.Bytes())
	return encode(whole[:]) + "-" + string(rune('0'+parts))
}
