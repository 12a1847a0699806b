package main

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"os"

	"golang.org/x/sys/unix"
)

// stamp is what stat says of a file; equal stamps mean that it need not be read.
type stamp struct {
	size    int64
	inode   uint64
	changed unix.Timespec // ctime, which no copy keeps
	err     string
}

// fileWatch notices that the content of some files has changed.
type fileWatch struct {
	stamps map[string]stamp  // as last looked at
	sum    [sha256.Size]byte // of the contents that were reported last
	moving bool              // the stamps changed at the last look
}

// watchFiles takes the files as they are now for known.
func watchFiles(paths []string) *fileWatch {
	return &fileWatch{stamps: stamps(paths), sum: contents(paths)}
}

// changed reports whether the contents differ from those known, and takes them
// for known. It waits for the files to rest for one look, so that a file is
// not read while an editor writes it.
func (w *fileWatch) changed(paths []string) bool {
	now := stamps(paths)
	if !maps.Equal(now, w.stamps) {
		w.stamps, w.moving = now, true
		return false
	}
	if !w.moving {
		return false
	}
	w.moving = false
	sum := contents(paths)
	if sum == w.sum {
		return false
	}
	w.sum = sum
	return true
}

func stamps(paths []string) map[string]stamp {
	m := make(map[string]stamp, len(paths))
	for _, p := range paths {
		var info unix.Stat_t
		if err := unix.Stat(p, &info); err != nil {
			m[p] = stamp{err: err.Error()}
			continue
		}
		m[p] = stamp{size: info.Size, inode: info.Ino, changed: info.Ctim}
	}
	return m
}

// contents hashes the files with their names; one that cannot be read counts
// with its error, so that its return is a change.
func contents(paths []string) [sha256.Size]byte {
	h := sha256.New()
	for _, p := range paths {
		data, err := os.ReadFile(p)
		fmt.Fprintf(h, "%q %d %v\n", p, len(data), err)
		h.Write(data)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
