package archive

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"postern/internal/durable"
)

// tear ends a line that was torn, so that what is left of it makes no sense.
const tear = "\x18\n"

// spare is how many keys nobody asks for any more the ledger keeps before it is
// rewritten.
const spare = 1000

// ledger remembers which keys the archive has. It is a file of lines
//
//	CHECKSUM SIZE KEY
//
// that only grows, until it is rewritten without the keys that are forgotten.
// A line counts once it is on disk. Lines that make no sense are passed over: a
// key that is lost costs a question to S3, no data. The daemon that is replaced
// and its successor may both write to it.
type ledger struct {
	path string // "" = nothing is remembered

	mu   sync.Mutex // guards what follows
	file *os.File   // nil = to be opened again
	torn bool       // the file may end in the middle of a line
	held map[string]int64
}

// openLedger reads the ledger at path, and makes its folder where missing.
func openLedger(path string) (*ledger, error) {
	l := &ledger{path: path, held: map[string]int64{}}
	if path == "" {
		return l, nil
	}
	if err := durable.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	for line := range bytes.Lines(data) {
		if key, size, ok := parseLine(string(line)); ok {
			l.held[key] = size
		}
	}
	l.torn = len(data) > 0 && data[len(data)-1] != '\n'
	return l, nil
}

func formatLine(key string, size int64, checksum string) string {
	return checksum + " " + strconv.FormatInt(size, 10) + " " + key + "\n"
}

// parseLine is the reverse of formatLine. A line without its newline was torn.
func parseLine(line string) (key string, size int64, ok bool) {
	line, whole := strings.CutSuffix(line, "\n")
	checksum, rest, _ := strings.Cut(line, " ")
	digits, key, _ := strings.Cut(rest, " ")
	size, err := strconv.ParseInt(digits, 10, 64)
	ok = whole && checksum != "" && err == nil && size >= 0 && validKey(key)
	return key, size, ok
}

// validKey reports whether key is what S3 takes everywhere and a line can hold.
func validKey(key string) bool {
	return key != "" && len(key) <= 900 && key[0] != '/' && utf8.ValidString(key) && strings.IndexFunc(key, unicode.IsControl) < 0
}

// size is that of the object with that key, if the archive has one.
func (l *ledger) size(key string) (int64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	size, ok := l.held[key]
	return size, ok
}

// add remembers key, and returns once it is on disk.
func (l *ledger) add(key string, size int64, checksum string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.write(formatLine(key, size, checksum)); err != nil {
		// What was written of the line is unknown, and after a failed sync so is
		// what of the file is on disk: begin anew with the next.
		l.close()
		l.torn = true
		return fmt.Errorf("write ledger: %w", err)
	}
	l.held[key] = size
	return nil
}

// write appends line.
func (l *ledger) write(line string) error {
	if l.path == "" {
		return errors.New("no ledger is named")
	}
	if err := l.open(); err != nil {
		return err
	}
	if l.torn {
		line = tear + line
	}
	if _, err := l.file.WriteString(line); err != nil {
		return err
	}
	l.torn = false
	return l.file.Sync()
}

func (l *ledger) open() error {
	if l.file != nil {
		return nil
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(l.path)); err != nil {
		return errors.Join(err, f.Close())
	}
	l.file = f
	return nil
}

func (l *ledger) close() {
	if l.file != nil {
		l.file.Close() // nothing is buffered: what counts was synced
		l.file = nil
	}
}

// prune forgets the keys that are not wanted, once they are many.
func (l *ledger) prune(wanted map[string]bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.path == "" || len(l.held) < 2*len(wanted)+spare {
		return nil
	}
	return l.rewrite(wanted)
}

// rewrite replaces the file by one with the lines of wanted keys only.
func (l *ledger) rewrite(wanted map[string]bool) error {
	f, err := os.Open(l.path)
	if err != nil {
		return fmt.Errorf("rewrite ledger: %w", err)
	}
	defer f.Close()
	var kept bytes.Buffer
	held := map[string]int64{}
	for r := bufio.NewReader(f); ; {
		line, err := r.ReadString('\n')
		if key, size, ok := parseLine(line); ok && wanted[key] {
			kept.WriteString(line)
			held[key] = size
		}
		if err != nil {
			break
		}
	}
	if err := durable.WriteFile(l.path, kept.Bytes(), 0o640); err != nil {
		return fmt.Errorf("rewrite ledger: %w", err)
	}
	l.close()
	l.held, l.torn = held, false
	return nil
}
