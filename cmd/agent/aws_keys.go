package main

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"

	"postern/internal/config"
	"postern/internal/privatelink"
	"postern/internal/sshgate"
)

// secretSigner returns the private key that a secret in AWS holds. It waits for
// AWS for a while: without its keys a gate can't be the one that clients know.
func secretSigner(c *config.Config, reference string) (ssh.Signer, error) {
	client, err := openAWS(c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), keysTimeout)
	defer cancel()
	data, err := client.Secret(ctx, reference)
	if err != nil {
		return nil, &secretError{err}
	}
	signer, err := sshgate.ParseSigner(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", reference, err)
	}
	return signer, nil
}

// secretError is a key that AWS did not give.
type secretError struct{ error }

func (e *secretError) Unwrap() error { return e.error }

// hostKeys loads the host keys that c names: files, which are made where they
// are missing, and secrets in AWS, which are not.
func hostKeys(c *config.Config) ([]ssh.Signer, error) {
	if len(c.SSH.HostKeys) == 0 {
		return nil, errors.New("no host keys are configured")
	}
	var all []ssh.Signer
	for _, ref := range c.SSH.HostKeys {
		if !privatelink.IsSecret(ref) {
			keys, err := sshgate.LoadHostKeys([]string{ref})
			if err != nil {
				return nil, err
			}
			all = append(all, keys...)
			continue
		}
		key, err := secretSigner(c, ref)
		if err != nil {
			return nil, fmt.Errorf("host key: %w", err)
		}
		all = append(all, key)
	}
	return all, nil
}
