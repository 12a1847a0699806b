package audit

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// runInBackground runs l until the benchmark ends.
func runInBackground(b *testing.B, l *Log) {
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := l.Run(ctx); err != nil {
			b.Error(err)
		}
	})
	b.Cleanup(func() {
		cancel()
		ended.Wait()
	})
}

func median(d []time.Duration) float64 {
	slices.Sort(d)
	return float64(d[len(d)/2].Microseconds())
}

// BenchmarkAppendAgainstFsync compares one durable event with one write and
// sync of as many bytes to the same disk, turn by turn.
func BenchmarkAppendAgainstFsync(b *testing.B) {
	dir := b.TempDir()
	l := mustOpen(b, Options{Dir: filepath.Join(dir, "log"), Host: inAWS})
	runInBackground(b, l)
	f, err := openOSFile(filepath.Join(dir, "plain"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	e := full(ForwardOpen)
	same := line(e, inAWS, 0)
	var appends, syncs []time.Duration
	for b.Loop() {
		began := time.Now()
		mustAppend(b, l, e)
		appends = append(appends, time.Since(began))
		began = time.Now()
		if _, err := f.Write(same); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		syncs = append(syncs, time.Since(began))
	}
	b.ReportMetric(median(appends), "append-p50-µs")
	b.ReportMetric(median(syncs), "fsync-p50-µs")
	b.ReportMetric(median(appends)/median(syncs), "append/fsync")
}

func BenchmarkAppendOf256Callers(b *testing.B) {
	l := mustOpen(b, Options{Dir: b.TempDir(), Host: inAWS})
	runInBackground(b, l)
	e := full(ForwardOpen)
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ReportAllocs()
	b.ResetTimer()
	var callers sync.WaitGroup
	for range 256 {
		callers.Go(func() {
			for left.Add(-1) >= 0 {
				if err := l.Append(context.Background(), e); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkAnEventWithoutTheDisk is what the processor does for an event: the
// line, its place in the log, and its hashes. The events are one of each code
// as a gate in AWS writes them, and one that has every field there is.
func BenchmarkAnEventWithoutTheDisk(b *testing.B) {
	for name, events := range map[string][]Event{"samples": sampled(), "every field": {full(ForwardOpen)}} {
		b.Run(name, func(b *testing.B) {
			var buf, hashes []byte
			var t tree
			var bytes int64
			b.ReportAllocs()
			began := processorTime(b)
			for n := 0; b.Loop(); n++ {
				r := encode(events[n%len(events)], &inAWS, time.Now())
				buf = r.appendTo(buf[:0], t.size)
				hashes = t.append(hashes[:0], buf[:len(buf)-1])
				bytes += int64(len(buf))
			}
			b.ReportMetric(float64(bytes)/float64(t.size), "B/event")
			b.ReportMetric(float64((processorTime(b)-began).Nanoseconds())/1000/float64(t.size), "cpu-µs/event")
		})
	}
}

// processorTime is what the process has used of all processors: on a machine
// that others use too, the clock on the wall says more about them.
func processorTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func BenchmarkAnEventsHashes(b *testing.B) {
	text := line(full(ForwardOpen), inAWS, 0)
	var hashes []byte
	var t tree
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		hashes = t.append(hashes[:0], text)
	}
}

// BenchmarkOpenAMillionEvents opens a log of 1,000,000 events as a killed
// process left it: with events behind the newest checkpoint. Without hashes.bin
// every segment is read.
func BenchmarkOpenAMillionEvents(b *testing.B) {
	if testing.Short() {
		b.Skip("it writes 1.3 GB")
	}
	dir := b.TempDir()
	million(b, dir)
	for _, gone := range []bool{false, true} {
		name := "hashes"
		if gone {
			name = "no hashes"
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if gone {
					b.StopTimer()
					if err := os.Remove(filepath.Join(dir, hashesFile)); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
				l, err := Open(Options{Dir: dir, MinFree: 1, Key: testKey(1)})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				die(b, l)
				b.StartTimer()
			}
		})
	}
}

// million fills dir.
func million(b *testing.B, dir string) {
	b.Helper()
	l := mustOpen(b, Options{Dir: dir, Host: inAWS})
	events := sampled()
	batch := make([]Event, 4000)
	for i := range batch {
		batch[i] = events[i%len(events)]
	}
	for range 250 {
		mustAppend(b, l, batch...)
		mustSign(b, l)
	}
	mustAppend(b, l, batch[:100]...)
	die(b, l)
}

// die ends l without a last checkpoint.
func die(b *testing.B, l *Log) {
	b.Helper()
	if err := l.ledger.close(); err != nil {
		b.Fatal(err)
	}
	l.ledger = nil
	mustClose(b, l)
}
