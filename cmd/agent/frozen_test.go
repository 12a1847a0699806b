package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestFrozenIdentitiesOutliveTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "frozen.json")
	at := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	f, err := loadFrozen(path)
	if err != nil || len(f.names()) != 0 {
		t.Fatalf("without a file: %v, %v", f.names(), err)
	}
	for _, id := range []string{"vendor", "alice"} {
		if err := f.set(id, "root", true, at); err != nil {
			t.Fatal(err)
		}
	}
	again, err := loadFrozen(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := again.names(); !slices.Equal(got, []string{"alice", "vendor"}) {
		t.Errorf("names = %v", got)
	}
	if got := again.entries["vendor"]; got.By != "root" || !got.Since.Equal(at) {
		t.Errorf("vendor = %+v", got)
	}
	if err := again.set("vendor", "root", false, at); err != nil {
		t.Fatal(err)
	}
	last, err := loadFrozen(path)
	if err != nil || !slices.Equal(last.names(), []string{"alice"}) {
		t.Errorf("after the lift: %v, %v", last.names(), err)
	}
}

func TestFreezingTwiceKeepsWhoWasFirst(t *testing.T) {
	f, err := loadFrozen(filepath.Join(t.TempDir(), "frozen.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, by := range []string{"root", "mallory"} {
		if err := f.set("vendor", by, true, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if by := f.entries["vendor"].By; by != "root" {
		t.Errorf("frozen by %q", by)
	}
}

func TestABrokenFrozenFileIsNotAnEmptyOne(t *testing.T) {
	for _, text := range []string{"", "{", `["vendor"]`, "\x00\x00"} {
		path := filepath.Join(t.TempDir(), "frozen.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if f, err := loadFrozen(path); err == nil {
			t.Errorf("%q was read as %v", text, f.names())
		}
	}
}

func TestAFreezeHoldsInMemoryWhereItCannotBeWritten(t *testing.T) {
	f, err := loadFrozen(filepath.Join(t.TempDir(), "missing", "frozen.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.set("vendor", "root", true, time.Now()); err == nil {
		t.Error("no error from a folder that does not exist")
	}
	if !slices.Equal(f.names(), []string{"vendor"}) {
		t.Errorf("names = %v", f.names())
	}
}
