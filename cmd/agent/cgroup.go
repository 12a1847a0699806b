package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// memoryLimit returns the bytes that this process may use: the smallest
// memory.max or memory.high of its control group (version 2, mounted at root)
// and of the groups around it, else the machine's memory; 0 = unknown. self is
// /proc/self/cgroup.
func memoryLimit(root, self string) int64 {
	limit := machineMemory()
	group := ownGroup(self)
	for group != "" {
		for _, name := range []string{"memory.max", "memory.high"} {
			if n, ok := readLimit(filepath.Join(root, group, name)); ok && (limit == 0 || n < limit) {
				limit = n
			}
		}
		if group == "/" {
			break
		}
		group = filepath.Dir(group)
	}
	return limit
}

// ownGroup returns the path of this process's version 2 group, "" if it has none.
func ownGroup(self string) string {
	data, err := os.ReadFile(self)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Clean("/" + path)
		}
	}
	return ""
}

func readLimit(path string) (int64, bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(data)), 10, 64) // "max" is no number
	return n, err == nil && n > 0
}

// machineMemory asks by a system call: with ProcSubset=pid there is no
// /proc/meminfo.
func machineMemory() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit)
}
