package files

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func abs(n int) int {
	if n < 0 {
		return -(n + 1)
	}
	return n
}

// checkEnded fails unless operations are what any stream may leave behind.
func checkEnded(t *testing.T, ops []Operation, err error) {
	t.Helper()
	unreadable := 0
	for i, o := range ops {
		if o.Action == Unreadable {
			unreadable++
			if i != len(ops)-1 {
				t.Errorf("something was seen after the stream was unreadable: %+v", ops)
			}
		}
		if o.Action == "" || o.Protocol == "" || o.End.Before(o.Start) || o.Denied && !o.Failed {
			t.Errorf("got %+v", o)
		}
	}
	if (unreadable == 1) != (err != nil) || unreadable > 1 {
		t.Errorf("unreadable %d times, and Err is %v", unreadable, err)
	}
}

// packet is an SFTP packet; parts are byte, uint32, uint64 and string fields.
func packet(parts ...any) []byte {
	p := make([]byte, 4)
	for _, part := range parts {
		switch v := part.(type) {
		case byte:
			p = append(p, v)
		case uint32:
			p = binary.BigEndian.AppendUint32(p, v)
		case uint64:
			p = binary.BigEndian.AppendUint64(p, v)
		case string:
			p = append(binary.BigEndian.AppendUint32(p, uint32(len(v))), v...)
		}
	}
	binary.BigEndian.PutUint32(p, uint32(len(p)-4))
	return p
}

// packets are of one side, in a transcript.
type packets struct {
	client bool
	bytes  []byte
}

func fromClient(parts ...any) packets { return packets{true, packet(parts...)} }
func fromServer(parts ...any) packets { return packets{false, packet(parts...)} }

// Packets that transcripts begin with and are made of.
var hello = []packets{fromClient(byte(fxpInit), uint32(3)), fromServer(byte(fxpVersion), uint32(3))}

func status(id, code uint32) packets {
	return fromServer(byte(fxpStatus), id, code, "", "")
}

func read(id uint32, handle string, offset uint64, n uint32) packets {
	return fromClient(byte(fxpRead), id, handle, offset, n)
}

func write(id uint32, handle string, offset uint64, data string) packets {
	return fromClient(byte(fxpWrite), id, handle, offset, data)
}

func data(id uint32, data string) packets { return fromServer(byte(fxpData), id, data) }

// opened is a file that was opened with a handle.
func opened(path string, flags uint32, handle string) []packets {
	return []packets{fromClient(byte(fxpOpen), uint32(900), path, flags, uint32(0)), fromServer(byte(fxpHandle), uint32(900), handle)}
}

func closed(handle string) []packets {
	return []packets{fromClient(byte(fxpClose), uint32(901), handle), status(901, fxOK)}
}

func script(parts ...any) []packets {
	all := append([]packets(nil), hello...)
	for _, part := range parts {
		switch v := part.(type) {
		case packets:
			all = append(all, v)
		case []packets:
			all = append(all, v...)
		}
	}
	return all
}

// result is what a decoder made of a transcript.
type result struct {
	toTarget, toClient []byte
	ops                []Operation
	err                error
}

// play plays a transcript through a decoder, in pieces.
func play(r Rights, transcript []packets, piece func() int) result {
	var got seen
	s := NewSFTP(r, got.report)
	var res result
	for _, p := range transcript {
		for rest := p.bytes; len(rest) > 0; {
			n := min(piece(), len(rest))
			if p.client {
				res.toTarget = append(res.toTarget, s.Client(rest[:n])...)
			} else {
				res.toClient = append(res.toClient, s.Server(rest[:n])...)
			}
			rest = rest[n:]
			select {
			case <-s.Pending():
				res.toClient = append(res.toClient, s.Answers()...)
			default:
			}
		}
	}
	s.Close()
	res.ops, res.err = got.all(), s.Err()
	return res
}

func whole() int { return 1 << 30 }

// said is all that one side said.
func said(transcript []packets, client bool) []byte {
	var all []byte
	for _, p := range transcript {
		if p.client == client {
			all = append(all, p.bytes...)
		}
	}
	return all
}

// bigScript has every kind of packet, reads and writes that are interleaved,
// and data of a length that no piece divides.
func bigScript() []packets {
	long := strings.Repeat("0123456789", 100)
	return script(
		fromClient(byte(fxpStat), uint32(1), "/a"), fromServer(byte(fxpAttrs), uint32(1), uint32(attrSize), uint64(2000)),
		opened("/a", fxfRead, "h1"), opened("/b", fxfWrite|fxfCreat|fxfTrunc, "h2"),
		read(1, "h1", 0, 1000), read(2, "h1", 1000, 1000), read(3, "h1", 2000, 1000),
		write(4, "h2", 0, long), data(1, long), write(5, "h2", 1000, long), status(4, fxOK), data(2, long),
		status(5, fxOK), status(3, fxEOF),
		fromClient(byte(fxpClose), uint32(6), "h1"), fromClient(byte(fxpClose), uint32(7), "h2"), status(7, fxOK), status(6, fxOK),
		fromClient(byte(fxpOpendir), uint32(8), "/d"), fromServer(byte(fxpHandle), uint32(8), "h1"),
		fromClient(byte(fxpReaddir), uint32(9), "h1"),
		fromServer(byte(fxpName), uint32(9), uint32(2), ".", "", uint32(0), "..", "", uint32(0)),
		fromClient(byte(fxpReaddir), uint32(9), "h1"), status(9, fxEOF), closed("h1"),
		fromClient(byte(fxpExtended), uint32(10), extLimits), fromServer(byte(fxpExtendedReply), uint32(10), uint64(1), uint64(2)),
		fromClient(byte(fxpRemove), uint32(11), "/a"), status(11, fxOK),
		fromClient(byte(fxpExtended), uint32(12), "never@heard.of", "x"), status(12, 8),
	)
}

func TestWithBothRightsNoByteIsChanged(t *testing.T) {
	transcript := bigScript()
	want := play(both, transcript, whole)
	if want.err != nil || len(want.ops) != 4 {
		t.Fatalf("%v, %+v", want.err, want.ops)
	}
	for n := 1; n < 300; n++ {
		got := play(both, transcript, func() int { return n })
		if !bytes.Equal(got.toTarget, said(transcript, true)) || !bytes.Equal(got.toClient, said(transcript, false)) {
			t.Fatalf("pieces of %d: bytes were changed", n)
		}
		compare(t, got.ops, append([]Operation(nil), want.ops...))
	}
}

func TestPiecesDoNotMatterToTheFilter(t *testing.T) {
	transcript := bigScript()
	for _, r := range []Rights{{}, {Read: true}, {Write: true}} {
		want := play(r, transcript, whole)
		if want.err != nil {
			t.Fatal(want.err)
		}
		for n := 1; n < 100; n++ {
			got := play(r, transcript, func() int { return n })
			if !bytes.Equal(got.toTarget, want.toTarget) {
				t.Fatalf("pieces of %d: other bytes passed to the target", n)
			}
			if err := sameButAnswers(got.toClient, said(transcript, false)); err != nil {
				t.Fatalf("pieces of %d: %v", n, err)
			}
		}
	}
}

// sameButAnswers says whether got is what the server sent, with the gate's
// answers between packets.
func sameButAnswers(got, sent []byte) error {
	for len(got) >= 9 {
		n := 4 + binary.BigEndian.Uint32(got)
		if bytes.Equal(got[:n], permissionDenied(binary.BigEndian.Uint32(got[5:]))) {
			got = got[n:]
			continue
		}
		if !bytes.HasPrefix(sent, got[:n]) {
			return fmt.Errorf("packet %x is not the server's", got[:n])
		}
		got, sent = got[n:], sent[n:]
	}
	if len(got)+len(sent) > 0 {
		return fmt.Errorf("%d bytes too many, %d too few", len(got), len(sent))
	}
	return nil
}

func TestNoForbiddenRequestReachesTheTarget(t *testing.T) {
	requests := []struct {
		name string
		p    packets
		need Rights
		free bool // allowed with either right
	}{
		{"open to read", fromClient(byte(fxpOpen), uint32(1), "/x", uint32(fxfRead), uint32(0)), Rights{Read: true}, false},
		{"open for nothing, which reads", fromClient(byte(fxpOpen), uint32(1), "/x", uint32(0), uint32(0)), Rights{Read: true}, false},
		{"open to write", fromClient(byte(fxpOpen), uint32(1), "/x", uint32(fxfWrite), uint32(0)), Rights{Write: true}, false},
		{"open to append, which reads too", fromClient(byte(fxpOpen), uint32(1), "/x", uint32(fxfAppend), uint32(0)), both, false},
		{"open to read, made anew", fromClient(byte(fxpOpen), uint32(1), "/x", uint32(fxfRead|fxfCreat), uint32(0)), both, false},
		{"open to read, truncated", fromClient(byte(fxpOpen), uint32(1), "/x", uint32(fxfRead|fxfTrunc), uint32(0)), both, false},
		{"open for both", fromClient(byte(fxpOpen), uint32(1), "/x", uint32(fxfRead|fxfWrite), uint32(0)), both, false},
		{"read", read(1, "h", 0, 10), Rights{Read: true}, false},
		{"write", write(1, "h", 0, "data"), Rights{Write: true}, false},
		{"setstat", fromClient(byte(fxpSetstat), uint32(1), "/x", uint32(0)), Rights{Write: true}, false},
		{"fsetstat", fromClient(byte(fxpFsetstat), uint32(1), "h", uint32(0)), Rights{Write: true}, false},
		{"remove", fromClient(byte(fxpRemove), uint32(1), "/x"), Rights{Write: true}, false},
		{"mkdir", fromClient(byte(fxpMkdir), uint32(1), "/x", uint32(0)), Rights{Write: true}, false},
		{"rmdir", fromClient(byte(fxpRmdir), uint32(1), "/x"), Rights{Write: true}, false},
		{"rename", fromClient(byte(fxpRename), uint32(1), "/x", "/y"), Rights{Write: true}, false},
		{"symlink", fromClient(byte(fxpSymlink), uint32(1), "/x", "/y"), Rights{Write: true}, false},
		{"posix-rename", fromClient(byte(fxpExtended), uint32(1), extPosixRename, "/x", "/y"), Rights{Write: true}, false},
		{"hardlink", fromClient(byte(fxpExtended), uint32(1), extHardlink, "/x", "/y"), Rights{Write: true}, false},
		{"lsetstat", fromClient(byte(fxpExtended), uint32(1), extLsetstat, "/x", uint32(0)), Rights{Write: true}, false},
		{"fsync", fromClient(byte(fxpExtended), uint32(1), extFsync, "h"), Rights{Write: true}, false},
		{"copy-data", fromClient(byte(fxpExtended), uint32(1), extCopyData, "h", uint64(0), uint64(0), "i", uint64(0)), Rights{Write: true}, false},
		{"an extension nobody knows", fromClient(byte(fxpExtended), uint32(1), "x@y", "z"), both, false},
		{"a request nobody knows", fromClient(byte(77), uint32(1), "z"), both, false},
		{"opendir", fromClient(byte(fxpOpendir), uint32(1), "/x"), Rights{}, true},
		{"readdir", fromClient(byte(fxpReaddir), uint32(1), "h"), Rights{}, true},
		{"stat", fromClient(byte(fxpStat), uint32(1), "/x"), Rights{}, true},
		{"lstat", fromClient(byte(fxpLstat), uint32(1), "/x"), Rights{}, true},
		{"fstat", fromClient(byte(fxpFstat), uint32(1), "h"), Rights{}, true},
		{"realpath", fromClient(byte(fxpRealpath), uint32(1), "."), Rights{}, true},
		{"readlink", fromClient(byte(fxpReadlink), uint32(1), "/x"), Rights{}, true},
		{"statvfs", fromClient(byte(fxpExtended), uint32(1), extStatvfs, "/x"), Rights{}, true},
		{"expand-path", fromClient(byte(fxpExtended), uint32(1), extExpandPath, "~"), Rights{}, true},
		{"limits", fromClient(byte(fxpExtended), uint32(1), extLimits), Rights{}, true},
	}
	for _, c := range requests {
		for _, r := range []Rights{{}, {Read: true}, {Write: true}, both} {
			got := play(r, script(c.p), whole)
			allowed := r.covers(c.need) && r != Rights{}
			passed := len(got.toTarget) > len(hello[0].bytes)
			answered := bytes.Contains(got.toClient, permissionDenied(1))
			if passed != allowed || answered == allowed || got.err != nil {
				t.Errorf("%s with %+v: passed %v, answered %v, %v", c.name, r, passed, answered, got.err)
			}
			if denied := len(got.ops) == 1 && got.ops[0].Denied; denied && allowed {
				t.Errorf("%s with %+v: reported as denied", c.name, r)
			}
		}
	}
}

func TestAnswersWaitForTheEndOfAPacket(t *testing.T) {
	var got seen
	s := NewSFTP(Rights{Read: true}, got.report)
	for _, p := range script(opened("/a", fxfRead, "h"), read(1, "h", 0, 100)) {
		if p.client {
			s.Client(p.bytes)
			continue
		}
		s.Server(p.bytes)
	}
	answer := data(1, strings.Repeat("x", 100)).bytes
	if out := s.Server(answer[:20]); !bytes.Equal(out, answer[:20]) {
		t.Errorf("passed %x", out)
	}
	if out := s.Client(fromClient(byte(fxpRemove), uint32(2), "/a").bytes); len(out) > 0 {
		t.Errorf("passed %x to the target", out)
	}
	<-s.Pending()
	if out := s.Answers(); out != nil {
		t.Errorf("an answer within a packet: %x", out)
	}
	next := status(7, fxOK).bytes
	want := append(append(bytes.Clone(answer[20:]), permissionDenied(2)...), next[:6]...)
	if out := s.Server(append(bytes.Clone(answer[20:]), next[:6]...)); !bytes.Equal(out, want) {
		t.Errorf("got %x, want %x", out, want)
	}
}

func TestAWriteIsForwardedBeforeItsDataHasCome(t *testing.T) {
	s := NewSFTP(Rights{Write: true}, func(Operation) {})
	s.Client(hello[0].bytes)
	p := write(1, "h", 0, strings.Repeat("x", 1000)).bytes
	if out := s.Client(p[:40]); !bytes.Equal(out, p[:40]) {
		t.Errorf("passed %x", out)
	}
}

func TestTheFilterSpeaksVersion3Only(t *testing.T) {
	offer := fromClient(byte(fxpInit), uint32(6))
	if got := play(Rights{Read: true}, []packets{offer}, whole); !bytes.Equal(got.toTarget, hello[0].bytes) {
		t.Errorf("passed %x", got.toTarget)
	}
	if got := play(both, []packets{offer}, whole); !bytes.Equal(got.toTarget, offer.bytes) {
		t.Errorf("changed to %x", got.toTarget)
	}
	insists := []packets{offer, fromServer(byte(fxpVersion), uint32(6)), read(1, "h", 0, 1)}
	if got := play(Rights{Read: true}, insists, whole); got.err == nil || len(got.toClient) > 0 || len(got.toTarget) != 9 {
		t.Errorf("%v, %x, %x", got.err, got.toClient, got.toTarget)
	}
}

func TestNonsensePassesUnreadWithBothRightsOnly(t *testing.T) {
	open := opened("/a", fxfRead|fxfWrite, "h")
	for name, transcript := range map[string][]packets{
		"an empty packet":             script(open, packets{true, []byte{0, 0, 0, 0}}),
		"a banner":                    {{false, []byte("Welcome to the machine\r\n and more text of it")}, hello[0], read(1, "h", 0, 1)},
		"a request without an id":     script(open, fromClient(byte(fxpRead))),
		"a string past the end":       script(open, packets{true, []byte{0, 0, 0, 9, fxpRemove, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff}}),
		"data past the end":           script(open, packets{true, append([]byte{0, 0, 0, 22, fxpWrite, 0, 0, 0, 1, 0, 0, 0, 1, 'h'}, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9)}),
		"two requests with one id":    script(open, read(1, "h", 0, 1), read(1, "h", 1, 1)),
		"a long request":              script(open, packets{true, []byte{0, 0x10, 0, 0, fxpRemove}}),
		"a handle from nowhere works": script(write(1, "h", 0, "data"), status(1, fxOK)),
		"data from nowhere":           script(read(1, "h", 0, 4), data(1, "data")),
		"one handle twice":            script(open, opened("/b", fxfRead|fxfWrite, "h")),
		"a handle for a status":       script(open, fromClient(byte(fxpRemove), uint32(1), "/x"), fromServer(byte(fxpHandle), uint32(1), "i")),
	} {
		for _, n := range []int{1, 5, 1 << 20} {
			piece := func() int { return n }
			got := play(both, append(transcript, packets{true, []byte("more")}, packets{false, []byte("and more")}), piece)
			if !bytes.Equal(got.toTarget, append(said(transcript, true), "more"...)) || !bytes.Equal(got.toClient, append(said(transcript, false), "and more"...)) {
				t.Errorf("%s: bytes were changed", name)
			}
			checkEnded(t, got.ops, got.err)
			if got.err == nil {
				t.Errorf("%s: it was read", name)
			}
			one := NewSFTP(Rights{Read: true}, func(Operation) {})
			one.Server([]byte("Welcome to the machine"))
			if out := one.Client(hello[0].bytes); one.Err() == nil || len(out) > 0 {
				t.Errorf("%x passed after nonsense", out)
			}
		}
	}
}

func TestWhatIsPartial(t *testing.T) {
	const put = fxfWrite | fxfCreat | fxfTrunc
	abcdef, abc := hash256([]byte("abcdef")), hash256([]byte("abc"))
	for name, c := range map[string]struct {
		flags   uint32
		between []any
		sum     string
		partial bool
	}{
		"written in order":               {put, []any{write(1, "h", 0, "abc"), status(1, 0), write(2, "h", 3, "def"), status(2, 0)}, abcdef, false},
		"written the other way round":    {put, []any{write(1, "h", 3, "def"), status(1, 0), write(2, "h", 0, "abc"), status(2, 0)}, abcdef, false},
		"written with a gap":             {put, []any{write(1, "h", 0, "abc"), status(1, 0), write(2, "h", 4, "def"), status(2, 0)}, abc, true},
		"written over":                   {put, []any{write(1, "h", 0, "abc"), status(1, 0), write(2, "h", 1, "def"), status(2, 0)}, abc, true},
		"written and not answered":       {put, []any{write(1, "h", 0, "abc")}, abc, true},
		"written, then failed":           {put, []any{write(1, "h", 0, "abc"), status(1, 4)}, abc, true},
		"appended":                       {fxfWrite | fxfAppend | fxfTrunc, []any{write(1, "h", 0, "abc"), status(1, 0)}, abc, true},
		"not truncated":                  {fxfWrite, []any{write(1, "h", 0, "abc"), status(1, 0)}, abc, true},
		"truncated afterwards":           {fxfWrite, []any{write(1, "h", 0, "abc"), status(1, 0), fromClient(byte(fxpFsetstat), uint32(2), "h", uint32(attrSize), uint64(3)), status(2, 0)}, abc, false},
		"truncated, which fails":         {fxfWrite, []any{write(1, "h", 0, "abc"), status(1, 0), fromClient(byte(fxpFsetstat), uint32(2), "h", uint32(attrSize), uint64(3)), status(2, 4)}, abc, true},
		"cut off what was written":       {put, []any{write(1, "h", 0, "abc"), status(1, 0), fromClient(byte(fxpFsetstat), uint32(2), "h", uint32(attrSize), uint64(2)), status(2, 0)}, abc, true},
		"made longer":                    {put, []any{write(1, "h", 0, "abc"), status(1, 0), fromClient(byte(fxpFsetstat), uint32(2), "h", uint32(attrSize), uint64(9)), status(2, 0)}, abc, true},
		"copied into":                    {put, []any{write(1, "h", 0, "abc"), status(1, 0), fromClient(byte(fxpExtended), uint32(2), extCopyData, "i", uint64(0), uint64(0), "h", uint64(3)), status(2, 0)}, abc, true},
		"never written":                  {put, nil, hash256(nil), false},
		"read to the end":                {fxfRead, []any{read(1, "h", 0, 9), data(1, "abc"), read(2, "h", 3, 9), status(2, fxEOF)}, abc, false},
		"read to the size":               {fxfRead, []any{fromClient(byte(fxpFstat), uint32(3), "h"), fromServer(byte(fxpAttrs), uint32(3), uint32(attrSize), uint64(3)), read(1, "h", 0, 9), data(1, "abc")}, abc, false},
		"read, and nobody knows how far": {fxfRead, []any{read(1, "h", 0, 3), data(1, "abc")}, abc, true},
		"read after a short answer":      {fxfRead, []any{read(1, "h", 0, 5), read(2, "h", 5, 5), data(1, "abc"), read(3, "h", 3, 2), data(2, "f"), data(3, "de"), read(4, "h", 6, 5), status(4, fxEOF)}, abcdef, false},
		"read, and the rest is short":    {fxfRead, []any{read(1, "h", 0, 5), read(2, "h", 5, 5), data(1, "abc"), status(2, fxEOF)}, abc, false},
		"answered the other way round":   {fxfRead, []any{read(1, "h", 0, 3), read(2, "h", 3, 3), read(3, "h", 6, 3), status(3, fxEOF), data(2, "def"), data(1, "abc")}, abcdef, false},
		"read twice":                     {fxfRead, []any{read(1, "h", 0, 3), data(1, "abc"), read(2, "h", 0, 3), data(2, "abc"), read(3, "h", 3, 3), status(3, fxEOF)}, abc, true},
		"read from the middle":           {fxfRead, []any{read(1, "h", 3, 3), data(1, "def"), read(2, "h", 6, 3), status(2, fxEOF)}, "", true},
		"a read that fails":              {fxfRead, []any{read(1, "h", 0, 3), data(1, "abc"), read(2, "h", 3, 3), status(2, 4)}, abc, true},
		"read and written":               {fxfRead | put, []any{write(1, "h", 0, "abc"), status(1, 0), read(2, "h", 0, 1), data(2, "a")}, abc, false},
	} {
		parts := append(append([]any{opened("/a", c.flags, "h")}, c.between...), closed("h"))
		got := play(both, script(parts...), func() int { return 2 })
		if got.err != nil {
			t.Errorf("%s: %v", name, got.err)
			continue
		}
		o := got.ops[len(got.ops)-1]
		if o.SHA256 != c.sum || o.Partial != c.partial || o.Command == "" {
			t.Errorf("%s: got %+v", name, o)
		}
	}
}

func TestAFileThatIsStillOpenAtTheEndIsPartial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got seen
		s := NewSFTP(both, got.report)
		start := time.Now()
		for _, p := range script(opened("/a", fxfRead, "h"), read(1, "h", 0, 3), data(1, "abc"), fromClient(byte(fxpMkdir), uint32(2), "/d", uint32(0))) {
			if p.client {
				s.Client(p.bytes)
				continue
			}
			s.Server(p.bytes)
		}
		time.Sleep(time.Minute)
		s.Close()
		s.Close()
		ops := got.all()
		if len(ops) != 2 || !ops[0].Partial || !ops[1].Partial || ops[0].Action == ops[1].Action {
			t.Fatalf("got %+v", ops)
		}
		for _, o := range ops {
			if !o.Start.Equal(start) || o.End.Sub(o.Start) != time.Minute {
				t.Errorf("from %v to %v", o.Start, o.End)
			}
		}
	})
}
