package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"postern/internal/durable"
)

// errTampered says that somebody else changed, moved or removed the segment.
var errTampered = errors.New("the audit segment was changed by another hand")

// file is the border to the operating system, where tests put its faults.
type file interface {
	Write(b []byte) (int, error)
	Sync() error // of the bytes and the size
	Truncate(size int64) error
	Chmod(mode os.FileMode) error
	Stat() (os.FileInfo, error)
	Close() error
}

type openFile func(path string, flag int, perm os.FileMode) (file, error)

type osFile struct{ *os.File }

func openOSFile(path string, flag int, perm os.FileMode) (file, error) {
	f, err := os.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Sync leaves out what no reader of the log needs, such as the time of change.
func (f osFile) Sync() error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EINTR) {
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}

// segment is the file that takes events. Its owner is the holder of Log.turn.
type segment struct {
	file  file
	path  string
	info  os.FileInfo // which file it is
	first int64       // index of its first event
	size  int64       // bytes that are durable
	hash  hash.Hash   // of those
	began time.Time
}

// createSegment makes the file for events from index first on. It is empty,
// and its name durable, when this returns.
func createSegment(o Options, first int64, now time.Time) (*segment, error) {
	path := filepath.Join(o.Dir, segmentName(first))
	f, err := o.open(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o640)
	if err != nil {
		return nil, err
	}
	s := &segment{file: f, path: path, first: first, hash: sha256.New(), began: now}
	if err := s.settle(); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return s, nil
}

func (s *segment) settle() error {
	if err := s.file.Chmod(0o640); err != nil { // whatever the umask: reviewers read it by group
		return err
	}
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	s.info = info
	return durable.SyncDir(filepath.Dir(s.path))
}

// append returns nil once b is durable and the file still is what its path
// leads to.
func (s *segment) append(b []byte) error {
	if _, err := s.file.Write(b); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	info, err := s.present()
	if err != nil {
		return err
	}
	if want := s.size + int64(len(b)); info.Size() != want {
		return fmt.Errorf("%w: %s has %d bytes instead of %d", errTampered, s.path, info.Size(), want)
	}
	s.size += int64(len(b))
	s.hash.Write(b)
	return nil
}

// present fails if the segment is no longer found where it was made.
func (s *segment) present() (os.FileInfo, error) {
	info, err := os.Lstat(s.path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errTampered, err)
	}
	if !os.SameFile(info, s.info) {
		return nil, fmt.Errorf("%w: %s is another file now", errTampered, s.path)
	}
	return info, nil
}

func (s *segment) sum() string { return hex.EncodeToString(s.hash.Sum(nil)) }

// seal ends a segment that is whole.
func (s *segment) seal() error {
	return errors.Join(s.file.Chmod(0o440), s.file.Close())
}

// abandon ends a segment that took a write it could not keep. What is not
// durable is cut off where the disk lets us, so that no reader takes it for
// events; where not, Open does it.
func (s *segment) abandon(now time.Time) error {
	cut := s.file.Truncate(s.size)
	_ = s.seal() // it is given up, and the caller tells why
	if s.size > 0 {
		return nil
	}
	// The next segment begins at the same index and needs the name.
	if cut == nil {
		return os.Remove(s.path)
	}
	return os.Rename(s.path, tornPath(filepath.Dir(s.path), now))
}

// tornPath is a name in dir that is not taken.
func tornPath(dir string, now time.Time) string {
	for ms := now.UnixMilli(); ; ms++ {
		path := filepath.Join(dir, "torn-"+strconv.FormatInt(ms, 10)+".bin")
		if _, err := os.Lstat(path); err != nil {
			return path
		}
	}
}

const (
	segmentPrefix = "audit-"
	segmentSuffix = ".jsonl"
)

func segmentName(first int64) string {
	return fmt.Sprintf("%s%020d%s", segmentPrefix, first, segmentSuffix)
}

// stored is a segment in a directory.
type stored struct {
	path  string
	first int64
}

// listSegments finds the segments in dir, oldest first.
func listSegments(dir string) ([]stored, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list audit segments: %w", err)
	}
	var found []stored
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), segmentPrefix)
		digits, ok2 := strings.CutSuffix(digits, segmentSuffix)
		first, err := strconv.ParseInt(digits, 10, 64)
		if ok && ok2 && err == nil && len(digits) == 20 && first >= 0 {
			found = append(found, stored{filepath.Join(dir, e.Name()), first})
		}
	}
	slices.SortFunc(found, func(a, b stored) int { return int(min(max(a.first-b.first, -1), 1)) })
	return found, nil
}
