package audit

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// longLog is a log of a million events in segments of 8 MiB, as a busy gate
// writes them: sessions of ten events one after the other.
func longLog(b *testing.B) string {
	b.Helper()
	const events, segment = 1_000_000, 8 << 20
	dir := b.TempDir()
	samples := sampled()
	var records []record
	for _, e := range samples {
		records = append(records, encode(e, &inAWS, noon))
	}
	var file *os.File
	var out *bufio.Writer
	size := segment
	var buf []byte
	for i := range int64(events) {
		if size >= segment {
			closeSegment(b, out, file)
			f, err := os.Create(filepath.Join(dir, segmentName(i)))
			if err != nil {
				b.Fatal(err)
			}
			file, out, size = f, bufio.NewWriterSize(f, 1<<20), 0
		}
		r := records[i%int64(len(records))]
		if i%10 == 0 {
			e := samples[i%int64(len(samples))]
			e.Time = noon.Add(time.Duration(i) * time.Second)
			if e.Session != "" {
				e.Session = fmt.Sprintf("01998e4c-7a10-7c3e-9d55-%012d", i)
			}
			r = encode(e, &inAWS, noon)
		}
		buf = r.appendTo(buf[:0], i)
		size += len(buf)
		if _, err := out.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	closeSegment(b, out, file)
	return dir
}

func closeSegment(b *testing.B, out *bufio.Writer, file *os.File) {
	if file == nil {
		return
	}
	if err := out.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := file.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkSearch asks a log of 1,000,000 events, which is in the page cache.
func BenchmarkSearch(b *testing.B) {
	dir := longLog(b)
	for _, c := range []struct {
		name  string
		query Query
	}{
		{"session", Query{Sessions: []string{"01998e4c-7a10-7c3e-9d55-000000777760"}}},
		{"code", Query{Codes: []string{"forward.*"}}},
		{"identity", Query{Identities: []string{"vendor"}}},
		{"text", Query{Text: "part-0001.parquet"}},
		{"failed", Query{Failed: true}},
		{"target", Query{Targets: []string{"10.0.12.0/24"}}},
		{"everything", Query{}},
	} {
		b.Run(c.name, func(b *testing.B) {
			before := cpuTime(b)
			for b.Loop() {
				found := 0
				s := Search{Query: c.query, Render: asLines}
				if _, err := s.Run(b.Context(), dir, func([]byte) error { found++; return nil }); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(found), "events")
			}
			b.ReportMetric((cpuTime(b)-before).Seconds()/float64(b.N), "cpu-s/op")
		})
	}
}

// cpuTime is what this process has used of all cores: on a machine with other
// work the clock says little.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
