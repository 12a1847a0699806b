package review

import (
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/record"
)

var (
	withTerminal = record.Header{Term: "xterm", Columns: 20, Rows: 5}
	noTerminal   = record.Header{}
)

// played are records that came a second after each other.
func played(kind record.Kind, data ...string) iter.Seq2[record.Record, error] {
	return func(yield func(record.Record, error) bool) {
		for i, d := range data {
			if !yield(record.Record{At: time.Duration(i) * time.Second, Kind: kind, Data: []byte(d)}, nil) {
				return
			}
		}
	}
}

// shown are the lines with the second in which they were there.
func shown(t *testing.T, h record.Header, records iter.Seq2[record.Record, error]) []string {
	t.Helper()
	var all []string
	for l, err := range Lines(h, records) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%d %s", l.At/time.Second, l.Text))
	}
	return all
}

func TestLinesAreWhatStoodOnTheScreen(t *testing.T) {
	for name, tc := range map[string]struct{ in, want []string }{
		"typed letter by letter":       {[]string{"$ ", "l", "s", "\r\n", "a.txt\r\n"}, []string{"2 $ ls", "4 a.txt"}},
		"escape codes split the word":  {[]string{"pass\x1b[31mwo", "\x1b[", "0mrd\x1b]0;x\a\r\n"}, []string{"2 password"}},
		"corrected":                    {[]string{"datb", "\b \bb", "\ba\r\n"}, []string{"0 datb", "2 data"}},
		"deleted before Enter":         {[]string{"$ secret", "\r\x1b[K$ ", "ls\r\n"}, []string{"0 $ secret", "2 $ ls"}},
		"the same line twice":          {[]string{"error\r\nerror\r\n"}, []string{"0 error", "0 error"}},
		"wrapped at the margin":        {[]string{"0123456789abcdefghijKLM\r\n"}, []string{"0 0123456789abcdefghijKLM"}},
		"wrapped as readline does":     {[]string{"0123456789abcdefghij", " \rK", "LM\r\n"}, []string{"2 0123456789abcdefghijKLM"}},
		"a space at the margin":        {[]string{"0123456789abcdefghi KLM\r\n"}, []string{"0 0123456789abcdefghi KLM"}},
		"wide characters at it":        {[]string{"0123456789abcdefghi漢字\r\n"}, []string{"0 0123456789abcdefghi漢字"}},
		"cut inside a character":       {[]string{"pr\xe2\x82", "\xac\r\n"}, []string{"1 pr€"}},
		"Latin-1":                      {[]string{"caf\xe9\r\n"}, []string{"0 caf\ufffd"}},
		"more lines than rows":         {[]string{"1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7\r\n"}, []string{"0 1", "0 2", "0 3", "0 4", "0 5", "0 6", "0 7"}},
		"addressed":                    {[]string{"\x1b[2J\x1b[2;3Hname\x1b[4;1Hend\x1b[2;8Hx"}, []string{"0   name", "0 end", "0   name x"}},
		"drawn again":                  {[]string{"\x1b[Htop\x1b[2Hcpu 1", "\x1b[Htop\x1b[2Hcpu 2"}, []string{"0 top", "0 cpu 1", "1 cpu 2"}},
		"alternate screen":             {[]string{"$ vi\r\n", "\x1b[?1049h\x1b[Hsecret", "\x1b[?1049l$ ls\r\n"}, []string{"0 $ vi", "1 secret", "2 $ ls"}},
		"progress":                     {[]string{"10%", "\r50%", "\r100%\r\n"}, []string{"0 10%", "1 50%", "2 100%"}},
		"line drawing":                 {[]string{"\x1b(0qx\x1b(B\r\n"}, []string{"0 ─│"}},
		"without an end":               {[]string{"login: "}, []string{"0 login:"}},
		"only titles and questions":    {[]string{"\x1b]0;title\a\x1b[6n\x1b[c"}, nil},
		"repeated":                     {[]string{"a\x1b[4bz\r\n"}, []string{"0 aaaaaz"}},
		"a flood of marks":             {[]string{"e" + strings.Repeat("\u0301", 1000) + "x\r\n"}, []string{"0 e" + strings.Repeat("\u0301", 31) + "x"}},
		"a combining mark comes later": {[]string{"e\u0301x\r\n"}, []string{"0 e\u0301x"}},
	} {
		if got := shown(t, withTerminal, played(record.Stdout, tc.in...)); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q gave %q, want %q", name, tc.in, got, tc.want)
		}
	}
}

func TestLinesOfAPipeAreItsLines(t *testing.T) {
	records := func(yield func(record.Record, error) bool) {
		for _, r := range []record.Record{
			{Kind: record.Stdout, Data: []byte("one\ntw")}, {Kind: record.Stderr, Data: []byte("war\x1b[1mn\n")},
			{At: time.Second, Kind: record.Stdout, Data: []byte("o\r\na\tb")}, {Kind: record.Stdin, Data: []byte("input\n")},
		} {
			if !yield(r, nil) {
				return
			}
		}
	}
	want := []string{"0 one", "0 warn", "1 two", "1 a b"}
	if got := shown(t, noTerminal, records); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	long := strings.Repeat("x€", maxLine)
	var all strings.Builder
	for l, err := range Lines(noTerminal, played(record.Stdout, long)) {
		if all.WriteString(l.Text); err != nil || len(l.Text) > maxLine {
			t.Fatalf("%d bytes, %v", len(l.Text), err)
		}
	}
	if all.String() != long {
		t.Error("a long line came back changed")
	}
}

func TestAResizeInTheMiddleChangesWhereLinesWrap(t *testing.T) {
	records := func(yield func(record.Record, error) bool) {
		_ = yield(record.Record{Kind: record.Stdout, Data: []byte("before\r\n")}, nil) &&
			yield(record.Record{Kind: record.Resize, Data: record.AppendSize(nil, 40, 3)}, nil) &&
			yield(record.Record{Kind: record.Stdout, Data: []byte(strings.Repeat("x", 40) + "\r\n")}, nil) &&
			yield(record.Record{Kind: record.Resize, Data: record.AppendSize(nil, 1<<31, 1<<31)}, nil) &&
			yield(record.Record{Kind: record.Resize, Data: record.AppendSize(nil, 0, 0)}, nil) &&
			yield(record.Record{Kind: record.Resize, Data: []byte("odd")}, nil) &&
			yield(record.Record{Kind: record.Stdout, Data: []byte("after\r\n")}, nil)
	}
	want := []string{"0 before", "0 " + strings.Repeat("x", 40), "0 after"}
	if got := shown(t, withTerminal, records); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestARecordingThatBreaksOffShowsWhatThereIs(t *testing.T) {
	broken := errors.New("broken")
	for _, h := range []record.Header{withTerminal, noTerminal} {
		var got []string
		var last error
		for l, err := range Lines(h, func(yield func(record.Record, error) bool) {
			_ = yield(record.Record{Kind: record.Stdout, Data: []byte("half a li")}, nil) && yield(record.Record{}, broken)
		}) {
			if got, last = append(got, l.Text), err; err != nil {
				break
			}
		}
		if !slices.Equal(got, []string{"half a li", ""}) || last != broken {
			t.Errorf("%q, %v", got, last)
		}
	}
}

func TestAReaderMayStopAtAnyLine(t *testing.T) {
	for _, h := range []record.Header{withTerminal, noTerminal} {
		n := 0
		for range Lines(h, played(record.Stdout, "1\r\n2\r\n3\r\n4", "5\r\n")) {
			if n++; n == 2 {
				break
			}
		}
		if n != 2 {
			t.Errorf("%d lines", n)
		}
	}
}

// TestNoiseAndFloodsEndInTime is about what a hostile program writes so that
// the reviewer's search never ends.
func TestNoiseAndFloodsEndInTime(t *testing.T) {
	const size = 1 << 20 / slowness
	noise := make([]byte, 10<<20/slowness)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(noise)
	for name, data := range map[string]string{
		"noise":  string(noise),
		"NUL":    strings.Repeat("\x00", size),
		"LF":     strings.Repeat("\n", size),
		"clear":  strings.Repeat("a\x1b[2J", size/5),
		"repeat": strings.Repeat("\x1b[9999b", size/7),
		"scroll": strings.Repeat("\x1b[99T", size/6),
		"marks":  strings.Repeat("\u0301", size/2),
		"alt":    strings.Repeat("\x1b[?47h\x1b[?47l", size/12),
	} {
		began := time.Now()
		h := record.Header{Term: "x", Columns: 132, Rows: 50}
		found := 0
		for l, err := range Lines(h, inPieces(data+"\r\x1b[Kneedle\r\n")) {
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(l.Text, "needle") {
				found++
			}
		}
		if found == 0 {
			t.Errorf("%s: the line after it was not found", name)
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("%s: it took %v", name, took)
		}
	}
}

func inPieces(s string) iter.Seq2[record.Record, error] {
	return func(yield func(record.Record, error) bool) {
		for p := range chunks([]byte(s), 32<<10) {
			if !yield(record.Record{Kind: record.Stdout, Data: p}, nil) {
				return
			}
		}
	}
}

// FuzzLines shows that no output makes the emulator panic, hang or give out
// what is no text.
func FuzzLines(f *testing.F) {
	for _, s := range []string{"\x1b[5;2r\n\n\n", "\x1b[?69h\x1b[2;3sabc\x1b[9P", "\x1b[?6h\x1b[9;9Hx\x1b8", "a\x1b[9999b", "\x1b#8\x1b[L\x1b[?1049h\x1bM", "\x0e\x1b)0q", "漢\x1b[D\x1b[P"} {
		f.Add([]byte(s), uint8(20), uint8(3))
	}
	f.Fuzz(func(t *testing.T, p []byte, columns, rows uint8) {
		s := newScreen(int(columns), int(rows), func(l Line) {
			if strings.ContainsFunc(l.Text, func(r rune) bool { return r < ' ' || 0x7f <= r && r < 0xa0 }) || len(l.Text) > 2*maxLine {
				t.Fatalf("%q gave %q", p, l.Text)
			}
		})
		defer s.close()
		for piece := range chunks(p, 16) {
			s.take(record.Record{Kind: record.Stdout, Data: piece})
			s.take(record.Record{Kind: record.Resize, Data: record.AppendSize(nil, uint32(rows), uint32(columns))})
		}
		s.end()
	})
}
