package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"postern/internal/admin"
	"postern/internal/admission"
	"postern/internal/audit"
	"postern/internal/config"
	"postern/internal/metrics"
	"postern/internal/policy"
	"postern/internal/privatelink"
	"postern/internal/sshgate"
	"postern/internal/upstream"
)

const (
	// watchInterval leaves room for a file to rest for one look and still be
	// in force within a second of its change.
	watchInterval = 250 * time.Millisecond
	// retryInterval is how often a policy that could not be loaded is tried
	// again: the fault may be in a file that only the new policy names.
	retryInterval = 5 * time.Second
	// writeTimeout bounds the wait for an event of an act that takes access
	// away, which goes on even where it cannot be written down.
	writeTimeout = 10 * time.Second
)

// rules keeps what a running gate goes by equal to its files: admission,
// policy, revocations, known hosts and frozen identities. A file that is wrong changes
// nothing.
type rules struct {
	log       *zap.Logger
	level     zap.AtomicLevel
	audit     *audit.Log
	metrics   *metrics.Metrics
	admission *admission.Gate
	server    *sshgate.Server       // set before the first reload
	follower  *privatelink.Follower // of the way in; nil = AWS is not asked

	mu          sync.Mutex           // guards what follows; held through a whole reload
	config      *config.Config       // in force
	policy      *config.Policy       // in force
	known       *upstream.KnownHosts // in force
	frozen      *frozen
	admitted    admission.Options // in force: the configuration's, and what AWS says
	watch       *fileWatch        // of the policy's files
	configFault string            // why postern.yaml as it is now is not in force
	policyFault string            // why the policy's files as they are now are not in force
	objectFault string            // why the policy as it is now in S3 is not in force
}

// loadRules reads the policy, the known hosts and the frozen identities that c
// names.
func loadRules(c *config.Config) (*rules, error) {
	p, watch, err := loadPolicy(c.PolicyPath)
	if err != nil {
		return nil, loading("the policy", err)
	}
	known, err := loadKnownHosts(c.Login)
	if err != nil {
		return nil, err
	}
	f, err := loadFrozen(c.Admin.Frozen)
	if err != nil {
		return nil, fmt.Errorf("read the frozen identities: %w", err)
	}
	return &rules{config: c, admitted: c.Admission, policy: p, known: known, frozen: f, watch: watch}, nil
}

// loadPolicy loads twice: a change between the first load, which says what
// files there are, and the look at them would go unnoticed.
func loadPolicy(path string) (*config.Policy, *fileWatch, error) {
	first, err := config.LoadPolicy(path)
	if err != nil {
		return nil, nil, err
	}
	watch := watchFiles(first.Files)
	p, err := config.LoadPolicy(path)
	return p, watch, err
}

// gate returns the rules as the server takes them. The caller holds mu, or is
// alone.
func (r *rules) gate() sshgate.Rules {
	return sshgate.Rules{Policy: r.policy.WithFrozen(r.frozen.names()...), Revoked: r.policy.Revoked, KnownHosts: r.known}
}

// current returns the configuration in force.
func (r *rules) current() *config.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.config
}

// reload reads both files. Each is put in force as a whole, or keeps its old
// content where it is wrong, which the error says.
func (r *rules) reload(ctx context.Context, by *audit.Admin) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.reloadConfig(ctx, by), r.reloadPolicy(ctx, by))
}

func (r *rules) reloadConfig(ctx context.Context, by *audit.Admin) error {
	c, err := config.Load(r.config.Path)
	if err != nil {
		r.configFault = err.Error()
		return r.keep(ctx, by, r.config.Path, r.config.Version, err)
	}
	_, admissionErr := admission.New(c.Admission)
	known, err := loadKnownHosts(c.Login)
	if err := errors.Join(admissionErr, err); err != nil {
		r.configFault = err.Error()
		return r.keep(ctx, by, c.Path, r.config.Version, err)
	}
	live, restart := changedKeys(r.config, c)
	// Here and below the change is made even where its event could not be
	// written: a gate without its log lets nobody in, so the change can only
	// take access away.
	werr := r.write(ctx, audit.Event{Code: audit.ConfigReload, Message: "configuration applied", Admin: by,
		File: c.Path, Entity: c.Version, Policy: r.policy.Version,
		Extra: map[string]any{"previous": r.config.Version, "changed": append([]string{}, live...), "needs_restart": append([]string{}, restart...)}})
	if r.follower != nil {
		r.follower.Set(watchOf(c)) // what AWS said of another way in is forgotten
	}
	if err := r.admit(joined(c, r.view())); err != nil {
		return errors.Join(werr, err) // not after New has taken the same
	}
	r.level.SetLevel(level(c.Log))
	c.PolicyPath, c.PolicyObject = r.policyPlace(c)
	r.config, r.known, r.configFault = c, known, ""
	r.server.SetRules(r.gate())
	r.reloaded()
	r.log.Info("configuration applied", zap.String("version", c.Version), zap.Strings("changed", live))
	if len(restart) > 0 {
		r.log.Warn("some changed keys take a restart", zap.Strings("keys", restart))
	}
	return werr
}

func (r *rules) reloadPolicy(ctx context.Context, by *audit.Admin) error {
	p, watch, err := loadPolicy(r.config.PolicyPath)
	if err != nil {
		again := r.policyFault == err.Error() && by.Via == viaWatch
		r.policyFault = err.Error()
		if again {
			return err
		}
		return r.keep(ctx, by, r.config.PolicyPath, r.policy.Version, err)
	}
	werr := r.write(ctx, audit.Event{Code: audit.ConfigReload, Message: "policy applied", Admin: by,
		File: p.Path, Entity: p.Version, Policy: p.Version,
		Extra: map[string]any{"previous": r.policy.Version}})
	r.policy, r.watch, r.policyFault = p, watch, ""
	r.server.SetRules(r.gate())
	r.reloaded()
	r.log.Info("policy applied", zap.String("version", p.Version))
	return werr
}

// reloaded tells the metrics that something was put in force. The caller holds
// mu.
func (r *rules) reloaded() {
	r.metrics.ConfigReloaded(r.configFault == "" && r.policyFault == "" && r.objectFault == "", time.Now())
}

// keep reports a file that is wrong; version, of what was in force, stays so.
func (r *rules) keep(ctx context.Context, by *audit.Admin, file, version string, fault error) error {
	r.metrics.ConfigReloaded(false, time.Now())
	r.log.Error("reload refused, the old file stays in force",
		zap.String("file", file), zap.String("version", version), zap.Error(fault))
	werr := r.write(ctx, audit.Event{Code: audit.ConfigReload, Failed: true, Reason: "config_invalid",
		Message: "reload refused, the old file stays in force", Detail: fault.Error(), Admin: by,
		File: file, Entity: version, Policy: r.policy.Version})
	return errors.Join(fault, werr)
}

func (r *rules) write(ctx context.Context, e audit.Event) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := r.audit.Append(ctx, e); err != nil {
		r.log.Error("audit", zap.String("event", string(e.Code)), zap.Error(err))
		return fmt.Errorf("write the audit event: %w", err)
	}
	return nil
}

const viaWatch = "file change"

// run puts changes of the policy's files in force until ctx ends.
func (r *rules) run(ctx context.Context) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	tried := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if r.look(ctx, now.Sub(tried) >= retryInterval) {
				tried = now
			}
		}
	}
}

// look reloads the policy if its files have changed, or if they were wrong
// before and retry is set; it reports whether it did.
func (r *rules) look(ctx context.Context, retry bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.watch.changed(r.policy.Files) && (r.policyFault == "" || !retry) {
		return false
	}
	// What is wrong has been logged and written down when this returns.
	_ = r.reloadPolicy(ctx, ownProcess("config.reload", viaWatch))
	return true
}

// freeze cuts an identity off, or lifts that. It holds at once and after a
// restart when freeze returns nil.
func (r *rules) freeze(ctx context.Context, by *audit.Admin, identity string, on bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if on && r.policy.StillValid(identity) == policy.ReasonUnknown {
		return &admin.Error{Text: fmt.Sprintf("the policy has no identity %q", identity), Err: admin.ErrNoSuchIdentity,
			Hint: "the identities are " + strings.Join(r.policy.Identities(), ", ")}
	}
	if !on && !slices.Contains(r.frozen.names(), identity) {
		return &admin.Error{Text: fmt.Sprintf("identity %q is not frozen by command", identity),
			Hint: "one that stands under frozen: in policy.yaml is lifted there"}
	}
	verb := map[bool]string{true: "frozen", false: "lifted"}[on]
	werr := r.write(ctx, audit.Event{Code: audit.AdminAction, Admin: by, Entity: identity, Policy: r.policy.Version,
		Message: strings.Join([]string{"identity", identity, verb}, " ")})
	if werr != nil && !on {
		return werr
	}
	serr := r.frozen.set(identity, by.Name, on, time.Now())
	r.server.SetRules(r.gate())
	r.log.Info("identity "+verb, zap.String("identity", identity), zap.String("by", by.Name))
	if serr != nil {
		serr = fmt.Errorf("identity %s is %s, but only until a restart: %w", identity, verb, serr)
	}
	return errors.Join(werr, serr)
}
