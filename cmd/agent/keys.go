package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/config"
	"postern/internal/kms"
	"postern/internal/privatelink"
	"postern/internal/sshgate"
)

// auditKeys returns the key that signs the audit log, which is made where it is
// a file that is missing, and the one before it, if there still is one.
func auditKeys(c *config.Config) (key, old crypto.Signer, err error) {
	if key, err = auditKey(c.SigningKey, audit.LoadOrMakeKey); err != nil {
		return nil, nil, keyFault(c.SigningKey, fmt.Errorf("load audit.signing_key: %w", err))
	}
	ref := c.OldSigningKey
	if ref == "" && !kms.IsKey(c.SigningKey) {
		ref = c.SigningKey + ".old"
	}
	if ref == "" {
		return key, nil, nil
	}
	old, err = auditKey(ref, audit.LoadKey)
	if err != nil && (c.OldSigningKey != "" || !errors.Is(err, fs.ErrNotExist)) {
		return nil, nil, keyFault(ref, fmt.Errorf("load the key before audit.signing_key: %w", err))
	}
	return key, old, nil
}

// auditKey returns the key that ref names; load reads it where it is a file.
func auditKey(ref string, load func(string) (crypto.Signer, error)) (crypto.Signer, error) {
	if !kms.IsKey(ref) {
		return load(ref)
	}
	return kmsSigner(ref)
}

// caKey returns the key of an SSH CA; a file is made where it is missing, with
// its public half beside it. That of a key in KMS is logged.
func caKey(c *config.Config, name, ref string, log *zap.Logger) (ssh.Signer, error) {
	if privatelink.IsSecret(ref) {
		return secretSigner(c, ref)
	}
	if !kms.IsKey(ref) {
		return sshgate.LoadCA(ref)
	}
	key, err := kmsSigner(ref)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		return nil, err
	}
	log.Info(name, zap.String("public_key", strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))))
	return signer, nil
}

func kmsSigner(arn string) (crypto.Signer, error) {
	return kms.New(context.Background(), kms.Options{Key: arn})
}

// keyFault tells a key file that is wrong, which stays so, from AWS, which may
// only be away: systemd then tries again.
func keyFault(ref string, err error) error {
	if _, ok := errors.AsType[*secretError](err); ok {
		return &fault{status: exitWrong, err: err, hints: []string{
			"the gate needs ssm:GetParameter or secretsmanager:GetSecretValue for it by its role, kms:Decrypt where its key is not AWS's own, and a way to the service (a VPC endpoint com.amazonaws.REGION.ssm or .secretsmanager)",
		}}
	}
	if !kms.IsKey(ref) {
		return configFault(err)
	}
	return &fault{status: exitWrong, err: err, hints: []string{
		"the gate needs kms:GetPublicKey and kms:Sign for this key, by its role and by the key's policy, and a way to KMS (a VPC endpoint com.amazonaws.REGION.kms)",
	}}
}
