package awsfake_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"postern/test/awsfake"
)

func serveKMS(t *testing.T) (*awsfake.Server, *awsfake.KMS, *kms.Client) {
	t.Helper()
	s, cfg := serve(t, &awsfake.Account{})
	return s, s.KMS(), kms.NewFromConfig(cfg)
}

// TestKMSRefusesWhatItsReferenceSays gives the code of each refusal; "" is a
// signature.
func TestKMSRefusesWhatItsReferenceSays(t *testing.T) {
	_, keys, client := serveKMS(t)
	edwards, p256, agrees := keys.Make("ECC_NIST_EDWARDS25519", "SIGN_VERIFY"), keys.Make("ECC_NIST_P256", "SIGN_VERIFY"), keys.Make("ECC_NIST_P256", "KEY_AGREEMENT")
	disabled, leaving := keys.Make("ECC_NIST_P256", "SIGN_VERIFY"), keys.Make("ECC_NIST_P256", "SIGN_VERIFY")
	keys.SetState(disabled, "Disabled")
	keys.SetState(leaving, "PendingDeletion")
	for name, c := range map[string]struct {
		key, algorithm, kind string
		size                 int
		want                 string
	}{
		"Ed25519":                    {edwards, "ED25519_SHA_512", "RAW", 4096, ""},
		"Ed25519ph":                  {edwards, "ED25519_PH_SHA_512", "DIGEST", 64, ""},
		"the kind left out":          {edwards, "ED25519_SHA_512", "", 1, ""},
		"ECDSA of a digest":          {p256, "ECDSA_SHA_256", "DIGEST", 32, ""},
		"ECDSA of a message":         {p256, "ECDSA_SHA_256", "RAW", 100, ""},
		"an alias":                   {keys.Alias("a", p256), "ECDSA_SHA_256", "RAW", 100, ""},
		"4097 bytes":                 {edwards, "ED25519_SHA_512", "RAW", 4097, "ValidationException"},
		"Ed25519 of a digest":        {edwards, "ED25519_SHA_512", "DIGEST", 64, "ValidationException"},
		"Ed25519ph of a message":     {edwards, "ED25519_PH_SHA_512", "RAW", 64, "ValidationException"},
		"a digest of another length": {p256, "ECDSA_SHA_256", "DIGEST", 48, "ValidationException"},
		"the algorithm of another":   {p256, "ED25519_SHA_512", "RAW", 64, "InvalidKeyUsageException"},
		"the hash of another":        {p256, "ECDSA_SHA_384", "DIGEST", 48, "InvalidKeyUsageException"},
		"a key that is not to sign":  {agrees, "ECDSA_SHA_256", "RAW", 32, "InvalidKeyUsageException"},
		"a disabled key":             {disabled, "ECDSA_SHA_256", "RAW", 32, "DisabledException"},
		"a key that will go":         {leaving, "ECDSA_SHA_256", "RAW", 32, "KMSInvalidStateException"},
		"no key":                     {"00000000-0000-0000-0000-000000000099", "ECDSA_SHA_256", "RAW", 32, "NotFoundException"},
		"no alias":                   {"alias/none", "ECDSA_SHA_256", "RAW", 32, "NotFoundException"},
	} {
		out, err := client.Sign(t.Context(), &kms.SignInput{KeyId: aws.String(c.key), Message: make([]byte, c.size),
			MessageType: types.MessageType(c.kind), SigningAlgorithm: types.SigningAlgorithmSpec(c.algorithm)})
		switch {
		case c.want == "" && (err != nil || len(out.Signature) == 0):
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || code(t, err) != c.want):
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func TestKMSKeysSignAsTheirPublicKeysSay(t *testing.T) {
	_, keys, client := serveKMS(t)
	message := []byte("message")
	prehashed := sha512.Sum512(message)
	digest := sha256.Sum256(message)
	for _, c := range []struct {
		spec, algorithm, kind string
		message               []byte
		verify                func(public any, signature []byte) bool
	}{
		{"ECC_NIST_EDWARDS25519", "ED25519_SHA_512", "RAW", message, func(public any, s []byte) bool {
			return ed25519.Verify(public.(ed25519.PublicKey), message, s)
		}},
		{"ECC_NIST_EDWARDS25519", "ED25519_PH_SHA_512", "DIGEST", message, func(public any, s []byte) bool {
			return ed25519.VerifyWithOptions(public.(ed25519.PublicKey), prehashed[:], s, &ed25519.Options{Hash: crypto.SHA512}) == nil
		}},
		{"ECC_NIST_P256", "ECDSA_SHA_256", "RAW", message, func(public any, s []byte) bool {
			return ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), digest[:], s)
		}},
	} {
		arn := keys.Make(c.spec, "SIGN_VERIFY")
		out, err := client.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: aws.String(arn)})
		if err != nil || string(out.KeySpec) != c.spec || out.KeyUsage != types.KeyUsageTypeSignVerify || aws.ToString(out.KeyId) != arn {
			t.Fatalf("%s: %+v, %v", c.spec, out, err)
		}
		public, err := x509.ParsePKIXPublicKey(out.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		in := &kms.SignInput{KeyId: aws.String(arn), Message: c.message, MessageType: types.MessageType(c.kind), SigningAlgorithm: types.SigningAlgorithmSpec(c.algorithm)}
		if signed, err := client.Sign(t.Context(), in); err != nil || !c.verify(public, signed.Signature) {
			t.Errorf("%s: the signature does not verify, %v", c.algorithm, err)
		}
		keys.Corrupt(arn)
		if signed, err := client.Sign(t.Context(), in); err != nil || c.verify(public, signed.Signature) {
			t.Errorf("%s: a corrupt key's signature verifies, %v", c.algorithm, err)
		}
	}
}

func TestKMSDescribesEvenADisabledKey(t *testing.T) {
	_, keys, client := serveKMS(t)
	arn := keys.Make("ECC_NIST_P384", "SIGN_VERIFY")
	keys.SetState(arn, "Disabled")
	out, err := client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String(arn)})
	if err != nil || out.KeyMetadata.KeyState != types.KeyStateDisabled || out.KeyMetadata.KeySpec != types.KeySpecEccNistP384 || out.KeyMetadata.Enabled {
		t.Errorf("%+v, %v", out, err)
	}
	if _, err := client.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: aws.String(arn)}); err == nil || code(t, err) != "DisabledException" {
		t.Errorf("its public key: %v", err)
	}
}
