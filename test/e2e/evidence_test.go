package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/rogpeppe/go-internal/testscript"

	"postern/test/awsfake"
	"postern/test/s3server"
)

// evidence is what a story has to send its evidence to.
type evidence struct {
	s3      *s3server.Server
	aws     *awsfake.Server
	account *awsfake.Account
	kms     *awsfake.KMS
	logs    *awsfake.Logs
	mend    []func() // takes the faults away
}

// storyTB lets a package that wants a test help a story. What it cleans up it
// cleans up at the story's end.
type storyTB struct {
	testing.TB // nil: what is not below is not called
	ts         *testscript.TestScript
}

func (t storyTB) Helper()                           {}
func (t storyTB) Cleanup(f func())                  { t.ts.Defer(f) }
func (t storyTB) Context() context.Context          { return context.Background() }
func (t storyTB) Fatal(args ...any)                 { t.ts.Fatalf("%s", fmt.Sprint(args...)) }
func (t storyTB) Fatalf(format string, args ...any) { t.ts.Fatalf(format, args...) }
func (t storyTB) Logf(format string, args ...any)   { t.ts.Logf(format, args...) }

func (t storyTB) Skip(args ...any) {
	t.ts.Value(skipper{}).(testscript.T).Skip(args...)
}

func (t storyTB) TempDir() string {
	dir, err := os.MkdirTemp("", "postern-story-")
	t.ts.Check(err)
	t.ts.Defer(func() { os.RemoveAll(dir) })
	return dir
}

// setAll sets variables that programs get.
func setAll(ts *testscript.TestScript, vars []string) {
	w := worldOf(ts)
	for _, v := range vars {
		name, value, _ := strings.Cut(v, "=")
		ts.Setenv(name, value)
		if !slices.Contains(w.vars, name) {
			w.vars = append(w.vars, name)
		}
	}
}

// s3Verb is
//
//	s3 start [nolock]    a server with a bucket of the name evidence
//	s3 break FAULT       down, denied, throttled, slow or hang, until s3 mend
//	s3 mend
//	s3 has [-n N] PREFIX waits until there are N keys or more (1) that begin so
//	s3 cover PREFIX      puts other content on top of the first key that begins so
//	s3 hide PREFIX       puts a delete marker on top of it
//	s3 pinned            waits until the bucket has the log's newest checkpoint
func s3Verb(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: s3 start|break|mend|has|cover|hide|pinned ...")
	}
	e := &worldOf(ts).evidence
	switch verb, rest := args[0], args[1:]; verb {
	case "start":
		o := s3server.Options{DefaultRetention: 1}
		if len(rest) > 0 {
			o = s3server.Options{NoLock: true}
		}
		e.s3 = s3server.StartWith(storyTB{ts: ts}, o)
		setAll(ts, e.s3.Env())
	case "break":
		e.mend = append(e.mend, e.s3.Wire.Break(faultNamed(ts, rest[0])))
	case "mend":
		for _, mend := range e.mend {
			mend()
		}
		e.mend = nil
	case "has":
		want := 1
		if rest[0] == "-n" {
			_, err := fmt.Sscan(rest[1], &want)
			ts.Check(err)
			rest = rest[2:]
		}
		e.hasKeys(ts, neg, want, rest[0])
	case "cover", "hide":
		keys := e.keys(ts, rest[0])
		if len(keys) == 0 {
			ts.Fatalf("the bucket has no %s", rest[0])
		}
		e.onTop(ts, keys[0], verb == "hide")
	case "pinned":
		lines := strings.Split(ts.ReadFile("audit/checkpoint"), "\n")
		e.hasKeys(ts, false, 1, fmt.Sprintf("*%s/checkpoints/%020s", lines[0], lines[1]))
	default:
		ts.Fatalf("s3 knows no %s", verb)
	}
}

func faultNamed(ts *testscript.TestScript, name string) s3server.Fault {
	f, ok := map[string]s3server.Fault{
		"down":      {Down: true},
		"denied":    {Deny: true},
		"throttled": {Throttle: true},
		"slow":      {Slow: 500 * time.Millisecond},
		"hang":      {Hang: true},
	}[name]
	if !ok {
		ts.Fatalf("s3 break knows no %s", name)
	}
	return f
}

// hasKeys waits for keys with a prefix, in which * stands for anything within
// one part of a key.
func (e *evidence) hasKeys(ts *testscript.TestScript, neg bool, want int, pattern string) {
	if neg {
		if keys := e.keys(ts, pattern); len(keys) >= want {
			ts.Fatalf("the bucket has %v", keys)
		}
		return
	}
	ts.Check(eventually(patience, func() error {
		if keys := e.keys(ts, pattern); len(keys) < want {
			return fmt.Errorf("the bucket has %d keys that match %s, want %d; it has\n%s", len(keys), pattern, want, strings.Join(e.keys(ts, "*"), "\n"))
		}
		return nil
	}))
}

// onTop is what somebody who may write to the bucket can do to an object.
func (e *evidence) onTop(ts *testscript.TestScript, key string, hide bool) {
	if hide {
		_, err := e.s3.Client().DeleteObject(context.Background(), &s3.DeleteObjectInput{Bucket: &e.s3.Bucket, Key: &key})
		ts.Check(err)
		return
	}
	_, err := e.s3.Client().PutObject(context.Background(), &s3.PutObjectInput{Bucket: &e.s3.Bucket, Key: &key,
		Body: strings.NewReader("nothing happened\n"), ChecksumAlgorithm: types.ChecksumAlgorithmSha256})
	ts.Check(err)
}

// keys lists those of the bucket that match: * stands for anything.
func (e *evidence) keys(ts *testscript.TestScript, pattern string) []string {
	var keys []string
	pages := s3.NewListObjectsV2Paginator(e.s3.Client(), &s3.ListObjectsV2Input{Bucket: &e.s3.Bucket})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		ts.Check(err)
		for _, o := range page.Contents {
			if matchesAll(*o.Key, pattern) {
				keys = append(keys, *o.Key)
			}
		}
	}
	return keys
}

// matchesAll reports whether the parts of pattern between its stars follow each
// other in key.
func matchesAll(key, pattern string) bool {
	for i, part := range strings.Split(pattern, "*") {
		at := strings.Index(key, part)
		if at < 0 || i == 0 && at > 0 {
			return false
		}
		key = key[at+len(part):]
	}
	return true
}

// archived adds an archive to postern.yaml, with more lines of the archive:
// section, and has segments closed when they are small.
func archived(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: archived [LINE...]")
	}
	e := &worldOf(ts).evidence
	lines := append([]string{"archive:", "bucket: " + e.s3.Bucket, "region: " + e.s3.Region, "prefix: gates", "anchor_interval: 1s"}, args...)
	insert(ts, "postern.yaml", "recordings:\n", strings.Join(lines, "\n  ")+"\nrecordings:\n")
	insert(ts, "postern.yaml", "  signing_key: ", "  origin: gate.example.com\n  segment_size: 64KiB\n  signing_key: ")
}

// awsVerb is
//
//	aws start            KMS and CloudWatch Logs
//	aws key NAME [SPEC]  makes a key; NAME is its ARN from then on
//	aws break SERVICE    it answers 500, until aws mend
//	aws mend
//	aws called CALL      waits until there was such a call: "kms Sign"
//	aws group NAME       makes a log group
//	aws logged GROUP STREAM  waits until the stream has each event of the log
func awsVerb(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: aws start|key|break|mend|called ...")
	}
	e := &worldOf(ts).evidence
	switch verb, rest := args[0], args[1:]; verb {
	case "start":
		e.aws = awsfake.New()
		ts.Defer(e.aws.Close)
		e.kms = e.aws.KMS()
		e.logs = e.aws.Logs()
		setAll(ts, e.aws.Env())
	case "key":
		spec := "ECC_NIST_EDWARDS25519"
		if len(rest) > 1 {
			spec = rest[1]
		}
		ts.Setenv(rest[0], e.kms.Make(spec, "SIGN_VERIFY"))
	case "break":
		e.mend = append(e.mend, e.aws.Fail(awsfake.Fault{Service: rest[0], Status: 500, Code: "InternalFailure", Message: "broken"}))
	case "mend":
		for _, mend := range e.mend {
			mend()
		}
		e.mend = nil
	case "group":
		e.logs.MakeGroup(rest[0])
	case "logged":
		ts.Check(eventually(patience, func() error {
			var text strings.Builder
			for _, event := range e.logs.Events(rest[0], rest[1]) {
				text.WriteString(event.Message + "\n")
			}
			return hasEach(ts, text.String())
		}))
	case "called":
		ts.Check(eventually(patience, func() error {
			if calls := e.aws.Calls(); !slices.Contains(calls, rest[0]) {
				return fmt.Errorf("there was no call %s among %v", rest[0], slices.Compact(calls))
			}
			return nil
		}))
	default:
		ts.Fatalf("aws knows no %s", verb)
	}
}

const rsyslogConfig = `global(workDirectory="@DIR@" maxMessageSize="64k")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="@DIR@/log" CreatePath="off" usePIDFromSystem="off" UseSpecialParser="off" ParseHostname="on" RateLimit.Interval="0")
template(name="line" type="string" string="%app-name% %msgid% %msg%\n")
action(type="omfile" file="@OUT@" template="line" asyncWriting="off")
`

// rsyslog starts Debian's rsyslogd, which writes each event as "postern CODE
// JSON" to syslog.out; SYSLOG is its socket.
func rsyslog(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: rsyslog")
	}
	w := worldOf(ts)
	dir := ts.Getenv("SYSLOG_DIR")
	if dir == "" {
		dir = storyTB{ts: ts}.TempDir() // its name is short enough for a socket
		ts.Setenv("SYSLOG_DIR", dir)
		ts.Setenv("SYSLOG", filepath.Join(dir, "log"))
	}
	text := strings.NewReplacer("@DIR@", dir, "@OUT@", filepath.Join(w.dir, "syslog.out")).Replace(rsyslogConfig)
	conf := filepath.Join(dir, "conf")
	ts.Check(os.WriteFile(conf, []byte(text), 0o600))
	start(ts, false, []string{"rsyslogd", "rsyslogd", "-n", "-f", conf, "-i", filepath.Join(dir, "pid")})
	ts.Check(eventually(patience, func() error { _, err := os.Stat(filepath.Join(dir, "log")); return err }))
}

// everywhere says that each event of the audit log has come out in FILE, which
// has them as they are in it.
func everywhere(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: everywhere FILE")
	}
	ts.Check(eventually(patience, func() error {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		if err != nil {
			return err
		}
		return hasEach(ts, string(data))
	}))
}

// hasEach says that text has each event that the audit log has by now, as it is.
func hasEach(ts *testscript.TestScript, text string) error {
	lines := auditLines(ts.MkAbs("audit"))
	for i, line := range lines {
		if !strings.Contains(text, line) {
			return fmt.Errorf("event %d of %d is not there: %.300s", i, len(lines), line)
		}
	}
	if len(lines) == 0 {
		return errors.New("there are no events")
	}
	return nil
}

// sinks adds both sinks to postern.yaml.
func sinks(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: sinks")
	}
	insert(ts, "postern.yaml", "recordings:\n", `sinks:
  syslog: { address: "unix:$SYSLOG", queue: 1MiB }
  cloudwatch: { group: /postern/audit, stream: gate1, region: us-east-1 }
recordings:
`)
}
