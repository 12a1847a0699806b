package main

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
)

func TestTheHeapTargetIsTwiceLiveOrLiveAndRoom(t *testing.T) {
	for _, c := range []struct {
		base, room uint64
		want       int
	}{
		{1 * mib, bulkRoom, 4800},
		{4 * mib, bulkRoom, 4800},
		{48 * mib, bulkRoom, 400},
		{192 * mib, bulkRoom, 100},
		{1024 * mib, bulkRoom, 100},
		{4 * mib, idleRoom, 100},
		{48 * mib, idleRoom, 100},
	} {
		if got := gcPercent(c.base, c.room); got != c.want {
			t.Errorf("gcPercent(%d MiB, %d MiB) = %d, want %d", c.base/mib, c.room/mib, got, c.want)
		}
	}
}

func TestTheHeapHasRoomOnlyWhileBulkMoves(t *testing.T) {
	tu := tuner{percent: 100}
	h := heap{base: 8 * mib, allocated: bulkRate}
	if p, _ := tu.tune(h); p != 2400 {
		t.Errorf("GOGC = %d while bulk moves, want 2400", p)
	}
	h.allocated += mib
	if p, _ := tu.tune(h); p != 100 {
		t.Errorf("GOGC = %d afterwards, want 100", p)
	}
}

func TestGOGCIsLeftAloneForSmallChanges(t *testing.T) {
	tu := tuner{percent: 400}
	if p, _ := tu.tune(heap{base: 50 * mib, allocated: bulkRate}); p != 0 {
		t.Errorf("a change from 400 to %d was made", p)
	}
	if p, _ := tu.tune(heap{base: 96 * mib, allocated: 2 * bulkRate}); p != 200 {
		t.Errorf("GOGC = %d, want 200", p)
	}
	if p, _ := tu.tune(heap{base: 96 * mib, allocated: 3 * bulkRate}); p != 0 {
		t.Errorf("GOGC was set to %d twice", p)
	}
}

// freesWithin tunes n times while rate bytes are allocated between two tunings
// and counts how often memory is given back.
func freesWithin(n int, tu *tuner, h *heap, rate uint64) int {
	freed := 0
	for range n {
		h.allocated += rate
		if _, free := tu.tune(*h); free {
			freed++
			h.objects, h.idle = h.live, 0
		}
	}
	return freed
}

func TestAQuietProcessGivesItsGarbageBackOnce(t *testing.T) {
	tu := tuner{percent: gcPercent(20*mib, idleRoom)}
	h := heap{base: 20 * mib, live: 20 * mib, objects: 150 * mib, allocated: 1 << 30}
	if freesWithin(quietWindow, &tu, &h, 0) != 0 {
		t.Error("freed before the process had been quiet for a window")
	}
	if n := freesWithin(quietWindow+1, &tu, &h, 100<<10); n != 1 {
		t.Errorf("a quiet process with 130 MiB of garbage freed %d times", n)
	}
	if freesWithin(5*quietWindow, &tu, &h, 100<<10) != 0 {
		t.Error("freed again with nothing to free")
	}
}

func TestABusyProcessKeepsItsGarbage(t *testing.T) {
	tu := tuner{percent: gcPercent(20*mib, idleRoom)}
	h := heap{base: 20 * mib, live: 20 * mib, objects: 150 * mib}
	if n := freesWithin(5*quietWindow, &tu, &h, mib); n != 0 {
		t.Errorf("freed %d times while the process allocates", n)
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
