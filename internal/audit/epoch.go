package audit

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"postern/internal/durable"
)

// lastEpoch is the highest number of an epoch that was put aside in dir, 0 if
// none was.
func lastEpoch(dir string) (int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("list the epochs of the audit log: %w", err)
	}
	var last int64
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), epochPrefix)
		if n, err := strconv.ParseInt(digits, 10, 64); ok && err == nil {
			last = max(last, n)
		}
	}
	return last, nil
}

func epochDir(dir string, epoch int64) string {
	return filepath.Join(dir, epochPrefix+strconv.FormatInt(epoch, 10))
}

// start puts the epoch aside that is to end, and loads the one that goes on.
func (l *Log) start() error {
	if l.opts.NewEpoch == "" {
		return l.load()
	}
	if l.opts.Key == nil {
		return errors.New("a new epoch of the audit log needs the key that signs it")
	}
	if err := putAside(l.opts.Dir); err != nil {
		return fmt.Errorf("put the audit log aside: %w", err)
	}
	last, err := lastEpoch(l.opts.Dir)
	if err != nil {
		return err
	}
	if err := l.findAhead(last); err != nil {
		return err
	}
	l.findings = append(l.findings, l.epochEvent(last))
	return l.load()
}

// findAhead finds the anchor from which the epoch that begins is to go on,
// because it is of more than was put aside here.
func (l *Log) findAhead(last int64) error {
	anchors, err := l.anchored(l.opts.Anchors)
	if err != nil {
		return err
	}
	origin, size, _ := Origin(epochDir(l.opts.Dir, last)) // where that is damaged the anchor is ahead of it
	aside := l.local(origin, size, nil)
	for _, a := range anchors {
		ours := a.instance == aside.instance || a.host == aside.host
		newer := a.epoch > last || a.epoch == last && (a.instance != aside.instance || a.Size > size)
		if ours && newer && a.Size > 0 {
			l.ahead = &a
		}
	}
	return nil
}

// epochEvent is the first of a new epoch. Where an anchor is ahead of what was
// put aside, that is what the epoch goes on from.
func (l *Log) epochEvent(ended int64) Event {
	e := Event{Code: LogEpoch, Message: "a new epoch of the audit log begins", Alert: true, Detail: l.opts.NewEpoch, Extra: map[string]any{}}
	if ended > 0 {
		e.File = epochDir(l.opts.Dir, ended)
		e.Extra["ended_epoch"] = ended
		if signed, err := os.ReadFile(filepath.Join(e.File, checkpointFile)); err == nil {
			e.Extra["ended_checkpoint"] = string(signed)
		}
	}
	if a := l.ahead; a != nil {
		if aside, ok := e.Extra["ended_checkpoint"]; ok {
			e.Extra["aside_checkpoint"] = aside
		}
		e.Extra["ended_epoch"], e.Extra["ended_checkpoint"], e.Extra["anchored"] = a.epoch, string(a.signed), true
	}
	return e
}

// checkEpoch refuses a log without events beside an epoch that was put aside,
// unless it is now that the next one begins.
func (l *Log) checkEpoch(events int64) error {
	last, err := lastEpoch(l.opts.Dir)
	if err != nil || last == 0 || events > 0 || l.opts.NewEpoch != "" {
		return err
	}
	return refuse(ErrEpoch, epochDir(l.opts.Dir, last), errors.New("it was put aside, and there is no log after it"))
}

// putAside moves all files of the log in dir to the folder of its epoch. What
// an interrupted one has left is taken up again: the checkpoint, which names
// the epoch, goes last.
func putAside(dir string) error {
	names, err := logFiles(dir)
	if err != nil || len(names) == 0 {
		return err
	}
	if begun, err := hasNoEvents(dir); err != nil || begun {
		return err
	}
	last, err := lastEpoch(dir)
	if err != nil {
		return err
	}
	epoch := last + 1
	if _, _, n, err := splitOrigin(originIn(dir)); err == nil {
		epoch = n
	}
	to := epochDir(dir, epoch)
	if err := durable.MkdirAll(to, 0o750); err != nil {
		return err
	}
	for _, name := range names {
		if err := moveNew(filepath.Join(dir, name), filepath.Join(to, name)); err != nil {
			return err
		}
	}
	return errors.Join(durable.SyncDir(to), durable.SyncDir(dir))
}

// logFiles are the names of what belongs to the log in dir, checkpoint last.
func logFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names, last []string
	for _, e := range entries {
		switch name := e.Name(); {
		case name == checkpointFile:
			last = append(last, name)
		case name == hashesFile, name == checkpointsFile, name == keysFile,
			strings.HasPrefix(name, segmentPrefix) && strings.HasSuffix(name, segmentSuffix),
			strings.HasPrefix(name, "torn-"):
			names = append(names, name)
		}
	}
	return append(names, last...), nil
}

// hasNoEvents says that an epoch has begun in dir and holds nothing yet.
func hasNoEvents(dir string) (bool, error) {
	last, err := lastEpoch(dir)
	if err != nil || last == 0 {
		return false, err
	}
	segments, err := listSegments(dir)
	if err != nil {
		return false, err
	}
	for _, s := range segments {
		if !isEmpty(s.path) {
			return false, nil
		}
	}
	_, _, epoch, err := splitOrigin(originIn(dir))
	return err == nil && epoch > last, nil
}

// originIn is what the checkpoint in dir says, unverified, or where there is
// none a key.
func originIn(dir string) string {
	data, err := os.ReadFile(filepath.Join(dir, checkpointFile))
	if origin, _, _ := strings.Cut(string(data), "\n"); err == nil {
		return origin
	}
	data, err = os.ReadFile(filepath.Join(dir, keysFile))
	if err != nil {
		return ""
	}
	origin, _, _ := strings.Cut(string(data), "+")
	return origin
}

// moveNew renames a file to a name that must not be taken.
func moveNew(from, to string) error {
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%s is there already", to), err)
	}
	return os.Rename(from, to)
}

// newOrigin names the log that begins in dir: after an epoch that was put
// aside, it is the next of the same instance, and after an anchor that is ahead
// of that, of the anchor's.
func newOrigin(dir, host string, ahead *anchor) (string, error) {
	last, err := lastEpoch(dir)
	if err != nil {
		return "", err
	}
	if ahead != nil {
		return originOf(host, ahead.instance, max(last, ahead.epoch)+1), nil
	}
	if last > 0 {
		if _, instance, _, err := splitOrigin(originIn(epochDir(dir, last))); err == nil {
			return originOf(host, instance, last+1), nil
		}
	}
	id := make([]byte, 8)
	if _, err := rand.Read(id); err != nil {
		return "", err
	}
	return originOf(host, hex.EncodeToString(id), last+1), nil
}
