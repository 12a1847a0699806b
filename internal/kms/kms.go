// Package kms signs with keys that AWS KMS holds, so that no private key is on
// the host.
package kms

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go/logging"
)

const (
	defaultTimeout = 5 * time.Second
	attempts       = 3
	// maxBackoff keeps all attempts within a timeout of some seconds.
	maxBackoff = time.Second
)

// Options name a key.
type Options struct {
	Key      string        // ARN of the key or of its alias
	Region   string        // "" = that of the ARN
	Endpoint string        // URL of another server; "" = AWS, or what the environment says
	Timeout  time.Duration // of one call with its repetitions; 0 = 5 s
}

// IsKey reports whether a reference in a configuration names a key in KMS and
// no file: whether it is the ARN of a key or of an alias.
func IsKey(reference string) bool {
	_, ok := regionOf(reference)
	return ok
}

// regionOf reads arn:PARTITION:kms:REGION:ACCOUNT:key/ID, or alias/NAME.
func regionOf(arn string) (region string, ok bool) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[1] == "" || parts[2] != "kms" || parts[3] == "" || parts[4] == "" {
		return "", false
	}
	kind, name, _ := strings.Cut(parts[5], "/")
	return parts[3], (kind == "key" || kind == "alias") && name != ""
}

// Signer is a crypto.Signer whose private key is in KMS. It may be used from any
// goroutine.
type Signer struct {
	calls   calls
	key     string // ARN as it was given
	timeout time.Duration
	public  publicKey
}

// calls are what is asked of KMS. They are functions and not the SDK's client:
// a Signer becomes an interface, the command line is read by reflection, and so
// the linker would keep every method of a client in it.
type calls struct {
	publicKey func(context.Context, *kms.GetPublicKeyInput, ...func(*kms.Options)) (*kms.GetPublicKeyOutput, error)
	sign      func(context.Context, *kms.SignInput, ...func(*kms.Options)) (*kms.SignOutput, error)
}

// New asks KMS for the public key. It refuses a key that isn't for signing, or
// of a kind that neither checkpoints (Ed25519) nor SSH (Ed25519, ECDSA) takes.
// It needs kms:GetPublicKey, and Sign needs kms:Sign.
func New(ctx context.Context, o Options) (*Signer, error) {
	region, ok := regionOf(o.Key)
	if !ok {
		return nil, fmt.Errorf("the KMS key %q is no ARN of a key or alias: want arn:aws:kms:REGION:ACCOUNT:key/ID", o.Key)
	}
	s := &Signer{key: o.Key, timeout: o.Timeout}
	if s.timeout <= 0 {
		s.timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if o.Region != "" {
		region = o.Region
	}
	if err := s.connect(ctx, region, o.Endpoint); err != nil {
		return nil, fmt.Errorf("set up KMS for %s: %w", o.Key, err)
	}
	if err := s.fetch(ctx); err != nil {
		return nil, fmt.Errorf("get the public key of %s: %w", o.Key, err)
	}
	return s, nil
}

// connect makes the client. A try that gets no answer ends at half the timeout,
// so that there is room for another one.
func (s *Signer) connect(ctx context.Context, region, endpoint string) error {
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithRegion(region),
		config.WithLogger(logging.Nop{}), // what matters comes as an error
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(s.timeout/2)),
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = attempts, maxBackoff })
		}))
	if err != nil {
		return err
	}
	client := kms.NewFromConfig(cfg, func(o *kms.Options) {
		if endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
		}
	})
	s.calls = calls{publicKey: client.GetPublicKey, sign: client.Sign}
	return nil
}

func (s *Signer) fetch(ctx context.Context) error {
	out, err := s.calls.publicKey(ctx, &kms.GetPublicKeyInput{KeyId: aws.String(s.key)})
	if err != nil {
		return explain("kms:GetPublicKey", err)
	}
	s.public, err = parsePublicKey(out)
	return err
}

// Public is the public key, an ed25519.PublicKey or an *ecdsa.PublicKey.
func (s *Signer) Public() crypto.PublicKey { return s.public.key() }

// Sign signs message, or for ECDSA its digest, as crypto.Signer says: Ed25519
// wants opts to name no hash, and ECDSA the one that KMS has for the curve
// (SHA-256, SHA-384, SHA-512 for P-256, P-384, P-521). It asks KMS, for at most
// the timeout, and returns only what the public key verifies. The reader is not
// used: KMS has its own randomness.
func (s *Signer) Sign(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	signature, err := s.sign(message, opts)
	if err != nil {
		return nil, fmt.Errorf("sign with the KMS key %s: %w", s.key, err)
	}
	return signature, nil
}

func (s *Signer) sign(message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := s.public.accepts(message, opts); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	out, err := s.calls.sign(ctx, s.public.request(s.key, message))
	if err != nil {
		return nil, explain("kms:Sign", err)
	}
	if !s.public.verify(message, out.Signature) {
		return nil, errors.New("the signature that came back is not one of this key: if an alias was pointed at another key, restart")
	}
	return out.Signature, nil
}
