package e2e_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// verbs are the commands of the scripts beside testscript's own.
var verbs = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"need":       need,
	"keygen":     keygen,
	"gateconfig": gateConfig,
	"gate":       gate,
	"sshd":       sshd,
	"target":     target,
	"edit":       edit,
	"start":      start,
	"sig":        sig,
	"quit":       quit,
	"ends":       ends,
	"runs":       runs,
	"waitfor":    waitFor,
	"metric":     metric,
	"audit":      auditEvent,
	"auditcheck": auditCheck,
	"acked":      acked,
	"inspected":  inspected,
	"node":       node,
	"recorded":   recorded,
	"moved":      moved,
	"s3":         s3Verb,
	"archived":   archived,
	"aws":        awsVerb,
	"account":    accountVerb,
	"rsyslog":    rsyslog,
	"sinks":      sinks,
	"everywhere": everywhere,
}

// skipper is the key of the story's own testing T.
type skipper struct{}

// need WHAT... skips the story unless all are there: programs in PATH, files that
// may be read, "python3:MODULE", "tmpfs" for the right to mount one, or "root",
// without whom sshd can't give a terminal to anybody. A skipped story is a failure
// when CI=true.
func need(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("unsupported: ! need")
	}
	for _, what := range args {
		if has(ts, what) {
			continue
		}
		if os.Getenv("CI") == "true" {
			ts.Fatalf("%s is missing", what)
		}
		ts.Value(skipper{}).(testscript.T).Skip(what + " is missing")
	}
}

func has(ts *testscript.TestScript, what string) bool {
	if what == "tmpfs" { // may we mount one?
		return exec.Command("unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt").Run() == nil
	}
	if module, ok := strings.CutPrefix(what, "python3:"); ok {
		return exec.Command("/usr/bin/python3", "-c", "import "+module).Run() == nil
	}
	if what == "root" {
		return os.Geteuid() == 0
	}
	if filepath.IsAbs(what) {
		f, err := os.Open(what)
		if err != nil {
			return false
		}
		f.Close()
		return true
	}
	_, err := lookPath(ts, what)
	return err == nil
}

// keygen NAME [TYPE] makes the key pair NAME and NAME.pub.
func keygen(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: keygen NAME [TYPE]")
	}
	kind := "ed25519"
	if len(args) == 2 {
		kind = args[1]
	}
	ts.Check(ts.Exec("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", args[0], "-f", ts.MkAbs(args[0])))
}

// edit FILE OLD NEW replaces the one place where FILE says OLD; \n in NEW is a
// line break.
func edit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: edit FILE OLD NEW")
	}
	text := ts.ReadFile(args[0])
	if n := strings.Count(text, args[1]); n != 1 {
		ts.Fatalf("%s says %q %d times", args[0], args[1], n)
	}
	text = strings.Replace(text, args[1], strings.ReplaceAll(args[2], `\n`, "\n"), 1)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o644))
}

// target NAME MODE ADDRESS [FLAG...] starts an upstream and waits until it
// listens. ADDRESS is a port of 127.0.0.1 or unix:PATH.
func target(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: target NAME MODE PORT|unix:PATH [FLAG...]")
	}
	listen := args[2]
	if !strings.HasPrefix(listen, "unix:") {
		listen = "127.0.0.1:" + listen
	}
	start(ts, false, append([]string{args[0], "target", "-mode", args[1], "-listen", listen}, args[3:]...))
	waitFor(ts, false, []string{"file", args[0] + ".out", "."})
}

// waitfor [-timeout D] KIND ... waits until
//
//	file NAME REGEX      the file has a match
//	tcp HOST:PORT        somebody listens
//	notcp HOST:PORT      nobody listens
//	http URL [REGEX]     a GET answers 200, and its body has a match
//	status URL CODE      a GET answers CODE
//	exists NAME          the file is there
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	limit := patience
	if len(args) > 1 && args[0] == "-timeout" {
		var err error
		limit, err = time.ParseDuration(args[1])
		ts.Check(err)
		args = args[2:]
	}
	if neg || len(args) < 2 {
		ts.Fatalf("usage: waitfor [-timeout D] file|tcp|notcp|http|status|exists ...")
	}
	probe := probeFor(ts, args[0], args[1:])
	if err := eventually(limit, probe); err != nil {
		ts.Fatalf("waited %s: %v", limit, err)
	}
}

func probeFor(ts *testscript.TestScript, kind string, args []string) func() error {
	rest := strings.Join(args[1:], " ")
	switch kind {
	case "file":
		return func() error { return fileHas(ts.MkAbs(args[0]), regexp.MustCompile(rest)) }
	case "exists":
		return func() error { _, err := os.Stat(ts.MkAbs(args[0])); return err }
	case "tcp":
		return func() error { return dialable(args[0]) }
	case "notcp":
		return func() error {
			if dialable(args[0]) == nil {
				return fmt.Errorf("%s still listens", args[0])
			}
			return nil
		}
	case "http":
		return func() error { return answers(args[0], "200", regexp.MustCompile(rest)) }
	case "status":
		return func() error { return answers(args[0], rest, nil) }
	}
	ts.Fatalf("waitfor knows no %s", kind)
	return nil
}

// eventually asks until the answer is nil or the limit has passed.
func eventually(limit time.Duration, probe func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := probe()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func fileHas(path string, want *regexp.Regexp) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !want.Match(b) {
		return fmt.Errorf("%s has no match of %q:\n%s", filepath.Base(path), want, tail(string(b)))
	}
	return nil
}

func dialable(addr string) error {
	nc, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	return nc.Close()
}

func answers(url, status string, want *regexp.Regexp) error {
	code, body, err := get(url)
	if err != nil {
		return err
	}
	if fmt.Sprint(code) != status {
		return fmt.Errorf("%s answers %d, want %s: %s", url, code, status, body)
	}
	if want != nil && !want.MatchString(body) {
		return fmt.Errorf("%s has no match of %q:\n%s", url, want, body)
	}
	return nil
}

func get(url string) (int, string, error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// metric REGEX waits until a line of /metrics matches; ! metric REGEX until
// none does.
func metric(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] metric REGEX")
	}
	want := regexp.MustCompile("(?m)" + args[0])
	url := "http://127.0.0.1:" + ts.Getenv("METRICS_PORT") + "/metrics"
	err := eventually(patience, func() error {
		if neg {
			return without(url, want)
		}
		if err := answers(url, "200", want); err != nil {
			return fmt.Errorf("no line of /metrics matches %s: %s", args[0], related(err.Error(), args[0]))
		}
		return nil
	})
	ts.Check(err)
}

func without(url string, bad *regexp.Regexp) error {
	_, body, err := get(url)
	if line := bad.FindString(body); err == nil && line != "" {
		return fmt.Errorf("there is a metric %s", line)
	}
	return err
}

// related picks the lines that start like the wanted one.
func related(text, want string) string {
	name := regexp.MustCompile(`^\^?([a-z_]+)`).FindStringSubmatch(want)
	if name == nil {
		return ""
	}
	return strings.Join(regexp.MustCompile("(?m)^"+name[1]+".*$").FindAllString(text, 20), "\n")
}

// tail is the last part of a long text.
func tail(s string) string {
	return s[max(0, len(s)-4000):]
}
