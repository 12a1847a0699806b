package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"postern/internal/audit"
	"postern/internal/config"
	"postern/internal/kms"
)

type checkCmd struct {
	Config string `short:"c" placeholder:"FILE" xor:"file" help:"Configuration; its policy is checked too (${config})."`
	Policy string `placeholder:"FILE" xor:"file" help:"Check this policy alone, without a configuration."`
	JSON   bool   `help:"Print JSON."`
}

// Help has the examples of the command.
func (checkCmd) Help() string {
	return `Every fault of both files is shown with file, line and column; nothing is started, made or changed. Exit status: 0 both files are good, 1 they are not, 2 a file could not be read.

Examples:

    postern check
    postern check --config ./postern.yaml
    postern check --policy ./policy.yaml --json`
}

// checked is what check found; lists are never nil.
type checked struct {
	Config   string         `json:"config,omitempty"`
	Policy   string         `json:"policy,omitempty"`
	Faults   []checkedFault `json:"faults"`
	Warnings []string       `json:"warnings"`
}

type checkedFault struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Path   string `json:"path,omitempty"`
	Fault  string `json:"fault"`
	Hint   string `json:"hint,omitempty"`
}

// Run checks the files.
func (c *checkCmd) Run(e *env) error {
	found := checked{Policy: c.Policy, Faults: []checkedFault{}, Warnings: []string{}}
	var cfgErr, policyErr error
	if c.Policy == "" {
		cfgErr = found.checkConfig(cmp.Or(c.Config, defaultConfig))
	}
	if found.Policy != "" {
		_, policyErr = config.LoadPolicy(found.Policy)
	}
	found.add(cfgErr, policyErr)
	if c.JSON {
		if err := printJSON(e.stdout, found); err != nil {
			return err
		}
	} else {
		found.print(e, cfgErr, policyErr)
	}
	return checkStatus(errors.Join(cfgErr, policyErr))
}

// checkConfig checks postern.yaml and finds the policy. A faulty postern.yaml
// names none, so the one beside it is taken, if there is one.
func (f *checked) checkConfig(path string) error {
	f.Config = path
	cfg, err := config.Load(path)
	if err == nil {
		f.Policy, f.Warnings = cfg.PolicyPath, append(f.Warnings, cfg.Warnings...)
		f.noCopyYet(cfg)
		return checkNamedFiles(cfg)
	}
	beside := filepath.Join(filepath.Dir(path), "policy.yaml")
	if _, statErr := os.Stat(beside); statErr == nil {
		f.Policy = beside
	}
	return err
}

// noCopyYet leaves a policy alone that is in S3 and that no gate has fetched yet
// on this host.
func (f *checked) noCopyYet(cfg *config.Config) {
	if _, err := os.Stat(cfg.PolicyPath); cfg.PolicyObject != "" && errors.Is(err, fs.ErrNotExist) {
		f.Policy = ""
		f.Warnings = append(f.Warnings, cfg.PolicyObject+": no gate has fetched it yet, so it was not checked; postern check --policy FILE checks it where it is written")
	}
}

// checkNamedFiles reads the files that postern.yaml names, as serve will. Keys
// of the gate are left alone: they are made where they are missing.
func checkNamedFiles(c *config.Config) error {
	if err := c.Metrics.Options.Validate(); err != nil {
		return fmt.Errorf("%s: metrics.web_config: %w", c.Path, err)
	}
	if _, err := healthTLS(c.Health); err != nil {
		return fmt.Errorf("%s: health.tls_cert: %w", c.Path, err)
	}
	if err := checkAuditKey(c.SigningKey); err != nil {
		return fmt.Errorf("%s: audit.signing_key: %w", c.Path, err)
	}
	if err := checkSinks(c.Sinks); err != nil {
		return fmt.Errorf("%s: %w", c.Path, err)
	}
	if err := checkInspection(c); err != nil {
		return fmt.Errorf("%s: %w", c.Path, err)
	}
	return nil
}

func checkAuditKey(ref string) error {
	if kms.IsKey(ref) {
		return nil
	}
	_, err := audit.LoadKey(ref)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}

func (f *checked) add(errs ...error) {
	for _, err := range errs {
		faults, ok := errors.AsType[config.Errors](err)
		if !ok && err != nil {
			f.Faults = append(f.Faults, checkedFault{Fault: err.Error()})
		}
		for _, x := range faults {
			f.Faults = append(f.Faults, checkedFault{x.File, x.Line, x.Column, x.Path, x.Msg, x.Hint})
		}
	}
}

func (f *checked) print(e *env, errs ...error) {
	for _, w := range f.Warnings {
		fmt.Fprintf(e.stderr, "warning: %s\n", w)
	}
	for _, err := range errs {
		if err == nil {
			continue
		}
		if _, ok := errors.AsType[config.Errors](err); !ok {
			err = fmt.Errorf("postern: check: %w", err)
		}
		fmt.Fprintln(e.stderr, err)
		for _, hint := range config.HintFor(err) {
			fmt.Fprintln(e.stderr, hint)
		}
	}
	if len(f.Faults) > 0 {
		return
	}
	for _, path := range []string{f.Config, f.Policy} {
		if path != "" {
			fmt.Fprintf(e.stdout, "%s: good\n", path)
		}
	}
}

// checkStatus is the exit status for what check found: a file that could not be
// read is no answer.
func checkStatus(err error) error {
	var path *fs.PathError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &path):
		return &fault{status: exitUsage}
	}
	return &fault{status: exitWrong}
}
