// Package durable writes files that survive a power cut.
package durable

import "os"

// WriteFile writes data to path so that after it returns, and after a power
// cut at any moment, path holds either its old content or all of data.
func WriteFile(path string, data []byte, perm os.FileMode) error { panic("stub") }

// MkdirAll makes path and its parents and syncs each parent.
func MkdirAll(path string, perm os.FileMode) error { panic("stub") }

// SyncDir makes the entries of directory path durable.
func SyncDir(path string) error { panic("stub") }
