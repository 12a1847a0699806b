package files

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
)

// TestMemoryIsBounded has one client after the other try to fill the gate's
// memory.
func TestMemoryIsBounded(t *testing.T) {
	const most = 24 << 20 // 16 MiB and what the collector has not seen yet
	path, block := strings.Repeat("p", 1000), strings.Repeat("d", 65_000)
	for name, next := range map[string]func(i uint32) []packets{
		"requests": func(i uint32) []packets { return []packets{read(i, "h", uint64(i), 1)} },
		"paths":    func(i uint32) []packets { return []packets{fromClient(byte(fxpRemove), i, path)} },
		"handles": func(i uint32) []packets {
			return []packets{fromClient(byte(fxpOpen), i, "/a", uint32(fxfRead), uint32(0)), fromServer(byte(fxpHandle), i, fmt.Sprint(i))}
		},
		"open paths": func(i uint32) []packets {
			return []packets{fromClient(byte(fxpOpen), i, path, uint32(fxfRead), uint32(0)), fromServer(byte(fxpHandle), i, fmt.Sprint(i))}
		},
		"early data": func(i uint32) []packets {
			return []packets{write(i, "h", 1<<30+uint64(i)*70_000, block), status(i, 0)}
		},
		"early crumbs":  func(i uint32) []packets { return []packets{write(i, "h", 1<<30+uint64(i)*2, "d"), status(i, 0)} },
		"denied":        func(i uint32) []packets { return []packets{fromClient(byte(fxpRename), i, "/a", "/b")} },
		"a long packet": func(i uint32) []packets { return []packets{{true, []byte(strings.Repeat("\x00\x03", 1000))}} },
	} {
		r := both
		if name == "denied" {
			r = Rights{Read: true}
		}
		s := NewSFTP(r, func(Operation) {})
		before := heap()
		feed := func(list []packets) {
			for _, p := range list {
				if p.client {
					s.Client(p.bytes)
					continue
				}
				s.Server(p.bytes)
			}
		}
		feed(script(opened("/a", fxfRead|fxfWrite, "h")))
		end := uint32(80_000) // more than any bound
		if name == "early data" {
			end = 2000 // 130 MB
		}
		for i := uint32(1000); i < end && s.Err() == nil; i++ {
			feed(next(i))
		}
		if used := heap() - before; used > most {
			t.Errorf("%s: %d MiB", name, used>>20)
		}
		runtime.KeepAlive(s)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func FuzzSFTP(f *testing.F) {
	all := bigScript()
	for r := range byte(4) {
		f.Add(r, said(all, true), said(all, false), uint64(7))
	}
	f.Add(byte(1), said(script(opened("/a", fxfRead, "h")), true), []byte("Welcome"), uint64(1))
	f.Fuzz(func(t *testing.T, rights byte, client, server []byte, seed uint64) {
		r := Rights{Read: rights&1 != 0, Write: rights&2 != 0}
		random := rand.New(rand.NewPCG(seed, 0))
		got := play(r, shuffled(client, server, random), func() int { return 1 + random.IntN(50) })
		checkEnded(t, got.ops, got.err)
		if r == both && (!bytes.Equal(got.toTarget, client) || !bytes.Equal(got.toClient, server)) {
			t.Fatal("bytes were changed")
		}
		if r != both && got.err == nil {
			checkPassed(t, r, got.toTarget)
		}
	})
}

// shuffled is a transcript of two streams in pieces of any length.
func shuffled(client, server []byte, random *rand.Rand) (transcript []packets) {
	for len(client)+len(server) > 0 {
		n, m := min(random.IntN(200), len(client)), min(random.IntN(200), len(server))
		transcript = append(transcript, packets{true, client[:n]}, packets{false, server[:m]})
		client, server = client[n:], server[m:]
	}
	return transcript
}

// checkPassed fails if a packet that r does not allow passed to the target.
func checkPassed(t *testing.T, r Rights, p []byte) {
	t.Helper()
	for len(p) > 4 && len(p) >= 4+int(binary.BigEndian.Uint32(p)) {
		n := 4 + int(binary.BigEndian.Uint32(p))
		switch p[4] {
		case fxpWrite, fxpSetstat, fxpFsetstat, fxpRemove, fxpMkdir, fxpRmdir, fxpRename, fxpSymlink:
			if !r.Write {
				t.Fatalf("%x passed", p[:n])
			}
		case fxpRead:
			if !r.Read {
				t.Fatalf("%x passed", p[:n])
			}
		}
		p = p[n:]
	}
}
