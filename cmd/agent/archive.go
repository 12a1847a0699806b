package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"postern/internal/archive"
	"postern/internal/audit"
	"postern/internal/config"
	"postern/internal/metrics"
)

const (
	guardTimeout  = 10 * time.Second // for the look at the archive before a start
	contactPause  = 5 * time.Second  // from one try to reach it to the next
	contactTime   = time.Minute      // for one such try
	farewellFlush = 5 * time.Second  // for the last checkpoint at a stop
	lagInterval   = time.Second      // from look to look at the lag
)

// archiver keeps the archive equal to what is on this host, and knows how far
// it is behind. A nil archiver archives nothing.
type archiver struct {
	archive *archive.Archive
	backlog backlog
	section config.Archive
	host    string // the audit log's, for a log that begins
	log     *zap.Logger
	metrics *metrics.Metrics
	audit   *audit.Log   // set once it is open
	stop    func(ending) // lets the gate end
	lag     lag

	mu      sync.Mutex     // guards what follows
	end     func()         // ends run; nil before it
	checked bool           // the log was compared with what the archive has of it
	status  archive.Status // of the last pass
	failing string         // why the last pass failed, "" = it did not
}

// newArchiver sets up the archive that c names, and asks nobody.
func newArchiver(c *config.Config, log *zap.Logger, m *metrics.Metrics, stop func(ending)) (*archiver, error) {
	if c.Archive.Bucket == "" {
		return nil, nil
	}
	a := &archiver{section: c.Archive, host: logHost(c), log: log, metrics: m, stop: stop}
	o := archiveOptions(c.Archive)
	o.Ledger = filepath.Join(c.Audit.Dir, ledgerName(c.Archive))
	o.Interval, o.Backlog, o.Changed = c.Archive.AnchorInterval, a.items, a.passed
	var err error
	if a.archive, err = archive.Open(context.Background(), o); err != nil {
		return nil, err
	}
	a.backlog = backlog{dir: c.Audit.Dir, recordings: c.Recordings.Dir, holds: a.archive.Holds, log: log}
	m.WatchArchive(a.stand)
	return a, nil
}

// logHost is the host or domain that names the logs that begin here.
func logHost(c *config.Config) string {
	host, _ := os.Hostname() // without one, package audit takes localhost too
	return cmp.Or(c.Audit.Origin, host, "localhost")
}

// archiveOptions are those that reading takes too.
func archiveOptions(c config.Archive) archive.Options {
	return archive.Options{Bucket: c.Bucket, Prefix: c.Prefix, Region: c.Region, Endpoint: c.Endpoint,
		Retention: c.Retention, RetentionMode: c.RetentionMode}
}

// ledgerName names the file that remembers what one archive has: another bucket
// begins with nothing.
func ledgerName(c config.Archive) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\n%s\n%s", c.Endpoint, c.Bucket, c.Prefix)
	return fmt.Sprintf("archive-%016x.ledger", h.Sum64())
}

// items is the archive's backlog.
func (a *archiver) items() ([]archive.Item, error) { return a.backlog.items(), nil }

// passed takes the result of a pass over the backlog.
func (a *archiver) passed(st archive.Status) {
	a.metrics.ArchivePass(st.Copied, st.Reason)
	a.lag.anchored(a.backlog.anchored())
	a.mu.Lock()
	before := a.failing
	a.status, a.failing = st, st.Reason
	a.mu.Unlock()
	switch {
	case st.Reason != "" && st.Reason != before:
		a.log.Error("archive: what is to be copied waits on the disk", zap.String("reason", st.Reason), zap.Int("files", st.Files), zap.Int64("bytes", st.Bytes), zap.Error(st.Err))
	case st.Reason == "" && before != "":
		a.log.Info("archive: copied again", zap.Int("copied", st.Copied))
	}
}

// written takes events that are durable now.
func (a *archiver) written(first int64, lines []byte) {
	if a != nil {
		a.lag.written(first, lines)
	}
}

// urgent are the events after which a checkpoint is not to wait.
func urgent(code audit.Code) bool { return code == audit.ConnClose || code == audit.LogRotate }

// appended takes the codes of events that are durable now.
func (a *archiver) appended(codes []audit.Code) {
	if a == nil {
		return
	}
	for _, code := range codes {
		if urgent(code) {
			a.lag.hurry()
			return
		}
	}
}

// signed is called with each checkpoint: one that covers the end of a session
// goes to the archive at once.
func (a *archiver) signed() {
	if a != nil && a.lag.hurried() {
		a.archive.Wake()
	}
}

// archived reports whether the archive has a segment, so that it may be removed
// here.
func (a *archiver) archived(first int64) bool {
	return a.backlog.archived(a.audit.Origin(), first)
}

// stand is what the metrics say.
func (a *archiver) stand() metrics.Archive {
	a.mu.Lock()
	defer a.mu.Unlock()
	m := metrics.Archive{AnchorAge: a.lag.now(), Files: a.status.Files, Bytes: a.status.Bytes}
	if !a.status.Oldest.IsZero() {
		m.BacklogAge = time.Since(a.status.Oldest)
	}
	return m
}

// ready is nil while new sessions may begin as far as the archive goes.
func (a *archiver) ready() error {
	if a == nil || !a.section.Refuse || !a.behind() {
		return nil
	}
	return fmt.Errorf("the archive has no checkpoint of the events of the last %s: %w", a.lag.now().Round(time.Second), a.why())
}

func (a *archiver) behind() bool { return a.lag.now() > a.section.AnchorMaxLag }

// why is the best that is known of why the archive is behind.
func (a *archiver) why() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.status.Err != nil:
		return a.status.Err
	case !a.checked:
		return errors.New("it could not be reached since the start")
	}
	return errors.New("no checkpoint was signed, or copying is too slow")
}

// run copies what the host has until ctx ends. Nothing is copied before the log
// was compared with the archive; if it is an older copy, the gate ends.
func (a *archiver) run(ctx context.Context) error {
	if a == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.mu.Lock()
	a.end = cancel
	a.mu.Unlock()
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { a.watch(ctx); return nil })
	parts.Go(func() error {
		a.contact(ctx)
		if ctx.Err() != nil {
			return nil
		}
		return a.archive.Run(ctx)
	})
	return parts.Wait()
}

// flush copies once more at a stop, for a few seconds: the last checkpoint first.
// What run was busy with it leaves to the next start.
func (a *archiver) flush() {
	if a == nil {
		return
	}
	a.mu.Lock()
	if a.end != nil {
		a.end()
	}
	a.mu.Unlock()
	if !a.isChecked() {
		return
	}
	defer a.archive.Close()
	ctx, cancel := context.WithTimeout(context.Background(), farewellFlush)
	defer cancel()
	if err := a.archive.Flush(ctx); err != nil {
		a.log.Warn("archive: not all was copied at the stop, the next start goes on", zap.Error(err))
	}
}

func (a *archiver) isChecked() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.checked
}

// watch says when the archive falls behind, and when it has caught up.
func (a *archiver) watch(ctx context.Context) {
	tick := time.NewTicker(lagInterval)
	defer tick.Stop()
	var since time.Time // zero = it is not behind
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			switch behind := a.behind(); {
			case behind && since.IsZero():
				since = now
				a.fellBehind()
			case !behind && !since.IsZero():
				a.caughtUp(now.Sub(since))
				since = time.Time{}
			}
		}
	}
}

func (a *archiver) fellBehind() {
	age, why := a.lag.now(), a.why()
	a.log.Error("the archive is behind", zap.Duration("age", age), zap.Duration("anchor_max_lag", a.section.AnchorMaxLag), zap.Bool("refuse", a.section.Refuse), zap.Error(why))
	what := "new sessions go on"
	if a.section.Refuse {
		what = "no new session is let in"
	}
	a.note(audit.Event{Code: audit.ArchiveFailure, Alert: true, Reason: a.reason(), Detail: why.Error(),
		Message: fmt.Sprintf("the archive has no checkpoint of the newest events for more than %s; %s", readable(a.section.AnchorMaxLag), what)})
}

func (a *archiver) caughtUp(after time.Duration) {
	a.log.Info("the archive has caught up", zap.Duration("after", after))
	a.audit.Note(audit.Event{Code: audit.ArchiveRecovered, Message: "the archive has the newest events again",
		Extra: map[string]any{"failed_s": int64(after.Seconds())}})
}

// reason is the code of the last failure.
func (a *archiver) reason() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.status.Reason != "":
		return a.status.Reason
	case !a.checked:
		return reasonUnreachable
	}
	return reasonOther
}

// Reasons of archive.failure where package archive gives none.
const (
	reasonUnreachable = "unreachable"
	reasonOther       = "other"
)

// note writes an event with what waits.
func (a *archiver) note(e audit.Event) {
	a.mu.Lock()
	st := a.status
	a.mu.Unlock()
	e.Extra = map[string]any{"waiting_files": st.Files, "waiting_bytes": st.Bytes}
	if !st.Oldest.IsZero() {
		e.Extra["oldest_s"] = int64(time.Since(st.Oldest).Seconds())
	}
	a.audit.Note(e)
}
