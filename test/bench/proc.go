package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// userHZ is the unit of the times in /proc/PID/stat, fixed by the Linux ABI.
const userHZ = 100

type process struct {
	pid, parent int
	ticks       int // utime + stime + cutime + cstime
}

// tree returns root and all that descends from it.
func tree(root int) ([]process, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[int][]process{}
	var found []process
	for _, path := range paths {
		p, err := readStat(path)
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if p.pid == root {
			found = append(found, p)
		}
		children[p.parent] = append(children[p.parent], p)
	}
	if found == nil {
		return nil, fmt.Errorf("process %d has ended", root)
	}
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i].pid]...)
	}
	return found, nil
}

// gone says whether err is that of a process that ended while it was read.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || err != nil && strings.Contains(err.Error(), "no such process")
}

// readStat reads proc_pid_stat(5). The name in brackets may hold anything.
func readStat(path string) (process, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return process{}, err
	}
	pid, _, _ := bytes.Cut(text, []byte(" "))
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 15 {
		return process{}, fmt.Errorf("%s: only %d fields", path, len(fields))
	}
	var p process
	var errs [6]error
	p.pid, errs[0] = strconv.Atoi(string(pid))
	p.parent, errs[1] = strconv.Atoi(fields[1])
	for i, field := range fields[11:15] {
		var n int
		n, errs[2+i] = strconv.Atoi(field)
		p.ticks += n
	}
	return p, errors.Join(errs[:]...)
}

// cpuSeconds is what root, its living descendants and the dead ones that were
// waited for have used so far.
func cpuSeconds(root int) (float64, error) {
	all, err := tree(root)
	ticks := 0
	for _, p := range all {
		ticks += p.ticks
	}
	return float64(ticks) / userHZ, err
}

// pssBytes is the proportional set size of root and its descendants.
func pssBytes(root int) (float64, error) {
	all, err := tree(root)
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for _, p := range all {
		kib, err := readPSS(p.pid)
		if gone(err) {
			continue
		}
		if err != nil {
			return 0, err
		}
		sum += kib * 1024
	}
	return sum, nil
}

func readPSS(pid int) (float64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "Pss:"); ok {
			return strconv.ParseFloat(strings.Fields(text)[0], 64)
		}
	}
	return 0, errors.Join(lines.Err(), fmt.Errorf("no Pss of process %d", pid))
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
