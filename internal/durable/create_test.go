package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func TestOfManyWhoCreateAFileOneWins(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	var won atomic.Int32
	var winner atomic.Value
	var all sync.WaitGroup
	for _, content := range []string{"a", "b", "c", "d"} {
		all.Go(func() {
			switch err := CreateFile(path, []byte(content), 0o600); {
			case err == nil:
				won.Add(1)
				winner.Store(content)
			case !errors.Is(err, fs.ErrExist):
				t.Error(err)
			}
		})
	}
	all.Wait()
	got, err := os.ReadFile(path)
	if err != nil || won.Load() != 1 || string(got) != winner.Load() {
		t.Errorf("%d created it, the file holds %q, %v", won.Load(), got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v, %v; want the file alone", entries, err)
	}
}

func TestAFileCannotBeCreatedWhereThereIsNoDirectory(t *testing.T) {
	if err := CreateFile(filepath.Join(t.TempDir(), "gone", "key"), nil, 0o600); err == nil {
		t.Error("it was created")
	}
}
