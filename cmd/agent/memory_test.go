package main

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
)

func TestTheHeapTargetIsTwiceLiveOrLiveAndRoom(t *testing.T) {
	for _, c := range []struct {
		base uint64
		want int
	}{
		{1 * mib, 4800},
		{4 * mib, 4800},
		{48 * mib, 400},
		{192 * mib, 100},
		{1024 * mib, 100},
	} {
		if got := gcPercent(c.base); got != c.want {
			t.Errorf("gcPercent(%d MiB) = %d, want %d", c.base/mib, got, c.want)
		}
	}
}

func TestGOGCIsLeftAloneForSmallChanges(t *testing.T) {
	tu := tuner{percent: 400}
	if p, _ := tu.tune(heap{base: 50 * mib}); p != 0 {
		t.Errorf("a change from 400 to %d was made", p)
	}
	if p, _ := tu.tune(heap{base: 96 * mib}); p != 200 {
		t.Errorf("GOGC = %d, want 200", p)
	}
	if p, _ := tu.tune(heap{base: 96 * mib}); p != 0 {
		t.Errorf("GOGC was set to %d twice", p)
	}
}

func TestAQuietProcessGivesItsGarbageBackOnce(t *testing.T) {
	tu := tuner{percent: gcPercent(20 * mib)}
	rest := heap{base: 20 * mib, live: 20 * mib, objects: 150 * mib, allocated: 1 << 30}
	freed := func(h heap) bool { _, free := tu.tune(h); return free }

	if freed(rest) {
		t.Fatal("freed in the tuning after a gigabyte was allocated")
	}
	for range quietFor - 1 {
		if freed(rest) {
			t.Fatal("freed before the process had been quiet long enough")
		}
	}
	if !freed(rest) {
		t.Fatal("130 MiB of garbage kept by a quiet process")
	}
	rest.objects = rest.live
	for range 3 * quietFor {
		if freed(rest) {
			t.Fatal("freed again with nothing to free")
		}
	}
}

func TestABusyProcessKeepsItsGarbage(t *testing.T) {
	tu := tuner{percent: gcPercent(20 * mib)}
	h := heap{base: 20 * mib, live: 20 * mib, objects: 150 * mib}
	for range 5 * quietFor {
		h.allocated += 2 * quietRate
		if _, free := tu.tune(h); free {
			t.Fatal("freed while the process allocates")
		}
	}
}

func TestTheRuntimeKnowsTheMetricsThatAreRead(t *testing.T) {
	debug.FreeOSMemory() // so that there has been a collection
	h := readHeap()
	if h.live == 0 || h.objects == 0 || h.allocated == 0 || h.base < h.live {
		t.Errorf("readHeap() = %+v", h)
	}
}

func TestTheSmallestLimitOfTheControlGroupsAroundCounts(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("self", "12:pids:/old\n0::/postern.slice/postern@1.service\n")
	write("postern.slice/memory.max", "67108864\n")
	write("postern.slice/memory.high", "50331648\n")
	write("postern.slice/postern@1.service/memory.max", "max\n")
	self := filepath.Join(root, "self")

	if got := memoryLimit(root, self); got != 50331648 {
		t.Errorf("limit = %d, want the slice's memory.high", got)
	}
	write("postern.slice/postern@1.service/memory.max", "33554432\n")
	if got := memoryLimit(root, self); got != 33554432 {
		t.Errorf("limit = %d, want the service's memory.max", got)
	}
}

func TestWithoutAControlGroupTheMachineIsTheLimit(t *testing.T) {
	dir := t.TempDir()
	if got := memoryLimit(dir, filepath.Join(dir, "missing")); got < 64*mib {
		t.Errorf("limit = %d, want the machine's memory", got)
	}
}

func TestTheFileLimitIsTheHardLimit(t *testing.T) {
	first, err := raiseFileLimit()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := raiseFileLimit(); err != nil || again != first || first < 256 {
		t.Errorf("limit %d, then %d (%v)", first, again, err)
	}
}
