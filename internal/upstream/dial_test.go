package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// TestMain makes every test of the package a leak test.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func addrs(t *testing.T, texts ...string) []netip.Addr {
	t.Helper()
	var as []netip.Addr
	for _, s := range texts {
		a, err := netip.ParseAddr(s)
		if err != nil {
			t.Fatal(err)
		}
		as = append(as, a)
	}
	return as
}

// listen returns a listener on addr; port 0 takes a free one.
func listen(t *testing.T, addr string, port uint16) (net.Listener, uint16) {
	t.Helper()
	ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln, ln.Addr().(*net.TCPAddr).AddrPort().Port()
}

// blackhole makes addr:port a place that never answers: a listener whose
// queue is full, so that Linux drops every further SYN.
func blackhole(t *testing.T, addr string, port uint16) uint16 {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: netip.MustParseAddr(addr).As4(), Port: int(port)}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	at := netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(sa.(*unix.SockaddrInet4).Port))
	for range 10 {
		c, err := net.DialTimeout("tcp", at.String(), 100*time.Millisecond)
		if err != nil {
			return at.Port()
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the listener's queue does not fill")
	return 0
}

func TestTheFirstAddressThatAnswersIsUsed(t *testing.T) {
	ln, port := listen(t, "127.0.0.3", 0)
	blackhole(t, "127.0.0.2", port)
	began := time.Now()
	c, err := New(Options{}).DialTCP(t.Context(), addrs(t, "127.0.0.2", "127.0.0.3"), port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.RemoteAddr().String(); got != ln.Addr().String() {
		t.Errorf("connected to %s, want %s", got, ln.Addr())
	}
	if took := time.Since(began); took < attemptDelay || took > 5*time.Second {
		t.Errorf("took %v, want a little more than %v", took, attemptDelay)
	}
}

func TestARefusalFreesTheWayForTheNextAddressAtOnce(t *testing.T) {
	_, port := listen(t, "127.0.0.9", 0)
	began := time.Now()
	list := addrs(t, "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6", "127.0.0.7", "127.0.0.8", "127.0.0.9")
	c, err := New(Options{}).DialTCP(t.Context(), list, port)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if took := time.Since(began); took > 7*attemptDelay {
		t.Errorf("seven refusals took %v", took)
	}
}

func TestDialFailuresAreClassified(t *testing.T) {
	ln, closed := listen(t, "127.0.0.2", 0)
	ln.Close()
	hole := blackhole(t, "127.0.0.4", 0)
	blackhole(t, "127.0.0.2", hole)
	d := New(Options{DialTimeout: 400 * time.Millisecond})
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		name  string
		ctx   context.Context
		addrs []string
		port  uint16
		want  Outcome
		says  string
	}{
		{"nobody listens", t.Context(), []string{"127.0.0.2"}, closed, OutcomeRefused, "127.0.0.2"},
		{"nobody answers", t.Context(), []string{"127.0.0.2", "127.0.0.4"}, hole, OutcomeTimeout, "127.0.0.4"},
		{"one refuses, one is silent", t.Context(), []string{"127.0.0.2", "127.0.0.3"}, hole, OutcomeRefused, "127.0.0.3"},
		{"broadcast", t.Context(), []string{"255.255.255.255"}, 22, OutcomeUnreachable, "255.255.255.255"},
		{"caller gave up", canceled, []string{"127.0.0.2"}, closed, OutcomeCanceled, "canceled"},
		{"no address", t.Context(), nil, 22, OutcomeError, "no address"},
		{"port 0", t.Context(), []string{"127.0.0.2"}, 0, OutcomeError, "port 0"},
		{"unspecified", t.Context(), []string{"0.0.0.0"}, 22, OutcomeError, "0.0.0.0"},
		{"unspecified IPv6", t.Context(), []string{"127.0.0.2", "::"}, 22, OutcomeError, "::"},
		{"zone", t.Context(), []string{"fe80::1%lo"}, 22, OutcomeError, "%lo"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := d.DialTCP(tc.ctx, addrs(t, tc.addrs...), tc.port)
			if err == nil {
				c.Close()
				t.Fatal("connected")
			}
			if got := Classify(err); got != tc.want {
				t.Errorf("%v is %q, want %q", err, got, tc.want)
			}
			if !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%q does not name %q", err, tc.says)
			}
		})
	}
}

func TestTheUnspecifiedAddressIsNotTakenForLoopback(t *testing.T) {
	_, port := listen(t, "127.0.0.1", 0)
	for _, a := range append(addrs(t, "0.0.0.0", "::", "::ffff:0.0.0.0"), netip.Addr{}) {
		if c, err := New(Options{}).DialTCP(t.Context(), []netip.Addr{a}, port); !errors.Is(err, errUndialable) {
			t.Errorf("%v: %v, %v", a, c, err)
		}
	}
}

func TestGivingUpEndsAHangingDial(t *testing.T) {
	port := blackhole(t, "127.0.0.2", 0)
	ctx, cancel := context.WithCancel(t.Context())
	stop := time.AfterFunc(50*time.Millisecond, cancel)
	defer stop.Stop()
	began := time.Now()
	_, err := New(Options{}).DialTCP(ctx, addrs(t, "127.0.0.2", "127.0.0.2"), port)
	if Classify(err) != OutcomeCanceled || time.Since(began) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}

func TestAddressFamiliesTakeTurns(t *testing.T) {
	for _, tc := range []struct{ in, want []string }{
		{[]string{"10.0.0.1"}, []string{"10.0.0.1"}},
		{
			[]string{"fd00::1", "fd00::2", "fd00::3", "10.0.0.1", "10.0.0.2"},
			[]string{"fd00::1", "10.0.0.1", "fd00::2", "10.0.0.2", "fd00::3"},
		},
		{
			[]string{"10.0.0.1", "fd00::1", "::ffff:10.0.0.2", "10.0.0.3"},
			[]string{"10.0.0.1", "fd00::1", "::ffff:10.0.0.2", "10.0.0.3"},
		},
	} {
		if got, want := interleave(addrs(t, tc.in...)), addrs(t, tc.want...); !slices.Equal(got, want) {
			t.Errorf("%v: got %v, want %v", tc.in, got, want)
		}
	}
}

// stubConn counts how often it is closed.
type stubConn struct {
	addr   netip.Addr
	closed int
}

func (c *stubConn) Close() error { c.closed++; return nil }

func TestAttemptsStart250MillisecondsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var mu sync.Mutex
		var starts []time.Duration
		_, err := race(t.Context(), addrs(t, "10.0.0.1", "10.0.0.2", "10.0.0.3"), func(ctx context.Context, a netip.Addr) (io.Closer, error) {
			mu.Lock()
			starts = append(starts, time.Since(began))
			mu.Unlock()
			time.Sleep(time.Second)
			return nil, syscall.ECONNREFUSED
		})
		want := []time.Duration{0, 250 * time.Millisecond, 500 * time.Millisecond}
		if !reflect.DeepEqual(starts, want) || Classify(err) != OutcomeRefused {
			t.Errorf("started at %v, want %v; %v", starts, want, err)
		}
	})
}

func TestAWinnerClosesTheLosers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := &stubConn{}
		won, err := race(t.Context(), addrs(t, "10.0.0.1", "10.0.0.2"), func(ctx context.Context, a netip.Addr) (*stubConn, error) {
			if a == netip.MustParseAddr("10.0.0.1") {
				<-ctx.Done() // connected just when the other had won
				return late, nil
			}
			return &stubConn{addr: a}, nil
		})
		if err != nil || won.addr != netip.MustParseAddr("10.0.0.2") || won.closed != 0 || late.closed != 1 {
			t.Errorf("won %+v, late %+v, %v", won, late, err)
		}
	})
}

func TestADeadlineLeavesTheRestUntried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		var tried atomic.Int32
		_, err := race(ctx, addrs(t, "10.0.0.1", "10.0.0.2", "10.0.0.3"), func(ctx context.Context, a netip.Addr) (io.Closer, error) {
			tried.Add(1)
			<-ctx.Done()
			return nil, ctx.Err()
		})
		if tried.Load() != 2 || Classify(err) != OutcomeTimeout || !strings.Contains(err.Error(), "10.0.0.3") {
			t.Errorf("tried %d: %v", tried.Load(), err)
		}
	})
}

func option(t *testing.T, c *net.TCPConn, level, name int) int {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var v int
	if cerr := raw.Control(func(fd uintptr) { v, err = unix.GetsockoptInt(int(fd), level, name) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return v
}

func TestConnectionsHaveKeepalivesAndNoNagle(t *testing.T) {
	_, port := listen(t, "127.0.0.2", 0)
	c, err := New(Options{UserTimeout: time.Minute}).DialTCP(t.Context(), addrs(t, "127.0.0.2"), port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, o := range []struct {
		name              string
		level, code, want int
	}{
		{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 30},
		{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
		{"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 4},
		{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 60_000},
	} {
		if got := option(t, c, o.level, o.code); got != o.want {
			t.Errorf("%s is %d, want %d", o.name, got, o.want)
		}
	}
}

// A user timeout would cut it: Linux counts a closed window as silence.
func TestATargetThatPausesReadingIsNotTimedOutByDefault(t *testing.T) {
	_, port := listen(t, "127.0.0.2", 0)
	c, err := New(Options{}).DialTCP(t.Context(), addrs(t, "127.0.0.2"), port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := option(t, c, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); got != 0 {
		t.Errorf("TCP_USER_TIMEOUT is %d ms", got)
	}
}

func TestADialedConnectionOutlivesTheContext(t *testing.T) {
	ln, port := listen(t, "127.0.0.2", 0)
	ctx, cancel := context.WithCancel(t.Context())
	c, err := New(Options{}).DialTCP(ctx, addrs(t, "127.0.0.2"), port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cancel()
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Error(err)
	}
	if got, err := io.ReadAll(far); string(got) != "x" || err != nil {
		t.Errorf("target read %q, %v", got, err)
	}
}

func TestDialUnix(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		path string
		want Outcome
	}{
		{path, OutcomeOK},
		{filepath.Join(dir, "file"), OutcomeRefused},
		{filepath.Join(dir, "none"), OutcomeNoName},
		{path + "\x00.evil", OutcomeError},
		{"@abstract", OutcomeError},
		{"relative", OutcomeError},
		{"", OutcomeError},
		{"/" + strings.Repeat("a", 200), OutcomeError},
	} {
		c, err := New(Options{}).DialUnix(t.Context(), tc.path)
		if err == nil {
			c.Close()
		}
		if got := Classify(err); got != tc.want {
			t.Errorf("%q: %v is %q, want %q", tc.path, err, got, tc.want)
		}
	}
}
