package kms_test

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/mod/sumdb/note"

	"postern/internal/audit"
	"postern/internal/kms"
	"postern/test/awsfake"
)

func fakeKMS(t *testing.T) (*awsfake.Server, *awsfake.KMS) {
	server := awsfake.New()
	t.Cleanup(server.Close)
	for _, pair := range server.Env() {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	return server, server.KMS()
}

func signer(t *testing.T, keys *awsfake.KMS, spec string) *kms.Signer {
	t.Helper()
	s, err := kms.New(t.Context(), kms.Options{Key: keys.Make(spec, "SIGN_VERIFY")})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestAnAuditLogIsSignedByKMS signs a log, loses KMS for a while, and has the
// log verified with the public key alone.
func TestAnAuditLogIsSignedByKMS(t *testing.T) {
	server, keys := fakeKMS(t)
	dir := filepath.Join(t.TempDir(), "audit")
	log, err := audit.Open(audit.Options{Dir: dir, Key: signer(t, keys, "ECC_NIST_EDWARDS25519")})
	if err != nil {
		t.Fatal(err)
	}
	appendOne(t, log)
	first, err := log.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	mend := server.Fail(awsfake.Fault{Status: 400, Code: "DisabledException"})
	appendOne(t, log)
	if c, err := log.Checkpoint(); err == nil || !strings.Contains(err.Error(), "kms:Sign") || c.Size != first.Size {
		t.Errorf("without KMS a checkpoint over %d events was signed, %v", c.Size, err)
	}
	mend()
	if c, err := log.Checkpoint(); err != nil || c.Size != first.Size+1 {
		t.Errorf("with KMS back the checkpoint covers %d events, %v", c.Size, err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	verify(t, dir)
}

func appendOne(t *testing.T, log *audit.Log) {
	t.Helper()
	if err := log.Append(t.Context(), audit.Event{Code: audit.DaemonHeartbeat, Message: "still here"}); err != nil {
		t.Fatal(err)
	}
}

func verify(t *testing.T, dir string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "audit.vkey"))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	report, err := audit.Verify(t.Context(), audit.VerifyOptions{Dir: dir, Keys: []note.Verifier{verifier}})
	if err != nil || len(report.Findings) > 0 {
		t.Errorf("findings %v, %v", report.Findings, err)
	}
}

func TestAnAuditLogTakesNoECDSAKey(t *testing.T) {
	_, keys := fakeKMS(t)
	if log, err := audit.Open(audit.Options{Dir: filepath.Join(t.TempDir(), "audit"), Key: signer(t, keys, "ECC_NIST_P256")}); err == nil {
		t.Error("it was taken", log.Close())
	}
}

// TestSSHCertificatesAreSignedByKMS is how host_ca and user_ca use it.
func TestSSHCertificatesAreSignedByKMS(t *testing.T) {
	_, keys := fakeKMS(t)
	for spec, algorithm := range map[string]string{
		"ECC_NIST_EDWARDS25519": ssh.KeyAlgoED25519,
		"ECC_NIST_P256":         ssh.KeyAlgoECDSA256,
		"ECC_NIST_P384":         ssh.KeyAlgoECDSA384,
		"ECC_NIST_P521":         ssh.KeyAlgoECDSA521,
	} {
		ca, err := ssh.NewSignerFromSigner(signer(t, keys, spec))
		if err != nil {
			t.Fatal(err)
		}
		cert := &ssh.Certificate{Key: ca.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{"10.0.2.17"}, ValidBefore: ssh.CertTimeInfinity}
		if err := cert.SignCert(rand.Reader, ca); err != nil {
			t.Errorf("%s: %v", spec, err)
			continue
		}
		if cert.Signature.Format != algorithm {
			t.Errorf("%s: signed as %s", spec, cert.Signature.Format)
		}
		if err := new(ssh.CertChecker).CheckCert("10.0.2.17", cert); err != nil {
			t.Errorf("%s: %v", spec, err)
		}
	}
}
