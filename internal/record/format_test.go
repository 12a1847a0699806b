package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"
)

const doc = "../../docs/recording-format.md"

// vector returns a recording that is in the document, as hexadecimal.
func vector(t *testing.T, text, name string) []byte {
	t.Helper()
	m := regexp.MustCompile("(?s)```hex " + name + "\n(.*?)```").FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("%s has no recording %q", doc, name)
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(m[1]), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTheRecordingsInTheDocumentReadAsItSays(t *testing.T) {
	text := string(fileBytes(t, doc))
	id, err := age.ParseX25519Identity(regexp.MustCompile("AGE-SECRET-KEY-1[A-Z0-9]+").FindString(text))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range regexp.MustCompile("(?m)^\\| (\\d+) \\| (\\d) \\| `([0-9a-f]*)` \\|$").FindAllStringSubmatch(text, -1) {
		want = append(want, strings.Join(m[1:], " "))
	}
	sums := regexp.MustCompile("SHA-256 `([0-9a-f]{64})`").FindAllStringSubmatch(text, -1)
	if len(want) != 7 || len(sums) != 2 {
		t.Fatalf("%s lists %d records and %d hashes", doc, len(want), len(sums))
	}
	for i, name := range []string{"plain", "sealed"} {
		file := vector(t, text, name)
		if sum := sha256.Sum256(file); hex.EncodeToString(sum[:]) != sums[i][1] {
			t.Errorf("%s: the hash is %x; the document says %s", name, sum, sums[i][1])
		}
		r, err := Read(bytes.NewReader(file), id)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for rec, err := range r.Records() {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%d %d %x", rec.At, rec.Kind, rec.Data))
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s: read\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if end, ok := r.End(); !ok || !end.Complete || end.Stdout != 90 || end.Stderr != 90 || r.Header().Sealed != (name == "sealed") {
			t.Errorf("%s: the end is %+v, %v", name, end, ok)
		}
		r.Close()
	}
}

// What is written is what the document specifies, up to the compressors, whose
// output may differ between their versions.
func TestTheRecordingInTheDocumentIsWhatIsWritten(t *testing.T) {
	want := vector(t, string(fileBytes(t, doc)), "plain")
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{})
		h, err := ReadHeader(bytes.NewReader(want))
		if err != nil {
			t.Fatal(err)
		}
		w, err := s.Create(h, Events{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(250 * time.Millisecond)
		for _, text := range []string{"shell", "gr\xc3", "\xbc\xc3\x9fe\xff\r\n"} {
			kind := Stdout
			if text == "shell" {
				kind = Request
			}
			write(t, w, kind, []byte(text))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		got := fileBytes(t, w.Path())
		if !bytes.Equal(got, want[:len(got)]) || len(got) != 401 {
			t.Errorf("the file is\n%x\nwant it to begin\n%x", got, want)
		}
		finished(t, w)
	})
}

func TestTheLimitsInTheDocumentAreThoseOfTheReader(t *testing.T) {
	text := string(fileBytes(t, doc))
	for _, want := range []string{"at most 1,245,184;", "at most 1,179,648 |", "112 KiB"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s does not say %q", doc, want)
		}
	}
	if maxStored != 1_245_184 || maxPayload != 1_179_648 || reserveEnd != 112<<10 {
		t.Errorf("the limits are %d, %d, %d", maxStored, maxPayload, reserveEnd)
	}
}

func TestLongRecordsAreSplitAndRequestsAreNot(t *testing.T) {
	w := create(t, open(t, Options{}), Events{})
	long := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	write(t, w, Request, long[:maxRecord])
	write(t, w, Stdin, long)
	write(t, w, Exit, long)
	sum := finished(t, w)
	r, err := OpenFile(sum.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if rec, err := r.Next(); err != nil || rec.Kind != Request || !bytes.Equal(rec.Data, long[:maxRecord]) {
		t.Errorf("the first record has %d bytes, %v; want the request whole", len(rec.Data), err)
	}
	f, err := os.Open(sum.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := readAll(f)
	if err != nil || !bytes.Equal(got[Stdin], long) || !bytes.Equal(got[Exit], long) {
		t.Errorf("%d and %d bytes came back, %v", len(got[Stdin]), len(got[Exit]), err)
	}
}

func TestARecordThatOverflowsIsRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing":        {},
		"a kind alone":   {1},
		"no length":      {1, 0},
		"short":          {1, 0, 5, 'a'},
		"an endless int": append([]byte{1}, bytes.Repeat([]byte{0xff}, 11)...),
		"a huge length":  append([]byte{1, 0}, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
		"a huge time":    append([]byte{1}, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0),
	} {
		if k, since, data, _, err := cutRecord(b); err == nil {
			t.Errorf("%s: read %d, %v, %q", name, k, since, data)
		}
	}
	b := appendRecord(nil, Exit, math.MaxInt64, []byte("0"))
	if k, since, data, rest, err := cutRecord(append(b, 9)); err != nil || k != Exit || since != math.MaxInt64 || string(data) != "0" || len(rest) != 1 {
		t.Errorf("read back %d, %v, %q, %d bytes of rest, %v", k, since, data, len(rest), err)
	}
}
