package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"postern/internal/archive"
	"postern/internal/audit"
)

// fetchesAtOnce is how many objects are on their way at a time.
const fetchesAtOnce = 8

// fetch brings one log of an archive into a folder.
type fetch struct {
	remote *remote
	origin string
	dir    string
	bar    *progressBar

	checkpoints, segments, hashes, keys, recordings []archive.Object

	mu          sync.Mutex // guards what follows
	done, total int64      // bytes
}

// fetched is what a fetch has brought.
type fetched struct {
	Origin     string          `json:"origin"`
	Dir        string          `json:"dir"`
	Segments   int             `json:"segments"`
	Recordings int             `json:"recordings"`
	Hashed     int64           `json:"hashed"`   // events whose hashes are there
	Anchored   int64           `json:"anchored"` // events that the newest checkpoint of the archive covers
	Usable     int             `json:"checkpoints"`
	Remarks    []audit.Finding `json:"remarks"`
}

// list finds out what the archive has of the log.
func (f *fetch) list(ctx context.Context, recordings bool) error {
	for _, l := range []struct {
		prefix string
		to     *[]archive.Object
		wanted bool
	}{
		{f.origin + checkpointsFolder, &f.checkpoints, true},
		{f.origin + segmentsFolder, &f.segments, true},
		{f.origin + hashesFolder, &f.hashes, true},
		{f.origin + keysFolder, &f.keys, true},
		{instanceOf(f.origin) + recordingsFolder, &f.recordings, recordings},
	} {
		if !l.wanted {
			continue
		}
		for o, err := range f.remote.List(ctx, l.prefix, "") {
			if err != nil {
				return err
			}
			*l.to = append(*l.to, o)
		}
	}
	if len(f.checkpoints) == 0 {
		return undecided(fmt.Errorf("read the archive %s: it has no checkpoint of %s", f.remote.url, printable(f.origin)), "--list shows which logs it has, --origin names one")
	}
	return nil
}

// checkRoom refuses to begin what the disk has no room for.
func (f *fetch) checkRoom() error {
	for _, o := range slices.Concat(f.checkpoints, f.segments, f.hashes, f.keys, f.recordings) {
		f.total += o.Size
	}
	free, err := diskFree(f.dir)
	if err != nil {
		return undecided(fmt.Errorf("look for room in %s: %w", f.dir, err))
	}
	if uint64(f.total) > free {
		return undecided(fmt.Errorf("bring the log back: it takes %s, and %s has %s free", byteCount(f.total), f.dir, byteCount(int64(free))),
			"TMPDIR names another folder for audit verify, --to for audit restore", "audit restore --since and --until bring a part of it")
	}
	return nil
}

// run brings everything that was listed. What is there afterwards is a log that
// package audit reads.
func (f *fetch) run(ctx context.Context) (*fetched, error) {
	if err := f.checkRoom(); err != nil {
		return nil, err
	}
	defer f.bar.clear()
	got := &fetched{Origin: f.origin, Dir: f.dir, Segments: len(f.segments), Recordings: len(f.recordings), Remarks: f.covered(),
		Hashed: hashedBy(f.hashes), Anchored: numberAtEnd(f.checkpoints[len(f.checkpoints)-1].Key)}
	if err := f.files(ctx); err != nil {
		return nil, err
	}
	if err := f.vkeys(ctx); err != nil {
		return nil, err
	}
	var err error
	got.Usable, err = f.pins(ctx, got.Hashed)
	return got, err
}

// files brings segments, their hashes and recordings.
func (f *fetch) files(ctx context.Context) error {
	hashes, err := os.OpenFile(filepath.Join(f.dir, hashesFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(fetchesAtOnce)
	for _, o := range f.hashes {
		offset, _ := audit.Segment{First: numberAtEnd(o.Key)}.HashRange()
		g.Go(func() error { return f.one(ctx, o, io.NewOffsetWriter(hashes, offset)) })
	}
	for _, o := range f.segments {
		g.Go(func() error { return f.file(ctx, o, strings.TrimPrefix(o.Key, f.origin+segmentsFolder)) })
	}
	return errors.Join(g.Wait(), hashes.Close(), f.recordingFiles(ctx))
}

// recordingFiles brings the recordings.
func (f *fetch) recordingFiles(ctx context.Context) error {
	var g errgroup.Group
	g.SetLimit(fetchesAtOnce)
	for _, o := range f.recordings {
		g.Go(func() error {
			return f.file(ctx, o, filepath.Join("recordings", strings.TrimPrefix(o.Key, instanceOf(f.origin)+recordingsFolder)))
		})
	}
	return g.Wait()
}

// file brings an object into a new file, whose name comes from the archive and
// must stay in the folder.
func (f *fetch) file(ctx context.Context, o archive.Object, name string) error {
	if !filepath.IsLocal(name) {
		return fmt.Errorf("%s: no name for a file", printable(o.Key))
	}
	path := filepath.Join(f.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	return errors.Join(f.one(ctx, o, file), file.Close())
}

// one brings an object, as it was put there first.
func (f *fetch) one(ctx context.Context, o archive.Object, w io.Writer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.remote.Fetch(ctx, o, io.MultiWriter(w, counter{f}))
}

// counter shows how far a fetch is.
type counter struct{ f *fetch }

func (c counter) Write(p []byte) (int, error) {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.f.done += int64(len(p))
	c.f.bar.show(c.f.done, c.f.total)
	return len(p), nil
}

// vkeys brings the lists of keys and writes the longest as audit.vkey: each
// holds those before it. Lines that only others have follow, so that nothing is
// left out.
func (f *fetch) vkeys(ctx context.Context) error {
	lists := make([][]string, len(f.keys))
	for i, o := range f.keys {
		var text bytes.Buffer
		if err := f.one(ctx, o, &text); err != nil {
			return err
		}
		lists[i] = strings.Split(strings.TrimSpace(text.String()), "\n")
	}
	slices.SortStableFunc(lists, func(a, b []string) int { return cmp.Compare(len(b), len(a)) })
	var lines []string
	for _, list := range lists {
		for _, line := range list {
			if !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	if len(lines) == 0 {
		return nil // --key may have it
	}
	return os.WriteFile(filepath.Join(f.dir, keysFile), []byte(strings.Join(lines, "\n")+"\n"), 0o640)
}

// pins brings the checkpoints and makes the log's of those that the hashes
// reach. It returns how many these are.
func (f *fetch) pins(ctx context.Context, hashed int64) (int, error) {
	signed, err := f.anchors(ctx, func(o archive.Object) bool { return numberAtEnd(o.Key) <= hashed })
	if err != nil || len(signed) == 0 {
		return 0, err
	}
	return len(signed), audit.WriteCheckpoints(f.dir, signed)
}

// anchors brings the checkpoints that are wanted, in their order.
func (f *fetch) anchors(ctx context.Context, wanted func(archive.Object) bool) ([][]byte, error) {
	objects := slices.DeleteFunc(slices.Clone(f.checkpoints), func(o archive.Object) bool { return !wanted(o) })
	signed := make([][]byte, len(objects))
	var g errgroup.Group
	g.SetLimit(fetchesAtOnce)
	for i, o := range objects {
		g.Go(func() error {
			var text bytes.Buffer
			err := f.one(ctx, o, &text)
			signed[i] = text.Bytes()
			return err
		})
	}
	return signed, g.Wait()
}

// hashedBy is how many events have their hashes in the archive, from the first
// on without a gap.
func hashedBy(hashes []archive.Object) int64 {
	next := int64(0)
	for _, o := range hashes {
		first := numberAtEnd(o.Key)
		if first != next {
			break
		}
		// The number of hashes grows with that of events, by one or more each.
		next += int64(sort.Search(int(o.Size), func(n int) bool {
			_, size := audit.Segment{First: first, End: first + int64(n) + 1}.HashRange()
			return size > o.Size
		}))
	}
	return next
}

// covered tells of objects that somebody has put something on top of. What was
// there first is what is read.
func (f *fetch) covered() []audit.Finding {
	remarks := []audit.Finding{}
	for _, o := range slices.Concat(f.checkpoints, f.segments, f.hashes, f.keys, f.recordings) {
		what := ""
		switch {
		case o.Versions > 1:
			what = "somebody has put another version on top of it; the first is what was read"
		case o.Deleted:
			what = "somebody, or a lifecycle rule, has put a delete marker on top of it; it is still there and was read"
		default:
			continue
		}
		remarks = append(remarks, audit.Finding{Kind: kindCovered, File: o.Key, Index: -1, What: what})
	}
	return remarks
}

// kindCovered is the kind of a remark about an object of the archive.
const kindCovered = "covered"
