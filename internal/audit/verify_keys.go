package audit

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/mod/sumdb/note"
)

// keyring is who may have signed. A log.key event names the key that signs from
// then on; that key counts once a checkpoint which covers the event is signed by
// one that counts already. That both keys signed one checkpoint means nothing:
// anybody can add a line with a signature to it.
type keyring struct {
	known     note.Verifiers
	trusted   map[keyID]bool
	named     []namedKey // by log.key events, in their order
	unvouched *spot      // the first checkpoint since the last that a trusted key signed
	by        keyID      // who signed that
}

type namedKey struct {
	key   keyID
	index int64 // of the event
}

type keyID struct {
	name string
	hash uint32
}

func (k keyID) String() string { return fmt.Sprintf("%s+%08x", k.name, k.hash) }

// findKeys trusts the keys of the options, else those that lie beside the log.
func (v *verifier) findKeys() error {
	path := filepath.Join(v.opts.Dir, keysFile)
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	beside, parseErr := ParseKeys(data)
	trusted := v.opts.Keys
	if len(trusted) == 0 {
		if err := errors.Join(err, parseErr); err != nil {
			return fmt.Errorf("no key to verify with: %w", err)
		}
		trusted = beside
		v.remark(KindKey, keysFile, -1, "the key was taken from the log's own directory: whoever could rewrite the log could replace it")
	}
	if len(trusted) == 0 {
		return fmt.Errorf("no key to verify with: %s is empty", path)
	}
	v.keys = newKeyring(trusted, beside)
	return nil
}

func newKeyring(trusted, others []note.Verifier) keyring {
	k := keyring{trusted: map[keyID]bool{}}
	for _, v := range trusted {
		k.trusted[idOf(v)] = true
	}
	all := slices.Concat(trusted, others)
	slices.SortStableFunc(all, func(a, b note.Verifier) int {
		return cmp.Or(cmp.Compare(a.Name(), b.Name()), cmp.Compare(a.KeyHash(), b.KeyHash()))
	})
	all = slices.CompactFunc(all, func(a, b note.Verifier) bool { return idOf(a) == idOf(b) })
	k.known = note.VerifierList(all...)
	return k
}

func idOf(v note.Verifier) keyID { return keyID{v.Name(), v.KeyHash()} }

// open is OpenCheckpoint that takes signatures only in the one way in which
// they are written, so that no edit of them goes unseen.
func (k *keyring) open(signed []byte) (Checkpoint, []note.Signature, error) {
	c, n, err := OpenCheckpoint(signed, k.known)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	for _, sig := range n.Sigs {
		if _, err := decodeBase64(sig.Base64); err != nil {
			return Checkpoint{}, nil, fmt.Errorf("the signature of %s is not written as it should be", sig.Name)
		}
	}
	return c, n.Sigs, nil
}

// name takes in a log.key event.
func (k *keyring) name(vkey string, index int64) {
	if v, err := note.NewVerifier(vkey); err == nil {
		k.named = append(k.named, namedKey{idOf(v), index})
	}
}

// vouch takes in who signed a checkpoint that the tree gave.
func (k *keyring) vouch(c mark) {
	if !slices.ContainsFunc(c.sigs, func(s note.Signature) bool { return k.trusted[keyID{s.Name, s.Hash}] }) {
		if k.unvouched == nil {
			k.unvouched, k.by = &spot{c.file, c.line, -1}, keyID{c.sigs[0].Name, c.sigs[0].Hash}
		}
		return
	}
	k.unvouched = nil
	for len(k.named) > 0 && k.named[0].index < c.Size {
		k.trusted[k.named[0].key] = true
		k.named = k.named[1:]
	}
}
