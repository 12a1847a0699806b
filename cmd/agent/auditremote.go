package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"postern/internal/archive"
	"postern/internal/audit"
	"postern/internal/config"
)

// bucketFlag is --s3 alone, for the bucket of the configuration, or with the
// URL of another.
type bucketFlag struct {
	given bool
	url   string // s3://BUCKET or s3://BUCKET/PREFIX; "" = that of the configuration
}

const bucketScheme = "s3://"

// IsBool lets the flag stand without a value.
func (bucketFlag) IsBool() bool { return true }

// Decode takes the URL after = or as the next word.
func (b *bucketFlag) Decode(ctx *kong.DecodeContext) error {
	b.given = true
	next := ctx.Scan.Peek()
	text, _ := next.Value.(string)
	if next.Type != kong.FlagValueToken && !strings.HasPrefix(text, bucketScheme) {
		return nil
	}
	ctx.Scan.Pop()
	if !strings.HasPrefix(text, bucketScheme) || strings.TrimPrefix(text, bucketScheme) == "" {
		return fmt.Errorf("%q is not s3://BUCKET or s3://BUCKET/PREFIX", text)
	}
	b.url = text
	return nil
}

// remoteFlags say which log of which archive is read.
type remoteFlags struct {
	S3       bucketFlag `name:"s3" placeholder:"s3://BUCKET/PREFIX" help:"Read from the archive: this one, or without a URL the one in the configuration."`
	Origin   string     `placeholder:"ORIGIN" help:"Which log of the archive, as --list shows it: HOST/postern/INSTANCE/EPOCH, or without the epoch for the newest."`
	List     bool       `help:"Only show which logs the archive has."`
	Region   string     `placeholder:"REGION" help:"Region of the bucket, instead of the one in the configuration or the environment."`
	Endpoint string     `placeholder:"URL" help:"URL of an S3-compatible server, instead of the one in the configuration."`
}

// remote is an archive that is read.
type remote struct {
	*archive.Archive
	url    string // for people
	local  string // folder of the log on this host, "" = not known
	host   string // that names this host's logs, "" = not known
	origin string // as --origin says
}

// open sets up the archive; cfg is nil where a URL says all.
func (f *remoteFlags) open(ctx context.Context, cfg *config.Config) (*remote, error) {
	section := config.Archive{}
	r := &remote{origin: strings.Trim(f.Origin, "/")}
	if cfg != nil {
		section, r.local, r.host = cfg.Archive, cfg.Audit.Dir, logHost(cfg)
	}
	if f.S3.url != "" {
		section.Bucket, section.Prefix, _ = strings.Cut(strings.TrimPrefix(f.S3.url, bucketScheme), "/")
		section.Prefix = strings.TrimSuffix(section.Prefix, "/")
	}
	if section.Bucket == "" {
		return nil, undecided(errors.New("read the archive: the configuration names none"), "--s3 s3://BUCKET/PREFIX names one")
	}
	o := archiveOptions(section)
	o.Region, o.Endpoint = cmp.Or(f.Region, o.Region), cmp.Or(f.Endpoint, o.Endpoint)
	var err error
	if r.Archive, err = archive.Open(ctx, o); err != nil {
		return nil, undecided(err)
	}
	r.url = bucketScheme + section.Bucket
	if section.Prefix != "" {
		r.url += "/" + section.Prefix
	}
	return r, nil
}

// archivedLog is one log of an archive.
type archivedLog struct {
	Origin string `json:"origin"`
	Signed int64  `json:"signed"` // events that its newest checkpoint there covers
}

// logs lists the logs of the archive.
func (r *remote) logs(ctx context.Context) ([]archivedLog, error) {
	found := []archivedLog{}
	hosts, err := r.hosts(ctx, "", 0)
	if err != nil {
		return nil, err
	}
	for _, host := range hosts {
		instances, err := r.Folders(ctx, host+pastHost)
		if err != nil {
			return nil, err
		}
		for _, instance := range instances {
			epochs, err := r.epochs(ctx, host+pastHost+instance)
			if err != nil {
				return nil, err
			}
			found = append(found, epochs...)
		}
	}
	return found, nil
}

// maxHostParts is how many slashes the name of a host may have.
const maxHostParts = 16

// hosts finds the names below which there are logs. An origin may have slashes.
func (r *remote) hosts(ctx context.Context, below string, depth int) ([]string, error) {
	folders, err := r.Folders(ctx, below)
	if err != nil || depth > maxHostParts {
		return nil, err
	}
	var hosts []string
	for _, name := range folders {
		if "/"+name+"/" == pastHost && below != "" {
			hosts = append(hosts, strings.TrimSuffix(below, "/"))
			continue
		}
		deeper, err := r.hosts(ctx, below+name+"/", depth+1)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, deeper...)
	}
	return hosts, nil
}

// epochs lists the logs of one instance, the oldest first.
func (r *remote) epochs(ctx context.Context, instance string) ([]archivedLog, error) {
	folders, err := r.Folders(ctx, instance+"/")
	if err != nil {
		return nil, err
	}
	var found []archivedLog
	for _, epoch := range epochsAmong(folders) {
		l := archivedLog{Origin: instance + "/" + epoch}
		key, err := r.Newest(ctx, l.Origin+checkpointsFolder, 0)
		if err != nil {
			return nil, err
		}
		if key != "" {
			l.Signed = numberAtEnd(key)
		}
		found = append(found, l)
	}
	return found, nil
}

// choose finds the log that is meant: --origin, the one on this host, or the
// only one that the archive has of this host or at all, of which it is the
// newest epoch.
func (r *remote) choose(ctx context.Context) (string, error) {
	if r.origin != "" {
		return r.named(ctx, r.origin)
	}
	if r.local != "" {
		if origin, _, err := audit.Origin(r.local); err == nil && origin != "" {
			return origin, nil
		}
	}
	all, err := r.logs(ctx)
	if err != nil {
		return "", remoteFault(err)
	}
	var newest []string // of each instance
	for _, l := range all {
		if r.host != "" && hostOf(l.Origin) != r.host {
			continue
		}
		if n := len(newest); n > 0 && instanceOf(newest[n-1]) == instanceOf(l.Origin) {
			newest = newest[:n-1]
		}
		newest = append(newest, l.Origin)
	}
	switch len(newest) {
	case 0:
		return "", undecided(fmt.Errorf("read the archive %s: it has no log of this host", r.url), "--list shows which logs it has, --origin names one of them")
	case 1:
		return newest[0], nil
	}
	return "", undecided(fmt.Errorf("read the archive %s: it has several logs", r.url), "--origin names the one that is meant, such as "+newest[0], "--list shows all")
}

// named is an origin that was given, with the newest epoch where it has none.
func (r *remote) named(ctx context.Context, name string) (string, error) {
	folders, err := r.Folders(ctx, name+"/")
	if err != nil {
		return "", remoteFault(err)
	}
	if epochs := epochsAmong(folders); len(epochs) > 0 {
		return name + "/" + epochs[len(epochs)-1], nil
	}
	if len(folders) == 0 {
		return "", undecided(fmt.Errorf("read the archive %s: it has no log %s", r.url, printable(name)), "--list shows which logs it has")
	}
	return name, nil
}

// show prints which logs there are.
func (r *remote) show(ctx context.Context, w io.Writer, asJSON bool) error {
	all, err := r.logs(ctx)
	if err != nil {
		return remoteFault(err)
	}
	if asJSON {
		return printJSON(w, all)
	}
	var rows []string
	for _, l := range all {
		rows = append(rows, fmt.Sprintf("%s\t%d", printable(l.Origin), l.Signed))
	}
	return table(w, "ORIGIN\tSIGNED EVENTS", rows)
}

// remoteFault says what can be done about an error of reading the archive.
func remoteFault(err error) error {
	if _, said := errors.AsType[*fault](err); said {
		return err
	}
	if errors.Is(err, context.Canceled) {
		return undecided(errors.New("it was interrupted"))
	}
	return undecided(fmt.Errorf("read the archive: %w", err),
		"whoever reads it needs s3:ListBucketVersions and s3:GetObjectVersion; credentials come from the environment, a profile (AWS_PROFILE) or the instance")
}
