package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"go.uber.org/goleak"

	"postern/test/s3server"
)

// puts are the keys of the objects that were put since the last call, in order.
func (s *store) puts() (keys []string) {
	for _, r := range s.server.Wire.Requests() {
		if path, ok := strings.CutPrefix(r, "PUT /"+s.server.Bucket+"/"+s.o.Prefix+"/"); ok {
			key, _, _ := strings.Cut(path, "?")
			keys = append(keys, key)
		}
	}
	return keys
}

func (s *store) wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	if st := s.last(); reasonOf(err) != reason || st.Reason != reason || !errors.Is(err, st.Err) {
		t.Errorf("got %v, and %+v, want reason %q", err, st, reason)
	}
}

func TestWhatS3FailsWaitsAndIsCaughtUpInOrder(t *testing.T) {
	for name, test := range map[string]struct {
		fault  s3server.Fault
		reason string
	}{
		"throttled":        {s3server.Fault{Throttle: true}, "throttled"},
		"throttled puts":   {s3server.Fault{Throttle: true, Method: "PUT"}, "throttled"},
		"denied":           {s3server.Fault{Deny: true}, "denied"},
		"broken proxy":     {s3server.Fault{HTML: true}, "unreachable"},
		"broken server":    {s3server.Fault{Error: "InternalError", Status: 500}, "unreachable"},
		"down":             {s3server.Fault{Down: true}, "unreachable"},
		"hanging":          {s3server.Fault{Hang: true}, "unreachable"},
		"hanging puts":     {s3server.Fault{Hang: true, Method: "PUT"}, "unreachable"},
		"half a request":   {s3server.Fault{Upload: 5, Method: "PUT"}, "unreachable"},
		"clock skew":       {s3server.Fault{Skew: time.Hour}, "clock_skew"},
		"bucket is gone":   {s3server.Fault{Error: "NoSuchBucket", Status: 404}, "missing_bucket"},
		"bucket elsewhere": {s3server.Fault{Error: "PermanentRedirect", Status: 301}, "missing_bucket"},
		"expired token":    {s3server.Fault{Error: "ExpiredToken", Status: 400}, "denied"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			if test.fault.Hang {
				s.remote.timeout = 200 * time.Millisecond
			}
			s.anchors(4)
			mend := s.server.Wire.Break(test.fault)
			s.wantReason(t, s.Flush(t.Context()), test.reason)
			if st := s.last(); st.Files != 4 || st.Bytes != 4*12 || !st.Oldest.Equal(s.items[0].Since) || st.Copied != 0 {
				t.Errorf("got %+v", st)
			}
			if n := len(s.server.Wire.Requests()); n > 4 {
				t.Errorf("after the first failure there were %d requests in all", n)
			}
			mend()

			s.remote.timeout = callTimeout
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			want := []string{anchorKey(0), anchorKey(1), anchorKey(2), anchorKey(3)}
			if got := slices.Compact(s.puts()); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			s.wantGet(t, anchorKey(0), []byte("checkpoint 0"))
		})
	}
}

func TestASlowS3IsWaitedFor(t *testing.T) {
	s := newStore(t)
	s.anchors(3)
	defer s.server.Wire.Break(s3server.Fault{Slow: 200 * time.Millisecond})()
	if err := s.Flush(t.Context()); err != nil || s.last().Copied != 3 {
		t.Errorf("got %v, %+v", err, s.last())
	}
}

func TestALostAnswerIsNoConflict(t *testing.T) {
	s := newStore(t)
	s.anchors(3)
	for _, answer := range []int64{-1, 1} {
		s.server.Wire.Break(s3server.Fault{Method: "PUT", Answer: answer, Times: 1})
	}
	if err := s.Flush(t.Context()); err != nil || s.last().Copied != 3 {
		t.Errorf("got %v, %+v", err, s.last())
	}
	if got := s.objects(t, "", ""); len(got) != 3 || got[0].Versions != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestAPageThatSays200IsNotBelieved(t *testing.T) {
	s := newStore(t)
	s.anchors(2)
	mend := s.server.Wire.Break(s3server.Fault{Page: true})
	if err := s.Flush(t.Context()); err == nil || s.Holds(anchorKey(0)) || s.last().Files != 2 {
		t.Errorf("got %v, %+v", err, s.last())
	}
	mend()
	if err := s.Flush(t.Context()); err != nil || len(s.keys(t)) != 2 {
		t.Errorf("got %v", err)
	}
}

func TestAnObjectThatIsThereAlreadyIsLeftAlone(t *testing.T) {
	s := newStore(t)
	s.anchors(3)
	s.putOnTop(t, anchorKey(1), "somebody else's")
	s.wantReason(t, s.Flush(t.Context()), "conflict")
	if st := s.last(); st.Copied != 2 || st.Files != 1 {
		t.Errorf("got %+v", st)
	}
	got := s.objects(t, "", "")
	if len(got) != 3 || got[1].Versions != 1 || s.Holds(anchorKey(1)) {
		t.Errorf("got %+v", got)
	}
	s.wantGet(t, anchorKey(1), []byte("somebody else's"))

	s.anchors(1) // the bad one holds up nothing, pass after pass
	s.wantReason(t, s.Flush(t.Context()), "conflict")
	if st := s.last(); st.Copied != 1 || st.Files != 1 {
		t.Errorf("got %+v", st)
	}
}

func TestAFileThatChangedHoldsUpNoOther(t *testing.T) {
	s := newStore(t)
	gone, _ := s.file(t, "segments/gone", 10)
	short, _ := s.file(t, "segments/short", 10)
	link, _ := s.file(t, "segments/link", 10)
	fifo, _ := s.file(t, "segments/fifo", 10)
	folder, _ := s.file(t, "segments/folder", 10)
	s.items[1].Size = 11
	for _, path := range []string{gone, link, fifo, folder} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink(short, link), syscall.Mkfifo(fifo, 0o600), os.Mkdir(folder, 0o700)); err != nil {
		t.Fatal(err)
	}
	s.anchors(1)
	s.wantReason(t, s.Flush(t.Context()), "file")
	if st := s.last(); st.Copied != 1 || st.Files != 5 {
		t.Errorf("got %+v", st)
	}
	if got := s.keys(t); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}

func TestAPartOfAFileIsCopied(t *testing.T) {
	s := newStore(t)
	_, data := s.file(t, "hashes", 1000)
	s.items[0].Offset, s.items[0].Size = 100, 32
	path := s.items[0].Path
	s.items = append(s.items, Item{Key: "rest", Path: path, Offset: 900, Size: -1}, Item{Key: "nothing", Path: path, Offset: 1000, Size: -1})
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.wantGet(t, "hashes", data[100:132])
	s.wantGet(t, "rest", data[900:])
	s.wantGet(t, "nothing", nil)
}

func TestStrangeFailuresEndAPassOnceTheyAreMany(t *testing.T) {
	s := newStore(t)
	s.anchors(3 * mostStrange)
	defer s.server.Wire.Break(s3server.Fault{Method: "PUT", Error: "InvalidStorageClass", Status: 400, Times: mostStrange})()
	s.wantReason(t, s.Flush(t.Context()), "other")
	if n := len(s.puts()); n != mostStrange {
		t.Errorf("got %d requests", n)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	if got := s.puts(); got[0] != anchorKey(mostStrange) {
		t.Errorf("the first of the next pass is %s", got[0])
	}
}

func TestABacklogThatCannotBeListedIsTold(t *testing.T) {
	s := newStore(t)
	broken := errors.New("no such directory")
	o := s.o
	o.Backlog = func() ([]Item, error) { return nil, broken }
	s.reopen(t, o)
	if err := s.Flush(t.Context()); !errors.Is(err, broken) || s.last().Reason != "file" {
		t.Errorf("got %v, %+v", err, s.last())
	}
	o.Backlog = nil
	s.reopen(t, o)
	if err := s.Run(t.Context()); err == nil {
		t.Error("an archive that is only read runs")
	}
}

func TestNothingIsAskedWithoutCredentials(t *testing.T) {
	s := newStore(t)
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		t.Setenv(name, "")
	}
	s.reopen(t, s.o)
	s.anchors(1)
	s.wantReason(t, s.Flush(t.Context()), "denied")
	if got := s.server.Wire.Requests(); len(got) != 0 {
		t.Errorf("got %q", got)
	}
}

func TestRunCatchesUpWhenS3IsBack(t *testing.T) {
	before := goleak.IgnoreCurrent()
	s := newStore(t)
	s.anchors(5)
	passes := make(chan Status, 100)
	o := s.o
	o.Interval = time.Hour
	o.Changed = func(st Status) { passes <- st }
	s.reopen(t, o)
	mend := s.server.Wire.Break(s3server.Fault{Down: true})

	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	for range 2 {
		if st := <-passes; st.Reason != "unreachable" || st.Files != 5 {
			t.Errorf("got %+v", st)
		}
	}
	mend()
	st := <-passes
	for ; st.Err != nil; st = <-passes {
	}
	if st.Copied != 5 || st.Files != 0 {
		t.Errorf("got %+v", st)
	}
	s.items = append(s.items, Item{Key: "woken", Data: []byte("x")})
	s.Wake()
	if st := <-passes; st.Copied != 1 {
		t.Errorf("got %+v", st)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	s.server.Stop()
	goleak.VerifyNone(t, before)
}

func TestFlushEndsWithItsContext(t *testing.T) {
	s := newStore(t)
	s.anchors(3)
	defer s.server.Wire.Break(s3server.Fault{Hang: true, Method: "PUT"})()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if err := s.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 5*time.Second {
		t.Errorf("got %v after %s", err, time.Since(begun))
	}
}

func TestWhatIsCopiedCannotBeRemoved(t *testing.T) {
	for mode, o := range map[string]Options{
		"compliance": {Retention: 48 * time.Hour, RetentionMode: "compliance"},
		"governance": {Retention: 48 * time.Hour, RetentionMode: "governance"},
		"default":    {},
	} {
		t.Run(mode, func(t *testing.T) {
			s := openStore(t, s3server.Start(t), o)
			s.anchors(1)
			s.file(t, "recordings/large", 10<<20)
			begun := time.Now()
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, object := range s.objects(t, "", "") {
				s.wantLocked(t, object, o, begun)
			}
		})
	}
}

func (s *store) wantLocked(t *testing.T, object Object, o Options, begun time.Time) {
	t.Helper()
	key, client := aws.String(s.fullKey(object.Key)), s.server.Client()
	_, err := client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &s.server.Bucket, Key: key, VersionId: &object.version})
	if err == nil || !strings.Contains(err.Error(), "AccessDenied") {
		t.Errorf("%s was removed: %v", object.Key, err)
	}
	if o.Retention == 0 {
		return // the server does not show the bucket's default at an object
	}
	out, err := client.GetObjectRetention(t.Context(), &s3.GetObjectRetentionInput{Bucket: &s.server.Bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	until := aws.ToTime(out.Retention.RetainUntilDate)
	if got := fmt.Sprint(out.Retention.Mode); got != strings.ToUpper(o.RetentionMode) || until.Sub(begun.Add(o.Retention)).Abs() > time.Minute {
		t.Errorf("%s: got %s until %s", object.Key, got, until)
	}
}
