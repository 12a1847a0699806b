package kms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/test/awsfake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const account = "arn:aws:kms:us-east-1:111122223333:"

// fake is KMS for one test, and all of AWS that the process finds.
func fake(t *testing.T) (*awsfake.Server, *awsfake.KMS) {
	server := awsfake.New()
	t.Cleanup(server.Close)
	useEnv(t, server)
	return server, server.KMS()
}

func useEnv(t *testing.T, server *awsfake.Server) {
	for _, pair := range server.Env() {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
}

func open(t *testing.T, arn string) *Signer {
	t.Helper()
	s, err := New(t.Context(), Options{Key: arn})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAReferenceThatIsNoArnIsAPath(t *testing.T) {
	for reference, want := range map[string]bool{
		"":                                    false,
		"/var/lib/postern/audit_key":          false,
		"arn:aws:kms:us-east-1:1:key/abc":     true,
		"arn:aws:kms:us-east-1:1:alias/a/b":   true,
		"arn:aws-us-gov:kms:x:1:key/mrk-1":    true,
		"arn:aws:kms:us-east-1:1:key/":        false,
		"arn:aws:kms:us-east-1:1:grant/abc":   false,
		"arn:aws:kms::1:key/abc":              false,
		"arn:aws:kms:us-east-1::key/abc":      false,
		"arn::kms:us-east-1:1:key/abc":        false,
		"arn:aws:s3:us-east-1:1:key/abc":      false,
		"alias/abc":                           false,
		"./arn:aws:kms:us-east-1:1:key/abc":   false,
		"1234abcd-12ab-34cd-56ef-1234567890a": false,
	} {
		if got := IsKey(reference); got != want {
			t.Errorf("IsKey(%q) = %v, want %v", reference, got, want)
		}
	}
}

func TestEd25519SignsTheMessage(t *testing.T) {
	_, keys := fake(t)
	s := open(t, keys.Make("ECC_NIST_EDWARDS25519", "SIGN_VERIFY"))
	for _, size := range []int{1, 200, 4096} {
		message := make([]byte, size)
		signature, err := s.Sign(nil, message, crypto.Hash(0))
		if err != nil || !ed25519.Verify(s.Public().(ed25519.PublicKey), message, signature) {
			t.Errorf("%d bytes: signature does not verify, %v", size, err)
		}
	}
}

func TestECDSASignsTheDigest(t *testing.T) {
	_, keys := fake(t)
	s256, s384, s512 := sha256.Sum256([]byte("m")), sha512.Sum384([]byte("m")), sha512.Sum512([]byte("m"))
	for spec, c := range map[string]struct {
		hash   crypto.Hash
		digest []byte
	}{
		"ECC_NIST_P256": {crypto.SHA256, s256[:]},
		"ECC_NIST_P384": {crypto.SHA384, s384[:]},
		"ECC_NIST_P521": {crypto.SHA512, s512[:]},
	} {
		s := open(t, keys.Make(spec, "SIGN_VERIFY"))
		signature, err := s.Sign(nil, c.digest, c.hash)
		if err != nil || !ecdsa.VerifyASN1(s.Public().(*ecdsa.PublicKey), c.digest, signature) {
			t.Errorf("%s: signature does not verify, %v", spec, err)
		}
		if _, err := s.Sign(nil, c.digest[1:], c.hash); err == nil {
			t.Errorf("%s signs what is no digest", spec)
		}
		if _, err := s.Sign(nil, make([]byte, 20), crypto.SHA1); err == nil {
			t.Errorf("%s signs a digest of SHA-1", spec)
		}
	}
}

func TestEd25519RefusesWhatKMSCannotSign(t *testing.T) {
	server, keys := fake(t)
	s := open(t, keys.Make("ECC_NIST_EDWARDS25519", "SIGN_VERIFY"))
	before := len(server.Calls())
	for name, c := range map[string]struct {
		message []byte
		opts    crypto.SignerOpts
	}{
		"a message of 4097 bytes": {make([]byte, 4097), crypto.Hash(0)},
		"a digest":                {make([]byte, 64), crypto.SHA512},
		"a context":               {[]byte("m"), &ed25519.Options{Context: "c"}},
	} {
		if _, err := s.Sign(nil, c.message, c.opts); err == nil {
			t.Errorf("%s was signed", name)
		}
	}
	if asked := server.Calls()[before:]; len(asked) > 0 {
		t.Errorf("KMS was asked: %q", asked)
	}
}

func TestAnAliasNamesAKey(t *testing.T) {
	_, keys := fake(t)
	arn := keys.Make("ECC_NIST_EDWARDS25519", "SIGN_VERIFY")
	byAlias, byID := open(t, keys.Alias("postern/audit", arn)), open(t, arn)
	if !byID.Public().(ed25519.PublicKey).Equal(byAlias.Public()) {
		t.Error("the alias is another key")
	}
}

func TestTheAliasOfAnotherKeySignsNothing(t *testing.T) {
	_, keys := fake(t)
	s := open(t, keys.Alias("a", keys.Make("ECC_NIST_EDWARDS25519", "SIGN_VERIFY")))
	keys.Alias("a", keys.Make("ECC_NIST_EDWARDS25519", "SIGN_VERIFY"))
	if signature, err := s.Sign(nil, []byte("m"), crypto.Hash(0)); err == nil {
		t.Errorf("got %x", signature)
	}
}

func TestAWrongSignatureIsNotHandedOut(t *testing.T) {
	_, keys := fake(t)
	for _, spec := range []string{"ECC_NIST_EDWARDS25519", "ECC_NIST_P256"} {
		arn := keys.Make(spec, "SIGN_VERIFY")
		s := open(t, arn)
		keys.Corrupt(arn)
		opts := map[string]crypto.SignerOpts{"ECC_NIST_EDWARDS25519": crypto.Hash(0), "ECC_NIST_P256": crypto.SHA256}[spec]
		if signature, err := s.Sign(nil, make([]byte, 32), opts); err == nil {
			t.Errorf("%s: got %x", spec, signature)
		}
	}
}

func TestAKeyOfTheWrongKindIsRefused(t *testing.T) {
	server, keys := fake(t)
	rsa := keys.Make("RSA_2048", "SIGN_VERIFY")
	encrypts := keys.Make("RSA_2048", "ENCRYPT_DECRYPT")
	agrees := keys.Make("ECC_NIST_P256", "KEY_AGREEMENT")
	for arn, hint := range map[string]string{
		rsa:                  "RSA_2048",
		encrypts:             "ENCRYPT_DECRYPT",
		agrees:               "KEY_AGREEMENT",
		account + "key/none": "no such key",
		"alias/audit":        "no ARN",
	} {
		if _, err := New(t.Context(), Options{Key: arn}); err == nil || !strings.Contains(err.Error(), hint) || !strings.Contains(err.Error(), arn) {
			t.Errorf("%s: %v; want %q", arn, err, hint)
		}
	}
	server.Serve("kms", func(awsfake.Request) (int, []byte) {
		return 200, []byte(`{"KeySpec":"ECC_NIST_EDWARDS25519","KeyUsage":"SIGN_VERIFY","PublicKey":"AAAA"}`)
	})
	if _, err := New(t.Context(), Options{Key: rsa}); err == nil || !strings.Contains(err.Error(), "no public key") {
		t.Errorf("a public key of three bytes: %v", err)
	}
}

// TestAKeyThatIsNotWhatKMSSaysIsRefused answers with one kind of key under the
// name of another.
func TestAKeyThatIsNotWhatKMSSaysIsRefused(t *testing.T) {
	server, keys := fake(t)
	arn := keys.Make("ECC_NIST_P256", "SIGN_VERIFY")
	var answer []byte
	server.Serve("kms", func(awsfake.Request) (int, []byte) { return 200, answer })
	const p256 = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q=="
	for _, spec := range []string{"ECC_NIST_EDWARDS25519", "ECC_NIST_P384", "RSA_2048", "ML_DSA_44", ""} {
		answer = []byte(`{"KeySpec":"` + spec + `","KeyUsage":"SIGN_VERIFY","PublicKey":"` + p256 + `"}`)
		if _, err := New(t.Context(), Options{Key: arn}); err == nil || !strings.Contains(err.Error(), spec) {
			t.Errorf("%q: %v", spec, err)
		}
	}
	answer = []byte(`{"KeySpec":"ECC_NIST_P256","KeyUsage":"SIGN_VERIFY","PublicKey":"` + p256 + `"}`)
	if _, err := New(t.Context(), Options{Key: arn}); err != nil {
		t.Errorf("the control: %v", err)
	}
}

func TestErrorsNameTheActionAndTheKey(t *testing.T) {
	server, keys := fake(t)
	arn := keys.Make("ECC_NIST_EDWARDS25519", "SIGN_VERIFY")
	s := open(t, arn)
	for _, c := range []struct {
		fault awsfake.Fault
		want  string
	}{
		{awsfake.Fault{Status: 400, Code: "AccessDeniedException", Message: "User is not authorized"}, "allow kms:"},
		{awsfake.Fault{Status: 400, Code: "KMSInvalidStateException"}, "pending deletion"},
		{awsfake.Fault{Status: 400, Code: "InvalidSignatureException"}, "clock"},
		{awsfake.Fault{Status: 400, Code: "ExpiredTokenException"}, "credentials"},
		{awsfake.Fault{Status: 400, Code: "SomethingNewException"}, "KMS refuses"},
		{awsfake.Fault{Status: 400, HTML: true}, "kms:"},
		{awsfake.Fault{Truncate: 20}, "kms:"},
	} {
		mend := server.Fail(c.fault)
		_, err := s.Sign(nil, []byte("m"), crypto.Hash(0))
		check(t, err, c.want, "kms:Sign", arn)
		_, err = New(t.Context(), Options{Key: arn})
		check(t, err, c.want, "kms:GetPublicKey", arn)
		mend()
	}
	if _, err := s.Sign(nil, []byte("m"), crypto.Hash(0)); err != nil {
		t.Errorf("after all is well again: %v", err)
	}
}

func check(t *testing.T, err error, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

func TestADisabledKeySignsAgainOnceEnabled(t *testing.T) {
	_, keys := fake(t)
	arn := keys.Make("ECC_NIST_EDWARDS25519", "SIGN_VERIFY")
	s := open(t, arn)
	keys.SetState(arn, "Disabled")
	_, err := s.Sign(nil, []byte("m"), crypto.Hash(0))
	check(t, err, "enable it")
	_, err = New(t.Context(), Options{Key: arn})
	check(t, err, "enable it")
	keys.SetState(arn, "PendingDeletion")
	_, err = s.Sign(nil, []byte("m"), crypto.Hash(0))
	check(t, err, "cancel")
	keys.SetState(arn, "Enabled")
	if _, err := s.Sign(nil, []byte("m"), crypto.Hash(0)); err != nil {
		t.Error(err)
	}
}

func TestShortFaultsAreRepeatedAFewTimes(t *testing.T) {
	server, keys := fake(t)
	s := open(t, keys.Make("ECC_NIST_EDWARDS25519", "SIGN_VERIFY"))
	for name, fault := range map[string]awsfake.Fault{
		"throttled": {Status: 400, Code: "ThrottlingException"},
		"broken":    {Status: 500, Code: "KMSInternalException"},
		"HTML":      {HTML: true},
	} {
		fault.Times = 1
		mend := server.Fail(fault)
		if _, err := s.Sign(nil, []byte("m"), crypto.Hash(0)); err != nil {
			t.Errorf("%s once: %v", name, err)
		}
		mend()
		fault.Times = 0
		mend = server.Fail(fault)
		before := len(server.Calls())
		if _, err := s.Sign(nil, []byte("m"), crypto.Hash(0)); err == nil {
			t.Errorf("%s for ever: signed", name)
		}
		if tries := len(server.Calls()) - before; tries != attempts {
			t.Errorf("%s for ever: %d tries, want %d", name, tries, attempts)
		}
		mend()
	}
}

func TestACallEndsWithTheTimeout(t *testing.T) {
	server, keys := fake(t)
	arn := keys.Make("ECC_NIST_EDWARDS25519", "SIGN_VERIFY")
	s, err := New(t.Context(), Options{Key: arn, Timeout: 400 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	mend := server.Fail(awsfake.Fault{Hang: true, Times: 1})
	if _, err := s.Sign(nil, []byte("m"), crypto.Hash(0)); err != nil {
		t.Errorf("one try that hangs: %v", err)
	}
	mend()
	server.Fail(awsfake.Fault{Hang: true})
	began := time.Now()
	_, err = s.Sign(nil, []byte("m"), crypto.Hash(0))
	check(t, err, "kms:Sign", arn)
	_, err = New(t.Context(), Options{Key: arn, Timeout: 400 * time.Millisecond})
	check(t, err, "kms:GetPublicKey", arn)
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("two calls took %s", took)
	}
}

func TestNewEndsWithItsContext(t *testing.T) {
	server, keys := fake(t)
	server.Fail(awsfake.Fault{Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := New(ctx, Options{Key: keys.Make("ECC_NIST_P256", "SIGN_VERIFY")}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestKMSThatIsDownIsSaid(t *testing.T) {
	server, keys := fake(t)
	arn := keys.Make("ECC_NIST_EDWARDS25519", "SIGN_VERIFY")
	s := open(t, arn)
	server.Close()
	_, err := s.Sign(nil, []byte("m"), crypto.Hash(0))
	check(t, err, "kms:Sign: KMS gave no answer", arn)
}

func TestTheRegionIsThatOfTheArn(t *testing.T) {
	_, _ = fake(t)
	var region string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		region = strings.Split(r.Header.Get("Authorization"), "/")[2]
		w.WriteHeader(http.StatusBadRequest)
	}))
	defer server.Close()
	for given, want := range map[string]string{"": "eu-west-3", "eu-west-1": "eu-west-1"} {
		_, err := New(t.Context(), Options{Key: "arn:aws:kms:eu-west-3:111122223333:key/a", Region: given, Endpoint: server.URL})
		if err == nil || region != want {
			t.Errorf("region %q given: signed for %q, want %q (%v)", given, region, want, err)
		}
	}
	server.CloseClientConnections()
}

func TestASignerIsUsedFromManyGoroutines(t *testing.T) {
	_, keys := fake(t)
	s := open(t, keys.Make("ECC_NIST_EDWARDS25519", "SIGN_VERIFY"))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 8 {
				if _, err := s.Sign(nil, []byte("m"), crypto.Hash(0)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
