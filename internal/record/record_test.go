package record

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open returns a store in a directory of its own, with Run running.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

var testHeader = Header{Session: "01890a5d-ac96-774b-bcce-b302099a8057", Channel: "0", Identity: "alice",
	Login: "hadoop", Target: "10.0.2.17:22", Address: "10.0.2.17:22", Rule: "cluster", Kind: "shell",
	Client: Client(netip.MustParseAddrPort("10.20.0.9:51123"))}

func create(t testing.TB, s *Store, e Events) *Writer {
	t.Helper()
	w, err := s.Create(testHeader, e)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func write(t testing.TB, w *Writer, k Kind, p []byte) {
	t.Helper()
	if err := w.Write(k, p); err != nil {
		t.Fatal(err)
	}
}

func finished(t testing.TB, w *Writer) Summary {
	t.Helper()
	s, err := w.Close(true)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// readAll returns the bytes of each kind, and the error that ended the reading.
func readAll(in io.Reader, ids ...age.Identity) (map[Kind][]byte, error) {
	r, err := Read(in, ids...)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	got := map[Kind][]byte{}
	for rec, err := range r.Records() {
		if err != nil {
			return got, err
		}
		got[rec.Kind] = append(got[rec.Kind], rec.Data...)
	}
	return got, nil
}

func fileBytes(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func identity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestWhatIsReadBackIsByteForByteWhatWasWritten(t *testing.T) {
	pieces := [][]byte{[]byte("gr\xc3"), []byte("\xbc\xc3\x9fe"), []byte("Latin-1: \xe4\xf6\xfc\r\n"), make([]byte, 200_000), noise(300_000), {},
		bytes.Repeat([]byte("\x1b[31mred\x1b[0m\r\n"), 20_000)}
	id := identity(t)
	for name, o := range map[string]Options{"plain": {}, "sealed": {Recipients: []age.Recipient{id.Recipient()}}} {
		t.Run(name, func(t *testing.T) {
			w := create(t, open(t, o), Events{})
			var want bytes.Buffer
			for _, p := range pieces {
				write(t, w, Stdout, p)
				write(t, w, Stderr, p[:len(p)/2])
				want.Write(p)
			}
			write(t, w, Resize, AppendSize(nil, 80, 24))
			write(t, w, Exit, []byte("0"))
			sum := finished(t, w)
			got, err := readAll(bytes.NewReader(fileBytes(t, sum.Path)), id)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got[Stdout], want.Bytes()) || string(got[Exit]) != "0" {
				t.Errorf("%d bytes came back that differ from the %d written", len(got[Stdout]), want.Len())
			}
			if c, r, ok := ParseSize(got[Resize]); !ok || c != 80 || r != 24 {
				t.Errorf("size is %d x %d, %v; want 80 x 24", c, r, ok)
			}
			if sum.Stdout != int64(want.Len()) || sum.Stderr != int64(len(got[Stderr])) || !sum.Complete {
				t.Errorf("summary is %+v", sum)
			}
		})
	}
}

func TestTheFinalHashIsThatOfTheFile(t *testing.T) {
	w := create(t, open(t, Options{}), Events{})
	write(t, w, Stdout, bytes.Repeat([]byte("0123456789"), 30_000))
	sum := finished(t, w)
	file := fileBytes(t, sum.Path)
	hash := sha256.Sum256(file)
	if sum.SHA256 != hex.EncodeToString(hash[:]) || sum.Size != int64(len(file)) {
		t.Errorf("summary says %s of %d bytes, the file has %x of %d", sum.SHA256, sum.Size, hash, len(file))
	}
	again, err := w.Close(true)
	if err != nil || again != sum {
		t.Errorf("a second Close gives %+v, %v; want the same again", again, err)
	}
	if err := w.Write(Stdout, []byte("late")); !errors.Is(err, ErrClosed) {
		t.Errorf("a write after Close gives %v; want ErrClosed", err)
	}
	if filepath.Base(sum.Path) != "rec-"+sum.ID+".prec" {
		t.Errorf("the file of %s is %s", sum.ID, sum.Path)
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func TestAHundredMebibytesOfEverythingComeBack(t *testing.T) {
	w := create(t, open(t, Options{}), Events{})
	want, size := sha256.New(), 0
	all := inputs()
	for size < 100<<20 {
		for _, in := range [][]byte{all["text"], all["random"], all["nul"][:1<<19]} {
			for at := 0; at < len(in); at += 29_999 {
				piece := in[at:min(at+29_999, len(in))]
				write(t, w, Stdout, piece)
				want.Write(piece)
				size += len(piece)
			}
		}
	}
	sum := finished(t, w)
	r, err := OpenFile(sum.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := sha256.New()
	for rec, err := range r.Records() {
		if err != nil {
			t.Fatal(err)
		}
		got.Write(rec.Data)
	}
	if !bytes.Equal(got.Sum(nil), want.Sum(nil)) || sum.Stdout != int64(size) {
		t.Errorf("what came back differs from the %d bytes written; the summary says %d", size, sum.Stdout)
	}
}

// breakFile closes a writer's file under it: what it writes next fails.
func breakFile(w *Writer) {
	w.syncing.Lock()
	defer w.syncing.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.file.Close()
}
