package audit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// ledgerDisk is a disk on which the files with one name fail.
type ledgerDisk struct {
	name  string
	fails atomic.Int32 // that are still to come
	err   error
}

type ledgerFile struct {
	file
	disk  *ledgerDisk
	write bool // or else it is the sync that fails
}

func (d *ledgerDisk) open(path string, flag int, perm os.FileMode) (file, error) {
	f, err := openOSFile(path, flag, perm)
	if err == nil && strings.HasPrefix(filepath.Base(path), d.name) {
		return ledgerFile{f, d, !errors.Is(d.err, syscall.EIO)}, nil
	}
	return f, err
}

// Write of a full disk takes half of what it is given.
func (f ledgerFile) Write(b []byte) (int, error) {
	if f.write && f.disk.fails.Add(-1) >= 0 {
		n, _ := f.file.Write(b[:len(b)/2])
		return n, f.disk.err
	}
	return f.file.Write(b)
}

func (f ledgerFile) Sync() error {
	if !f.write && f.disk.fails.Add(-1) >= 0 {
		return f.disk.err
	}
	return f.file.Sync()
}

func TestSigningGoesOnInANewFileAfterAFault(t *testing.T) {
	for _, name := range []string{hashesFile, checkpointsFile} {
		for _, fault := range []error{syscall.EIO, syscall.ENOSPC, syscall.EROFS} {
			for _, times := range []int32{1, 2, 5} {
				dir := quickDir(t)
				disk := &ledgerDisk{name: name, err: fault}
				l := mustOpen(t, Options{Dir: dir, open: disk.open})
				mustAppend(t, l, numbered(0))
				mustSign(t, l)
				mustAppend(t, l, numbered(1))
				disk.fails.Store(times)
				failed := 0
				for disk.fails.Load() > 0 {
					if _, err := l.Checkpoint(); err != nil {
						failed++
						if !errors.Is(err, fault) {
							t.Errorf("Checkpoint returned %v", err)
						}
					}
					// A kill now finds what was signed before.
					killed := filepath.Join(quickDir(t), "log")
					snapshot(t, dir).put(t, killed)
					if c := reopened(t, killed); c.Size != 2 {
						t.Errorf("%s, %v: %+v", name, fault, c)
					}
				}
				mustAppend(t, l, numbered(2))
				if c := mustSign(t, l); c.Size != 3 || failed != int(times)/2 {
					t.Errorf("%s, %v: %+v after %d failures", name, fault, c, failed)
				}
				mustProve(t, dir)
				mustClose(t, l)
				mustProve(t, dir)
				if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(left) > 0 {
					t.Errorf("%v is left", left)
				}
			}
		}
	}
}

func TestALogThatCannotBeSignedIsNotReadyAfterAMinute(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		disk := &ledgerDisk{name: hashesFile, err: syscall.EIO}
		var told atomic.Int32
		l := mustOpen(t, Options{Dir: filepath.Join(dir, "log"), open: disk.open, OnFailure: func(State, error) { told.Add(1) }})
		ended := run(t, l)
		disk.fails.Store(1 << 30)
		mustAppend(t, l, numbered(0))
		time.Sleep(checkpointInterval + time.Second)
		if err := l.Ready(); err != nil || told.Load() == 0 {
			t.Errorf("at once: %v, told %d times", err, told.Load())
		}
		time.Sleep(checkpointGrace)
		if err := l.Ready(); err == nil || !strings.Contains(err.Error(), "no checkpoint") {
			t.Errorf("after a minute: %v", err)
		}
		mustAppend(t, l, numbered(1)) // who is in stays in
		disk.fails.Store(0)
		time.Sleep(checkpointInterval + time.Second)
		if err := l.Ready(); err != nil {
			t.Errorf("when it works again: %v", err)
		}
		ended()
		mustClose(t, l)
		mustProve(t, filepath.Join(dir, "log"))
	})
}

// run runs l in the bubble until the returned function is called.
func run(t *testing.T, l *Log) (end func()) {
	t.Helper()
	ctx, cancel := contextOf(t)
	ended := make(chan error)
	go func() { ended <- l.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestRunSignsEveryTenSecondsWhenSomethingCameAndAtRotation(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var calls, last atomic.Int64
		l := mustOpen(t, Options{Dir: filepath.Join(dir, "log"), SegmentSize: 4000, Signed: func(size int64, err error) {
			calls.Add(1)
			last.Store(size)
		}})
		ended := run(t, l)
		mustAppend(t, l, numbered(0))
		time.Sleep(checkpointInterval + tickInterval)
		synctest.Wait()
		if calls.Load() != 1 || last.Load() != 1 {
			t.Fatalf("signed %d times, %d events", calls.Load(), last.Load())
		}
		for n := range 4 { // the last begins a segment
			mustAppend(t, l, numbered(n))
		}
		time.Sleep(2 * tickInterval)
		synctest.Wait()
		if calls.Load() != 2 || last.Load() != l.Size() {
			t.Errorf("signed %d times, %d of %d events at rotation", calls.Load(), last.Load(), l.Size())
		}
		before := snapshot(t, filepath.Join(dir, "log"))[checkpointsFile]
		time.Sleep(heartbeatInterval / 2)
		synctest.Wait()
		if after := snapshot(t, filepath.Join(dir, "log"))[checkpointsFile]; !bytes.Equal(before, after) {
			t.Error("a checkpoint was made of nothing new")
		}
		mustAppend(t, l, numbered(9))
		ended()
		if last.Load() != l.Size() {
			t.Errorf("the end of Run signed %d of %d events", last.Load(), l.Size())
		}
		mustAppend(t, l, numbered(10))
		mustClose(t, l)
		if c := mustProve(t, filepath.Join(dir, "log")); c.Size != l.Size() {
			t.Errorf("Close signed %d of %d", c.Size, l.Size())
		}
	})
}

func TestWhatIsBesideTheSegmentsIsWatchedToo(t *testing.T) {
	for name, touch := range map[string]func(dir string) error{
		"hashes cut":             func(dir string) error { return os.Truncate(filepath.Join(dir, hashesFile), 10) },
		"hashes removed":         func(dir string) error { return os.Remove(filepath.Join(dir, hashesFile)) },
		"checkpoints removed":    func(dir string) error { return os.Remove(filepath.Join(dir, checkpointsFile)) },
		"checkpoint removed":     func(dir string) error { return os.Remove(filepath.Join(dir, checkpointFile)) },
		"checkpoint overwritten": func(dir string) error { return os.WriteFile(filepath.Join(dir, checkpointFile), []byte("x"), 0o640) },
	} {
		t.Run(name, func(t *testing.T) {
			l := mustOpen(t, Options{Dir: t.TempDir()})
			mustAppend(t, l, numbered(0))
			mustSign(t, l)
			mustAppend(t, l, numbered(1))
			if err := touch(l.opts.Dir); err != nil {
				t.Fatal(err)
			}
			l.sign()
			if err := l.Append(t.Context(), numbered(2)); !errors.Is(err, ErrFailed) || !errors.Is(err, errTampered) {
				t.Errorf("Append returned %v", err)
			}
			select {
			case <-l.Failed():
			default:
				t.Error("the log goes on")
			}
		})
	}
}

func TestAFailedLogStillSignsWhatIsOnDisk(t *testing.T) {
	dir := t.TempDir()
	disk := &faultyDisk{}
	l := mustOpen(t, Options{Dir: dir, open: disk.open})
	mustAppend(t, l, numbered(0), numbered(1))
	disk.failSyncs(2)
	if err := l.Append(t.Context(), numbered(2)); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	if err := l.Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Close returned %v", err)
	}
	if data := snapshot(t, dir)[checkpointFile]; !bytes.Contains(data, []byte("\n2\n")) {
		t.Errorf("the checkpoint is %s", data)
	}
	if c := reopened(t, dir); c.Size < 2 {
		t.Errorf("%+v", c)
	}
}

func TestAnotherKeyIsAnEventAndBothAreListed(t *testing.T) {
	for _, both := range []bool{true, false} {
		dir := t.TempDir()
		l := mustOpen(t, Options{Dir: dir})
		mustAppend(t, l, numbered(0))
		old := l.VerifierKey()
		mustClose(t, l)
		o := Options{Dir: dir, Key: testKey(2)}
		if both {
			o.OldKey = testKey(1)
		}
		l = mustOpen(t, o)
		changed := l.VerifierKey()
		c := mustSign(t, l)
		disk := snapshot(t, dir)
		if got := string(disk[keysFile]); got != old+"\n"+changed+"\n" {
			t.Errorf("audit.vkey is %s", got)
		}
		if got := bytes.Count(disk[checkpointFile], []byte("— ")); both && got != 2 || !both && got != 1 {
			t.Errorf("%d keys signed the first checkpoint: %s", got, disk[checkpointFile])
		}
		mustAppend(t, l, numbered(1))
		mustSign(t, l)
		if disk = snapshot(t, dir); bytes.Count(disk[checkpointFile], []byte("— ")) != 1 {
			t.Errorf("the next one is signed by more: %s", disk[checkpointFile])
		}
		mustClose(t, l)
		mustClose(t, mustOpen(t, o))
		// One who adds the old key's signature to the checkpoint changes no key.
		disk = snapshot(t, dir)
		signer, err := newKeySigner(l.Origin(), testKey(1))
		if err != nil {
			t.Fatal(err)
		}
		text, sigs, _ := bytes.Cut(disk[checkpointFile], []byte("\n\n"))
		by, err := note.Sign(&note.Note{Text: string(text) + "\n"}, signer)
		if err != nil {
			t.Fatal(err)
		}
		added := append(by, sigs...)
		kept := disk[checkpointsFile][:bytes.LastIndex(disk[checkpointsFile], text)]
		disk.with(files{checkpointFile: added, checkpointsFile: append(append(bytes.Clone(kept), added...), '\n')}).put(t, dir)
		mustClose(t, mustOpen(t, o))
		records := all(t, dir)
		line := string(records[1].Line)
		if len(records) != 3 || records[1].Code != LogKey || !strings.Contains(line, old) || !strings.Contains(line, changed) || c.Size != 2 {
			t.Errorf("%d events, %s", len(records), line)
		}
		if strings.Contains(line, `"signed_by_both":true`) != both {
			t.Errorf("signed by both should be %v: %s", both, line)
		}
		mustProve(t, dir)
		back := mustOpen(t, Options{Dir: dir, Key: testKey(1)}) // and back again
		mustClose(t, back)
		if keys, err := ParseKeys(snapshot(t, dir)[keysFile]); err != nil || len(keys) != 2 || back.VerifierKey() != old {
			t.Errorf("%d keys, %v", len(keys), err)
		}
		mustProve(t, dir)
	}
}

func TestAKeyOfAnotherKindIsRefused(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := Open(Options{Dir: t.TempDir(), MinFree: 1, Key: key}); err == nil {
		l.Close()
		t.Error("a log signs with ECDSA")
	}
}

func TestAKeyIsMadeOnceAndOnlyReadAfterwards(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "audit_key")
	if _, err := LoadKey(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("LoadKey of nothing: %v", err)
	}
	made, err := LoadOrMakeKey(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadOrMakeKey(path)
	if err != nil || !made.Public().(ed25519.PublicKey).Equal(again.Public()) {
		t.Errorf("another key was made: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key has mode %v, %v", info.Mode(), err)
	}
	for _, text := range []string{"", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadOrMakeKey(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q is a key: %v", text, err)
		}
	}
	if err := os.Chmod(path, 0o604); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(path); err == nil || !strings.Contains(err.Error(), "open to everybody") {
		t.Errorf("a key that everybody may read: %v", err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", t.TempDir())
	if _, err := LoadOrMakeKey(filepath.Join(os.Getenv("CREDENTIALS_DIRECTORY"), "audit_key")); err == nil || !strings.Contains(err.Error(), "systemd") {
		t.Errorf("a missing credential: %v", err)
	}
}

func TestAStockVerifierReadsTheCheckpoint(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir})
	mustAppend(t, l, numbered(0))
	mustSign(t, l)
	verifier, err := note.NewVerifier(l.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(snapshot(t, dir)[checkpointFile], note.VerifierList(verifier))
	if err != nil || len(n.Sigs) != 1 || n.Sigs[0].Name != l.Origin() {
		t.Errorf("%+v, %v", n, err)
	}
}
