package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// CreateFile is WriteFile for a path that must not be taken: of two calls at
// once for one path one wins, and the other's error is fs.ErrExist. What is
// there is never replaced.
func CreateFile(path string, data []byte, perm os.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	err = fill(tmp, data, perm)
	if err == nil {
		err = os.Link(tmp.Name(), path) // fails where a rename would replace
	}
	if err = errors.Join(err, os.Remove(tmp.Name())); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}
