package record

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"postern/internal/durable"
)

// ErrSpace says that less than Options.MinFree is free where recordings go, or
// that the disk filled up under one.
var ErrSpace = errors.New("no space for recordings")

// Options configure a Store. The zero value records nothing: Open refuses it.
type Options struct {
	Dir        string          // made with mode 0750 where missing
	Recipients []age.Recipient // recordings are sealed to them; nil = readable
	Names      []string        // of the Recipients, for headers
	MinFree    int64           // bytes that must be free to begin a recording
}

// Store is a directory of recordings. It is safe for concurrent use.
type Store struct {
	opt     Options
	buffers buffers
	zstd    *zstd.Encoder // EncodeAll alone is used: it is safe for concurrent use
	queue   queue
}

// Open checks the directory and recipients and returns the Store; Run must be
// running while recordings are written. Recordings that are there stay as they
// are.
func Open(o Options) (*Store, error) {
	if o.Dir == "" {
		return nil, errors.New("open recordings: no directory is named")
	}
	if len(o.Names) != 0 && len(o.Names) != len(o.Recipients) {
		return nil, fmt.Errorf("open recordings: %d names for %d recipients", len(o.Names), len(o.Recipients))
	}
	if len(o.Recipients) > 0 {
		// Some recipients cannot be combined; better to hear of it now.
		if _, _, err := newFileKey(o.Recipients); err != nil {
			return nil, fmt.Errorf("open recordings: %w", err)
		}
	}
	if err := durable.MkdirAll(o.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("open recordings: %w", err)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2),
		zstd.WithWindowSize(128<<10), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("open recordings: %w", err)
	}
	s := &Store{opt: o, zstd: enc, queue: newQueue()}
	if err := unix.Access(o.Dir, unix.W_OK|unix.X_OK); err != nil {
		return nil, fmt.Errorf("open recordings: write to %s: %w", o.Dir, err)
	}
	return s, nil
}

// Ready is nil while a recording can begin: the directory can be written to
// and MinFree bytes are free there. Its error wraps ErrSpace where they aren't.
func (s *Store) Ready() error {
	if err := unix.Access(s.opt.Dir, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("recordings: write to %s: %w", s.opt.Dir, err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(s.opt.Dir, &st); err != nil {
		return fmt.Errorf("recordings: free space of %s: %w", s.opt.Dir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < s.opt.MinFree {
		return fmt.Errorf("%w: %d bytes are free in %s, %d must be", ErrSpace, free, s.opt.Dir, s.opt.MinFree)
	}
	return nil
}

// Create begins a recording and makes its header durable. The id is unique in
// the Store where session IDs are, and begins with the session and channel.
// The file is locked (flock) until Close, so that a reader can tell a recording
// that runs from one that broke off.
func (s *Store) Create(h Header, e Events) (*Writer, error) {
	if err := s.Ready(); err != nil {
		return nil, err
	}
	now := time.Now()
	if h.Started.IsZero() {
		h.Started = now
	}
	offset := max(0, now.Sub(h.Started))
	h.Started = h.Started.UTC()
	key, err := s.complete(&h)
	if err != nil {
		return nil, fmt.Errorf("begin recording: %w", err)
	}
	f, id, err := s.createFile(h)
	if err != nil {
		return nil, fmt.Errorf("begin recording: %w", err)
	}
	w := &Writer{store: s, file: f, id: id, events: e, began: now, offset: offset, statedAt: now}
	if err := w.begin(h, key); err != nil {
		return nil, errors.Join(fmt.Errorf("begin recording %s: %w", id, err), os.Remove(f.Name()), f.Close())
	}
	return w, nil
}

// complete fills in what the store knows of a header, and returns the file key
// of a recording that will be sealed.
func (s *Store) complete(h *Header) (key []byte, err error) {
	h.CommandRaw, h.Sealed, h.Recipients, h.SealedKey = nil, false, nil, nil
	if !utf8.ValidString(h.Command) {
		h.CommandRaw = []byte(h.Command) // JSON would replace what is not UTF-8
	}
	if len(s.opt.Recipients) == 0 {
		return nil, nil
	}
	h.Sealed, h.Recipients = true, s.opt.Names
	key, h.SealedKey, err = newFileKey(s.opt.Recipients)
	return key, err
}

// createFile makes the file of a recording, under a name that was free.
func (s *Store) createFile(h Header) (f *os.File, id string, err error) {
	if !isName(h.Session) || !isName(h.Channel) {
		return nil, "", fmt.Errorf("session %q or channel %q cannot be part of a file name", h.Session, h.Channel)
	}
	dir := filepath.Join(s.opt.Dir, h.Started.Format("2006/01/02"))
	if err := durable.MkdirAll(dir, 0o750); err != nil {
		return nil, "", err
	}
	for n := 1; n < 1000; n++ {
		id = h.Session + "-" + h.Channel
		if n > 1 {
			id += "." + strconv.Itoa(n)
		}
		f, err = os.OpenFile(filepath.Join(dir, "rec-"+id+suffix), os.O_RDWR|os.O_CREATE|os.O_EXCL, begunMode)
		if !errors.Is(err, fs.ErrExist) {
			return f, id, err
		}
	}
	return nil, "", err
}

const suffix = ".prec"

func isName(s string) bool {
	return len(s) <= 128 && regexp.MustCompile(`^[A-Za-z0-9_-]+$`).MatchString(s)
}

// prefix is a file up to its first block of records.
func prefix(h Header) ([]byte, error) {
	text, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if len(text) > maxHeader {
		return nil, fmt.Errorf("header: %d bytes are more than %d", len(text), maxHeader)
	}
	b := make([]byte, len(magic)+blockHeaderLen, len(magic)+blockHeaderLen+len(text))
	copy(b, magic)
	head := blockHeader{kind: headerBlock, length: uint32(len(text)), raw: uint32(len(text))}
	head.put(b[len(magic):])
	b = append(b, text...)
	finish(b[len(magic):])
	return b, nil
}

// begin writes the header and makes it and the file's name durable.
func (w *Writer) begin(h Header, key []byte) error {
	b, err := prefix(h)
	if err != nil {
		return err
	}
	w.prefix = sha256.Sum256(b)
	if key != nil {
		if w.sealer, err = newSealer(key, w.prefix); err != nil {
			return err
		}
	}
	w.sum = sha256.New()
	// A file system without locks loses only the difference between a
	// recording that runs and one that broke off.
	unix.Flock(int(w.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	// Readers come in only now: one that looked for the lock would have kept
	// the writer from having it.
	if err := w.file.Chmod(writtenMode); err != nil {
		return err
	}
	w.dirty = true // so that Run does not hear of the writer before it is whole
	if err := w.put(b, reserveStep); err != nil || w.failure != nil {
		return w.failure
	}
	if err := w.file.Sync(); err != nil {
		return err
	}
	w.dirty = false
	if err := durable.SyncDir(filepath.Dir(w.file.Name())); err != nil {
		return err
	}
	w.store.queue.syncLater(w) // the header wants to be stated too
	return nil
}

// buffers are shared by a store's writers, so that an idle one holds none.
type buffers struct{ small, large sync.Pool }

const (
	smallBuffer = 4 << 10
	largeBuffer = fullBlock + maxPiece + recordHead
)

// buffer is a slice in a pool.
type buffer struct{ b []byte }

// get returns an empty buffer that holds n bytes at least.
func (p *buffers) get(n int) *buffer {
	if n <= smallBuffer {
		if b, ok := p.small.Get().(*buffer); ok {
			return b
		}
		return &buffer{make([]byte, 0, smallBuffer)}
	}
	if b, ok := p.large.Get().(*buffer); ok && cap(b.b) >= n {
		return b
	}
	return &buffer{make([]byte, 0, max(n, largeBuffer))}
}

// give takes b back. One that grew for a giant record is left to the collector.
func (p *buffers) give(b *buffer) {
	b.b = b.b[:0]
	switch n := cap(b.b); {
	case n < largeBuffer:
		p.small.Put(b)
	case n <= 2*largeBuffer:
		p.large.Put(b)
	}
}
