package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"postern/internal/archive"
	"postern/internal/audit"
)

// pastHost is what stands between the host and the instance in the name of a
// log.
const pastHost = "/postern/"

// hostOf is the host or domain with which the name of a log begins.
func hostOf(origin string) string {
	parts := strings.Split(origin, "/")
	return strings.Join(parts[:max(0, len(parts)-3)], "/")
}

// before returns the newest checkpoints that the archive has of this host's
// logs, for the log to be compared with when it is opened. An archive that can't
// be reached in time is asked later, before anything is copied.
func (a *archiver) before() [][]byte {
	ctx, cancel := context.WithTimeout(context.Background(), guardTimeout)
	defer cancel()
	anchors, err := a.anchors(ctx)
	if err != nil {
		a.log.Warn("archive: not reached, so the audit log is compared with it later, and nothing is copied before", zap.Error(err))
		a.setWhy(err)
		return nil
	}
	a.checked = true
	return anchors
}

// anchors reads the newest checkpoint of each log that the archive has under
// the host's name. Whether they are this host's own is for package audit to say.
func (a *archiver) anchors(ctx context.Context) ([][]byte, error) {
	origin, size, _ := audit.Origin(a.backlog.dir) // what is damaged is refused when it is opened
	hosts := []string{a.host}
	if host := hostOf(origin); host != "" && host != a.host {
		hosts = append(hosts, host)
	}
	var found [][]byte
	for _, host := range hosts {
		instances, err := a.archive.Folders(ctx, host+pastHost)
		if err != nil {
			return nil, err
		}
		for _, instance := range instances {
			signed, err := a.newestOf(ctx, host+pastHost+instance, origin, size)
			if err != nil {
				return nil, err
			}
			if signed != nil {
				found = append(found, signed)
			}
		}
	}
	return found, nil
}

// newestOf reads the newest checkpoint of an instance, nil = it has none. What
// it finds of the log here, which is called origin, is known to be anchored.
func (a *archiver) newestOf(ctx context.Context, instance, origin string, size int64) ([]byte, error) {
	epoch, err := a.newestEpoch(ctx, instance)
	if err != nil || epoch == "" {
		return nil, err
	}
	name := instance + "/" + epoch
	hint := int64(0)
	if name == origin {
		hint = size
	}
	key, err := a.archive.Newest(ctx, name+checkpointsFolder, hint)
	if err != nil || key == "" {
		return nil, err
	}
	if name == origin {
		a.backlog.origin, a.backlog.held = origin, numberAtEnd(key)
	}
	var signed bytes.Buffer
	if err := a.archive.Get(ctx, key, &signed); err != nil {
		return nil, err
	}
	return signed.Bytes(), nil
}

// newestEpoch is the highest number among the folders of an instance, "" if none
// is one.
func (a *archiver) newestEpoch(ctx context.Context, instance string) (string, error) {
	folders, err := a.archive.Folders(ctx, instance+"/")
	if err != nil {
		return "", err
	}
	epochs := epochsAmong(folders)
	if len(epochs) == 0 {
		return "", nil
	}
	return epochs[len(epochs)-1], nil
}

// epochsAmong picks the numbers, the lowest first.
func epochsAmong(folders []string) []string {
	number := func(s string) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || strconv.FormatInt(n, 10) != s {
			return 0
		}
		return n
	}
	epochs := slices.DeleteFunc(slices.Clone(folders), func(s string) bool { return number(s) < 1 })
	slices.SortFunc(epochs, func(x, y string) int { return cmp.Compare(number(x), number(y)) })
	return epochs
}

// numberAtEnd is the number of 20 digits with which a key ends.
func numberAtEnd(key string) int64 {
	n, _ := strconv.ParseInt(key[max(0, len(key)-20):], 10, 64) // package archive has looked at it
	return n
}

// opened takes the log once it is open, and what is known of how much of it is
// anchored: from the archive, or where that was not reached from the ledger.
func (a *archiver) opened(log *audit.Log) {
	a.audit = log
	a.lag.opened(log.Size())
	if a.backlog.origin != log.Origin() {
		a.backlog.origin, a.backlog.held = log.Origin(), 0
	}
	if a.backlog.held == 0 {
		a.backlog.held = a.backlog.heldBefore()
	}
	a.lag.anchored(a.backlog.held, writtenAt(a.backlog.dir, a.backlog.held))
}

// contact compares the log with the archive if that could not be done before it
// was opened. It returns when that is done or ctx ends; where the log is an older
// copy it lets the gate stop.
func (a *archiver) contact(ctx context.Context) {
	if a.isChecked() {
		return
	}
	a.note(audit.Event{Code: audit.ArchiveFailure, Reason: a.reason(), Detail: a.why().Error(),
		Message: "the archive could not be reached at the start, so the log was not compared with it yet"})
	began := time.Now()
	for ctx.Err() == nil {
		err := a.compare(ctx)
		switch {
		case errors.Is(err, audit.ErrRolledBack):
			a.log.Error("the audit log is not the one that was archived", zap.Error(err))
			a.stop(ending{reason: reasonRolledBack, err: auditFault(fmt.Errorf("compare the audit log with the archive: %w", err))})
			<-ctx.Done()
		case err == nil:
			a.met(time.Since(began))
			return
		default:
			a.setWhy(err)
			pause(ctx, contactPause)
		}
	}
}

// reasonRolledBack is that of daemon.stop.
const reasonRolledBack = "rolled_back"

// compare is one try to compare the open log with the archive.
func (a *archiver) compare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, contactTime)
	defer cancel()
	anchors, err := a.anchors(ctx)
	if err != nil {
		return err
	}
	for _, signed := range anchors {
		if err := a.audit.CheckAnchor(signed); err != nil {
			return err
		}
	}
	return nil
}

// met says that the log is the one that the archive knows.
func (a *archiver) met(after time.Duration) {
	a.mu.Lock()
	a.checked, a.status.Err, a.status.Reason = true, nil, ""
	a.mu.Unlock()
	a.log.Info("archive: reached, and the audit log is the one that it knows")
	a.audit.Note(audit.Event{Code: audit.ArchiveRecovered, Message: "the archive was reached, and has no other log of this host",
		Extra: map[string]any{"failed_s": int64(after.Seconds())}})
}

// setWhy takes why the archive could not be asked.
func (a *archiver) setWhy(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status.Err, a.status.Reason = err, archive.Reason(err)
}

// claimTail is how much of checkpoints.log is looked at, in bytes: those of the
// last hours.
const claimTail = 1 << 20

// heldBefore is what the ledger says of the log's newest checkpoints, as far as
// they are in the end of checkpoints.log.
func (b *backlog) heldBefore() int64 {
	checkpoints, _ := lastCheckpoints(filepath.Join(b.dir, "checkpoints.log"), b.origin) // what can't be read counts as not held
	for _, c := range slices.Backward(checkpoints) {
		if b.holds(checkpointKey(b.origin, c.size)) {
			return c.size
		}
	}
	return 0
}

// pin is a checkpoint as it was signed, and how many events it covers.
type pin struct {
	size   int64
	signed []byte
}

// lastCheckpoints reads those in the end of a checkpoints.log, in order.
func lastCheckpoints(path, origin string) ([]pin, error) {
	data, err := tailOf(path, claimTail)
	if err != nil {
		return nil, err
	}
	if i := bytes.Index(data, []byte("\n\n"+origin+"\n")); i >= 0 && len(data) == claimTail {
		data = data[i+2:] // the first one may not be whole
	}
	var found []pin
	for signed, rest, ok := audit.CutCheckpoint(data); ok; signed, rest, ok = audit.CutCheckpoint(rest) {
		text, _, _ := bytes.Cut(signed, []byte("\n\n"))
		if c, err := audit.ParseCheckpoint(string(text) + "\n"); err == nil && c.Origin == origin {
			found = append(found, pin{c.Size, signed})
		}
	}
	return found, nil
}

// tailOf reads the last bytes of a file, at most limit.
func tailOf(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data := make([]byte, min(info.Size(), limit))
	_, err = f.ReadAt(data, info.Size()-int64(len(data)))
	return data, err
}
