package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"postern/internal/archive"
	"postern/internal/audit"
	"postern/internal/config"
)

// logInSegments makes a signed log in dir with n events in segments of a few
// events each, and closes it.
func logInSegments(t *testing.T, dir string, key ed25519.PrivateKey, n int, newEpoch string) {
	t.Helper()
	l, err := audit.Open(audit.Options{Dir: dir, MinFree: 1, SegmentSize: 4096, Key: key, Origin: "gate.example.com", NewEpoch: newEpoch})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := l.Append(t.Context(), audit.Event{Code: audit.DaemonHeartbeat, Message: fmt.Sprint("alive ", i)}); err != nil {
			t.Fatal(err)
		}
		if i%5 == 4 {
			if _, err := l.Checkpoint(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// testBacklog is the backlog of a log of some segments, whose archive holds what
// is put in held.
func testBacklog(t *testing.T) (b *backlog, held map[string]bool) {
	t.Helper()
	dir, held := t.TempDir(), map[string]bool{}
	logInSegments(t, filepath.Join(dir, "audit"), newKey(t), 40, "")
	return &backlog{dir: filepath.Join(dir, "audit"), recordings: filepath.Join(dir, "recordings"),
		holds: func(key string) bool { return held[key] }, log: zap.NewNop()}, held
}

// shortKeys are the keys of items without the name of the instance.
func shortKeys(items []archive.Item) []string {
	var keys []string
	for _, it := range items {
		parts := strings.SplitN(it.Key, "/", 4) // host, postern, instance
		keys = append(keys, parts[3])
	}
	return keys
}

// before reports whether a key that begins with a comes before all that begin
// with b.
func before(keys []string, a, b string) bool {
	last := -1
	for i, k := range keys {
		if strings.HasPrefix(k, a) {
			last = i
		}
	}
	first := slices.IndexFunc(keys, func(k string) bool { return strings.HasPrefix(k, b) })
	return last >= 0 && first > last
}

func TestTheBacklogHasCheckpointsFirstThenRecordingsThenSegments(t *testing.T) {
	b, _ := testBacklog(t)
	rec := filepath.Join(b.recordings, "2026/11/24/rec-s-1.prec")
	writeWith(t, rec, 0o440)
	keys := shortKeys(b.items())
	for _, want := range []string{"1/checkpoints/00000000000000000", "1/keys/audit.vkey-", "recordings/2026/11/24/rec-s-1.prec",
		"1/segments/audit-00000000000000000000.jsonl", "1/hashes/00000000000000000000"} {
		if !slices.ContainsFunc(keys, func(k string) bool { return strings.HasPrefix(k, want) }) {
			t.Errorf("nothing is called %s among %v", want, keys)
		}
	}
	if !before(keys, "1/checkpoints/", "recordings/") || !before(keys, "recordings/", "1/segments/") || !before(keys, "recordings/", "1/hashes/") {
		t.Errorf("the order is %v", keys)
	}
}

// writeWith makes a file with a mode.
func writeWith(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("what a recording begins with"), mode); err != nil {
		t.Fatal(err)
	}
}

func TestEachClosedSegmentHasItsHashesBesideIt(t *testing.T) {
	b, _ := testBacklog(t)
	next := int64(0)
	for _, it := range b.items() {
		if !strings.Contains(it.Key, hashesFolder) {
			continue
		}
		if it.Offset != next || it.Path != filepath.Join(b.dir, hashesFile) {
			t.Errorf("%s is %s from byte %d, want %d", it.Key, it.Path, it.Offset, next)
		}
		next += it.Size
	}
	if next == 0 {
		t.Error("no hashes")
	}
}

// What is proven by the archive alone ends with a checkpoint that its segments
// reach.
func TestAClosedSegmentGoesWithTheNewestCheckpointThatItReaches(t *testing.T) {
	b, held := testBacklog(t)
	closed, err := audit.Segments(b.dir)
	if err != nil || len(closed) < 2 {
		t.Fatal(closed, err)
	}
	keys := shortKeys(b.items())
	for _, s := range closed {
		best := s.End
		for ; best > s.First && !slices.Contains(keys, fmt.Sprintf("1/checkpoints/%020d", best)); best-- {
		}
		if s.End-best > 6 { // one each five events, and rotations add some
			t.Errorf("segment %d to %d has no checkpoint near its end among %v", s.First, s.End, keys)
		}
	}
	origin, _, err := audit.Origin(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range closed {
		held[segmentKey(origin, s.First)] = true
	}
	if n := strings.Count(strings.Join(shortKeys(b.items()), "\n"), "checkpoints/"); n != 1 {
		t.Errorf("%d checkpoints once the segments are there, want the newest alone", n)
	}
}

func TestEpochsThatWerePutAsideAreArchivedToTheirEnd(t *testing.T) {
	dir, key := t.TempDir(), newKey(t)
	logInSegments(t, dir, key, 40, "")
	segments, _ := filepath.Glob(filepath.Join(dir, "audit-*.jsonl"))
	last := filepath.Base(segments[len(segments)-1])
	logInSegments(t, dir, key, 3, "the disk was lost")
	b := &backlog{dir: dir, recordings: filepath.Join(dir, "none"), holds: func(string) bool { return false }, log: zap.NewNop()}
	keys := shortKeys(b.items())
	for _, want := range []string{"1/segments/audit-00000000000000000000.jsonl", "1/segments/" + last, "1/hashes/" + strings.TrimSuffix(strings.TrimPrefix(last, "audit-"), ".jsonl")} {
		if !slices.Contains(keys, want) {
			t.Errorf("no %s among %v", want, keys)
		}
	}
	if !slices.ContainsFunc(keys, func(k string) bool { return strings.HasPrefix(k, "2/checkpoints/") }) || slices.ContainsFunc(keys, func(k string) bool { return strings.HasPrefix(k, "2/segments/") }) {
		t.Errorf("of the new epoch, whose only segment grows, there is %v", keys)
	}
	if !strings.HasPrefix(keys[0], "2/checkpoints/") {
		t.Errorf("the first is %s, want the newest checkpoint of the log", keys[0])
	}
}

func TestOnlyRecordingsThatNobodyWritesAreArchived(t *testing.T) {
	b, held := testBacklog(t)
	day := filepath.Join(b.recordings, "2026/11/24")
	for name, mode := range map[string]os.FileMode{
		"rec-begun-1.prec": 0o600, "rec-written-1.prec": 0o640, "rec-ended-1.prec": 0o440, "rec-held-1.prec": 0o640, "notes.txt": 0o440} {
		writeWith(t, filepath.Join(day, name), mode)
	}
	origin, _, err := audit.Origin(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	held[instanceOf(origin)+"/recordings/2026/11/24/rec-held-1.prec"] = true
	var got []string
	for _, k := range shortKeys(b.items()) {
		if strings.HasPrefix(k, "recordings/") {
			got = append(got, filepath.Base(k))
		}
	}
	if want := []string{"rec-ended-1.prec", "rec-held-1.prec"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestASegmentMayGoWhenTheArchiveHasItAndItsHashes(t *testing.T) {
	b, held := testBacklog(t)
	const origin = "gate.example.com/postern/0a1b2c3d4e5f6071/1"
	if b.archived(origin, 0) {
		t.Error("it is said to be archived, and nothing is")
	}
	held[segmentKey(origin, 0)] = true
	if b.archived(origin, 0) {
		t.Error("it is said to be archived without its hashes")
	}
	held[hashesKey(origin, 0)] = true
	if !b.archived(origin, 0) {
		t.Error("it is said not to be archived")
	}
}

func TestTheLedgerTellsHowFarTheLogWasAnchored(t *testing.T) {
	b, held := testBacklog(t)
	b.origin, _, _ = audit.Origin(b.dir)
	if n := b.heldBefore(); n != 0 {
		t.Errorf("%d events are said to be anchored, and none is", n)
	}
	held[checkpointKey(b.origin, 5)] = true
	checkpoints, err := lastCheckpoints(filepath.Join(b.dir, "checkpoints.log"), b.origin)
	if err != nil || len(checkpoints) < 3 {
		t.Fatal(checkpoints, err)
	}
	held[checkpointKey(b.origin, checkpoints[2].size)] = true
	if n := b.heldBefore(); n != checkpoints[2].size {
		t.Errorf("%d events are said to be anchored, want %d", n, checkpoints[2].size)
	}
}

func TestTheLagIsTheAgeOfTheOldestEventThatIsNotAnchored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l lag
		l.opened(10)
		l.anchored(10, time.Time{})
		if l.now() != 0 {
			t.Errorf("all is anchored, and the lag is %s", l.now())
		}
		l.written(10, []byte("{}\n{}\n"))
		time.Sleep(time.Minute)
		l.written(12, []byte("{}\n"))
		second := time.Now()
		time.Sleep(time.Minute)
		if l.now() != 2*time.Minute {
			t.Errorf("the lag is %s, want 2m", l.now())
		}
		l.anchored(12, second)
		if l.now() != time.Minute {
			t.Errorf("the lag is %s, want 1m", l.now())
		}
		l.anchored(13, time.Time{})
		if l.now() != 0 {
			t.Errorf("all is anchored again, and the lag is %s", l.now())
		}
		l.hurry()
		if !l.hurried() || l.hurried() {
			t.Error("a hurry is to be told once")
		}
	})
}

func TestOnlyAnArchiveThatIsBehindAndMayRefuseKeepsAnybodyOut(t *testing.T) {
	var none *archiver
	if err := none.ready(); err != nil {
		t.Errorf("without an archive: %v", err)
	}
	late := func(refuse bool, age time.Duration) *archiver {
		a := &archiver{section: config.Archive{AnchorMaxLag: time.Hour, Refuse: refuse}, checked: true}
		a.lag.events, a.lag.since = 1, time.Now().Add(-age)
		return a
	}
	if err := late(false, 2*time.Hour).ready(); err != nil {
		t.Errorf("when_behind: warn: %v", err)
	}
	if err := late(true, time.Minute).ready(); err != nil {
		t.Errorf("a minute behind: %v", err)
	}
	a := late(true, 2*time.Hour)
	a.status.Err = errors.New("AccessDenied")
	if err := a.ready(); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
		t.Errorf("two hours behind: %v", err)
	}
}

func TestTheNameOfALogIsTakenApart(t *testing.T) {
	const origin = "example.com/bastions/postern/0a1b2c3d4e5f6071/2"
	if hostOf(origin) != "example.com/bastions" || instanceOf(origin) != "example.com/bastions/postern/0a1b2c3d4e5f6071" || hostOf("") != "" {
		t.Errorf("host %q, instance %q", hostOf(origin), instanceOf(origin))
	}
	if got := epochsAmong([]string{"10", "recordings", "2", "02", "-1", "0"}); !slices.Equal(got, []string{"2", "10"}) {
		t.Errorf("epochs %v", got)
	}
}

func TestTheLedgerOfAnotherBucketIsAnother(t *testing.T) {
	a := ledgerName(config.Archive{Bucket: "a"})
	for _, c := range []config.Archive{{Bucket: "b"}, {Bucket: "a", Prefix: "p"}, {Bucket: "a", Endpoint: "https://s3.example.com"}} {
		if ledgerName(c) == a {
			t.Errorf("%+v has the ledger of another", c)
		}
	}
	if ledgerName(config.Archive{Bucket: "a", Retention: time.Hour}) != a {
		t.Error("another retention is no other archive")
	}
}
