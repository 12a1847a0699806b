package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// quickDir is a directory in memory, for tests that open hundreds of logs and
// learn nothing from the disk.
func quickDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "postern-audit-*")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// files are the contents of a log's files by name, to put it back to a moment.
type files map[string][]byte

func snapshot(t testing.TB, dir string) files {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := make(files)
	for _, e := range entries {
		if e.IsDir() || e.Name() == "lock" || e.Name() == "reserve" {
			continue
		}
		if all[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// with is f with some files of another moment; nil means that it is gone.
func (f files) with(others files) files {
	mixed := make(files)
	for name, data := range f {
		mixed[name] = data
	}
	for name, data := range others {
		mixed[name] = data
		if data == nil {
			delete(mixed, name)
		}
	}
	return mixed
}

func (f files) put(t testing.TB, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	for name, data := range f {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o640); err != nil {
			t.Fatal(err)
		}
	}
}

func mustSign(t testing.TB, l *Log) Checkpoint {
	t.Helper()
	c, err := l.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// mustProve checks all that is on disk, by other means than the log's own: the
// tree of the lines, the hashes, every checkpoint, and a proof of each event.
func mustProve(t testing.TB, dir string) Checkpoint {
	t.Helper()
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var list []tlog.Hash
		for _, i := range indexes {
			list = append(list, hashes[i])
		}
		return list, nil
	})
	records := all(t, dir)
	for _, r := range records {
		stored, err := tlog.StoredHashes(r.Index, r.Line, reader)
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, stored...)
	}
	disk := snapshot(t, dir)
	keys, err := ParseKeys(disk[keysFile])
	if err != nil || len(keys) == 0 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	var newest Checkpoint
	rest := disk[checkpointsFile]
	for len(rest) > 0 {
		var signed []byte
		var ok bool
		if signed, rest, ok = CutCheckpoint(rest); !ok {
			t.Fatalf("checkpoints.log ends in %q", rest)
		}
		c, _, err := OpenCheckpoint(signed, note.VerifierList(keys...))
		if err != nil {
			t.Fatal(err)
		}
		root, err := tlog.TreeHash(c.Size, reader)
		if err != nil || c.Size > 0 && root != c.Root || c.Size == 0 && c.Root != emptyRoot || c.Size < newest.Size {
			t.Fatalf("the checkpoint of %d events has the root %s, want %s (%v)", c.Size, c.Root, root, err)
		}
		newest = c
		if len(rest) == 0 && !bytes.Equal(signed, disk[checkpointFile]) {
			t.Fatal("the checkpoint is not the last of checkpoints.log")
		}
	}
	for i := range tlog.StoredHashCount(newest.Size) {
		if !bytes.Equal(disk[hashesFile][i*hashSize:(i+1)*hashSize], hashes[i][:]) {
			t.Fatalf("hash %d of hashes.bin is wrong", i)
		}
	}
	f := storedHashes{bytes.NewReader(disk[hashesFile])}
	for _, r := range records[:newest.Size] {
		proof, err := tlog.ProveRecord(newest.Size, r.Index, f)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(proof, newest.Size, newest.Root, r.Index, tlog.RecordHash(r.Line)); err != nil {
			t.Fatalf("event %d: %v", r.Index, err)
		}
	}
	mustVerify(t, dir)
	return newest
}

// mustVerify asks Verify, which must find nothing.
func mustVerify(t testing.TB, dir string) {
	t.Helper()
	keys, err := ParseKeys(snapshot(t, dir)[keysFile])
	if err != nil {
		t.Fatal(err)
	}
	r, err := Verify(context.Background(), VerifyOptions{Dir: dir, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		t.Errorf("%s: %s line %d, event %d: %s", f.Kind, f.File, f.Line, f.Index, f.What)
	}
}

// reopened opens the log in dir again, closes it and proves it.
func reopened(t testing.TB, dir string) Checkpoint {
	t.Helper()
	mustClose(t, mustOpen(t, Options{Dir: dir}))
	return mustProve(t, dir)
}

// claimed is the newest checkpoint in dir.
func claimed(dir string) (Checkpoint, error) {
	c, err := readClaim(dir, testKey(1))
	if err != nil {
		return Checkpoint{}, err
	}
	return c.newest, nil
}

func mustRefuse(t testing.TB, dir string, why error) {
	t.Helper()
	before := snapshot(t, dir)
	l, err := Open(Options{Dir: dir, MinFree: 1, Key: testKey(1)})
	if err == nil {
		l.Close()
		t.Fatalf("the log was opened, want %v", why)
	}
	if !errors.Is(err, why) || !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "new epoch") {
		t.Fatalf("Open returned %v, want %v", err, why)
	}
	after := snapshot(t, dir)
	if len(after) != len(before) {
		t.Fatalf("the refused log has %d files, had %d", len(after), len(before))
	}
	for name, data := range before {
		if !bytes.Equal(after[name], data) {
			t.Fatalf("%s was changed", name)
		}
	}
}

func TestWhatIsSignedIsTheTreeOfTheLines(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir, SegmentSize: 5000, Origin: "gate1.example.com"})
	for n := range 40 {
		mustAppend(t, l, numbered(n))
		if n%7 == 0 {
			if c := mustSign(t, l); c.Size != l.Size() {
				t.Errorf("signed %d events of %d", c.Size, l.Size())
			}
		}
	}
	origin := l.Origin()
	mustClose(t, l)
	c := mustProve(t, dir)
	if c.Size != int64(len(all(t, dir))) || c.Origin != origin {
		t.Errorf("Close left %+v", c)
	}
	if host, instance, epoch, err := splitOrigin(origin); err != nil || host != "gate1.example.com" || len(instance) != 16 || epoch != 1 {
		t.Errorf("the origin is %s", origin)
	}
	if again := reopened(t, dir); again != c {
		t.Errorf("a start without events went from %+v to %+v", c, again)
	}
	for name, want := range map[string]fs.FileMode{hashesFile: 0o640, checkpointFile: 0o640, checkpointsFile: 0o640, keysFile: 0o644} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v", name, info.Mode(), err)
		}
	}
}

// moments of a log: signed at 5 events, 3 more on disk, and signed again.
func moments(t testing.TB) (first, more, second files) {
	t.Helper()
	dir := quickDir(t)
	l := mustOpen(t, Options{Dir: dir})
	for n := range 5 {
		mustAppend(t, l, numbered(n))
	}
	mustSign(t, l)
	first = snapshot(t, dir)
	mustAppend(t, l, numbered(5), numbered(6), numbered(7))
	more = snapshot(t, dir)
	mustSign(t, l)
	second = snapshot(t, dir)
	return first, more, second
}

func TestAKillAtAnyByteOfTheLastBatchLosesNothingThatWasSigned(t *testing.T) {
	first, more, _ := moments(t)
	segment, dir := segmentName(0), filepath.Join(quickDir(t), "log")
	signed := len(first[segment])
	for size := signed; size <= len(more[segment]); size++ {
		cut := more[segment][:size]
		more.with(files{segment: cut}).put(t, dir)
		mustClose(t, mustOpen(t, Options{Dir: dir}))
		c, err := claimed(dir)
		if size%8 == 0 || err != nil {
			c = mustProve(t, dir)
		}
		whole := int64(bytes.Count(cut, []byte("\n")))
		torn := cut[bytes.LastIndexByte(cut, '\n')+1:]
		if len(torn) > 0 {
			whole++ // log.recovered
		}
		if saved := tornFiles(t, dir); c.Size != whole || len(torn) > 0 && (len(saved) != 1 || !bytes.Equal(saved[0], torn)) {
			t.Fatalf("cut at %d: %d events of %d, %d torn files", size, c.Size, whole, len(saved))
		}
	}
	for size := 0; size < signed; size += 1 + size/100 {
		more.with(files{segment: more[segment][:size]}).put(t, dir)
		mustRefuse(t, dir, ErrTruncated)
	}
	more.with(files{segment: more[segment][:signed-1]}).put(t, dir)
	mustRefuse(t, dir, ErrTruncated)
}

func TestAKillAtAnyByteOfSigningIsMadeGood(t *testing.T) {
	first, more, second := moments(t)
	dir := filepath.Join(quickDir(t), "log")
	hashes, log := second[hashesFile], second[checkpointsFile]
	for size := len(first[hashesFile]); size <= len(hashes); size++ {
		more.with(files{hashesFile: hashes[:size]}).put(t, dir)
		if c := reopened(t, dir); c.Size != 8 {
			t.Fatalf("hashes.bin cut at %d: %+v", size, c)
		}
	}
	before := more.with(files{hashesFile: hashes})
	for size := len(first[checkpointsFile]); size <= len(log); size++ {
		before.with(files{checkpointsFile: log[:size]}).put(t, dir)
		if c := reopened(t, dir); c.Size != 8 {
			t.Fatalf("checkpoints.log cut at %d: %+v", size, c)
		}
		if got := snapshot(t, dir)[checkpointsFile]; !bytes.Equal(got, log) {
			t.Fatalf("checkpoints.log cut at %d is\n%s\nwant\n%s", size, got, log)
		}
	}
	// The checkpoint comes last, so what it promises was on disk before it.
	for size := 0; size < len(log); size += 7 {
		second.with(files{checkpointsFile: log[:size]}).put(t, dir)
		mustRefuse(t, dir, ErrUnsigned)
	}
}

func TestHashesAreMadeAnewFromTheSegments(t *testing.T) {
	dir := filepath.Join(quickDir(t), "log")
	l := mustOpen(t, Options{Dir: dir, SegmentSize: 5000})
	for n := range 30 {
		mustAppend(t, l, numbered(n))
	}
	mustClose(t, l)
	whole := snapshot(t, dir)
	for name, hashes := range map[string][]byte{
		"gone": nil, "empty": {}, "cut": whole[hashesFile][:100], "garbage": bytes.Repeat([]byte{7}, len(whole[hashesFile])),
		"longer": append(bytes.Clone(whole[hashesFile]), 1, 2, 3),
	} {
		whole.with(files{hashesFile: hashes}).put(t, dir)
		mustClose(t, mustOpen(t, Options{Dir: dir}))
		if got := snapshot(t, dir)[hashesFile]; !bytes.Equal(got, whole[hashesFile]) {
			t.Errorf("%s: hashes.bin was not made good", name)
		}
	}
}

func TestALogThatIsNotWhatWasSignedIsRefused(t *testing.T) {
	first, _, second := moments(t)
	segment, dir := segmentName(0), filepath.Join(quickDir(t), "log")
	edit := func(name, old, with string) []byte {
		t.Helper()
		edited := bytes.Replace(second[name], []byte(old), []byte(with), 1)
		if bytes.Equal(edited, second[name]) {
			t.Fatalf("%s holds no %q", name, old)
		}
		return edited
	}
	_, foreign, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	origin, _, _ := strings.Cut(string(second[checkpointFile]), "\n")
	stranger, err := newKeySigner(origin, foreign)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := note.Sign(&note.Note{Text: string(second[checkpointFile][:bytes.Index(second[checkpointFile], []byte("\n\n"))+1])}, stranger)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change files
		why    error
	}{
		"an edited event":                   {files{segment: edit(segment, `"message":"2"`, `"message":"3"`)}, ErrRewritten},
		"an edited event, no hashes":        {files{segment: edit(segment, `"message":"2"`, `"message":"3"`), hashesFile: nil}, ErrRewritten},
		"an older log, a newer checkpoint":  {files{segment: first[segment], hashesFile: first[hashesFile]}, ErrTruncated},
		"an older log, newer checkpoints":   {first.with(files{checkpointsFile: second[checkpointsFile]}), ErrTruncated},
		"no segment":                        {files{segment: nil}, ErrTruncated},
		"older checkpoints.log":             {files{checkpointsFile: first[checkpointsFile]}, ErrUnsigned},
		"no checkpoint":                     {files{checkpointFile: nil}, ErrUnsigned},
		"no checkpoint, no checkpoints.log": {files{checkpointFile: nil, checkpointsFile: nil}, ErrUnsigned},
		"no checkpoint but hashes":          {files{checkpointFile: nil, checkpointsFile: nil, keysFile: nil}, ErrUnsigned},
		"no checkpoints.log":                {files{checkpointsFile: nil}, ErrUnsigned},
		"an empty checkpoint":               {files{checkpointFile: {}}, ErrUnsigned},
		"another size":                      {files{checkpointFile: edit(checkpointFile, "\n8\n", "\n7\n")}, ErrUnsigned},
		"another origin":                    {files{checkpointFile: edit(checkpointFile, "/1\n", "/2\n")}, ErrUnsigned},
		"a bad signature":                   {files{checkpointFile: append(second[checkpointFile][:len(second[checkpointFile])-8:len(second[checkpointFile])-8], "AAAAAAA\n"...)}, ErrUnsigned},
		"the key of a stranger":             {files{checkpointFile: forged}, ErrUnsigned},
		"a bad audit.vkey":                  {files{keysFile: []byte("key\n")}, ErrUnsigned},
		"a bad entry in checkpoints.log":    {files{checkpointsFile: append(bytes.Clone(second[checkpointsFile]), "a\n9\nb\n\nc\n\n"...)}, ErrUnsigned},
	} {
		t.Run(name, func(t *testing.T) {
			second.with(c.change).put(t, dir)
			mustRefuse(t, dir, c.why)
		})
	}
	// Restoring everything at once can't be seen here, only with an anchor.
	first.put(t, dir)
	if c := reopened(t, dir); c.Size != 5 {
		t.Errorf("%+v", c)
	}
	second.with(files{keysFile: nil}).put(t, dir)
	reopened(t, dir)
}

func TestAnEditOfAnOldSegmentIsSeenWhereItsHashesAreMissing(t *testing.T) {
	dir := filepath.Join(quickDir(t), "log")
	l := mustOpen(t, Options{Dir: dir, SegmentSize: 5000})
	for n := range 30 {
		mustAppend(t, l, numbered(n))
	}
	mustClose(t, l)
	whole := snapshot(t, dir)
	edited := bytes.Replace(whole[segmentName(0)], []byte(`"message":"2"`), []byte(`"message":"3"`), 1)
	whole.with(files{segmentName(0): edited, hashesFile: nil}).put(t, dir)
	mustRefuse(t, dir, ErrRewritten)
}

func TestALogThatWasNotSignedIsTakenOn(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(Options{Dir: dir, MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, numbered(0), numbered(1))
	if l.Origin() != "" || l.VerifierKey() != "" {
		t.Error("an unsigned log has a name")
	}
	if _, err := l.Checkpoint(); err == nil {
		t.Error("a log without a key was signed")
	}
	mustClose(t, l)
	if c := reopened(t, dir); c.Size != 2 {
		t.Errorf("%+v", c)
	}
	if _, err := Open(Options{Dir: dir, MinFree: 1}); err == nil || !strings.Contains(err.Error(), "no key") {
		t.Errorf("a signed log was opened without a key: %v", err)
	}
}

func TestACrashWhileALogBeginsIsMadeGood(t *testing.T) {
	dir := filepath.Join(quickDir(t), "log")
	mustOpen(t, Options{Dir: dir}).Close()
	begun := snapshot(t, dir)
	for i, missing := range [][]string{
		{hashesFile}, {hashesFile, keysFile}, {hashesFile, keysFile, checkpointsFile},
		{hashesFile, keysFile, checkpointsFile, checkpointFile}, {segmentName(0)},
	} {
		change := files{}
		for _, name := range missing {
			change[name] = nil
		}
		begun.with(change).put(t, dir)
		l := mustOpen(t, Options{Dir: dir})
		mustAppend(t, l, numbered(i))
		mustClose(t, l)
		if c := mustProve(t, dir); c.Size != 1 {
			t.Errorf("without %v: %+v", missing, c)
		}
	}
}

func TestEveryByteOfTheCheckpointCounts(t *testing.T) {
	_, _, second := moments(t)
	dir := filepath.Join(quickDir(t), "log")
	for i := range second[checkpointFile] {
		edited := bytes.Clone(second[checkpointFile])
		edited[i] ^= 1
		second.with(files{checkpointFile: edited}).put(t, dir)
		if l, err := Open(Options{Dir: dir, MinFree: 1, Key: testKey(1)}); err == nil {
			l.Close()
			t.Fatalf("an edit of byte %d was not noticed: %s", i, edited)
		} else if !errors.Is(err, ErrDamaged) {
			t.Fatal(fmt.Errorf("byte %d: %w", i, err))
		}
	}
}
