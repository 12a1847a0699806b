package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	mib = 1 << 20

	// bulkRoom is how far the heap may grow past what is live before the next
	// collection while bulk moves: fewer collections are the largest saving in
	// CPU per byte that the collector has to give, and this much memory is what
	// it may cost. idleRoom is the same for any other time: sessions that open
	// while garbage lies between them would keep the pages of both for ever.
	bulkRoom = 192 * mib
	idleRoom = 4 * mib
	bulkRate = 128 * mib // allocated between two tunings: x/crypto allocates each byte it receives

	tuneInterval = time.Second
	quietWindow  = 10              // tunings
	quietBytes   = 8 * mib         // allocated in a window that is still quiet: scrapes and keepalives take some
	worthFreeing = 4 * mib         // garbage that is worth a collection of a quiet process
	minHeap      = uint64(4) << 20 // the runtime's smallest heap at GOGC=100, which GOGC scales
)

// tuneRuntime sets the memory limit and the number of threads that run Go code
// to what this machine or control group has. What the environment sets stays.
// It returns how many files may be open.
func tuneRuntime(log *zap.Logger) (files uint64) {
	limit := memoryLimit("/sys/fs/cgroup", "/proc/self/cgroup")
	if os.Getenv("GOMEMLIMIT") == "" && limit > 0 {
		debug.SetMemoryLimit(limit / 100 * 85)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		// Twice the cores: a goroutine that wakes under load then finds a
		// thread whose turn comes from the kernel instead of waiting behind a
		// bulk transfer in the run queue.
		runtime.SetDefaultGOMAXPROCS() // what the machine or group has, and not twice that from an earlier run
		runtime.GOMAXPROCS(2 * runtime.GOMAXPROCS(0))
	}
	files, err := raiseFileLimit()
	log.Info("runtime",
		zap.Int("gomaxprocs", runtime.GOMAXPROCS(0)),
		zap.Int64("gomemlimit", debug.SetMemoryLimit(-1)),
		zap.Uint64("nofile", files),
		zap.Error(err))
	return files
}

// raiseFileLimit raises the soft limit of open files to the hard one and
// returns the limit that holds.
func raiseFileLimit() (uint64, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, err
	}
	if l.Cur == l.Max {
		return l.Cur, nil
	}
	raised := unix.Rlimit{Cur: l.Max, Max: l.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &raised); err != nil {
		return l.Cur, err
	}
	return raised.Cur, nil
}

// tuner keeps the collector's target at what is live and some room, or twice
// what is live if that is more, and gives memory back when the process rests.
type tuner struct {
	percent   int    // GOGC in effect
	tunings   int    // in the window
	allocated uint64 // bytes ever allocated, when the window began
	last      uint64 // and at the last tuning
}

// tuneHeap tunes until ctx ends. It does nothing where GOGC is set.
func tuneHeap(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	t := tuner{percent: 100, last: readHeap().allocated}
	tick := time.NewTicker(tuneInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			percent, free := t.tune(readHeap())
			if percent != 0 {
				debug.SetGCPercent(percent)
			}
			if free {
				debug.FreeOSMemory()
			}
		}
	}
}

// heap is what the runtime says of its memory, in bytes.
type heap struct {
	base      uint64 // what GOGC is a percentage of: live objects, stacks and globals
	live      uint64 // objects that the last collection kept
	objects   uint64 // objects, dead ones included
	idle      uint64 // free, and not given back
	allocated uint64 // ever allocated
}

func readHeap() heap {
	s := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/gc/scan/stack:bytes"},
		{Name: "/gc/scan/globals:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/gc/heap/allocs:bytes"},
	}
	metrics.Read(s)
	v := func(i int) uint64 { return s[i].Value.Uint64() }
	return heap{base: v(0) + v(1) + v(2), live: v(0), objects: v(3), idle: v(4), allocated: v(5)}
}

// tune returns the GOGC to set, 0 = leave it, and whether to collect now and
// give back what is free.
func (t *tuner) tune(h heap) (percent int, free bool) {
	if t.tunings++; t.tunings > quietWindow {
		free = h.allocated-t.allocated < quietBytes && garbage(h) > worthFreeing
		t.tunings, t.allocated = 1, h.allocated
	}
	room := uint64(idleRoom)
	if h.allocated-t.last >= bulkRate {
		room = bulkRoom
	}
	t.last = h.allocated
	want := gcPercent(h.base, room)
	if near(want, t.percent) {
		return 0, free
	}
	t.percent = want
	return want, free
}

// garbage is what a collection would free, and what is free already.
func garbage(h heap) uint64 {
	if h.objects < h.live {
		return h.idle
	}
	return h.objects - h.live + h.idle
}

// gcPercent is the GOGC at which the heap grows to the larger of twice base
// and base + room.
func gcPercent(base, room uint64) int {
	// Below minHeap the runtime takes GOGC of minHeap as the target, so a
	// larger percentage would only overshoot.
	percent := int(room * 100 / max(base, minHeap))
	return max(100, percent)
}

// near reports whether a and b are within a quarter of each other: each change
// of GOGC stops the world for a moment, and a small one is not worth it.
func near(a, b int) bool {
	return a*4 <= b*5 && b*4 <= a*5
}
