package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/mod/sumdb/note"

	"postern/internal/audit"
)

// verifierKeys reads what --key was given: verifier keys, or files of them.
func verifierKeys(values []string) ([]note.Verifier, error) {
	var keys []note.Verifier
	for _, value := range values {
		text := []byte(value)
		if !strings.Contains(value, "+") {
			data, err := os.ReadFile(value)
			if err != nil {
				return nil, undecided(fmt.Errorf("read the key: %w", err), "--key takes a verifier key (NAME+HASH+BASE64) or a file with such, like the audit.vkey of a log")
			}
			text = data
		}
		found, err := audit.ParseKeys(text)
		if err != nil {
			return nil, undecided(fmt.Errorf("read the key: %w", err), "--key takes a verifier key (NAME+HASH+BASE64) or a file with such, like the audit.vkey of a log")
		}
		keys = append(keys, found...)
	}
	if len(values) > 0 && len(keys) == 0 {
		return nil, undecided(errors.New("read the key: there is none in " + strings.Join(values, ", ")))
	}
	return keys, nil
}

type auditVerifyCmd struct {
	logFlags
	remoteFlags
	Key          []string `sep:"none" placeholder:"VKEY|FILE" help:"Public key that checkpoints must be signed with, kept elsewhere than on the host."`
	Anchors      string   `placeholder:"DIR|s3://BUCKET/PREFIX" help:"Checkpoints that were stored off the host: a folder with one a file, or the archive; s3:// alone is the archive in the configuration."`
	Recordings   string   `placeholder:"DIR" help:"Folder of the recordings, instead of the one in the configuration. With --dir alone they are left out."`
	NoRecordings bool     `help:"Leave the recordings out, which may be large."`
	Partial      bool     `help:"The folder has some of the segments only, as audit restore brings them back; hashes stand for the others."`
	JSON         bool     `help:"Print the report as JSON."`
}

// Help has the examples of the command.
func (auditVerifyCmd) Help() string {
	return `Proves that the log is what was written and signed: every line, every checkpoint, every recording. It only reads, and the gate may run meanwhile.

Without --key the key beside the log is taken, which whoever can rewrite the log can replace too. Keep a copy of audit.vkey elsewhere, and give it.

With --s3 what the archive holds is brought into a temporary folder (TMPDIR says where), verified and removed: the host is not needed for it. The newest events are there when their segment is closed. With --dir or --anchors the log on this host is compared with the checkpoints in the archive.

Exit status: 0 nothing is wrong, 1 something is, the first bad event is named, 2 it could not be decided.

Examples:

    postern audit verify
    postern audit verify --key ./audit.vkey --anchors ./checkpoints
    postern audit verify --key ./audit.vkey --anchors s3://
    postern audit verify --s3
    postern audit verify --s3 s3://evidence/gates --list
    postern audit verify --s3 s3://evidence/gates --origin gate1.example.com/postern/8f2c4e0b19a7d356 --key ./audit.vkey
    postern audit verify --dir ./copy/audit --recordings ./copy/recordings --key ./audit.vkey --json`
}

// Validate is called by the parser.
func (c *auditVerifyCmd) Validate() error {
	if strings.HasPrefix(c.Anchors, bucketScheme) {
		if c.S3.given {
			return errors.New("--anchors s3://... and --s3 don't go together; --dir with --s3 compares with the archive's checkpoints")
		}
		c.S3 = bucketFlag{given: true, url: strings.TrimSuffix(c.Anchors, bucketScheme)}
	}
	switch {
	case c.anchorsApart() && c.Anchors != "" && !strings.HasPrefix(c.Anchors, bucketScheme):
		return errors.New("--anchors DIR and --s3 don't go together: the anchors are from one of them")
	case !c.S3.given && (c.Origin != "" || c.List):
		return errors.New("--origin and --list need --s3")
	case c.NoRecordings && c.Recordings != "":
		return errors.New("--recordings and --no-recordings don't go together")
	}
	return nil
}

// anchorsApart says that the log is on this host, and its anchors in an archive.
func (c *auditVerifyCmd) anchorsApart() bool {
	return c.S3.given && !c.List && (c.Dir != "" || c.Anchors != "")
}

// Run verifies the log.
func (c *auditVerifyCmd) Run(e *env) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch {
	case c.S3.given && c.List:
		return c.listLogs(ctx, e)
	case c.S3.given:
		return c.verifyRemote(ctx, e)
	}
	o, err := c.options()
	if err != nil {
		return err
	}
	return c.verify(ctx, e, o, nil)
}

// verify verifies a log; change, if set, is called with its report.
func (c *auditVerifyCmd) verify(ctx context.Context, e *env, o audit.VerifyOptions, change func(*audit.Report)) error {
	bar := newProgressBar(e.stderr, "verifying")
	o.Progress = bar.show
	r, err := audit.Verify(ctx, o)
	bar.clear()
	if change != nil {
		change(r)
	}
	if c.JSON {
		if err := printJSON(e.stdout, r); err != nil {
			return err
		}
	} else if err == nil || !r.Fine() {
		fmt.Fprint(e.stdout, reportWords(r))
	}
	return verified(r, err)
}

func (c *auditVerifyCmd) options() (audit.VerifyOptions, error) {
	o := audit.VerifyOptions{Dir: c.Dir, Anchors: c.Anchors, Recordings: c.Recordings, Partial: c.Partial, Copied: c.Partial}
	if o.Dir == "" {
		cfg, err := c.config()
		if err != nil {
			return o, err
		}
		o.Dir, o.Recordings = cfg.Audit.Dir, cmp.Or(c.Recordings, cfg.Recordings.Dir)
	}
	if c.NoRecordings {
		o.Recordings = ""
	}
	var err error
	o.Keys, err = verifierKeys(c.Key)
	return o, err
}

// verified is the error that a report amounts to.
func verified(r *audit.Report, err error) error {
	switch {
	case !r.Fine():
		return wrong(errors.New("verify the audit log: "+findingWords(r.Findings[0])), verdictHints(r.Findings[0].Kind)...)
	case errors.Is(err, fs.ErrPermission):
		return undecided(err, "the group postern-audit may read the log, the gate's account and root its recordings: try sudo")
	case err != nil:
		return undecided(err, undecidedHint(err))
	}
	return nil
}

func undecidedHint(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "it was interrupted"
	case errors.Is(err, fs.ErrNotExist):
		return "--dir names the folder of the log, --config the configuration that does"
	}
	return "a log is signed ten seconds after its first event; --key gives the public key"
}

func verdictHints(kind string) []string {
	keep := "keep the folder as it is: somebody must look at what happened to it"
	switch kind {
	case audit.KindRecording:
		return []string{"keep the log and the recordings as they are: somebody must look at what happened to them"}
	case audit.KindAnchor:
		return []string{keep, "the anchors are what the log was; copies of its segments may be where they are"}
	case audit.KindHashes:
		return []string{keep, "no event was changed by it: hashes.bin is made of the lines, and made anew when the gate starts"}
	case audit.KindUnclosed, audit.KindClock:
		return []string{"the lines are what was signed: what is wrong was wrong when it was written"}
	}
	return []string{keep}
}
