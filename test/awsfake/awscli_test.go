package awsfake_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"postern/test/awsfake"
)

// awscli runs Debian's aws, which knows the wire formats from AWS's own models,
// and decodes what it prints.
func awscli(t *testing.T, server *awsfake.Server, out any, args ...string) {
	t.Helper()
	const program = "/usr/bin/aws"
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("aws is missing (package awscli)")
		}
		t.Skip("aws is missing (package awscli)")
	}
	c := exec.CommandContext(t.Context(), program, append([]string{"--endpoint-url", server.URL, "--output", "json"}, args...)...)
	c.Env = append(os.Environ(), server.Env()...)
	said, err := c.Output()
	if exit, ok := err.(*exec.ExitError); ok {
		t.Fatalf("aws %q: %v: %s", args, err, exit.Stderr)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(said, out); err != nil {
		t.Fatalf("aws %q: %v: %.500s", args, err, said)
	}
}

func TestTheAWSCommandLineReadsTheLogs(t *testing.T) {
	server := awsfake.New()
	t.Cleanup(server.Close)
	server.Logs().MakeGroup("g")
	awscli(t, server, nil, "logs", "create-log-stream", "--log-group-name", "g", "--log-stream-name", "s")
	awscli(t, server, nil, "logs", "put-log-events", "--log-group-name", "g", "--log-stream-name", "s",
		"--log-events", fmt.Sprintf("timestamp=%d,message=hello", time.Now().UnixMilli()))
	var got struct {
		Events []struct {
			Timestamp int64
			Message   string
		}
	}
	awscli(t, server, &got, "logs", "get-log-events", "--log-group-name", "g", "--log-stream-name", "s")
	if len(got.Events) != 1 || got.Events[0].Message != "hello" || got.Events[0].Timestamp == 0 {
		t.Errorf("%+v", got)
	}
}

func TestTheAWSCommandLineSignsWithKMS(t *testing.T) {
	server := awsfake.New()
	t.Cleanup(server.Close)
	arn := server.KMS().Make("ECC_NIST_EDWARDS25519", "SIGN_VERIFY")
	message := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(message, []byte("message"), 0o600); err != nil {
		t.Fatal(err)
	}
	var key struct{ PublicKey, KeyUsage string }
	awscli(t, server, &key, "kms", "get-public-key", "--key-id", arn)
	var signed struct{ Signature string }
	awscli(t, server, &signed, "kms", "sign", "--key-id", arn, "--message", "fileb://"+message, "--message-type", "RAW", "--signing-algorithm", "ED25519_SHA_512")
	public, err := x509.ParsePKIXPublicKey(unbase64(t, key.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	if key.KeyUsage != "SIGN_VERIFY" || !ed25519.Verify(public.(ed25519.PublicKey), []byte("message"), unbase64(t, signed.Signature)) {
		t.Errorf("%+v, %+v", key, signed)
	}
}

func unbase64(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
