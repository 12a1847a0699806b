package archive

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/test/s3server"
)

// store is an archive on a real server, with the backlog that a test gives it.
type store struct {
	*Archive
	server *s3server.Server
	dir    string
	items  []Item
	passes []Status
}

// newStore opens an archive in a bucket of its own, whose objects have a
// retention of their own.
func newStore(t *testing.T) *store {
	t.Helper()
	return openStore(t, s3server.Start(t), Options{Retention: 48 * time.Hour, RetentionMode: "compliance"})
}

func openStore(t *testing.T, server *s3server.Server, o Options) *store {
	t.Helper()
	for _, v := range server.Env() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	s := &store{server: server, dir: t.TempDir()}
	o.Bucket, o.Prefix, o.Ledger = server.Bucket, "gates/a", filepath.Join(s.dir, "state", "ledger")
	o.Backlog = func() ([]Item, error) { return s.items, nil }
	o.Changed = func(st Status) { s.passes = append(s.passes, st) }
	s.reopen(t, o)
	t.Cleanup(func() { s.Close() })
	return s
}

// reopen starts anew with what the ledger says.
func (s *store) reopen(t *testing.T, o Options) {
	t.Helper()
	if s.Archive != nil {
		s.Close()
	}
	a, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	s.Archive = a
}

// anchors adds n small items to the backlog.
func (s *store) anchors(n int) {
	for range n {
		i := len(s.items)
		s.items = append(s.items, Item{Key: anchorKey(int64(i)), Data: fmt.Appendf(nil, "checkpoint %d", i), Since: time.Now()})
	}
}

func anchorKey(i int64) string { return numbered("checkpoints/gate/", i) }

// file adds a file of size random bytes to the backlog, and returns its path
// and content.
func (s *store) file(t *testing.T, key string, size int) (string, []byte) {
	t.Helper()
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size)}).Read(data)
	path := filepath.Join(s.dir, strings.ReplaceAll(key, "/", "-"))
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s.items = append(s.items, Item{Key: key, Path: path, Size: -1, Since: time.Now()})
	return path, data
}

// last is how the archive stood after the last pass.
func (s *store) last() Status { return s.passes[len(s.passes)-1] }

// keys are those of all objects, in order.
func (s *store) keys(t *testing.T) (keys []string) {
	t.Helper()
	for o, err := range s.List(context.WithoutCancel(t.Context()), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

func (s *store) wantGet(t *testing.T, key string, want []byte) {
	t.Helper()
	var got bytes.Buffer
	if err := s.Get(t.Context(), key, &got); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s: got %d bytes that are not the %d that were put", key, got.Len(), len(want))
	}
}

func TestWhatIsCopiedIsListedAndReadBack(t *testing.T) {
	s := newStore(t)
	s.anchors(3)
	_, recording := s.file(t, "recordings/2026/a", 100_000)
	if s.Holds(anchorKey(0)) {
		t.Error("an empty archive holds a key")
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := s.last(); st.Copied != 4 || st.Files != 0 || st.Reason != "" {
		t.Errorf("got %+v", st)
	}
	if !s.Holds(anchorKey(0)) {
		t.Error("the ledger does not know what was copied")
	}
	want := anchorKey(0) + " " + anchorKey(1) + " " + anchorKey(2) + " recordings/2026/a"
	if got := strings.Join(s.keys(t), " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	s.wantGet(t, anchorKey(1), []byte("checkpoint 1"))
	s.wantGet(t, "recordings/2026/a", recording)
}
