package archive

import (
	"strings"
	"testing"
	"time"

	"postern/test/s3server"
)

func TestABucketThatLocksNothingIsToldAndCopiedTo(t *testing.T) {
	own := Options{Retention: time.Hour, RetentionMode: "compliance"}
	may, mayNot := s3server.Fault{Query: "nothing"}, s3server.Fault{Query: "object-lock", Deny: true}
	for name, test := range map[string]struct {
		bucket  s3server.Options
		options Options
		fault   s3server.Fault
	}{
		"without lock":                        {s3server.Options{NoLock: true}, own, may},
		"without lock, by default":            {s3server.Options{NoLock: true}, Options{}, may},
		"without retention":                   {s3server.Options{}, Options{}, may},
		"without lock, unseen":                {s3server.Options{NoLock: true}, own, mayNot},
		"without lock, by default and unseen": {s3server.Options{NoLock: true}, Options{}, mayNot},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, s3server.StartWith(t, test.bucket), test.options)
			defer s.server.Wire.Break(test.fault)()
			s.anchors(2)
			s.file(t, "recordings/large", 9<<20)
			for range 2 { // it is not told once only
				s.wantReason(t, s.Flush(t.Context()), "no_lock")
				if st := s.last(); st.Files != 0 || !strings.Contains(st.Err.Error(), "default retention") {
					t.Errorf("got %+v", st)
				}
			}
			if got := s.keys(t); len(got) != 3 || !s.Holds(anchorKey(0)) {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestWhoMayNotAskForTheLockIsNotTroubled(t *testing.T) {
	for _, o := range []Options{{}, {Retention: time.Hour, RetentionMode: "governance"}} {
		s := openStore(t, s3server.Start(t), o)
		defer s.server.Wire.Break(s3server.Fault{Query: "object-lock", Deny: true})()
		s.anchors(2)
		if err := s.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestABucketThatWasMendedIsNoLongerTold(t *testing.T) {
	s := openStore(t, s3server.Start(t), Options{})
	s.anchors(1)
	mend := s.server.Wire.Break(s3server.Fault{Query: "object-lock", Error: "ObjectLockConfigurationNotFoundError", Status: 404})
	s.wantReason(t, s.Flush(t.Context()), "no_lock")
	mend()
	if err := s.Flush(t.Context()); err != nil {
		t.Errorf("got %v", err)
	}
}
