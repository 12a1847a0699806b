package record

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Modes of a recording's file. They tell at a glance which are to be looked at
// after a crash: few, among all that were ever made.
const (
	begunMode   = 0o600 // its header is not durable yet: nothing has been promised
	writtenMode = 0o640
	settledMode = 0o440 // closed, or reported by BrokenOff
)

// BrokenOff calls report for each recording that has no end though nobody writes
// it, as a kill or a power cut leaves them, with what its file holds now. Where
// report returns nil the file is read-only from then on, and not reported again.
// A recording whose header can't be read is an Entry with an Err.
//
// It returns at the first error of report, or when ctx ends; directories and
// files that can't be read are errors that keep nothing else from being
// reported. Other processes may write recordings meanwhile.
func (s *Store) BrokenOff(ctx context.Context, report func(Entry, Chunk) error) error {
	var unread []error
	err := filepath.WalkDir(s.opt.Dir, func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			unread = append(unread, err)
			return nil
		}
		if !d.Type().IsRegular() || !isRecording(d.Name()) || !isUnsettled(d) {
			return nil
		}
		if err := settle(ctx, path, report); errors.Is(err, errReport) {
			return err
		} else if err != nil {
			unread = append(unread, err)
		}
		return nil
	})
	if err = errors.Join(append(unread, err)...); err != nil {
		return fmt.Errorf("look for recordings that broke off: %w", err)
	}
	return nil
}

// errReport marks an error that report returned.
var errReport = errors.New("report it")

func isUnsettled(d fs.DirEntry) bool {
	info, err := d.Info()
	return err == nil && info.Mode().Perm() != begunMode && info.Mode().Perm()&0o200 != 0
}

// settle reports the recording at path if it broke off.
func settle(ctx context.Context, path string, report func(Entry, Chunk) error) error {
	e := Stat(path)
	if e.Live {
		return nil
	}
	if !e.Ended {
		c, err := fingerprint(ctx, path)
		if err != nil {
			return err
		}
		c.Records = e.Records
		if err := report(e, c); err != nil {
			return fmt.Errorf("%w: %w", errReport, err)
		}
	}
	return os.Chmod(path, settledMode)
}

// fingerprint hashes a whole file, which may take a while: it ends with ctx.
func fingerprint(ctx context.Context, path string) (Chunk, error) {
	f, err := os.Open(path)
	if err != nil {
		return Chunk{}, err
	}
	defer f.Close()
	defer context.AfterFunc(ctx, func() { f.Close() })()
	all, err := Prefixes(f)
	if err != nil {
		return Chunk{}, err
	}
	return all[0], nil
}
