package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"postern/internal/durable"
)

// openLedger makes the files beside the segments agree with what was found, and
// goes on with them. A log that was never signed begins with a checkpoint of
// no events, so that from then on a missing one is a removed one.
func (l *Log) openLedger(c *claim, g *grown) error {
	if c.origin == "" {
		if err := l.claimNew(c); err != nil {
			return err
		}
	}
	signer, err := newKeySigner(c.origin, l.opts.Key)
	if err != nil {
		return err
	}
	led := &ledger{dir: l.opts.Dir, signer: signer, newest: c.signed, signed: c.newest, tree: g.tree, wake: make(chan struct{}, 1)}
	led.covered.Store(c.newest.Size)
	if err := led.settle(c); err != nil {
		return err
	}
	if err := l.changeKey(led, c); err != nil {
		return err
	}
	hashes := filepath.Join(l.opts.Dir, hashesFile)
	if err := g.write(hashes); err != nil {
		return err
	}
	if led.checkpoints, err = openAppendix(l.opts.open, filepath.Join(l.opts.Dir, checkpointsFile), led.whole(c)); err != nil {
		return err
	}
	if led.hashes, err = openAppendix(l.opts.open, hashes, g.base*hashSize+int64(len(g.hashes))); err != nil {
		return errors.Join(err, led.checkpoints.file.Close())
	}
	l.ledger = led
	return nil
}

// claimNew signs the checkpoint that a log begins with.
func (l *Log) claimNew(c *claim) error {
	var err error
	if c.origin, err = newOrigin(l.opts.Dir, l.opts.Origin, l.ahead); err != nil {
		return fmt.Errorf("name the audit log: %w", err)
	}
	signer, err := newKeySigner(c.origin, l.opts.Key)
	if err != nil {
		return err
	}
	c.newest, c.signer, c.stale = Checkpoint{Origin: c.origin, Root: emptyRoot}, signer.vkey, true
	if c.signed, err = note.Sign(&note.Note{Text: c.newest.String()}, signer); err != nil {
		return fmt.Errorf("sign the audit log: %w", err)
	}
	return nil
}

// settle completes what a crash left half done: the checkpoint, and the end of
// checkpoints.log.
func (g *ledger) settle(c *claim) error {
	if c.stale {
		if err := durable.WriteFile(filepath.Join(g.dir, checkpointFile), c.signed, 0o640); err != nil {
			return err
		}
	}
	if c.whole > 0 && !c.torn {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(g.dir, checkpointsFile), os.O_WRONLY|os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("write the signed checkpoints: %w", err)
	}
	err = f.Truncate(c.whole)
	if err == nil && c.whole == 0 {
		_, err = f.Write(append(slices.Clone(c.signed), '\n'))
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the signed checkpoints: %w", err)
	}
	return durable.SyncDir(g.dir)
}

// whole is the size of checkpoints.log after settle.
func (g *ledger) whole(c *claim) int64 {
	if c.whole == 0 {
		return int64(len(c.signed)) + 1
	}
	return c.whole
}

// changeKey lists the log's key in audit.vkey, last, and notes it if another
// one was in use.
func (l *Log) changeKey(g *ledger, c *claim) error {
	last := ""
	if len(c.keys) > 0 {
		last = c.keys[len(c.keys)-1]
	}
	if last == g.signer.vkey && c.signer == last {
		return nil
	}
	keys := slices.DeleteFunc(slices.Clone(c.keys), func(k string) bool { return k == g.signer.vkey })
	if c.signer != g.signer.vkey && !slices.Contains(keys, c.signer) {
		keys = append(keys, c.signer)
	}
	keys = append(keys, g.signer.vkey)
	text := strings.Join(keys, "\n") + "\n"
	if err := durable.WriteFile(filepath.Join(g.dir, keysFile), []byte(text), 0o644); err != nil {
		return err
	}
	if len(keys) == 1 {
		return nil
	}
	before := keys[len(keys)-2]
	e := Event{Code: LogKey, Message: "another key signs the audit log", Alert: true, File: filepath.Join(g.dir, keysFile),
		Extra: map[string]any{"old_vkey": before, "new_vkey": g.signer.vkey, "signed_by_both": false}}
	if l.opts.OldKey != nil {
		old, err := newKeySigner(c.origin, l.opts.OldKey)
		if err != nil {
			return err
		}
		if old.vkey == before {
			g.old = old
			e.Extra["signed_by_both"] = true
		}
	}
	l.findings = append(l.findings, e)
	return nil
}

// Origin names the log: HOST/postern/INSTANCE/EPOCH. It is "" if the log is not
// signed.
func (l *Log) Origin() string {
	if l.ledger == nil {
		return ""
	}
	return l.ledger.signer.Name()
}

// VerifierKey is the public key that checkpoints are verified with, as text. It
// is "" if the log is not signed.
func (l *Log) VerifierKey() string {
	if l.ledger == nil {
		return ""
	}
	return l.ledger.signer.vkey
}

// Checkpoint signs what the log holds, if that is more than was signed last,
// and returns the newest checkpoint, which is durable. Run does it every ten
// seconds; a log that is not signed has none.
func (l *Log) Checkpoint() (Checkpoint, error) {
	if l.ledger == nil {
		return Checkpoint{}, errors.New("the audit log is not signed")
	}
	l.rotated.Store(false)
	c, err := l.ledger.checkpoint()
	if l.opts.Signed != nil {
		l.opts.Signed(c.Size, err)
	}
	return c, err
}

// closeLedger signs the log for the last time.
func (l *Log) closeLedger() error {
	if l.ledger == nil {
		return nil
	}
	_, err := l.Checkpoint()
	return errors.Join(err, l.ledger.close())
}
