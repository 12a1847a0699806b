package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestAChangeIsSeenOnceTheFilesRest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	paths := []string{path}
	copies := 0
	write := func(text string) {
		t.Helper()
		copies++ // kept, so that no two have the inode of one another
		next := fmt.Sprintf("%s.%d", path, copies)
		if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		os.Remove(path)
		if err := os.Link(next, path); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	w := watchFiles(paths)
	look := func(want bool, when string) {
		t.Helper()
		if got := w.changed(paths); got != want {
			t.Errorf("changed = %v %s", got, when)
		}
	}
	look(false, "with nothing changed")

	write("two")
	look(false, "while it may still be written")
	write("two and more")
	look(false, "while it is still written")
	look(true, "at rest")
	look(false, "when told already")

	write("two and more")
	look(false, "after a copy")
	look(false, "after a copy, at rest")

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	look(false, "just removed")
	look(true, "removed")
	write("two and more")
	look(false, "just back")
	look(true, "back")
}
