package sshgate

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestACAThatIsMissingIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "user_ca")
	first, err := LoadCA(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadCA(path)
	if err != nil {
		t.Fatal(err)
	}
	if first.PublicKey().Type() != ssh.KeyAlgoED25519 || !bytes.Equal(first.PublicKey().Marshal(), again.PublicKey().Marshal()) {
		t.Errorf("made a %s, and then another key", first.PublicKey().Type())
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	public, err := os.ReadFile(path + ".pub")
	if err != nil || !bytes.Equal(public, ssh.MarshalAuthorizedKey(first.PublicKey())) {
		t.Errorf("%q, %v", public, err)
	}
}

func TestAKeyThatIsNotTheGatesToMakeIsMissing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	if _, err := LoadCA(filepath.Join(dir, "user_ca")); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "systemd handed over no credential user_ca") {
		t.Errorf("%v", err)
	}
	if _, err := LoadHostKeys([]string{filepath.Join(dir, "ssh_host_ed25519_key")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if _, err := LoadSigner(filepath.Join(t.TempDir(), "id")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestAKeyWithAPassphraseIsToldFromABrokenOne(t *testing.T) {
	dir := t.TempDir()
	locked, broken := filepath.Join(dir, "locked"), filepath.Join(dir, "broken")
	block, err := ssh.MarshalPrivateKeyWithPassphrase(ed25519.NewKeyFromSeed(make([]byte, 32)), "", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(locked, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(broken, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadCA(locked); err == nil || !strings.Contains(err.Error(), "it has a passphrase") {
		t.Errorf("%v", err)
	}
	if _, err := LoadCA(broken); err == nil || !strings.Contains(err.Error(), broken) {
		t.Errorf("%v", err)
	}
}
