package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"filippo.io/age"
	"go.uber.org/zap"

	"postern/internal/config"
	"postern/internal/kms"
	"postern/internal/privatelink"
	"postern/internal/record"
	"postern/internal/sshgate"
	"postern/internal/upstream"
)

// buildInspection makes what inspected sessions need: the CAs, which are made
// at the first start where they are missing, and the place for recordings.
func (g *gate) buildInspection(c *config.Config, o *sshgate.Options) error {
	var err error
	if o.HostCA, err = caKey(c, "host CA", c.SSH.HostCA, g.log); err != nil {
		return keyFault(c.SSH.HostCA, fmt.Errorf("load ssh.host_ca %s: %w", c.SSH.HostCA, err))
	}
	if o.Minter, err = newMinter(c, g.log); err != nil {
		return keyFault(c.Login.UserCA, err)
	}
	ro, err := recordOptions(c.Recordings)
	if err != nil {
		return configFault(err)
	}
	if g.recordings, err = record.Open(ro); err != nil {
		return configFault(err)
	}
	o.Recordings, o.Continue = g.recordings, c.Recordings.Continue
	return nil
}

// newMinter loads the key that logs in at targets. Where a private key is
// configured, the user CA is not touched.
func newMinter(c *config.Config, log *zap.Logger) (*upstream.Minter, error) {
	l := c.Login
	o := upstream.MinterOptions{Lifetime: l.CertificateLifetime}
	var err error
	if l.PrivateKey != "" {
		if o.Key, err = sshgate.LoadSigner(l.PrivateKey); err != nil {
			return nil, fmt.Errorf("load upstream.private_key %s: %w", l.PrivateKey, err)
		}
	} else if o.CA, err = caKey(c, "user CA", l.UserCA, log); err != nil {
		return nil, fmt.Errorf("load upstream.user_ca %s: %w", l.UserCA, err)
	}
	return upstream.NewMinter(o)
}

func recordOptions(r config.Recordings) (record.Options, error) {
	o := record.Options{Dir: r.Dir, MinFree: r.MinFree, Names: r.Recipients}
	for _, text := range r.Recipients {
		found, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil {
			return record.Options{}, fmt.Errorf("recordings.recipients: %s: %w", text, err)
		}
		o.Recipients = append(o.Recipients, found...)
	}
	return o, nil
}

// defaultKnownHosts is the file that need not be there: a gate whose policy
// has tunnels only needs none, and without it no target is known.
const defaultKnownHosts = "/etc/postern/known_hosts"

func loadKnownHosts(l config.Login) (*upstream.KnownHosts, error) {
	paths := l.KnownHosts
	if _, err := os.Stat(defaultKnownHosts); errors.Is(err, fs.ErrNotExist) && slices.Equal(paths, []string{defaultKnownHosts}) {
		paths = nil
	}
	known, err := upstream.LoadKnownHosts(paths)
	if err != nil {
		return nil, fmt.Errorf("load upstream.known_hosts: %w", err)
	}
	return known, nil
}

// checkInspection reads what buildInspection will, and makes nothing. A CA
// that is missing will be made; one that only the gate's user may read is its
// own affair, and so is one in AWS, which only the gate's role may use.
func checkInspection(c *config.Config) error {
	if _, err := loadKnownHosts(c.Login); err != nil {
		return err
	}
	if _, err := recordOptions(c.Recordings); err != nil {
		return err
	}
	if err := checkCA("ssh.host_ca", c.SSH.HostCA); err != nil {
		return err
	}
	if c.Login.PrivateKey == "" {
		return checkCA("upstream.user_ca", c.Login.UserCA)
	}
	if _, err := sshgate.LoadSigner(c.Login.PrivateKey); err != nil && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("upstream.private_key: %w", err)
	}
	return nil
}

func checkCA(key, path string) error {
	if kms.IsKey(path) || privatelink.IsSecret(path) {
		return nil
	}
	_, err := sshgate.LoadSigner(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return fmt.Errorf("%s: %w", key, err)
}
