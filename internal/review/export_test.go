package review

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"postern/internal/record"
)

var update = flag.Bool("update", false, "write the golden files anew")

var vendors = record.Header{
	Session: "01998e4c-a000-7aaa-9d55-3b0f6f1b2a05", Channel: "0", Identity: "vendor", Endpoint: "vpce-0a1b2c3d4e5f60718",
	Client: "10.20.0.7:50122", Login: "hadoop", Target: "10.0.2.17:22", Address: "10.0.2.17:22", Rule: "cluster-shell", Kind: "shell",
	Term: "xterm-256color", Columns: 100, Rows: 30, Started: time.Date(2026, 11, 24, 6, 0, 0, 0, time.UTC),
}

// story has each kind of record, and bytes that are hard to keep.
func story(yield func(record.Record, error) bool) {
	for i, r := range []record.Record{
		{Kind: record.Request, Data: []byte("pty-req xterm-256color 100x30")},
		{Kind: record.Stdout, Data: []byte("$ \x1b[1mls\x1b[0m\r\n")},
		{Kind: record.Stdout, Data: []byte("price \xe2\x82")},
		{Kind: record.Stdout, Data: []byte("\xac <&> \u2028\r\n")},
		{Kind: record.Stderr, Data: []byte("warn\xff\r\n")},
		{Kind: record.Stdin, Data: []byte("q")},
		{Kind: record.Resize, Data: record.AppendSize(nil, 120, 40)},
		{Kind: record.Stdout, Data: []byte("caf\xe9\x00\r\n")},
		{Kind: record.Stdout, Data: []byte("\xf0\x9f\x8e")},
		{Kind: record.Exit, Data: []byte("SIG:TERM")},
	} {
		r.At = time.Duration(i) * 1000600 * time.Microsecond / 2
		if !yield(r, nil) {
			return
		}
	}
}

func exported(t *testing.T, f Format, h record.Header, records iter.Seq2[record.Record, error], stderr bool) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := Export(&out, f, h, records, stderr); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestExportsAreAsTheyWere(t *testing.T) {
	for _, f := range []Format{Cast2, Cast3, Text, Raw} {
		got := exported(t, f, vendors, story, false)
		name := filepath.Join("testdata", "story."+string(f))
		if *update {
			if err := os.WriteFile(name, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s, %v:\n%s\nwant\n%s", f, err, got, want)
		}
	}
}

// decode reads a cast back: the bytes of each code, and the time of the last event.
func decode(t *testing.T, cast []byte) (data map[string][]byte, end float64) {
	t.Helper()
	if !utf8.Valid(cast) {
		t.Fatal("the cast is not UTF-8")
	}
	lines := strings.Split(strings.TrimSuffix(string(cast), "\n"), "\n")
	var head struct{ Version int }
	if err := json.Unmarshal([]byte(lines[0]), &head); err != nil {
		t.Fatal(err)
	}
	data = map[string][]byte{}
	var before string
	var length int
	for _, l := range lines[1:] {
		var e [3]any
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			t.Fatalf("%v: %s", err, l)
		}
		at, code, text := e[0].(float64), e[1].(string), e[2].(string)
		if head.Version == 3 {
			end += at
		} else {
			end = at
		}
		if code == "b" { // instead of the event before
			exact, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			data[before] = append(data[before][:len(data[before])-length], exact...)
			continue
		}
		before, length = code, len(text)
		data[code] = append(data[code], text...)
	}
	return data, end
}

func TestRawIsTheBytesOfOneOutput(t *testing.T) {
	if got := string(exported(t, Raw, vendors, story, true)); got != "warn\xff\r\n" {
		t.Errorf("standard error: %q", got)
	}
	if got := string(exported(t, Raw, vendors, story, false)); !strings.HasSuffix(got, "caf\xe9\x00\r\n\xf0\x9f\x8e") {
		t.Errorf("standard output: %q", got)
	}
}

func TestStandardErrorOfAProgramWithoutATerminalHasItsOwnCode(t *testing.T) {
	for stderr, code := range map[bool]string{false: "e", true: "o"} {
		data, _ := decode(t, exported(t, Cast2, record.Header{}, played(record.Stderr, "warn\xff"), stderr))
		if string(data[code]) != "warn\xff" {
			t.Errorf("stderr %v: %q", stderr, data)
		}
	}
}

func TestIntervalsOfVersion3DoNotDrift(t *testing.T) {
	records := func(yield func(record.Record, error) bool) {
		for i := range 10000 {
			if !yield(record.Record{At: time.Duration(i) * 1400 * time.Microsecond, Kind: record.Stdout, Data: []byte("x")}, nil) {
				return
			}
		}
	}
	_, end := decode(t, exported(t, Cast3, vendors, records, false))
	if want := 9999 * 0.0014; end < want-0.001 || end > want+0.001 {
		t.Errorf("the last event is at %v s, want %v", end, want)
	}
}

func TestAnExportOfARecordingThatBreaksOffIsWhole(t *testing.T) {
	broken := errors.New("broken")
	for _, f := range []Format{Cast2, Cast3, Text, Raw} {
		var out bytes.Buffer
		err := Export(&out, f, vendors, func(yield func(record.Record, error) bool) {
			_ = yield(record.Record{Kind: record.Stdout, Data: []byte("half\xe2")}, nil) && yield(record.Record{}, broken)
		}, false)
		if !errors.Is(err, broken) || !strings.Contains(out.String(), "half") {
			t.Errorf("%s: %v, %q", f, err, out.String())
		}
	}
	if err := Export(&bytes.Buffer{}, "mp4", vendors, story, false); err == nil || !strings.Contains(err.Error(), `"mp4"`) {
		t.Error(err)
	}
	if err := Export(full{}, Raw, vendors, story, false); !errors.Is(err, errFull) {
		t.Error(err)
	}
}

var errFull = errors.New("disk full")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

// FuzzExport shows that casts keep every byte, wherever the records cut them.
func FuzzExport(f *testing.F) {
	for _, s := range []string{"a\xe2\x82\xac", "\xff\xfe", "\xf0\x9f\x8e", "\"\\\n\x00\u2028</script>", "\xe2\x82\xe2\x82\xac", "\xed\xa0\x80"} {
		f.Add([]byte(s), uint8(1))
	}
	f.Fuzz(func(t *testing.T, p []byte, cut uint8) {
		records := func(yield func(record.Record, error) bool) {
			for piece := range chunks(p, int(cut%5)+1) {
				if !yield(record.Record{Kind: record.Stdout, Data: piece}, nil) {
					return
				}
			}
		}
		for _, format := range []Format{Cast2, Cast3} {
			data, _ := decode(t, exported(t, format, vendors, records, false))
			if !bytes.Equal(data["o"], p) {
				t.Fatalf("%s of %q gives back %q", format, p, data["o"])
			}
		}
	})
}

// TestTheCastPlaysInAsciinema has the asciinema of Debian print an export.
// It wants a terminal, which script gives it.
func TestTheCastPlaysInAsciinema(t *testing.T) {
	for _, tool := range []string{"asciinema", "script"} {
		if _, err := exec.LookPath(tool); err == nil {
			continue
		}
		if ci, _ := strconv.ParseBool(os.Getenv("CI")); ci {
			t.Fatalf("%s is missing", tool)
		}
		t.Skipf("%s is missing: test/install-tools installs it", tool)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "story.cast"), exported(t, Cast2, vendors, story, false), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "script", "-qec", "asciinema cat story.cast > out", "/dev/null")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "HOME="+dir)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	out, err := os.ReadFile(filepath.Join(dir, "out"))
	if err != nil || !strings.Contains(string(out), "price € <&> \u2028\r\nwarn\ufffd\r\ncaf\ufffd\x00\r\n") {
		t.Errorf("%v: %q", err, out)
	}
}
