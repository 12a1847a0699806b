package audit

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// counted reads the refusals of a log: the lines, and what they stand for.
func counted(t *testing.T, dir string) (lines, refusals int) {
	t.Helper()
	for _, r := range all(t, dir) {
		if r.Code != ConnRefused {
			continue
		}
		lines++
		refusals++
		if n, ok := at(decode(t, append(r.Line, '\n')), "count").(float64); ok {
			refusals += int(n) - 1
		}
	}
	return lines, refusals
}

func refusedFrom(addr string) Event {
	return Event{Code: ConnRefused, Reason: "endpoint", Endpoint: "vpce-0bad", Client: netip.AddrPortFrom(netip.MustParseAddr(addr), 4000), Session: "s"}
}

func TestAFloodOfRefusalsIsCountedNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := mustOpen(t, Options{Dir: t.TempDir()})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- l.Run(ctx) }()
		for n := range 10_000 { // over 25 s
			l.Refuse(refusedFrom("10.0.0.1"))
			if n%4 == 0 {
				time.Sleep(10 * time.Millisecond)
			}
		}
		l.Refuse(refusedFrom("10.0.0.2")) // another one is not lost among them
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if lines, refusals := counted(t, l.opts.Dir); lines > 40 || refusals != 10_001 {
			t.Errorf("%d lines stand for %d refusals", lines, refusals)
		}
		for _, r := range all(t, l.opts.Dir) {
			e := decode(t, append(r.Line, '\n'))
			if at(e, "count") != nil && (at(e, "src_endpoint", "port") != nil || at(e, "metadata", "correlation_uid") != nil || at(e, "duration").(float64) > 10_500) {
				t.Errorf("a sum names one connection: %s", r.Line)
			}
		}
	})
}

func TestASumIsWrittenWhenItsWindowEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := mustOpen(t, Options{Dir: t.TempDir()})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- l.Run(ctx) }()
		for range 25 {
			l.Refuse(refusedFrom("10.0.0.1"))
		}
		time.Sleep(9 * time.Second)
		if lines, _ := counted(t, l.opts.Dir); lines != 10 {
			t.Errorf("%d lines before the window ends", lines)
		}
		time.Sleep(2 * time.Second)
		if lines, refusals := counted(t, l.opts.Dir); lines != 11 || refusals != 25 {
			t.Errorf("%d lines stand for %d refusals", lines, refusals)
		}
		cancel()
		<-ended
	})
}

func TestRefusalsFromEverywhereFillNeitherMemoryNorDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := mustOpen(t, Options{Dir: t.TempDir()})
		const sources = 3 * refusalKinds
		for n := range sources {
			l.Refuse(refusedFrom(fmt.Sprintf("10.1.%d.%d", n>>8, n&255)))
		}
		if kinds := len(l.refusals.kinds); kinds != refusalKinds+1 {
			t.Errorf("%d kinds are counted apart", kinds)
		}
		mustClose(t, l)
		if lines, refusals := counted(t, l.opts.Dir); refusals != sources || lines > refusalsAll+refusalKinds+1 {
			t.Errorf("%d lines stand for %d refusals of %d", lines, refusals, sources)
		}
	})
}
