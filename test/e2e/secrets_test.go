package e2e_test

import (
	"bytes"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"postern/internal/record"
)

// written are the places of a story that the gate writes to.
var written = []string{"audit", "recordings", "gate.out", "gate.err", "frozen"}

// planted is what scripts type where it must never be written down.
var planted = regexp.MustCompile(`planted-[a-z]+-[0-9a-f]{8}`)

// leaks names each secret of the story that a file holds which the gate wrote.
func (w *world) leaks() []string {
	var leaks []string
	secrets := w.secrets()
	for _, place := range written {
		for _, path := range filesUnder(filepath.Join(w.dir, place)) {
			content, err := contents(path)
			if err != nil {
				leaks = append(leaks, path+" can't be searched: "+err.Error())
			}
			for secret, from := range secrets {
				if bytes.Contains(content, []byte(secret)) {
					leaks = append(leaks, path+" holds a secret of "+from)
				}
			}
		}
	}
	return leaks
}

// secrets returns each secret of the story and the file that it is from.
func (w *world) secrets() map[string]string {
	secrets := map[string]string{}
	for _, path := range filesUnder(w.dir) {
		rel, _ := filepath.Rel(w.dir, path)
		place, _, _ := strings.Cut(rel, "/")
		info, err := os.Stat(path)
		if err != nil || info.Size() > 1<<20 || slices.Contains(written, place) {
			continue
		}
		text, _ := os.ReadFile(path)
		for _, s := range secretsIn(text) {
			secrets[s] = rel
		}
	}
	return secrets
}

// secretsIn returns the planted words of a file and, of a private key, its
// lines and bytes; of what an agent has signed, the signature.
func secretsIn(text []byte) []string {
	secrets := planted.FindAllString(string(text), -1)
	block, _ := pem.Decode(text)
	if block == nil {
		return secrets
	}
	end := block.Bytes[max(0, len(block.Bytes)-60):]
	switch {
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		for line := range strings.Lines(string(text)) {
			if len(line) > 40 && !strings.HasPrefix(line, "-----") {
				secrets = append(secrets, strings.TrimSpace(line))
			}
		}
		return append(secrets, string(end))
	case block.Type == "SSH SIGNATURE":
		return append(secrets, string(end))
	}
	return secrets
}

// contents returns what a file says and, of a recording, also what it shows;
// one that is torn is read as far as that goes.
func contents(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(filepath.Base(path), "rec-") {
		return raw, err
	}
	r, err := record.OpenFile(path)
	if errors.Is(err, record.ErrSealed) {
		return raw, nil
	}
	if err != nil {
		return raw, err
	}
	defer r.Close()
	for rec, err := range r.Records() {
		if err != nil {
			return raw, nil
		}
		raw = append(raw, rec.Data...)
	}
	return raw, nil
}

func filesUnder(root string) []string {
	var files []string
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return nil // a story may have removed it
	})
	return files
}

func TestASecretIsFoundWhereverItIs(t *testing.T) {
	w := &world{dir: t.TempDir()}
	key := "-----BEGIN OPENSSH PRIVATE KEY-----\n" + strings.Repeat("c2VjcmV0", 8) + "\n-----END OPENSSH PRIVATE KEY-----\n"
	write := func(name, text string) {
		path := filepath.Join(w.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("vendor", key)
	write("script.py", "type('planted-password-0badcafe')")
	write("audit/1.jsonl", "{}")
	if leaks := w.leaks(); len(leaks) > 0 {
		t.Errorf("there is none, but: %q", leaks)
	}
	write("audit/1.jsonl", strings.Repeat("c2VjcmV0", 8))
	write("gate.err", "read planted-password-0badcafe")
	w.record(t, "shown: planted-password-0badcafe")
	if leaks := w.leaks(); len(leaks) != 3 {
		t.Errorf("3 were planted, found: %q", leaks)
	}
}

// record leaves a recording of text.
func (w *world) record(t *testing.T, text string) {
	store, err := record.Open(record.Options{Dir: filepath.Join(w.dir, "recordings")})
	if err != nil {
		t.Fatal(err)
	}
	r, err := store.Create(record.Header{Session: "s", Channel: "1"}, record.Events{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Write(record.Stdout, []byte(text)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Close(true); err != nil {
		t.Fatal(err)
	}
}
