package admin

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// TestMain makes every test of the package a leak test.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gate writes down what it was told to do.
type gate struct {
	mu   sync.Mutex
	did  []string
	by   Caller
	err  error
	hold chan struct{} // if set, a deed sends to it when it begins, and ends when it may send again
}

func (g *gate) do(ctx context.Context, by Caller, words ...string) error {
	if g.hold != nil {
		g.hold <- struct{}{}
		g.hold <- struct{}{}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.did, g.by = append(g.did, strings.Join(words, " ")), by
	if ctx.Err() != nil {
		g.err = ctx.Err()
	}
	return g.err
}

func (g *gate) Sessions() []SessionInfo {
	return []SessionInfo{{
		ID: "s-1", Identity: "alice", User: "alice", Endpoint: "vpce-0a", Client: "10.20.0.1:50000",
		Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), BytesIn: 1, BytesOut: 2, RTTMillis: 12.5,
		Channels: []ChannelInfo{{Type: "direct-tcpip", Target: "10.0.0.1:22", Rule: "web"}},
	}}
}

func (g *gate) Kill(ctx context.Context, by Caller, id, reason string) error {
	return g.do(ctx, by, "kill", id, reason)
}

func (g *gate) Freeze(ctx context.Context, by Caller, identity string, frozen bool) error {
	if frozen {
		return g.do(ctx, by, "freeze", identity)
	}
	return g.do(ctx, by, "thaw", identity)
}

func (g *gate) Access(ctx context.Context, by Caller, a Access) error {
	return g.do(ctx, by, a.Operation, strings.Join(a.Recordings, ","), strconv.Itoa(a.Count), a.Session, a.Detail)
}

func (g *gate) Drain(ctx context.Context, by Caller) error  { return g.do(ctx, by, "drain") }
func (g *gate) Reload(ctx context.Context, by Caller) error { return g.do(ctx, by, "reload") }

// start serves g on a socket until the test ends.
func start(t *testing.T, g Gate) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "run", "admin.sock")
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s := New(g)
	s.Version, s.Revision = "1.2.3", "abcdef0"
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	return path
}

func TestEachCallReachesTheGateWithItsCaller(t *testing.T) {
	g := &gate{}
	c := Dial(start(t, g))
	ctx := t.Context()
	for _, call := range []func() error{
		func() error { return c.Kill(ctx, "s-1", "change window closed") },
		func() error { return c.Kill(ctx, "a/b c%2f?#", "") },
		func() error { return c.Freeze(ctx, "vendor", true) },
		func() error { return c.Freeze(ctx, "vendor", false) },
		func() error { return c.Drain(ctx) },
		func() error { return c.Reload(ctx) },
		func() error {
			return c.Access(ctx, Access{Operation: "recordings.play", Recordings: []string{"a-0", "b-1"}, Count: 7, Session: "a", Detail: "why"})
		},
	} {
		if err := call(); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"kill s-1 change window closed", "kill a/b c%2f?# ", "freeze vendor", "thaw vendor", "drain", "reload", "recordings.play a-0,b-1 7 a why"}
	if !reflect.DeepEqual(g.did, want) {
		t.Errorf("did %q, want %q", g.did, want)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if want := (Caller{me.Username, os.Getuid(), os.Getgid(), os.Getpid()}); g.by != want {
		t.Errorf("caller %+v, want %+v", g.by, want)
	}
}

func TestSessionsAndVersionComeBackWhole(t *testing.T) {
	g := &gate{}
	c := Dial(start(t, g))
	got, err := c.Sessions(t.Context())
	if err != nil || !reflect.DeepEqual(got, g.Sessions()) {
		t.Errorf("%+v, %v", got, err)
	}
	v, err := c.Version(t.Context())
	if err != nil || v.Version != "1.2.3" || v.Revision != "abcdef0" || v.PID != os.Getpid() || time.Since(v.Started) > time.Minute {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestErrorsOfTheGateReachTheCaller(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want error
		text string
		hint string
	}{
		{&Error{Text: "no live session has the ID s-9", Hint: "postern sessions lists them", Err: ErrNoSuchSession}, ErrNoSuchSession, "no live session has the ID s-9", "postern sessions lists them"},
		{&Error{Text: "no identity bob", Err: ErrNoSuchIdentity}, ErrNoSuchIdentity, "no identity bob", ""},
		{errors.New("policy.yaml:3:1: unknown key"), nil, "policy.yaml:3:1: unknown key", ""},
	} {
		g := &gate{err: tc.err}
		err := Dial(start(t, g)).Kill(t.Context(), "s-9", "")
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Text != tc.text || e.Hint != tc.hint || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%v came as %#v", tc.err, err)
		}
	}
}

func TestNamesThatAreNoPathSegmentAreNotSent(t *testing.T) {
	g := &gate{}
	c := Dial(start(t, g))
	for _, name := range []string{"", ".", ".."} {
		if err := c.Kill(t.Context(), name, ""); !errors.Is(err, ErrNoSuchSession) {
			t.Errorf("kill %q: %v", name, err)
		}
		if err := c.Freeze(t.Context(), name, true); !errors.Is(err, ErrNoSuchIdentity) {
			t.Errorf("freeze %q: %v", name, err)
		}
	}
	if g.did != nil {
		t.Errorf("did %q", g.did)
	}
}

func TestWhatBeganIsCarriedThroughWhenTheCallerGoesAway(t *testing.T) {
	g := &gate{hold: make(chan struct{})}
	path := filepath.Join(t.TempDir(), "admin.sock")
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	serving, stop := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- New(g).Serve(serving, ln) }()
	calling, leave := context.WithCancel(t.Context())
	called := make(chan error)
	go func() { called <- Dial(path).Kill(calling, "s-1", "gone") }()
	<-g.hold
	leave()
	if err := <-called; !errors.Is(err, context.Canceled) {
		t.Errorf("Kill: %v", err)
	}
	stop() // which waits for the deed
	<-g.hold
	if err := <-served; err != nil || !reflect.DeepEqual(g.did, []string{"kill s-1 gone"}) || g.err != nil {
		t.Errorf("did %q; %v", g.did, err)
	}
}

// raw sends one request as it is written and returns status and body.
func raw(t *testing.T, path, request string) (int, string) {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, request)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestRequestsThatAreNotOfTheInterfaceDoNothing(t *testing.T) {
	g := &gate{}
	path := start(t, g)
	const tail = " HTTP/1.1\r\nHost: x\r\n"
	for _, tc := range []struct {
		name, request string
		code          int
	}{
		{"unknown path", "GET /v2/sessions" + tail + "\r\n", 404},
		{"GET of a deed", "GET /v1/drain" + tail + "\r\n", 404},
		{"unknown key", "POST /v1/sessions/s-1/kill" + tail + "Content-Length: 9\r\n\r\n{\"why\":1}", 422},
		{"no JSON", "POST /v1/sessions/s-1/kill" + tail + "Content-Length: 2\r\n\r\n<>", 422},
		{"long reason", "POST /v1/sessions/s-1/kill" + tail + "Content-Length: 2013\r\n\r\n{\"reason\":\"" + strings.Repeat("a", 2000) + "\"}", 422},
		{"no way to look", "POST /v1/access" + tail + "Content-Length: 36\r\n\r\n{\"operation\":\"gate.drain\",\"count\":1}", 422},
		{"fewer than named", "POST /v1/access" + tail + "Content-Length: 59\r\n\r\n{\"operation\":\"recordings.play\",\"recordings\":[\"a\"],\"count\":0}", 422},
		{"huge body", "POST /v1/sessions/s-1/kill" + tail + "Content-Length: 100013\r\n\r\n{\"reason\":\"" + strings.Repeat("a", 100000) + "\"}", 422},
	} {
		if code, body := raw(t, path, tc.request); code != tc.code || !strings.HasPrefix(body, `{"error":"`) {
			t.Errorf("%s: %d %s", tc.name, code, body)
		}
	}
	if g.did != nil {
		t.Errorf("did %q", g.did)
	}
}

func TestTheClientSaysWhatIsWrongWithTheSocket(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead.sock")
	leaveStale(t, dead)
	for _, path := range []string{filepath.Join(dir, "none.sock"), dead} {
		err := Dial(path).Drain(t.Context())
		e, ok := errors.AsType[*Error](err)
		if !ok || !errors.Is(err, ErrNotRunning) || !strings.Contains(e.Text, path) || !strings.Contains(e.Hint, "is postern running?") {
			t.Errorf("%s: %#v", path, err)
		}
	}
	denied := (&Client{path: "/s"}).explain(t.Context(), &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)})
	if !errors.Is(denied, ErrNotAllowed) || !errors.Is(denied, fs.ErrPermission) {
		t.Errorf("%#v", denied)
	}
}

func TestAnAnswerThatIsNotPosternsIsSaidSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/sessions" {
			io.WriteString(w, "<html>")
			return
		}
		w.WriteHeader(http.StatusBadGateway)
	})}
	served := make(chan error)
	go func() { served <- srv.Serve(ln) }()
	defer func() { srv.Close(); <-served }()
	if _, err := Dial(path).Sessions(t.Context()); err == nil || !strings.Contains(err.Error(), "read postern's answer") {
		t.Error(err)
	}
	if err := Dial(path).Drain(t.Context()); err == nil || !strings.Contains(err.Error(), "502") {
		t.Error(err)
	}
}

// leaveStale leaves a socket on which nobody listens, as a kill -9 does.
func leaveStale(t *testing.T, path string) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
}

func TestTheSocketIsForItsGroupAndNobodyElse(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	path := filepath.Join(t.TempDir(), "run", "admin.sock")
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for p, want := range map[string]fs.FileMode{path: fs.ModeSocket | 0o660, filepath.Dir(path): fs.ModeDir | 0o750} {
		if info, err := os.Lstat(p); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", p, info.Mode(), err, want)
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	if ln.Addr().String() != path {
		t.Errorf("address %s", ln.Addr())
	}
}

func TestAStaleSocketIsReplacedAndALiveOneIsNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	leaveStale(t, path)
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if second, err := Listen(path); err == nil || !strings.Contains(err.Error(), "another process answers") {
		t.Errorf("%v, %v", second, err)
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("the first does not answer any more: %v", err)
	} else {
		c.Close()
	}
}

func TestAFileThatIsNoSocketIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if ln, err := Listen(path); err == nil {
		ln.Close()
		t.Error("listens")
	}
	if got, err := os.ReadFile(path); string(got) != "precious" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := Listen("admin.sock"); err == nil {
		t.Error("a relative path was taken")
	}
}

func TestClosingLeavesTheSocketOfASuccessor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	first, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	first.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}

func TestAConnectionWithoutCredentialsDoesNothing(t *testing.T) {
	g := &gate{}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- New(g).Serve(ctx, ln) }()
	resp, err := http.Post("http://"+ln.Addr().String()+"/v1/drain", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-served; err != nil || resp.StatusCode != 403 || g.did != nil {
		t.Errorf("%d %q %v", resp.StatusCode, g.did, err)
	}
}

func TestAnAccountWithoutANameIsItsUID(t *testing.T) {
	if got := accountName(4_000_000_001); got != "uid 4000000001" {
		t.Error(got)
	}
}
