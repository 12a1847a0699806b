package record

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"
)

// inputs are what bulk output looks like, in the pieces that SSH brings.
func inputs() map[string][]byte {
	const size = 1 << 20
	var text bytes.Buffer
	for i := 0; text.Len() < size; i++ {
		fmt.Fprintf(&text, "-rw-r--r-- 1 root root %8d Nov 24 11:%02d \x1b[32m/usr/lib/x86_64-linux-gnu/libfoo-%x.so.%d\x1b[0m\r\n",
			i*7919%1000003, i%60, i*2654435761, i%9)
	}
	return map[string][]byte{"text": text.Bytes()[:size], "nul": make([]byte, size), "random": noise(size)}
}

func cpuTime() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkWrite records bulk output, with Run syncing as it does in the
// daemon. cpu-s/GB is what counts: what the gate's own work is compared with.
func BenchmarkWrite(b *testing.B) {
	id := identity(b)
	for name, in := range inputs() {
		for _, sealed := range []bool{false, true} {
			o := Options{}
			if sealed {
				name += "/sealed"
				o.Recipients = []age.Recipient{id.Recipient()}
			}
			b.Run(name, func(b *testing.B) { benchmarkWrite(b, o, in) })
		}
	}
}

func benchmarkWrite(b *testing.B, o Options, in []byte) {
	w := create(b, open(b, o), Events{})
	const piece = 32 << 10
	b.SetBytes(piece)
	b.ReportAllocs()
	from, at := cpuTime(), 0
	for b.Loop() {
		if err := w.Write(Stdout, in[at:at+piece]); err != nil {
			b.Fatal(err)
		}
		at = (at + piece) % len(in)
	}
	gb := float64(b.N) * piece / 1e9
	b.ReportMetric((cpuTime()-from).Seconds()/gb, "cpu-s/GB")
	finished(b, w)
}

// BenchmarkKeystroke records what an interactive session shows for each key.
func BenchmarkKeystroke(b *testing.B) {
	w := create(b, open(b, Options{}), Events{})
	b.ReportAllocs()
	for b.Loop() {
		if err := w.Write(Stdout, []byte("x")); err != nil {
			b.Fatal(err)
		}
	}
	finished(b, w)
}
