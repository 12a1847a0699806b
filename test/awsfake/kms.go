package awsfake

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // hashes that KMS makes of a RAW message
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
)

const kmsArn = "arn:aws:kms:us-east-1:111122223333:"

// KMS keeps the keys of the fake. Its methods may be called from any goroutine.
type KMS struct {
	mu      sync.Mutex
	keys    map[string]*kmsKey // by ID
	aliases map[string]string  // alias/NAME to ID
}

type kmsKey struct {
	id, spec, usage string
	private         crypto.Signer
	state           string
	wrong           bool // its signatures verify with nothing
}

// KMS adds the service: GetPublicKey, Sign and DescribeKey.
func (s *Server) KMS() *KMS {
	k := &KMS{keys: map[string]*kmsKey{}, aliases: map[string]string{}}
	s.Serve("kms", k.answer)
	return k
}

// Make makes an enabled key and returns its ARN. spec is a KeySpec of KMS:
// ECC_NIST_EDWARDS25519, ECC_NIST_P256, P384, P521 or RSA_2048, and usage
// SIGN_VERIFY or another.
func (k *KMS) Make(spec, usage string) (arn string) {
	key := &kmsKey{spec: spec, usage: usage, state: "Enabled", private: makePrivate(spec)}
	k.mu.Lock()
	defer k.mu.Unlock()
	key.id = fmt.Sprintf("00000000-0000-0000-0000-%012d", len(k.keys)+1)
	k.keys[key.id] = key
	return kmsArn + "key/" + key.id
}

func makePrivate(spec string) crypto.Signer {
	var key crypto.Signer
	var err error
	switch spec {
	case "ECC_NIST_EDWARDS25519":
		_, key, err = ed25519.GenerateKey(nil)
	case "ECC_NIST_P256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ECC_NIST_P384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ECC_NIST_P521":
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "RSA_2048":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		err = fmt.Errorf("awsfake: no KeySpec %s", spec)
	}
	if err != nil {
		panic(err)
	}
	return key
}

// Alias points alias/NAME at a key, and returns the alias's ARN.
func (k *KMS) Alias(name, arn string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.aliases["alias/"+name] = strings.TrimPrefix(arn, kmsArn+"key/")
	return kmsArn + "alias/" + name
}

// SetState makes a key Enabled, Disabled or PendingDeletion.
func (k *KMS) SetState(arn, state string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.find(arn).state = state
}

// Corrupt makes the key's signatures wrong from now on.
func (k *KMS) Corrupt(arn string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.find(arn).wrong = true
}

// find takes what KMS takes: an ID, alias/NAME, or the ARN of either.
func (k *KMS) find(keyID string) *kmsKey {
	name := strings.TrimPrefix(keyID, kmsArn)
	if id, ok := k.aliases[name]; ok {
		return k.keys[id]
	}
	return k.keys[strings.TrimPrefix(name, "key/")]
}

type kmsRequest struct {
	KeyId, MessageType, SigningAlgorithm string
	Message                              []byte
}

func (k *KMS) answer(r Request) (status int, body []byte) {
	var in kmsRequest
	if err := json.Unmarshal(r.Body, &in); err != nil {
		return refuse(r, "SerializationException", err.Error())
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	key := k.find(in.KeyId)
	switch {
	case key == nil && strings.Contains(in.KeyId, "alias/"):
		return refuse(r, "NotFoundException", "Alias "+in.KeyId+" is not found.")
	case key == nil:
		return refuse(r, "NotFoundException", "Key '"+in.KeyId+"' does not exist")
	case r.Operation == "DescribeKey":
		return reply(map[string]any{"KeyMetadata": key.metadata()})
	case key.state == "Disabled":
		return refuse(r, "DisabledException", kmsArn+"key/"+key.id+" is disabled.")
	case key.state != "Enabled":
		return refuse(r, "KMSInvalidStateException", kmsArn+"key/"+key.id+" is pending deletion.")
	case r.Operation == "GetPublicKey":
		return key.publicKey()
	case r.Operation == "Sign":
		return key.sign(r, in)
	}
	return refuse(r, "UnknownOperationException", "")
}

func (k *kmsKey) metadata() map[string]any {
	return map[string]any{"Arn": kmsArn + "key/" + k.id, "KeyId": k.id, "AWSAccountId": "111122223333", "KeySpec": k.spec, "KeyUsage": k.usage,
		"KeyState": k.state, "Enabled": k.state == "Enabled", "KeyManager": "CUSTOMER", "Origin": "AWS_KMS", "SigningAlgorithms": k.algorithms()}
}

func (k *kmsKey) publicKey() (int, []byte) {
	der, err := x509.MarshalPKIXPublicKey(k.private.Public())
	if err != nil {
		panic(err)
	}
	return reply(map[string]any{"KeyId": kmsArn + "key/" + k.id, "KeySpec": k.spec, "CustomerMasterKeySpec": k.spec,
		"KeyUsage": k.usage, "PublicKey": der, "SigningAlgorithms": k.algorithms()})
}

func (k *kmsKey) algorithms() []string {
	return map[string][]string{
		"ECC_NIST_EDWARDS25519": {"ED25519_SHA_512", "ED25519_PH_SHA_512"},
		"ECC_NIST_P256":         {"ECDSA_SHA_256"},
		"ECC_NIST_P384":         {"ECDSA_SHA_384"},
		"ECC_NIST_P521":         {"ECDSA_SHA_512"},
	}[k.spec]
}

// sign checks what the API reference of Sign lists, in KMS's order as far as it
// is known.
func (k *kmsKey) sign(r Request, in kmsRequest) (int, []byte) {
	if n := len(in.Message); n == 0 || n > 4096 {
		return refuse(r, "ValidationException", "1 validation error detected: Value at 'message' failed to satisfy constraint: Member must have length less than or equal to 4096")
	}
	if k.usage != "SIGN_VERIFY" {
		return refuse(r, "InvalidKeyUsageException", kmsArn+"key/"+k.id+" key usage is "+k.usage+" which is not valid for Sign.")
	}
	if !slices.Contains(k.algorithms(), in.SigningAlgorithm) {
		return refuse(r, "InvalidKeyUsageException", "Algorithm "+in.SigningAlgorithm+" is incompatible with key spec "+k.spec+".")
	}
	message, opts, problem := toSign(in)
	if problem != "" {
		return refuse(r, "ValidationException", problem)
	}
	signature, err := k.private.Sign(rand.Reader, message, opts)
	if err != nil {
		panic(err)
	}
	if k.wrong {
		signature[len(signature)-1] ^= 1
	}
	return reply(map[string]any{"KeyId": kmsArn + "key/" + k.id, "Signature": signature, "SigningAlgorithm": in.SigningAlgorithm})
}

// toSign is what the algorithm signs, or what is wrong with the message.
func toSign(in kmsRequest) (message []byte, opts crypto.SignerOpts, problem string) {
	raw := in.MessageType != "DIGEST"
	switch in.SigningAlgorithm {
	case "ED25519_SHA_512":
		if !raw {
			return nil, nil, "MessageType DIGEST is incompatible with ED25519_SHA_512."
		}
		return in.Message, crypto.Hash(0), ""
	case "ED25519_PH_SHA_512":
		if raw {
			return nil, nil, "MessageType RAW is incompatible with ED25519_PH_SHA_512."
		}
		return hashed(crypto.SHA512, in.Message), crypto.SHA512, ""
	}
	hash := map[string]crypto.Hash{"ECDSA_SHA_256": crypto.SHA256, "ECDSA_SHA_384": crypto.SHA384, "ECDSA_SHA_512": crypto.SHA512}[in.SigningAlgorithm]
	if raw {
		return hashed(hash, in.Message), hash, ""
	}
	if len(in.Message) != hash.Size() {
		return nil, nil, "Digest is invalid length for algorithm " + in.SigningAlgorithm + "."
	}
	return in.Message, hash, ""
}

func hashed(hash crypto.Hash, message []byte) []byte {
	h := hash.New()
	h.Write(message)
	return h.Sum(nil)
}

func reply(out any) (int, []byte) {
	b, err := json.Marshal(out)
	if err != nil {
		panic(err)
	}
	return http.StatusOK, b
}

func refuse(r Request, code, message string) (int, []byte) {
	return http.StatusBadRequest, ErrorBody(r, code, message)
}
