package audit

import (
	"syscall"
	"testing"
	"time"
)

// BenchmarkVerify reads a log as the daemon writes it, of which a checkpoint was
// made every 1000 events. It must reach 200,000 events a second.
func BenchmarkVerify(b *testing.B) {
	const events = 50_000
	c := craft(b)
	hashes, lines := []byte(nil), []byte(nil)
	now := time.UnixMilli(c.clock)
	host := &Host{Version: "1.0.0", Hostname: "bastion-a.internal", InstanceID: "i-0f3c5a7e9b1d2c4e6", Region: "us-east-1", Account: "111122223333"}
	for i := range events {
		e := Event{Code: ForwardOpen, Session: "01998e4c-7a10-7c3e-9d55-3b0f6f1b2a77", Identity: "vendor", User: "deploy", Message: "tunnel allowed",
			TargetHost: "node-3.cluster.internal", Rule: "web-uis", Policy: "sha256:5a1f0c77d2ab9e03", Endpoint: "vpce-0a1b2c3d4e5f60718"}
		line := encode(e, host, now).appendTo(nil, int64(i))
		lines = append(lines, line...)
		hashes = c.tree.append(hashes, line[:len(line)-1])
		if i%1000 == 999 {
			c.sign(b)
		}
	}
	c.write(b, segmentName(0), string(lines))
	c.write(b, hashesFile, string(hashes))
	c.mustBeFine(b)
	b.SetBytes(int64(len(lines)))
	before := spent(b)
	for b.Loop() {
		c.mustBeFine(b)
	}
	b.ReportMetric(float64(events)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(events)*float64(b.N)/(spent(b)-before).Seconds(), "events/cpu-s")
}

// spent is the CPU time of this process; others may share the cores.
func spent(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
