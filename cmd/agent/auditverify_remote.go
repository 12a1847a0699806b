package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"postern/internal/archive"
	"postern/internal/audit"
	"postern/internal/config"
)

// source opens the archive that the flags name, and loads the configuration
// where they leave that to it.
func (f *remoteFlags) source(ctx context.Context, log *logFlags) (*remote, error) {
	var cfg *config.Config
	if f.S3.url == "" || log.Config != "" {
		var err error
		if cfg, err = log.config(); err != nil {
			return nil, err
		}
	}
	return f.open(ctx, cfg)
}

func (c *auditVerifyCmd) listLogs(ctx context.Context, e *env) error {
	r, err := c.source(ctx, &c.logFlags)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.show(ctx, e.stdout, c.JSON)
}

// verifyRemote verifies what the archive holds, or the log on this host against
// the checkpoints there.
func (c *auditVerifyCmd) verifyRemote(ctx context.Context, e *env) error {
	r, err := c.source(ctx, &c.logFlags)
	if err != nil {
		return err
	}
	defer r.Close()
	tmp, err := os.MkdirTemp("", "postern-verify-")
	if err != nil {
		return undecided(fmt.Errorf("make a temporary folder: %w", err), "TMPDIR names where")
	}
	defer os.RemoveAll(tmp)
	f := &fetch{remote: r, dir: tmp, bar: newProgressBar(e.stderr, "reading the archive")}
	if c.anchorsApart() {
		return c.verifyAgainst(ctx, e, f)
	}
	return c.verifyFetched(ctx, e, f)
}

func (c *auditVerifyCmd) verifyFetched(ctx context.Context, e *env, f *fetch) error {
	keys, err := verifierKeys(c.Key)
	if err != nil {
		return err
	}
	if f.origin, err = f.remote.choose(ctx); err != nil {
		return err
	}
	if err := f.list(ctx, !c.NoRecordings); err != nil {
		return remoteFault(err)
	}
	got, err := f.run(ctx)
	if err != nil {
		return remoteFault(err)
	}
	if got.Usable == 0 {
		return undecided(fmt.Errorf("verify %s in %s: no checkpoint there is of events that are there too: it has those of the first %d", printable(f.origin), f.remote.url, got.Hashed),
			"a segment is copied when it is closed, see audit.segment_age; until then postern audit verify --anchors s3:// compares the log on the host with its checkpoints in the archive")
	}
	o := audit.VerifyOptions{Dir: f.dir, Keys: keys, Copied: true}
	if recordings := filepath.Join(f.dir, "recordings"); !c.NoRecordings {
		if err := os.MkdirAll(recordings, 0o750); err != nil {
			return undecided(err)
		}
		o.Recordings = recordings
	}
	return c.verify(ctx, e, o, func(r *audit.Report) { f.complete(r, got) })
}

// complete adds what only the archive tells to the report of a log from it.
func (f *fetch) complete(r *audit.Report, got *fetched) {
	r.Dir = f.remote.url + "/" + f.origin
	r.Remarks = append(r.Remarks, got.Remarks...)
	if got.Anchored > got.Hashed {
		r.Remarks = append(r.Remarks, audit.Finding{Kind: audit.KindUncovered, File: checkpointKey(f.origin, got.Anchored), Index: got.Hashed,
			What: fmt.Sprintf("the archive has a checkpoint of %d events, and the first %d of them: the others are in a segment that is not closed or not copied yet", got.Anchored, got.Hashed)})
	}
}

// verifyAgainst verifies the log on this host, with the archive's checkpoints of
// it for anchors.
func (c *auditVerifyCmd) verifyAgainst(ctx context.Context, e *env, f *fetch) error {
	c.Anchors = filepath.Join(f.dir, "anchors")
	o, err := c.options()
	if err != nil {
		return err
	}
	if f.origin = f.remote.origin; f.origin == "" {
		f.origin, _, err = audit.Origin(o.Dir)
		if err == nil && f.origin == "" {
			err = errors.New("it has no checkpoint, so nothing says which log it is")
		}
		if err != nil {
			return undecided(fmt.Errorf("find out which log %s is: %w", o.Dir, err), "--origin names it")
		}
	}
	if err := f.list(ctx, false); err != nil {
		return remoteFault(err)
	}
	f.segments, f.hashes, f.keys = nil, nil, nil
	if err := f.anchorFiles(ctx, c.Anchors); err != nil {
		return remoteFault(err)
	}
	return c.verify(ctx, e, o, func(r *audit.Report) { r.Remarks = append(r.Remarks, f.covered()...) })
}

// anchorFiles brings all checkpoints, one a file.
func (f *fetch) anchorFiles(ctx context.Context, dir string) error {
	if err := f.checkRoom(); err != nil {
		return err
	}
	defer f.bar.clear()
	if err := os.Mkdir(dir, 0o750); err != nil {
		return err
	}
	signed, err := f.anchors(ctx, func(archive.Object) bool { return true })
	if err != nil {
		return err
	}
	for i, text := range signed {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f.checkpoints[i].Key)), text, 0o640); err != nil {
			return err
		}
	}
	return nil
}
