package audit

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Why Open refuses a log that was signed; all of them are ErrDamaged.
var (
	// ErrTruncated: it holds fewer events than its newest checkpoint says.
	ErrTruncated = fmt.Errorf("%w: events are missing", ErrDamaged)
	// ErrRewritten: its lines don't make the root that its newest checkpoint says.
	ErrRewritten = fmt.Errorf("%w: events were changed", ErrDamaged)
	// ErrRolledBack: an anchor, stored off the host, is not of this log or newer.
	ErrRolledBack = fmt.Errorf("%w: it is not the log that was anchored", ErrDamaged)
	// ErrUnsigned: its checkpoint is missing, bad, or signed by nobody known.
	ErrUnsigned = fmt.Errorf("%w: what signs it is not as it was left", ErrDamaged)
	// ErrEpoch: an epoch was put aside and the next one not begun.
	ErrEpoch = fmt.Errorf("%w: a new epoch was not begun", ErrDamaged)
)

// claim is what the files beside the segments say of a log.
type claim struct {
	origin string     // "" = the log was never signed
	newest Checkpoint // of checkpoint and checkpoints.log
	signed []byte     // the same, as it was signed
	signer string     // the verifier key of one who did
	stale  bool       // checkpoint is behind checkpoints.log
	whole  int64      // bytes of checkpoints.log that are whole
	torn   bool       // and there are more
	own    string     // the verifier key of the log's key
	keys   []string   // of audit.vkey
}

// readClaim reads and verifies what is claimed of the log in dir. A crash
// explains a checkpoint that is one behind and a torn end of checkpoints.log,
// and of a log's first files that the later ones are missing.
func readClaim(dir string, key crypto.Signer) (*claim, error) {
	signed, err := os.ReadFile(filepath.Join(dir, checkpointFile))
	if errors.Is(err, fs.ErrNotExist) {
		return &claim{}, checkNeverSigned(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("read the newest checkpoint: %w", err)
	}
	if key == nil {
		return nil, fmt.Errorf("the audit log in %s is signed, and there is no key to sign it on", dir)
	}
	c := &claim{signed: signed}
	c.origin, _, _ = strings.Cut(string(signed), "\n")
	keys, err := c.readKeys(dir, key)
	if err != nil {
		return nil, err
	}
	if c.newest, c.signer, err = c.open(signed, keys); err != nil {
		return nil, refuse(ErrUnsigned, filepath.Join(dir, checkpointFile), err)
	}
	return c, c.readCheckpoints(dir, keys)
}

// checkNeverSigned refuses what is left of a signed log without its checkpoint.
func checkNeverSigned(dir string) error {
	for _, name := range []string{checkpointsFile, keysFile, hashesFile} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look for a checkpoint: %w", err)
		}
		if info.Size() > 0 {
			return refuse(ErrUnsigned, filepath.Join(dir, checkpointFile), fmt.Errorf("it is missing, and %s is there", name))
		}
	}
	return nil
}

// readKeys returns the keys whose signatures count: those of audit.vkey, and
// the log's own.
func (c *claim) readKeys(dir string, key crypto.Signer) (map[string]note.Verifier, error) {
	if _, _, _, err := splitOrigin(c.origin); err != nil {
		return nil, refuse(ErrUnsigned, filepath.Join(dir, checkpointFile), err)
	}
	own, err := newKeySigner(c.origin, key)
	if err != nil {
		return nil, err
	}
	c.own = own.vkey
	keys := map[string]note.Verifier{own.vkey: own.Verifier}
	data, err := os.ReadFile(filepath.Join(dir, keysFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the keys of the audit log: %w", err)
	}
	for _, vkey := range keyLines(data) {
		verifier, err := note.NewVerifier(vkey)
		if err != nil {
			return nil, refuse(ErrUnsigned, filepath.Join(dir, keysFile), err)
		}
		keys[vkey] = verifier
		c.keys = append(c.keys, vkey)
	}
	return keys, nil
}

// open verifies a checkpoint and returns a key that signed it, the log's own if
// it did.
func (c *claim) open(signed []byte, keys map[string]note.Verifier) (Checkpoint, string, error) {
	var list []note.Verifier
	for _, v := range keys {
		list = append(list, v)
	}
	checkpoint, n, err := OpenCheckpoint(signed, note.VerifierList(list...))
	if err != nil {
		return Checkpoint{}, "", err
	}
	if checkpoint.Origin != c.origin {
		return Checkpoint{}, "", fmt.Errorf("it is of the log %s, not %s", checkpoint.Origin, c.origin)
	}
	if signedBy(n, keys[c.own]) {
		return checkpoint, c.own, nil
	}
	for vkey, v := range keys {
		if signedBy(n, v) {
			return checkpoint, vkey, nil
		}
	}
	return Checkpoint{}, "", errors.New("nobody known signed it") // note.Open sees to that
}

func signedBy(n *note.Note, key note.Verifier) bool {
	return slices.ContainsFunc(n.Sigs, func(s note.Signature) bool { return s.Name == key.Name() && s.Hash == key.KeyHash() })
}

// checkpointsTail is what is read of checkpoints.log to find its end, in bytes.
const checkpointsTail = 64 << 10

// readCheckpoints finds the last whole entry of checkpoints.log and takes it if
// a crash kept it from becoming the checkpoint.
func (c *claim) readCheckpoints(dir string, keys map[string]note.Verifier) error {
	path := filepath.Join(dir, checkpointsFile)
	tail, size, err := readTail(path, checkpointsTail)
	if err != nil {
		return fmt.Errorf("read the signed checkpoints: %w", err)
	}
	if size > int64(len(tail)) { // the first one is not whole
		_, after, _ := bytes.Cut(tail, []byte("\n\n"+c.origin+"\n"))
		tail = tail[len(tail)-len(after):]
		tail = append([]byte(c.origin+"\n"), tail...)
	}
	var last []byte
	for signed, rest, ok := CutCheckpoint(tail); ok; signed, rest, ok = CutCheckpoint(tail) {
		last, tail = signed, rest
	}
	c.whole, c.torn = size-int64(len(tail)), len(tail) > 0
	if last == nil {
		return c.checkFirst(dir)
	}
	newest, signer, err := c.open(last, keys)
	if err != nil {
		return refuse(ErrUnsigned, path, fmt.Errorf("its last entry: %w", err))
	}
	if newest.Size < c.newest.Size || newest.Size == c.newest.Size && newest.Root != c.newest.Root {
		return refuse(ErrUnsigned, path, fmt.Errorf("its last entry is not the checkpoint of %d events that stands beside it", c.newest.Size))
	}
	if newest.Size > c.newest.Size {
		c.newest, c.signed, c.signer, c.stale = newest, last, signer, true
	}
	return nil
}

// checkFirst refuses a log that has a checkpoint and no entry of it, unless
// it is the very first and a crash came between the two.
func (c *claim) checkFirst(dir string) error {
	c.whole = 0
	if c.newest.Size == 0 && len(c.keys) == 0 {
		return nil
	}
	return refuse(ErrUnsigned, filepath.Join(dir, checkpointsFile), errors.New("it has no checkpoint"))
}

// readTail reads the last bytes of a file, at most limit. A missing one is empty.
func readTail(path string, limit int64) (tail []byte, size int64, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	if size, err = f.Seek(0, io.SeekEnd); err != nil {
		return nil, 0, err
	}
	tail = make([]byte, min(size, limit))
	_, err = f.ReadAt(tail, size-int64(len(tail)))
	return tail, size, err
}

// refuse says why a log is not opened and what to do.
func refuse(why error, path string, err error) error {
	return fmt.Errorf("%w: %s: %w; %s", why, path, err, nothingChanged)
}

const nothingChanged = "nothing was changed: keep the directory as evidence, find out who wrote to it, and put it aside with a new epoch"
