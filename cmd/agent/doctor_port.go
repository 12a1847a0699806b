package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// errUnseen is a port that somebody has whom only root may see.
var errUnseen = errors.New("somebody listens there, and only root may see who")

// holders are the processes that listen where the gate is to listen. proc is
// /proc.
func holders(proc string, listen netip.AddrPort) ([]holder, error) {
	inodes := map[string]bool{}
	for _, table := range []string{"net/tcp", "net/tcp6"} {
		found, err := listening(filepath.Join(proc, table), listen)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, inode := range found {
			inodes[inode] = true
		}
	}
	if len(inodes) == 0 {
		return nil, nil
	}
	all := processesWith(proc, inodes)
	if len(all) == 0 {
		return nil, errUnseen
	}
	return all, nil
}

// listening reads a table of the kernel's TCP sockets (proc(5), /proc/net/tcp)
// and returns the inodes of those that listen where listen would.
func listening(table string, listen netip.AddrPort) ([]string, error) {
	f, err := os.Open(table)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const listens = "0A"
	var inodes []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		field := strings.Fields(lines.Text())
		if len(field) < 10 || field[3] != listens {
			continue
		}
		local, err := kernelAddress(field[1])
		if err == nil && clash(local, listen) {
			inodes = append(inodes, field[9])
		}
	}
	return inodes, nil
}

// kernelAddress reads 0100007F:0016: the bytes of each 32-bit word are in the
// order of the machine, which is little endian wherever the gate runs.
func kernelAddress(text string) (netip.AddrPort, error) {
	address, port, _ := strings.Cut(text, ":")
	b, err := hex.DecodeString(address)
	if err != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", text)
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	a, ok := netip.AddrFromSlice(b)
	n, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is no address and port", text)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}

func clash(a, b netip.AddrPort) bool {
	return a.Port() == b.Port() && (a.Addr() == b.Addr().Unmap() || a.Addr().IsUnspecified() || b.Addr().IsUnspecified())
}

// processesWith lists the processes that have one of these sockets open, as far
// as they may be seen.
func processesWith(proc string, inodes map[string]bool) []holder {
	var all []holder
	folders, err := filepath.Glob(filepath.Join(proc, "[0-9]*"))
	if err != nil {
		return nil
	}
	for _, dir := range folders {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || !hasSocket(filepath.Join(dir, "fd"), inodes) {
			continue
		}
		name, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil {
			continue // it has ended
		}
		all = append(all, holder{pid, strings.TrimSpace(string(name))})
	}
	slices.SortFunc(all, func(a, b holder) int { return a.pid - b.pid })
	return all
}

func hasSocket(dir string, inodes map[string]bool) bool {
	files, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, f := range files {
		to, err := os.Readlink(filepath.Join(dir, f.Name()))
		if err == nil && inodes[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] {
			return true
		}
	}
	return false
}
