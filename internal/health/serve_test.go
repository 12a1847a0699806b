package health

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// start serves s on a loopback port until the test ends.
func start(t *testing.T, s *Server) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return ln.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func TestALoadBalancersCheckOverPlainHTTP(t *testing.T) {
	addr := start(t, New(Options{Checks: []Check{{Name: "audit", Test: holds}}}))
	c := dial(t, addr)
	// Host is the node's address and the listener's port, never this one's name.
	io.WriteString(c, "GET /readyz HTTP/1.1\r\nHost: 10.0.1.25:22\r\nConnection: close\r\nUser-Agent: ELB-HealthChecker/2.0\r\n\r\n")
	got, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(string(got), "\r\n\r\nok\n") {
		t.Errorf("%q, %v", got, err)
	}
}

func TestHEADHasNoBody(t *testing.T) {
	addr := start(t, New(Options{}))
	resp, err := http.Head("http://" + addr + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 503 || len(body) != 0 {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
}

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gate"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestTLS12IsOfferedEvenIfTheConfigurationWants13(t *testing.T) {
	addr := start(t, New(Options{
		Checks: []Check{{Name: "audit", Test: holds}},
		TLS:    &tls.Config{Certificates: []tls.Certificate{certificate(t)}, MinVersion: tls.VersionTLS13},
	}))
	for version, want := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		c := tls.Client(dial(t, addr), &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
		err := c.Handshake()
		if (err == nil) != want {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err != nil {
			continue
		}
		io.WriteString(c, "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 200 || resp.Proto != "HTTP/1.1" {
			t.Errorf("%s: %v %v", tls.VersionName(version), resp, err)
		}
	}
}

func TestTLSWithoutACertificateIsAnError(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := New(Options{TLS: &tls.Config{}}).Serve(t.Context(), ln); err == nil {
		t.Error("served")
	}
	if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		c.Close()
		t.Error("the listener is open")
	}
}

func TestASlowHeaderIsCutOff(t *testing.T) {
	addr := start(t, New(Options{}))
	c := dial(t, addr)
	began := time.Now()
	io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: ")
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("not closed: %v", err)
	}
	if took := time.Since(began); took < 4*time.Second || took > 10*time.Second {
		t.Errorf("closed after %v", took)
	}
}

func TestAHugeHeaderIsRefused(t *testing.T) {
	addr := start(t, New(Options{}))
	c := dial(t, addr)
	io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("a", 11<<10))
	io.WriteString(c, strings.Repeat("b", 4<<10)+"\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 431 {
		t.Errorf("%v, %v", resp, err)
	}
}

func TestSilentConnectionsCannotKeepTheLoadBalancerOut(t *testing.T) {
	addr := start(t, New(Options{Checks: []Check{{Name: "audit", Test: holds}}}))
	oldest := dial(t, addr)
	for range 2 * maxConns {
		dial(t, addr)
	}
	began := time.Now()
	resp, err := http.Get("http://" + addr + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if resp.StatusCode != 200 || time.Since(began) > 4*time.Second {
		t.Errorf("%d after %v", resp.StatusCode, time.Since(began))
	}
	if _, err := oldest.Read(make([]byte, 1)); err == nil || time.Since(began) > 4*time.Second {
		t.Errorf("the oldest is still open: %v", err)
	}
}

// blockedListener accepts nothing.
type blockedListener struct {
	closed chan struct{}
	once   sync.Once
}

func (l *blockedListener) Accept() (net.Conn, error) { <-l.closed; return nil, net.ErrClosed }
func (l *blockedListener) Close() error              { l.once.Do(func() { close(l.closed) }); return nil }
func (l *blockedListener) Addr() net.Addr            { return &net.TCPAddr{} }

func TestReadinessIsWatchedWhenNobodyAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failing atomic.Bool
		var ready atomic.Bool
		s := New(Options{Changed: ready.Store, Checks: []Check{{Name: "audit", Test: func() error {
			if failing.Load() {
				return fails()
			}
			return nil
		}}}})
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error)
		go func() { served <- s.Serve(ctx, &blockedListener{closed: make(chan struct{})}) }()
		synctest.Wait()
		if !ready.Load() {
			t.Error("not told at the start")
		}
		failing.Store(true)
		time.Sleep(watchTime)
		synctest.Wait()
		if ready.Load() {
			t.Error("not told of the change")
		}
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
