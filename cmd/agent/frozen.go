package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"postern/internal/durable"
)

// frozen are the identities that were cut off by command. They stay so through
// restarts, upgrades and new policies until they are lifted.
type frozen struct {
	path    string
	entries map[string]frozenEntry // by identity
}

// frozenEntry is who froze an identity, and when.
type frozenEntry struct {
	By    string    `json:"by"`
	Since time.Time `json:"since"`
}

// loadFrozen reads the file at path; a missing one means that nobody is frozen,
// a broken one is an error, since it may have named somebody.
func loadFrozen(path string) (*frozen, error) {
	f := &frozen{path: path, entries: map[string]frozenEntry{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &f.entries); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if f.entries == nil {
		f.entries = map[string]frozenEntry{}
	}
	return f, nil
}

// names returns the frozen identities in order.
func (f *frozen) names() []string {
	return slices.Sorted(maps.Keys(f.entries))
}

// set freezes or lifts an identity. The change holds in memory even where it
// could not be written, which the error says.
func (f *frozen) set(identity, by string, on bool, now time.Time) error {
	if on {
		if _, already := f.entries[identity]; already {
			return nil
		}
		f.entries[identity] = frozenEntry{By: by, Since: now.UTC()}
		return f.save()
	}
	delete(f.entries, identity)
	return f.save()
}

func (f *frozen) save() error {
	data, err := json.MarshalIndent(f.entries, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(f.path, append(data, '\n'), 0o600)
}
