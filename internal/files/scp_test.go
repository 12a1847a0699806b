package files

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func scpOp(action, path, command string, size int64, sum string) Operation {
	o := Operation{Action: action, Protocol: "scp", Path: path, Command: command, Size: size, SHA256: sum}
	switch action {
	case Get:
		o.BytesRead = size
	case Put:
		o.BytesWritten = size
	}
	return o
}

func TestWhatLegacySCPMovesIsHashed(t *testing.T) {
	for _, size := range []int{0, 1, 5<<20 + 7} {
		tr := newTree(t)
		sum := tr.file("a b", size)
		if out, err := tr.scp("-p", "a b", "h:"+tr.dir+"/up"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if out, err := tr.scp("h:"+tr.dir+"/up", "down"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		tr.same("a b", "up")
		tr.same("a b", "down")
		tr.want(scpOp(Put, "a b", "C0644", int64(size), sum), scpOp(Get, "up", "C0644", int64(size), sum))
	}
}

func TestLegacySCPOfATree(t *testing.T) {
	tr := newTree(t)
	if err := os.MkdirAll(filepath.Join(tr.dir, "d/e"), 0o755); err != nil {
		t.Fatal(err)
	}
	one, two := tr.file("d/1", 100), tr.file("d/e/2", 200)
	if out, err := tr.scp("-r", "d", "h:"+tr.dir+"/up"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := tr.scp("-rp", "h:"+tr.dir+"/u*", "down"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	tr.same("d/e/2", "down/e/2")
	dir := func(path string) Operation { return scpOp(Mkdir, path, "D0755", -1, "") }
	ops := map[Operation]bool{}
	for _, o := range tr.seen() {
		o.Start, o.End = dir("").Start, dir("").End
		ops[o] = true
	}
	for _, want := range []Operation{
		dir("d"), dir("d/e"), scpOp(Put, "d/1", "C0644", 100, one), scpOp(Put, "d/e/2", "C0644", 200, two),
		scpOp(Get, "up/1", "C0644", 100, one), scpOp(Get, "up/e/2", "C0644", 200, two),
	} {
		if !ops[want] {
			t.Errorf("not seen: %+v", want)
		}
		delete(ops, want)
	}
	if len(ops) > 0 {
		t.Errorf("seen too: %+v", ops)
	}
}

func TestLegacySCPThatFailsSaysWhy(t *testing.T) {
	tr := newTree(t)
	tr.file("x", 1000)
	if _, err := tr.scp("x", "h:"+tr.dir+"/missing/x"); err == nil {
		t.Error("put succeeded")
	}
	if _, err := tr.scp("h:"+tr.dir+"/missing", "y"); err == nil {
		t.Error("get succeeded")
	}
	ops := tr.seen()
	if len(ops) != 2 {
		t.Fatalf("got %+v", ops)
	}
	for i, action := range []string{Put, Get} {
		o := ops[i]
		if o.Action != action || !o.Failed || !o.Partial || !strings.HasSuffix(o.Status, "No such file or directory") || o.StatusCode != 1 {
			t.Errorf("got %+v", o)
		}
	}
	if ops[0].Path != "x" || ops[0].SHA256 != "" {
		t.Errorf("got %+v", ops[0])
	}
}

// talk is what both sides of an scp say, in order: '>' is the sender.
type talk struct {
	from byte
	said string
}

func listen(kind CommandKind, talks []talk, piece int) (*SCP, []Operation) {
	var got seen
	s := NewSCP(kind, got.report)
	for _, said := range talks {
		say := s.Client
		if (said.from == '>') == (kind == SCPSource) {
			say = s.Server
		}
		for p := []byte(said.said); len(p) > 0; {
			n := min(piece, len(p))
			say(p[:n])
			p = p[n:]
		}
	}
	s.Close()
	return s, got.all()
}

func TestSCPOutcomes(t *testing.T) {
	whole := scpOp(Put, "x", "C0644", 3, hash256([]byte("abc")))
	fails := func(text string, code uint32, moved int64, sum string) Operation {
		o := whole
		o.Partial, o.Failed, o.Status, o.StatusCode, o.BytesWritten, o.SHA256 = true, true, text, code, moved, sum
		return o
	}
	cut := whole
	cut.Partial, cut.BytesWritten, cut.SHA256 = true, 2, hash256([]byte("ab"))
	unreadable := Operation{Action: Unreadable, Protocol: "scp", Size: -1, Failed: true, Partial: true}
	late := func(err error) Operation { o := unreadable; o.Status = err.Error(); return o }
	unended := whole
	unended.Partial = true
	refusedDir := scpOp(Mkdir, "d", "D0755", -1, "")
	refusedDir.fail("no", 1, "D0755")
	emptyCut := scpOp(Put, "d/x", "C0644", 0, "")
	emptyCut.Partial = true
	for name, c := range map[string]struct {
		talks []talk
		want  []Operation
	}{
		"all is well":            {[]talk{{'<', "\x00"}, {'>', "C0644 3 x\n"}, {'<', "\x00"}, {'>', "abc\x00"}, {'<', "\x00"}}, []Operation{whole}},
		"a sender does not wait": {[]talk{{'>', "C0644 3 x\nabc\x00"}, {'<', "\x00\x00\x00"}}, []Operation{whole}},
		"the disk is full": {[]talk{{'<', "\x00"}, {'>', "C0644 3 x\n"}, {'<', "\x00"}, {'>', "abc\x00"}, {'<', "\x01scp: x: No space left on device\n"}},
			[]Operation{fails("scp: x: No space left on device", 1, 3, whole.SHA256)}},
		"the sender cannot read on": {[]talk{{'<', "\x00"}, {'>', "C0644 3 x\n"}, {'<', "\x00"}, {'>', "abc\x01x: Input/output error\n"}, {'<', "\x00"}},
			[]Operation{fails("x: Input/output error", 1, 3, whole.SHA256)}},
		"a file is refused and the next is not": {[]talk{{'<', "\x00"}, {'>', "C0644 3 x\n"}, {'<', "\x02no\n"}, {'>', "C0644 3 x\n"}, {'<', "\x00"}, {'>', "abc\x00"}, {'<', "\x00"}},
			[]Operation{fails("no", 2, 0, ""), whole}},
		"the stream is cut":              {[]talk{{'<', "\x00"}, {'>', "C0644 3 x\n"}, {'<', "\x00"}, {'>', "ab"}}, []Operation{cut}},
		"the receiver's word is lacking": {[]talk{{'<', "\x00"}, {'>', "C0644 3 x\n"}, {'<', "\x00"}, {'>', "abc\x00"}}, []Operation{unended}},
		"a sender sends on though it was refused": {[]talk{{'<', "\x00"}, {'>', "C0644 3 x\nabc"}, {'<', "\x01no\n"}},
			[]Operation{fails("no", 1, 3, whole.SHA256), late(errRefused)}},
		"a banner":               {[]talk{{'<', "Welcome\n"}}, []Operation{late(errAnswer)}},
		"a line of nonsense":     {[]talk{{'>', "hello\n"}}, []Operation{late(errLine)}},
		"an end without a start": {[]talk{{'>', "E\n"}}, []Operation{late(errLine)}},
		"an endless line":        {[]talk{{'>', strings.Repeat("C", 100_000)}}, []Operation{late(errLongLine)}},
		"a negative size":        {[]talk{{'>', "C0644 -3 x\n"}}, []Operation{late(errLine)}},
		"a directory is refused, and the next is not": {[]talk{{'<', "\x00"}, {'>', "D0755 0 d\n"}, {'<', "\x01no\n"}, {'>', "D0755 0 e\n"}, {'<', "\x00"}, {'>', "E\n"}, {'<', "\x00"}},
			[]Operation{refusedDir, scpOp(Mkdir, "e", "D0755", -1, "")}},
		"a sender goes into a directory that was refused": {[]talk{{'<', "\x00"}, {'>', "D0755 0 d\nC0644 0 x\n"}, {'<', "\x01no\n"}},
			[]Operation{refusedDir, emptyCut, late(errRefused)}},
		"answers to nothing": {[]talk{{'<', "\x00\x00"}}, []Operation{late(errAnswer)}},
	} {
		for _, piece := range []int{1, 2, 3, 1000} {
			s, got := listen(SCPSink, c.talks, piece)
			t.Run(name, func(t *testing.T) {
				compare(t, got, append([]Operation(nil), c.want...))
				if (s.Err() != nil) != (c.want[len(c.want)-1].Action == Unreadable) {
					t.Errorf("Err is %v", s.Err())
				}
			})
		}
	}
}

func FuzzSCP(f *testing.F) {
	f.Add(true, []byte("\x00\x00\x00"), []byte("T1 0 1 0\nD0755 0 d\nC0644 3 x\nabc\x00E\n"), 3)
	f.Add(false, []byte("\x00\x01no\n\x00"), []byte("C0644 3 x\nC0644 0 y\n\x00\x01x: gone\n"), 1)
	f.Fuzz(func(t *testing.T, sink bool, receiver, sender []byte, piece int) {
		kind := SCPSource
		if sink {
			kind = SCPSink
		}
		piece = 1 + abs(piece)%64
		talks := []talk{}
		for len(receiver)+len(sender) > 0 {
			n, m := min(piece, len(sender)), min(piece, len(receiver))
			talks = append(talks, talk{'>', string(sender[:n])}, talk{'<', string(receiver[:m])})
			sender, receiver = sender[n:], receiver[m:]
		}
		s, got := listen(kind, talks, piece)
		checkEnded(t, got, s.Err())
	})
}

func TestSCPHoldsNoMoreThanItSays(t *testing.T) {
	for name, sent := range map[string]string{
		"directories": strings.Repeat("D0755 0 "+strings.Repeat("d", 2000)+"\n", 10_000),
		"lines":       strings.Repeat("T1 0 1 0\n", 100_000),
		"files":       strings.Repeat("C0644 0 x\n\x00", 100_000),
		"a line":      strings.Repeat("C", 1<<20),
	} {
		s := NewSCP(SCPSink, func(Operation) {})
		s.Client([]byte(sent))
		if s.Err() == nil {
			t.Errorf("%s: held", name)
		}
	}
}
