package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"postern/internal/durable"
)

const (
	// checkpointInterval is how old an event may be that no checkpoint covers.
	checkpointInterval = 10 * time.Second
	// checkpointGrace is how long signing may fail until Ready says so.
	checkpointGrace = time.Minute
	// wakeBytes of lines that are not hashed wake Run; at maxPending whoever
	// writes hashes them itself.
	wakeBytes  = 256 << 10
	maxPending = 8 << 20
	// maxUnsynced bounds the hashes that wait for a checkpoint, in bytes. At a
	// quarter of it a checkpoint is due; with so many the log can't be proven
	// any more and fails.
	maxUnsynced = 64 << 20
)

// ledger makes the tree over the log's lines and signs it. Locks are taken in
// the order in which they stand here.
type ledger struct {
	dir    string
	signer *keySigner
	old    *keySigner // signs the next checkpoint too; nil = none

	signing     sync.Mutex // one checkpoint at a time; guards what follows
	checkpoints *appendix
	hashes      *appendix
	newest      []byte // what the file checkpoint holds
	signed      Checkpoint

	covered atomic.Int64 // size of signed
	failing atomic.Int64 // since when no checkpoint could be made, Unix nanoseconds; 0 = none was needed

	hashing  sync.Mutex // guards what follows
	tree     tree
	unsynced []byte // hashes of tree that are behind those in hashes

	adding  sync.Mutex // guards what follows
	pending []byte     // durable lines that are not in tree
	spare   []byte     // room for the next pending
	wake    chan struct{}
}

// add takes lines, newlines included, that are durable.
func (g *ledger) add(lines []byte) {
	g.adding.Lock()
	g.pending = append(g.pending, lines...)
	size := len(g.pending)
	g.adding.Unlock()
	if size > wakeBytes {
		select {
		case g.wake <- struct{}{}:
		default:
		}
	}
	if size > maxPending {
		g.absorb()
	}
}

// absorb takes what add was given into the tree, and reports whether there are
// so many hashes that a checkpoint is due.
func (g *ledger) absorb() (due bool) {
	g.hashing.Lock()
	defer g.hashing.Unlock()
	g.adding.Lock()
	lines := g.pending
	g.pending, g.spare = g.spare[:0], nil
	g.adding.Unlock()

	for rest := lines; len(rest) > 0; {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		g.unsynced = g.tree.append(g.unsynced, line)
	}

	g.adding.Lock()
	g.spare = lines[:0]
	g.adding.Unlock()
	return len(g.unsynced) > maxUnsynced/4
}

// state is the tree as it stands, with the hashes that hashes.bin lacks.
func (g *ledger) state() (c Checkpoint, unsynced []byte) {
	g.hashing.Lock()
	defer g.hashing.Unlock()
	return Checkpoint{Origin: g.signer.Name(), Size: g.tree.size, Root: g.tree.root()}, g.unsynced[:len(g.unsynced):len(g.unsynced)]
}

// checkpoint signs what the log holds if that is more than was signed last, and
// returns the newest checkpoint. What it signs is durable, lines and hashes;
// when it returns so is the checkpoint.
func (g *ledger) checkpoint() (Checkpoint, error) {
	g.signing.Lock()
	defer g.signing.Unlock()
	g.absorb()
	c, unsynced := g.state()
	if c.Size == g.signed.Size && g.old == nil {
		return g.signed, nil
	}
	// As long as it is under way it has not been made: the disk may hang.
	g.failing.CompareAndSwap(0, time.Now().UnixNano())
	if err := g.sign(c, unsynced); err != nil {
		return g.signed, fmt.Errorf("sign the audit log: %w", err)
	}
	g.signed, g.old = c, nil
	g.covered.Store(c.Size)
	g.failing.Store(0)
	return c, nil
}

func (g *ledger) sign(c Checkpoint, unsynced []byte) error {
	if err := g.hashes.append(unsynced); err != nil {
		return err
	}
	g.hashing.Lock()
	g.unsynced = append([]byte(nil), g.unsynced[len(unsynced):]...)
	g.hashing.Unlock()

	signers := []note.Signer{g.signer}
	if g.old != nil {
		signers = append(signers, g.old)
	}
	signed, err := note.Sign(&note.Note{Text: c.String()}, signers...)
	if err != nil {
		return err
	}
	if err := g.checkpoints.append(append(signed[:len(signed):len(signed)], '\n')); err != nil {
		return err
	}
	path := filepath.Join(g.dir, checkpointFile)
	if held, err := os.ReadFile(path); err != nil || !bytes.Equal(held, g.newest) {
		return fmt.Errorf("%w: %s is not what was written there", errTampered, path)
	}
	if err := durable.WriteFile(path, signed, 0o640); err != nil {
		return err
	}
	g.newest = signed
	return nil
}

// overdue is why the log can't be proven any more, nil while it can.
func (g *ledger) overdue() error {
	g.hashing.Lock()
	defer g.hashing.Unlock()
	if len(g.unsynced) > maxUnsynced {
		return errors.New("the audit log can't be signed, and holds too much that is not")
	}
	return nil
}

// ready fails once signing has failed, or hung, for some time. It waits for
// nobody.
func (g *ledger) ready() error {
	failing := g.failing.Load()
	if failing == 0 || time.Since(time.Unix(0, failing)) < checkpointGrace {
		return nil
	}
	return fmt.Errorf("no checkpoint of the audit log could be written since %s", time.Unix(0, failing).UTC().Format(time.RFC3339))
}

func (g *ledger) close() error {
	g.signing.Lock()
	defer g.signing.Unlock()
	return errors.Join(g.hashes.file.Close(), g.checkpoints.file.Close())
}

// appendix is a file beside the segments that only grows. When a write or sync
// fails it goes on in a new file: what the old one holds of the last bytes, and
// would say of another sync, is not to be believed.
type appendix struct {
	path string
	open openFile
	file file
	info os.FileInfo // which file it is
	size int64       // bytes that are durable
}

// openAppendix opens the file at path, which holds size bytes that are durable,
// or makes it.
func openAppendix(open openFile, path string, size int64) (*appendix, error) {
	f, err := open(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW, 0o640)
	if err != nil {
		return nil, err
	}
	a := &appendix{path: path, open: open, file: f, size: size}
	if err := a.settle(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return a, nil
}

func (a *appendix) settle() error {
	if err := a.file.Chmod(0o640); err != nil {
		return err
	}
	var err error
	if a.info, err = a.file.Stat(); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(a.path))
}

// append returns nil once b is durable.
func (a *appendix) append(b []byte) error {
	if err := a.present(0); err != nil {
		return err
	}
	if len(b) == 0 {
		return nil
	}
	_, err := a.file.Write(b)
	if err == nil {
		err = a.file.Sync()
	}
	if err != nil {
		return a.renew(b, err)
	}
	if err := a.present(int64(len(b))); err != nil {
		return err
	}
	a.size += int64(len(b))
	return nil
}

// present fails unless the file is where it was made and as long as it was
// written, with more bytes.
func (a *appendix) present(more int64) error {
	info, err := os.Lstat(a.path)
	if err != nil {
		return fmt.Errorf("%w: %w", errTampered, err)
	}
	if !os.SameFile(info, a.info) || info.Size() != a.size+more {
		return fmt.Errorf("%w: %s is another file, or not as long as it was written", errTampered, a.path)
	}
	return nil
}

// renew writes what is durable and b to a new file and puts that in the place
// of the one that cause made useless.
func (a *appendix) renew(b []byte, cause error) error {
	kept := make([]byte, a.size)
	if err := readFull(a.path, kept); err != nil {
		return errors.Join(cause, err)
	}
	path := a.path + ".new"
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return errors.Join(cause, err)
	}
	f, err := a.open(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o640)
	if err != nil {
		return errors.Join(cause, err)
	}
	next := &appendix{path: a.path, open: a.open, file: f, size: a.size + int64(len(b))}
	if err := next.replace(path, kept, b); err != nil {
		// What failed may be in the file; the next try is to find it as it was.
		return errors.Join(cause, err, f.Close(), os.Remove(path), os.Truncate(a.path, a.size))
	}
	_ = a.file.Close() // it is given up
	*a = *next
	return nil
}

func (a *appendix) replace(tmp string, kept, b []byte) error {
	if _, err := a.file.Write(append(kept, b...)); err != nil {
		return err
	}
	if err := a.file.Sync(); err != nil {
		return err
	}
	if err := os.Rename(tmp, a.path); err != nil {
		return err
	}
	return a.settle()
}

func readFull(path string, b []byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.ReadAt(b, 0)
	return err
}

// append adds a line to the tree, and to stored the hashes that hashes.bin gets
// for it.
func (t *tree) append(stored, line []byte) []byte {
	return t.appendLeaf(stored, tlog.RecordHash(line))
}

func (t *tree) appendLeaf(stored []byte, leaf tlog.Hash) []byte {
	t.add(leaf)
	for i := range t.fresh {
		stored = append(stored, t.fresh[i][:]...)
	}
	return stored
}
