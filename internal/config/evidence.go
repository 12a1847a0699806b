package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"

	"postern/internal/kms"
)

// The keys that say where evidence goes, besides this host: archive: and
// sinks:, and the keys that KMS may hold.

const day = 24 * time.Hour

func (c *Config) archive(v value) {
	a := &c.Archive
	days, behind := 0, ""
	v.mapping(
		may("bucket", scalar(&a.Bucket, orNothing(bucket))),
		may("prefix", scalar(&a.Prefix, orNothing(checked(checkPrefix)))),
		may("region", scalar(&a.Region, orNothing(region))),
		may("endpoint", scalar(&a.Endpoint, orNothing(serviceURL))),
		may("retention_days", scalar(&days, number(0, 36_500))),
		may("retention_mode", scalar(&a.RetentionMode, oneOf("compliance", "governance"))),
		may("anchor_interval", scalar(&a.AnchorInterval, duration(time.Second, day))),
		may("anchor_max_lag", scalar(&a.AnchorMaxLag, duration(time.Second, 31*day))),
		may("when_behind", scalar(&behind, oneOf("warn", "refuse"))),
	)
	a.Prefix = strings.TrimSuffix(a.Prefix, "/")
	a.Retention, a.Refuse = time.Duration(days)*day, behind == "refuse"
	v.d.checkArchive(v.path, a)
}

// archivedSegmentAge is the default of audit.segment_age where there is an
// archive: until a segment is closed, its events are on this host alone.
const archivedSegmentAge = time.Hour

// checkArchive checks what the keys of archive: say together.
func (d *decoder) checkArchive(path string, a *Archive) {
	if a.AnchorMaxLag < 2*a.AnchorInterval {
		d.faultAt(path+".anchor_max_lag", fmt.Sprintf("%s is less than twice anchor_interval (%s), so the archive would be behind as a rule",
			brief(a.AnchorMaxLag), brief(a.AnchorInterval)), "")
	}
	if d.at[path+".retention_mode"] != nil && a.Retention == 0 {
		d.faultAt(path+".retention_mode", "has no meaning without retention_days; with 0 the bucket's default retention holds, in its own mode", "")
	}
	if a.Bucket == "" && a.Refuse {
		d.faultAt(path+".when_behind", "refuse has no meaning without a bucket; set archive.bucket, or leave it out", "")
	}
}

func bucket(v value) (string, bool) {
	return form(`[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]`, "the name of a bucket: 3 to 63 lower case letters, digits, dots and hyphens")(v)
}

// checkPrefix takes what S3 keys may begin with and what no tool on the way
// would make another key of.
func checkPrefix(s string) error {
	switch {
	case !prefixForm.MatchString(s):
		return fmt.Errorf("%s is not a prefix of keys: letters, digits and !_.*'()/- are fine, up to 512 of them", shown(s))
	case s[0] == '/' || path.Clean(s) != strings.TrimSuffix(s, "/"):
		return fmt.Errorf("%s begins with a slash, or has an empty part or one of dots; write it like gates/eu", shown(s))
	}
	return nil
}

var prefixForm = regexp.MustCompile(`^[A-Za-z0-9!_.*'()/-]{1,512}$`)

func region(v value) (string, bool) {
	return form(`[a-z]{2,4}(?:-[a-z]+)+-[0-9]{1,2}`, "an AWS region, such as us-east-1")(v)
}

// serviceURL reads where a service is asked that is not AWS's public one.
func serviceURL(v value) (string, bool) {
	return checked(func(s string) error {
		u, err := url.Parse(s)
		if err == nil && u.User != nil {
			return errors.New("has a user name or password in it; credentials come from the environment or the instance")
		}
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
			return fmt.Errorf("%s is not the URL of a service, such as https://s3.example.com", shown(s))
		}
		return nil
	})(v)
}

// signingKey reads the path of a file with a private key, or the ARN of a key
// that stays in KMS.
func signingKey(v value) (string, bool) {
	s, ok := v.text()
	switch {
	case !ok:
		return "", false
	case kms.IsKey(s):
		return s, true
	case strings.HasPrefix(s, "arn:"):
		v.fault("%s is not the ARN of a key in KMS (arn:aws:kms:REGION:ACCOUNT:key/ID, or :alias/NAME)", shown(s))
		return "", false
	}
	return file(v)
}

func (c *Config) sinks(v value) {
	v.mapping(
		may("syslog", c.syslog),
		may("cloudwatch", c.cloudWatch),
	)
}

func (c *Config) syslog(v value) {
	s := &c.Sinks.Syslog
	v.mapping(
		must("address", scalar(&s.Address, checked(checkSyslog))),
		may("ca", scalar(&s.CA, orNothing(file))),
		may("cert", scalar(&s.Cert, orNothing(file))),
		may("key", scalar(&s.Key, orNothing(file))),
		may("server_name", scalar(&s.ServerName, orNothing(form(`[A-Za-z0-9._-]{1,253}`, "a host name")))),
		may("facility", scalar(&s.Facility, oneOf("user", "daemon", "auth", "syslog", "authpriv",
			"local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"))),
		may("queue", scalar(&s.Queue, queueSize)),
	)
	if (s.Cert == "") != (s.Key == "") {
		v.d.faultAt(v.path, "cert and key go together: set both, or none where the server asks for no certificate", "")
	}
	if strings.HasPrefix(s.Address, "unix:") && s.CA+s.Cert+s.ServerName != "" {
		v.d.faultAt(v.path+".address", "ca, cert, key and server_name have no meaning with a unix socket, where there is no TLS", "")
	}
}

// checkSyslog takes tls://HOST:PORT and unix:/PATH: what goes over a network in
// clear is not offered.
func checkSyslog(s string) error {
	wanted := fmt.Errorf("%s is neither tls://HOST:PORT, such as tls://siem.example.com:6514, nor unix:/PATH, such as unix:/dev/log", shown(s))
	if socket, ok := strings.CutPrefix(s, "unix:"); ok {
		if path.Clean(socket) != socket || !path.IsAbs(socket) || strings.ContainsRune(socket, 0) {
			return wanted
		}
		if len(socket) > maxSocketPath {
			return fmt.Errorf("%s is longer than the %d bytes that the path of a socket may have", shown(socket), maxSocketPath)
		}
		return nil
	}
	address, ok := strings.CutPrefix(s, "tls://")
	host, port, err := net.SplitHostPort(address)
	if !ok || err != nil || host == "" || strings.ContainsAny(host, "/@? \t\r\n\x00") || !portForm.MatchString(port) || port == "0" {
		return wanted
	}
	if _, err := parseListen(":" + port); err != nil {
		return errors.New("there is no port over 65535")
	}
	return nil
}

func (c *Config) cloudWatch(v value) {
	w := &c.Sinks.CloudWatch
	v.mapping(
		must("group", scalar(&w.Group, form(`[.\-_/#A-Za-z0-9]{1,512}`, "the name of a log group"))),
		may("stream", scalar(&w.Stream, orNothing(form(`[^:*\x00-\x1f]{1,512}`, "the name of a log stream: no : and no *")))),
		may("region", scalar(&w.Region, orNothing(region))),
		may("endpoint", scalar(&w.Endpoint, orNothing(serviceURL))),
		may("queue", scalar(&w.Queue, queueSize)),
	)
}

// queueSize reads how much may wait for a sink: room for a few events at
// least, and no more than the gate can spare.
func queueSize(v value) (int, bool) {
	n, ok := signedSize(v)
	if ok && (n < 64<<10 || n > 1<<30) {
		v.fault("%s is not between 64KiB and 1GiB", shown(v.node.Value))
		return 0, false
	}
	return int(n), ok
}
