package sink

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// rsyslog is Debian's rsyslogd under a test. It writes the parts of each message
// to out, a line each.
type rsyslog struct {
	t       *testing.T
	dir     string
	config  string
	command *exec.Cmd
}

const rsyslogOutput = `
template(name="parts" type="string" string="%pri%|%timereported:::date-rfc3339%|%hostname%|%app-name%|%procid%|%msgid%|%structured-data%|%msg%\n")
action(type="omfile" file="@DIR@/out" template="parts" asyncWriting="off")
`

// newRsyslog starts rsyslogd with a configuration, in which @DIR@ is its own
// directory, and waits for the file ready in it.
func newRsyslog(t *testing.T, config, ready string) *rsyslog {
	t.Helper()
	dir := shortDir(t)
	r := &rsyslog{t: t, dir: dir, config: strings.ReplaceAll(config+rsyslogOutput, "@DIR@", dir)}
	r.start(ready)
	t.Cleanup(r.stop)
	return r
}

// shortDir is a directory whose sockets have names of less than 108 bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sink")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func (r *rsyslog) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rsyslog) start(ready string) {
	r.t.Helper()
	const program = "/usr/sbin/rsyslogd"
	if _, err := os.Stat(program); err != nil {
		missing(r.t, "rsyslogd (package rsyslog)")
	}
	if err := os.WriteFile(r.path("conf"), []byte(r.config), 0o644); err != nil {
		r.t.Fatal(err)
	}
	for _, old := range []string{ready, "pid"} {
		if err := os.Remove(r.path(old)); err != nil && !errors.Is(err, os.ErrNotExist) {
			r.t.Fatal(err)
		}
	}
	var said bytes.Buffer
	r.command = exec.Command(program, "-n", "-f", r.path("conf"), "-i", r.path("pid"))
	r.command.Stdout, r.command.Stderr = &said, &said
	if err := r.command.Start(); err != nil {
		r.t.Fatal(err)
	}
	eventually(r.t, "rsyslogd makes "+ready, func() bool { return r.has(ready) })
	r.t.Cleanup(func() {
		if r.t.Failed() && said.Len() > 0 {
			r.t.Logf("rsyslogd said: %.2000s", said.String())
		}
	})
}

func (r *rsyslog) has(name string) bool {
	info, err := os.Stat(r.path(name))
	return err == nil && (info.Size() > 0 || info.Mode()&os.ModeSocket != 0)
}

// stop ends rsyslogd, which writes what it has first.
func (r *rsyslog) stop() {
	if r.command == nil {
		return
	}
	_ = r.command.Process.Signal(syscall.SIGTERM)
	_ = r.command.Wait()
	r.command = nil
}

// received are the messages by now, split in their parts.
func (r *rsyslog) received() [][]string {
	data, err := os.ReadFile(r.path("out"))
	if err != nil {
		return nil
	}
	var all [][]string
	for line := range strings.Lines(string(data)) {
		if text, whole := strings.CutSuffix(line, "\n"); whole {
			all = append(all, strings.SplitN(text, "|", 8))
		}
	}
	return all
}

// wait returns the messages once there are n.
func (r *rsyslog) wait(n int) [][]string {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%d messages in %s", n, r.path("out")), func() bool { return len(r.received()) >= n })
	return r.received()
}

// port is where rsyslogd listens.
func (r *rsyslog) port() string {
	r.t.Helper()
	data, err := os.ReadFile(r.path("port"))
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing", what)
	}
	t.Skipf("%s is missing", what)
}

// tlsConfigFor takes only the client certificate called gate.
func tlsConfigFor(ca *authority, port string) string {
	return fmt.Sprintf(`
global(maxMessageSize="4m" workDirectory="@DIR@" defaultNetstreamDriver="gtls"
  defaultNetstreamDriverCAFile=%q defaultNetstreamDriverCertFile=%q defaultNetstreamDriverKeyFile=%q)
module(load="imtcp" maxFrameSize="4194304" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/name" permittedPeer=["gate"])
input(type="imtcp" address="127.0.0.1" port=%q listenPortFileName="@DIR@/port")
`, ca.path("ca.crt"), ca.path("server.crt"), ca.path("server.key"), port)
}

func newTLSPair(t *testing.T) (*rsyslog, *authority, SyslogOptions) {
	t.Helper()
	if found, _ := filepath.Glob("/usr/lib*/*/rsyslog/lmnsd_gtls.so"); len(found) == 0 {
		missing(t, "rsyslog's TLS (package rsyslog-gnutls)")
	}
	ca := newAuthority(t)
	ca.issue("server")
	ca.issue("gate")
	r := newRsyslog(t, tlsConfigFor(ca, "0"), "port")
	return r, ca, SyslogOptions{Address: "tls://127.0.0.1:" + r.port(), CA: ca.path("ca.crt"), ServerName: "server",
		Cert: ca.path("gate.crt"), Key: ca.path("gate.key"), Hostname: "gate-a"}
}

func open(t *testing.T, o SyslogOptions) *Sink {
	t.Helper()
	s, err := Syslog(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRsyslogGetsEachLineOverTLS(t *testing.T) {
	r, _, o := newTLSPair(t)
	s := open(t, o)
	stop := start(t, s)
	at := time.UnixMilli(1795521600123)
	lines := []string{
		event(at, "ssh.conn.open", "plain"),
		event(at, "proc.start", "quotes \" backslashes \\ bars | and ü 漢字 \u2028 😀"),
		event(at, "proc.end", strings.Repeat("long ", 2000)),
		event(at, "auth.failure", `<13>1 - - - - - - not a message of its own`),
	}
	for _, line := range lines {
		s.Offer([]byte(line))
	}
	for i, m := range r.wait(len(lines)) {
		if line := strings.TrimSuffix(lines[i], "\n"); m[7] != line {
			t.Errorf("got  %.300q\nwant %.300q", m[7], line)
		}
	}
	first := r.received()[0]
	if want := fmt.Sprintf("86|2026-11-24T12:00:00.123Z|gate-a|postern|%d|ssh.conn.open|-", os.Getpid()); strings.Join(first[:7], "|") != want {
		t.Errorf("header %q, want %q", first[:7], want)
	}
	if st := s.Stats(); !st.Connected || st.Sent != 4 || st.Dropped != 0 || st.Queued != 0 || st.QueuedBytes != 0 || st.LastError != "" || st.LastSent.IsZero() {
		t.Errorf("%+v", st)
	}
	stop()
}

func TestALineOfTwoMebibytesPassesOverTLS(t *testing.T) {
	r, _, o := newTLSPair(t)
	s := open(t, o)
	start(t, s)
	line := event(time.Now(), "proc.start", strings.Repeat("x", 2<<20))
	s.Offer([]byte(line + event(time.Now(), "proc.end", "next")))
	if got := r.wait(2)[0][7]; got != strings.TrimSuffix(line, "\n") {
		t.Errorf("got %d bytes, want %d", len(got), len(line)-1)
	}
}

func TestALineLargerThanTheQueueIsDropped(t *testing.T) {
	s := open(t, SyslogOptions{Address: "unix:/nowhere", Queue: 1000})
	s.Offer([]byte(event(time.Now(), "proc.start", strings.Repeat("x", 1000)) + event(time.Now(), "proc.end", "")))
	if st := s.Stats(); st.Queued != 1 || st.Dropped != 1 || st.Reasons["too_large"] != 1 {
		t.Errorf("%+v", st)
	}
}

// TestEventsWaitWhileTheServerIsAway stops rsyslogd and starts it at the same
// port. Nothing that was offered in between is missing.
func TestEventsWaitWhileTheServerIsAway(t *testing.T) {
	r, ca, o := newTLSPair(t)
	s := open(t, o)
	start(t, s)
	s.Offer([]byte(event(time.Now(), "a", "before")))
	r.wait(1)
	port := r.port()
	r.stop()
	eventually(t, "the end of the connection is known", func() bool { return !s.Stats().Connected })
	s.Offer([]byte(numbered(100)))
	eventually(t, "the server is known to be away", func() bool { return strings.Contains(s.Stats().LastError, "connect to the syslog server") })
	if st := s.Stats(); st.Queued != 100 || st.Sent != 1 {
		t.Errorf("%+v", st)
	}
	r.config = strings.ReplaceAll(tlsConfigFor(ca, port)+rsyslogOutput, "@DIR@", r.dir)
	r.start("pid")
	if got := r.wait(101); !strings.Contains(got[100][7], "event 000099") {
		t.Errorf("the last is %.200q", got[100][7])
	}
	eventually(t, "the sink is connected", func() bool { return s.Stats().Connected })
}

func TestStopSendsWhatIsQueued(t *testing.T) {
	r, _, o := newTLSPair(t)
	s := open(t, o)
	s.Offer([]byte(numbered(5000)))
	stop := start(t, s)
	if took := stop(); took > 1500*time.Millisecond {
		t.Errorf("it took %s", took)
	}
	if st := s.Stats(); st.Sent != 5000 || st.Queued != 0 {
		t.Errorf("%+v", st)
	}
	r.wait(5000)
}

// unixDatagrams is /dev/log as rsyslog serves it where journald doesn't. Without
// the special parser, which knows only RFC 3164, it reads RFC 5424.
const unixDatagrams = `
global(maxMessageSize="4m" workDirectory="@DIR@")
module(load="imuxsock" sysSock.use="off")
input(type="imuxsock" socket="@DIR@/log" useSpecialParser="off" parseHostname="on" rateLimit.interval="0" ignoreTimestamp="off")
`

const unixStream = `
global(maxMessageSize="4m" workDirectory="@DIR@")
module(load="imptcp")
input(type="imptcp" path="@DIR@/log" unlink="on")
`

func TestRsyslogGetsEachLineFromAUnixSocket(t *testing.T) {
	for kind, config := range map[string]string{"datagrams": unixDatagrams, "stream": unixStream} {
		t.Run(kind, func(t *testing.T) {
			r := newRsyslog(t, config, "log")
			s := open(t, SyslogOptions{Address: "unix:" + r.path("log"), Hostname: "gate-a", Facility: "local3"})
			start(t, s)
			at := time.UnixMilli(1795521600123)
			lines := []string{event(at, "ssh.conn.open", "one"), event(at, "proc.start", "ü | \" \\ \n \r"), event(at, "proc.end", strings.Repeat("x", 100_000))}
			for _, line := range lines {
				s.Offer([]byte(line))
			}
			for i, m := range r.wait(len(lines)) {
				if m[7] != strings.TrimSuffix(lines[i], "\n") {
					t.Errorf("got  %.300q\nwant %.300q", m[7], lines[i])
				}
			}
			if m := r.received()[0]; m[0] != "158" || m[1] != "2026-11-24T12:00:00.123Z" || m[2] != "gate-a" || m[3] != "postern" || m[5] != "ssh.conn.open" {
				t.Errorf("header %q", m[:7])
			}
		})
	}
}

func TestALineTooLargeForADatagramIsDropped(t *testing.T) {
	r := newRsyslog(t, unixDatagrams, "log")
	s := open(t, SyslogOptions{Address: "unix:" + r.path("log")})
	start(t, s)
	s.Offer([]byte(event(time.Now(), "proc.start", strings.Repeat("x", 2<<20)) + event(time.Now(), "proc.end", "next")))
	if got := r.wait(1)[0]; got[5] != "proc.end" {
		t.Errorf("got %.200q", got)
	}
	if st := s.Stats(); st.Sent != 1 || st.Dropped != 1 || st.Reasons["too_large"] != 1 || !st.Connected {
		t.Errorf("%+v", st)
	}
}

func TestAUnixSocketMayComeBack(t *testing.T) {
	for kind, config := range map[string]string{"datagrams": unixDatagrams, "stream": unixStream} {
		t.Run(kind, func(t *testing.T) {
			r := newRsyslog(t, config, "log")
			s := open(t, SyslogOptions{Address: "unix:" + r.path("log")})
			start(t, s)
			s.Offer([]byte(event(time.Now(), "a", "before")))
			r.wait(1)
			r.stop()
			s.Offer([]byte(event(time.Now(), "b", "between")))
			eventually(t, "the socket is known to be away", func() bool { return s.Stats().LastError != "" })
			r.start("log")
			if got := r.wait(2); got[1][5] != "b" {
				t.Errorf("got %q", got)
			}
		})
	}
}
