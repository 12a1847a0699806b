package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAChangeIsSeenOnceTheFilesRest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	paths := []string{path}
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	write := func(text string) {
		t.Helper()
		clock = clock.Add(time.Second)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, clock, clock); err != nil {
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
	look(false, "after a touch")
	look(false, "after a touch, at rest")

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	look(false, "just removed")
	look(true, "removed")
	write("two and more")
	look(false, "just back")
	look(true, "back")
}
