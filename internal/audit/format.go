package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// The files in the directory of a log, beside its segments and what a crash
// left (torn-*.bin).
const (
	hashesFile      = "hashes.bin"      // of the tree, hashSize bytes each, in the order of tlog.StoredHashIndex
	checkpointFile  = "checkpoint"      // the newest checkpoint
	checkpointsFile = "checkpoints.log" // every checkpoint, oldest first, an empty line behind each
	keysFile        = "audit.vkey"      // the public keys, one verifier key a line, that in use last
	epochPrefix     = "epoch-"          // and a number: the folder that holds the whole of an epoch that was ended
)

// hashSize is what a hash takes in hashes.bin, in bytes.
const hashSize = tlog.HashSize

// emptyRoot is the root of a tree without leaves (RFC 6962, section 2.1).
var emptyRoot = tlog.Hash(sha256.Sum256(nil))

// Checkpoint says which events a log holds: those before Size, and Root is the
// root of the RFC 6962 tree over their lines (without the newlines). As text it
// is C2SP tlog-checkpoint.
type Checkpoint struct {
	Origin string // names the log, and the key that signs it
	Size   int64
	Root   tlog.Hash
}

// String is the text that is signed: three lines.
func (c Checkpoint) String() string {
	return c.Origin + "\n" + strconv.FormatInt(c.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(c.Root[:]) + "\n"
}

// ParseCheckpoint reads the text of a checkpoint. It takes what String writes
// and nothing else: this log has no extension lines.
func ParseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return Checkpoint{}, errors.New("a checkpoint has three lines")
	}
	if err := checkOrigin(lines[0]); err != nil {
		return Checkpoint{}, err
	}
	c := Checkpoint{Origin: lines[0]}
	var err error
	if c.Size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || c.Size < 0 || strconv.FormatInt(c.Size, 10) != lines[1] {
		return Checkpoint{}, fmt.Errorf("%.40q is no size", lines[1])
	}
	root, err := decodeBase64(lines[2])
	if err != nil || copy(c.Root[:], root) != hashSize || len(root) != hashSize {
		return Checkpoint{}, fmt.Errorf("%.80q is no root", lines[2])
	}
	return c, nil
}

// OpenCheckpoint reads a signed checkpoint (C2SP signed-note). It fails unless
// one of keys signed it that has the origin for its name, and no signature of
// any of keys is bad. The note names the keys that signed.
func OpenCheckpoint(signed []byte, keys note.Verifiers) (Checkpoint, *note.Note, error) {
	n, err := note.Open(signed, keys)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	if err := checkSignatureText(signed[len(n.Text):]); err != nil {
		return Checkpoint{}, nil, err
	}
	c, err := ParseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	for _, sig := range n.Sigs {
		if sig.Name == c.Origin {
			return c, n, nil
		}
	}
	return Checkpoint{}, nil, fmt.Errorf("no key of the log %s signed its checkpoint", c.Origin)
}

// checkSignatureText refuses signatures that are not written as they must be:
// the last digit of base64 has bits that a lenient reader, as note is, drops,
// and no byte of a checkpoint is to be changed without notice.
func checkSignatureText(lines []byte) error {
	for line := range strings.Lines(string(lines)) {
		_, text, _ := cutLast(strings.TrimSuffix(line, "\n"), ' ')
		if _, err := decodeBase64(text); err != nil {
			return fmt.Errorf("a signature is not written as it must be: %w", err)
		}
	}
	return nil
}

// decodeBase64 reads what EncodeToString writes and nothing else. The decoder
// of the library, strict or not, passes over line ends.
func decodeBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("a line end in base64")
	}
	return base64.StdEncoding.Strict().DecodeString(s)
}

// CutCheckpoint takes the first signed checkpoint off data, which is that of
// checkpoints.log. It returns false if there is no whole one; what is left then
// was torn off by a crash, or is none.
func CutCheckpoint(data []byte) (signed, rest []byte, ok bool) {
	text := bytes.Index(data, []byte("\n\n"))
	if text < 0 {
		return nil, data, false
	}
	sigs := bytes.Index(data[text+2:], []byte("\n\n"))
	if sigs < 0 {
		return nil, data, false
	}
	end := text + 2 + sigs + 1 // behind the newline of the last signature
	return data[:end], data[end+1:], true
}

// ParseKeys reads verifier keys, one a line; empty lines and those that begin
// with # are left out. The one in use is last.
func ParseKeys(data []byte) ([]note.Verifier, error) {
	var keys []note.Verifier
	for _, line := range keyLines(data) {
		key, err := note.NewVerifier(line)
		if err != nil {
			return nil, fmt.Errorf("%.120q is no verifier key: %w", line, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func keyLines(data []byte) []string {
	var keys []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			keys = append(keys, line)
		}
	}
	return keys
}

// originOf names the epoch of a log: host/postern/instance/epoch.
func originOf(host, instance string, epoch int64) string {
	return host + "/postern/" + instance + "/" + strconv.FormatInt(epoch, 10)
}

// splitOrigin undoes originOf.
func splitOrigin(origin string) (host, instance string, epoch int64, err error) {
	if err := checkOrigin(origin); err != nil {
		return "", "", 0, err
	}
	head, last, _ := cutLast(origin, '/')
	head, instance, _ = cutLast(head, '/')
	host, ok := strings.CutSuffix(head, "/postern")
	epoch, err = strconv.ParseInt(last, 10, 64)
	if !ok || host == "" || instance == "" || err != nil || epoch < 1 {
		return "", "", 0, fmt.Errorf("%.200q is no origin of ours: want HOST/postern/INSTANCE/EPOCH", origin)
	}
	return host, instance, epoch, nil
}

func cutLast(s string, separator byte) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, separator); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return "", s, false
}

// checkOrigin holds an origin to what the name of a key may be.
func checkOrigin(origin string) error {
	bad := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '+' }
	if origin == "" || len(origin) > 255 || !utf8.ValidString(origin) || strings.ContainsFunc(origin, bad) {
		return fmt.Errorf("%.200q is no origin: want 1 to 255 bytes without space or +", origin)
	}
	return nil
}

// storedHashes reads the hashes of a tree from hashes.bin. It says nothing of
// whether they are true: a proof made of them is to be checked.
type storedHashes struct{ io.ReaderAt }

// ReadHashes makes it a tlog.HashReader.
func (s storedHashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if _, err := s.ReadAt(hashes[i][:], index*hashSize); err != nil {
			return nil, fmt.Errorf("read hash %d of the tree: %w", index, err)
		}
	}
	return hashes, nil
}
