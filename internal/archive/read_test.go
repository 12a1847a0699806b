package archive

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"postern/test/s3server"
)

// putOnTop is what somebody with the gate's role, or more, can do to an object.
func (s *store) putOnTop(t *testing.T, key, data string) {
	t.Helper()
	_, err := s.server.Client().PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: &s.server.Bucket, Key: aws.String(s.fullKey(key)), Body: strings.NewReader(data), ChecksumAlgorithm: "SHA256",
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (s *store) hide(t *testing.T, key string) {
	t.Helper()
	if _, err := s.server.Client().DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &s.server.Bucket, Key: aws.String(s.fullKey(key))}); err != nil {
		t.Fatal(err)
	}
}

func (s *store) objects(t *testing.T, prefix, after string) (objects []Object) {
	t.Helper()
	for o, err := range s.List(t.Context(), prefix, after) {
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, o)
	}
	return objects
}

func TestWhatIsPutOnTopOfAnObjectDoesNotCoverIt(t *testing.T) {
	s := newStore(t)
	s.anchors(3)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.putOnTop(t, anchorKey(1), "a forged checkpoint")
	s.putOnTop(t, anchorKey(1), "and another one")
	s.hide(t, anchorKey(2))

	got := s.objects(t, "checkpoints/", "")
	for i := range got {
		got[i].version = ""
	}
	want := []Object{
		{Key: anchorKey(0), Size: 12, Versions: 1},
		{Key: anchorKey(1), Size: 12, Versions: 3},
		{Key: anchorKey(2), Size: 12, Versions: 1, Deleted: true},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	s.wantGet(t, anchorKey(1), []byte("checkpoint 1"))
	s.wantGet(t, anchorKey(2), []byte("checkpoint 2"))
	newest, err := s.Newest(t.Context(), "checkpoints/gate/", 0)
	if err != nil || newest != anchorKey(2) {
		t.Errorf("got %s, %v", newest, err)
	}
	folders, err := s.Folders(t.Context(), "checkpoints/")
	if err != nil || !slices.Equal(folders, []string{"gate"}) {
		t.Errorf("got %q, %v", folders, err)
	}
}

func TestAListGoesOnPastAPage(t *testing.T) {
	s := newStore(t)
	s.anchors(25)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.remote.pageKeys = 10
	s.putOnTop(t, anchorKey(9), "its two versions lie on two pages")
	s.hide(t, anchorKey(19))
	got := s.objects(t, "checkpoints/gate/", "")
	if len(got) != 25 || got[9].Versions != 2 || got[10].Versions != 1 || got[24].Key != anchorKey(24) {
		t.Errorf("got %+v", got)
	}
	for i, o := range got {
		if o.Deleted != (i == 19) {
			t.Errorf("got %+v", o)
		}
	}
	if got := s.objects(t, "checkpoints/gate/", anchorKey(23)); len(got) != 1 || got[0].Key != anchorKey(24) {
		t.Errorf("got %+v", got)
	}
	for range s.List(t.Context(), "checkpoints/gate/", "") {
		break // a caller may have enough
	}
	s.server.Wire.Requests()
	for _, hint := range []int64{0, 7, 24, 5000} {
		newest, err := s.Newest(t.Context(), "checkpoints/gate/", hint)
		if n := len(s.server.Wire.Requests()); err != nil || newest != anchorKey(24) || n > 14 {
			t.Errorf("from %d on: got %s, %v after %d requests", hint, newest, err, n)
		}
	}
}

func TestFoldersAreTheNamesUpToTheNextSlash(t *testing.T) {
	s := newStore(t)
	for _, key := range []string{"checkpoints/gate-1/a", "checkpoints/gate-1/b", "checkpoints/gate-2/a", "checkpoints/plain", "other/x"} {
		s.items = append(s.items, Item{Key: key, Data: []byte("x")})
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for prefix, want := range map[string][]string{"checkpoints/": {"gate-1", "gate-2"}, "": {"checkpoints", "other"}, "nothing/": nil} {
		if got, err := s.Folders(t.Context(), prefix); err != nil || !slices.Equal(got, want) {
			t.Errorf("below %q: got %q, %v, want %q", prefix, got, err, want)
		}
	}
}

func TestTheNewestOfNoneIsNone(t *testing.T) {
	s := newStore(t)
	s.items = []Item{{Key: "checkpoints/gate/x", Data: []byte("x")}, {Key: "checkpoints/gate/00000000000000000001.sig", Data: []byte("x")}}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, hint := range []int64{0, 1 << 30} {
		if got, err := s.Newest(t.Context(), "checkpoints/gate/", hint); err != nil || got != "" {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

// pageOf answers as an archive does whose keys end with sizes, and counts.
func pageOf(sizes []int64, asked *int) func(int64) ([]int64, bool, error) {
	return func(n int64) ([]int64, bool, error) {
		*asked++
		at, _ := slices.BinarySearch(sizes, n)
		end := min(at+1000, len(sizes))
		return sizes[at:end], end < len(sizes), nil
	}
}

func TestTheNewestOfHalfAMillionTakesFewRequests(t *testing.T) {
	sizes := make([]int64, 500_000)
	for i, at := 0, int64(0); i < len(sizes); i++ {
		at += 1 + rand.Int64N(2000)
		sizes[i] = at
	}
	last := sizes[len(sizes)-1]
	for hint, most := range map[int64]int{last: 1, last + 500: 3, last - 100_000: 2, 0: 22, last / 2: 22, 2 * last: 22, 1 << 62: 60} {
		asked := 0
		got, err := search{from: pageOf(sizes, &asked)}.newest(hint)
		if err != nil || got != last || asked > most {
			t.Errorf("from %d on: got %d, %v after %d requests, want %d after at most %d", hint, got, err, asked, last, most)
		}
	}
}

func FuzzNewest(f *testing.F) {
	f.Add(uint64(1), uint16(3000), int64(0), int64(1000))
	f.Add(uint64(2), uint16(0), int64(1<<62), int64(1))
	f.Fuzz(func(t *testing.T, seed uint64, n uint16, hint, gap int64) {
		r := rand.New(rand.NewPCG(seed, 0))
		sizes, want := []int64{}, int64(-1)
		for range int(n) % 5000 {
			want += 1 + r.Int64N(max(1, min(gap, 1<<48)))
			sizes = append(sizes, want)
		}
		asked := 0
		got, err := search{from: pageOf(sizes, &asked)}.newest(hint)
		if err != nil || got != want || asked > 100 {
			t.Errorf("got %d, %v after %d requests, want %d", got, err, asked, want)
		}
	})
}

func TestAReaderThatCannotWriteIsNotToldThatS3IsAway(t *testing.T) {
	s := newStore(t)
	s.anchors(1)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	full := errors.New("no space left")
	w := iotest.TruncateWriter(failingWriter{full}, 100)
	if err := s.Get(t.Context(), anchorKey(0), w); !errors.Is(err, full) || reasonOf(err) != reasonFile {
		t.Errorf("got %v", err)
	}
	if err := s.Get(t.Context(), anchorKey(7), w); err == nil || !strings.Contains(err.Error(), "no such object") {
		t.Errorf("got %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestAHalfReadObjectIsAnError(t *testing.T) {
	s := newStore(t)
	_, small := s.file(t, "recordings/small", 60_000)
	_, large := s.file(t, "recordings/large", 20<<20)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for key, data := range map[string][]byte{"recordings/small": small, "recordings/large": large} {
		mend := s.server.Wire.Break(s3server.Fault{Query: "versionId", Answer: 5000})
		var got bytes.Buffer
		if err := s.Get(t.Context(), key, &got); reasonOf(err) != reasonUnreachable {
			t.Errorf("%s: got %v after %d bytes", key, err, got.Len())
		}
		mend()
		s.wantGet(t, key, data)
	}
}

func TestWhatIsNotWhatWasPutIsToldByItsChecksum(t *testing.T) {
	s := newStore(t)
	for _, size := range []int{60_000, 20 << 20} {
		key := fmt.Sprint("recordings/", size)
		_, data := s.file(t, key, size)
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.server.Wire.Break(s3server.Fault{Query: "versionId", Flip: true, Times: 1})
		var got bytes.Buffer
		if err := s.Get(t.Context(), key, &got); reasonOf(err) != reasonOther || !strings.Contains(err.Error(), "SHA-256") {
			t.Errorf("got %v", err)
		}
		s.wantGet(t, key, data)
	}
}
