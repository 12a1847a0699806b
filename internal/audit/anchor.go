package audit

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// anchor is a checkpoint that was stored off the host, and that a key of ours
// signed under the name that it bears.
type anchor struct {
	Checkpoint
	signed         []byte
	host, instance string
	epoch          int64
}

// anchored returns those of the checkpoints that are anchors, the newest last.
// Others are passed over: anybody who may write to the archive could put them
// there.
func (l *Log) anchored(checkpoints [][]byte) ([]anchor, error) {
	if len(checkpoints) == 0 {
		return nil, nil
	}
	keys, err := l.publicKeys()
	if err != nil {
		return nil, err
	}
	var found []anchor
	for _, signed := range checkpoints {
		if a, err := openAnchor(signed, keys); err == nil {
			found = append(found, a)
		}
	}
	slices.SortStableFunc(found, func(a, b anchor) int {
		return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.Size, b.Size))
	})
	return found, nil
}

func openAnchor(signed []byte, keys []ed25519.PublicKey) (anchor, error) {
	a := anchor{signed: bytes.Clone(signed)}
	claimed, err := parseSigned(signed)
	if err != nil {
		return a, err
	}
	if a.host, a.instance, a.epoch, err = splitOrigin(claimed.Origin); err != nil {
		return a, err
	}
	var verifiers []note.Verifier
	for _, key := range keys {
		vkey, err := note.NewEd25519VerifierKey(claimed.Origin, key)
		if err != nil {
			return a, err
		}
		v, err := note.NewVerifier(vkey)
		if err != nil {
			return a, err
		}
		verifiers = append(verifiers, v)
	}
	a.Checkpoint, _, err = OpenCheckpoint(signed, note.VerifierList(verifiers...))
	return a, err
}

// publicKeys are those of the options and those that audit.vkey lists, of the
// log or where that was put aside of the epoch before. Keys that can't be read
// are for readClaim to refuse.
func (l *Log) publicKeys() ([]ed25519.PublicKey, error) {
	var keys []ed25519.PublicKey
	add := func(key crypto.PublicKey) {
		if k, ok := key.(ed25519.PublicKey); ok && !slices.ContainsFunc(keys, func(have ed25519.PublicKey) bool { return have.Equal(k) }) {
			keys = append(keys, k)
		}
	}
	for _, signer := range []crypto.Signer{l.opts.Key, l.opts.OldKey} {
		if signer != nil {
			add(signer.Public())
		}
	}
	last, err := lastEpoch(l.opts.Dir)
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{l.opts.Dir, epochDir(l.opts.Dir, last)} {
		listed, err := os.ReadFile(filepath.Join(dir, keysFile))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("read the keys of the audit log: %w", err)
		}
		for _, vkey := range keyLines(listed) {
			add(publicOf(vkey))
		}
	}
	return keys, nil
}

// publicOf is the key in a verifier key (C2SP signed-note), nil if it is not
// Ed25519.
func publicOf(vkey string) crypto.PublicKey {
	_, rest, _ := strings.Cut(vkey, "+")
	_, text, _ := strings.Cut(rest, "+")
	const ed25519Type = 1
	if key, err := decodeBase64(text); err == nil && len(key) == 1+ed25519.PublicKeySize && key[0] == ed25519Type {
		return ed25519.PublicKey(key[1:])
	}
	return nil
}

// local is the log as it stands here, to compare anchors with.
type local struct {
	dir            string
	host, instance string // instance "" = it was never signed
	epoch          int64
	size           int64
	hashes         tlog.HashReader
}

func (l *Log) local(origin string, size int64, hashes tlog.HashReader) local {
	here := local{dir: l.opts.Dir, host: l.opts.Origin, size: size, hashes: hashes}
	if host, instance, epoch, err := splitOrigin(origin); err == nil {
		here.host, here.instance, here.epoch = host, instance, epoch
	}
	return here
}

var errOtherRoot = errors.New("they are other events")

// check refuses what contradicts a. An epoch older than the log's is one that it
// has ended, or whose end an operator has confirmed with a new epoch.
func (here local) check(a anchor) error {
	switch {
	case here.instance == "" && a.host == here.host:
		return rolledBack("no log of it is in %s, and an anchor off this host is of %d events of %s: its files were lost, or moved", here.dir, a.Size, a.Origin)
	case a.instance != here.instance && a.host != here.host, a.epoch < here.epoch:
		return nil
	case a.instance != here.instance:
		return rolledBack("%s has %d events of the log %s, and an anchor off this host is of %d events of %s: its files were lost, or another host writes under this name",
			here.dir, here.size, here.name(), a.Size, a.Origin)
	case a.epoch > here.epoch:
		return rolledBack("%s has %d events of epoch %d, and an anchor off this host is of %d events of epoch %d: an older copy was restored, or another host writes under this name",
			here.dir, here.size, here.epoch, a.Size, a.epoch)
	case a.Size > here.size:
		return rolledBack("%s has %d events of the log %s, and an anchor off this host is of %d: an older copy was restored, or another host writes under this name",
			here.dir, here.size, here.name(), a.Size)
	}
	return here.checkRoot(a)
}

func (here local) name() string { return originOf(here.host, here.instance, here.epoch) }

func (here local) checkRoot(a anchor) error {
	root, err := rootAt(a.Size, here.hashes)
	switch {
	case err == nil && root == a.Root:
		return nil
	case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("compare the audit log with an anchor: %w", err)
	}
	return rolledBack("%s has %d events of the log %s, and the first %d of them don't make the root of an anchor off this host (%w): it was written anew, or another host writes under this name",
		here.dir, here.size, here.name(), a.Size, errOtherRoot)
}

func rolledBack(format string, args ...any) error {
	return fmt.Errorf("%w: %w; find out why, and then begin a new epoch: postern serve --new-epoch --reason TEXT", ErrRolledBack, fmt.Errorf(format, args...))
}

func rootAt(size int64, hashes tlog.HashReader) (tlog.Hash, error) {
	if size == 0 {
		return emptyRoot, nil
	}
	return tlog.TreeHash(size, hashes)
}

// splitHashes are the hashes of a tree: in a file those before index base, and
// beside it the rest.
type splitHashes struct {
	file io.ReaderAt // nil = there is none
	base int64
	rest []byte
}

// ReadHashes makes it a tlog.HashReader.
func (s splitHashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		var from io.ReaderAt = bytes.NewReader(s.rest)
		if index < s.base {
			from = s.file
		} else {
			index -= s.base
		}
		if from == nil {
			return nil, fmt.Errorf("read hash %d of the tree: %w", indexes[i], os.ErrNotExist)
		}
		if _, err := from.ReadAt(hashes[i][:], index*hashSize); err != nil {
			return nil, fmt.Errorf("read hash %d of the tree: %w", indexes[i], err)
		}
	}
	return hashes, nil
}

// checkAnchors refuses what was found if it is not the log of the anchors. It
// returns the tree to go on with, which is another if hashes.bin was wrong.
func (l *Log) checkAnchors(found *survey, c *claim, g *grown) (*grown, error) {
	anchors, err := l.anchored(l.opts.Anchors)
	if err != nil || len(anchors) == 0 {
		return g, err
	}
	f, err := os.Open(filepath.Join(l.opts.Dir, hashesFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the hashes of the audit log: %w", err)
	}
	defer f.Close() // of nil does nothing
	for _, a := range anchors {
		err := l.local(c.origin, found.last.next, g.reader(f)).check(a)
		if errors.Is(err, errOtherRoot) && g.base > 0 && found.segments[0].first == 0 {
			if g, err = found.growFrom(0, nil, c); err != nil {
				return nil, refuse(ErrRewritten, l.opts.Dir, err)
			}
			err = l.local(c.origin, found.last.next, g.reader(nil)).check(a)
		}
		if err != nil {
			return nil, err
		}
	}
	return g, nil
}

// reader reads all hashes of the tree, those that are not in it from a file
// that may be nil.
func (g *grown) reader(f *os.File) splitHashes {
	s := splitHashes{base: g.base, rest: g.hashes}
	if f != nil {
		s.file = f
	}
	return s
}

// CheckAnchor is what Options.Anchors are for, for a checkpoint that could not
// be had when the log was opened. Its error wraps ErrRolledBack, unless a file
// could not be read. One that is not signed by a key of this log is not looked
// at. The log goes on whatever it finds.
func (l *Log) CheckAnchor(signed []byte) error {
	anchors, err := l.anchored([][]byte{signed})
	if err != nil || len(anchors) == 0 || l.ledger == nil {
		return err
	}
	l.ledger.absorb()
	size, base, unsynced := l.ledger.grown()
	f, err := os.Open(filepath.Join(l.opts.Dir, hashesFile))
	if err != nil {
		return fmt.Errorf("read the hashes of the audit log: %w", err)
	}
	defer f.Close()
	err = l.local(l.Origin(), size, splitHashes{f, base, unsynced}).check(anchors[0])
	if errors.Is(err, errOtherRoot) && l.linesMake(anchors[0]) { // hashes.bin is wrong, and is made again at the next start
		return nil
	}
	return err
}

// linesMake reports whether the events before a.Size, all of them read again,
// make its root.
func (l *Log) linesMake(a anchor) bool {
	found, err := surveySegments(l.opts.Dir)
	if err != nil || len(found.segments) == 0 || found.segments[0].first > 0 {
		return false
	}
	g, err := found.growFrom(0, nil, &claim{})
	if err != nil {
		return false
	}
	root, err := rootAt(a.Size, g.reader(nil))
	return err == nil && root == a.Root
}

// grown is how far the tree goes, and its hashes from index base on, which are
// not in hashes.bin.
func (g *ledger) grown() (size, base int64, unsynced []byte) {
	c, unsynced := g.state()
	return c.Size, tlog.StoredHashCount(c.Size) - int64(len(unsynced))/hashSize, unsynced
}
