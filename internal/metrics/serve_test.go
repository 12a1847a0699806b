package metrics

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/crypto/bcrypt"
)

// start serves m on a loopback port; stop ends that and returns what Serve did.
func start(t *testing.T, m *Metrics) (addr string, stop func() error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- m.Serve(ctx, ln, zap.NewNop()) }()
	t.Cleanup(cancel)
	return ln.Addr().String(), func() error { cancel(); return <-served }
}

func get(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestServeAnswersAndEnds(t *testing.T) {
	addr, stop := start(t, New(Options{}))
	c := &http.Client{Transport: &http.Transport{}}
	for path, want := range map[string]string{"/metrics": "go_goroutines ", "/": `<a href="/metrics">`, "/other": "404"} {
		if _, body := get(t, c, "http://"+addr+path); !strings.Contains(body, want) {
			t.Errorf("%s: no %q in %.200s", path, want, body)
		}
	}
	if err := stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if nc, err := net.Dial("tcp", addr); err == nil {
		nc.Close()
		t.Error("the listener is open")
	}
}

// slowCollector holds a scrape until it is released.
type slowCollector struct{ began, release chan struct{} }

func (c slowCollector) Describe(chan<- *prometheus.Desc) {}
func (c slowCollector) Collect(chan<- prometheus.Metric) { c.began <- struct{}{}; <-c.release }

func TestAScrapeThatRunsIsFinishedWhenServeEnds(t *testing.T) {
	m := New(Options{})
	slow := slowCollector{make(chan struct{}), make(chan struct{})}
	m.registry.MustRegister(slow)
	addr, stop := start(t, m)
	type answer struct {
		code int
		body string
	}
	answered := make(chan answer)
	go func() {
		code, body := get(t, &http.Client{Transport: &http.Transport{}}, "http://"+addr+"/metrics")
		answered <- answer{code, body}
	}()
	<-slow.began
	stopped := make(chan error)
	go func() { stopped <- stop() }()
	close(slow.release)
	if got := <-answered; got.code != 200 || !strings.Contains(got.body, "postern_ready 0") {
		t.Errorf("%d %.200s", got.code, got.body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// webConfig writes a web config file with TLS and one user.
func webConfig(t *testing.T) (path string, roots *x509.CertPool) {
	t.Helper()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gate"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("correct horse"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	for name, content := range map[string][]byte{
		"cert.pem": certPEM,
		"key.pem":  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
		"web.yml": []byte("tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n" +
			"basic_auth_users:\n  prometheus: " + string(hash) + "\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	return filepath.Join(dir, "web.yml"), roots
}

func TestAWebConfigFileBringsTLSAndBasicAuthentication(t *testing.T) {
	path, roots := webConfig(t)
	o := Options{WebConfig: path}
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	addr, stop := start(t, New(o))
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	if code, body := get(t, c, "https://"+addr+"/metrics"); code != 401 || strings.Contains(body, "postern_") {
		t.Errorf("without a password: %d %.200s", code, body)
	}
	if code, _ := get(t, c, "https://prometheus:wrong@"+addr+"/metrics"); code != 401 {
		t.Errorf("with a wrong password: %d", code)
	}
	if code, body := get(t, c, "https://prometheus:correct%20horse@"+addr+"/metrics"); code != 200 || !strings.Contains(body, "postern_ready 0") {
		t.Errorf("with the password: %d %.200s", code, body)
	}
	if code, body := get(t, &http.Client{Transport: &http.Transport{}}, "http://"+addr+"/metrics"); code != 400 || strings.Contains(body, "postern_") {
		t.Errorf("without TLS: %d %.200s", code, body)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestPromtoolReadsTheSameWebConfig(t *testing.T) {
	tool := promtool(t)
	path, _ := webConfig(t)
	if out, err := exec.Command(tool, "check", "web-config", path).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestABadWebConfigIsAnErrorBeforeAndWhenServing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(path, []byte("tls_server_config:\n  cert_fil: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, path + ".missing"} {
		o := Options{WebConfig: p}
		if o.Validate() == nil {
			t.Errorf("%s is valid", p)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := New(o).Serve(t.Context(), ln, zap.NewNop()); err == nil {
			t.Errorf("%s served", p)
		}
		if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
			c.Close()
			t.Error("the listener is open")
		}
	}
	if err := (Options{}).Validate(); err != nil {
		t.Errorf("no file: %v", err)
	}
}

func TestOthersLogsGoToZap(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	l := slogTo(zap.New(core)).With("a", 1).WithGroup("g")
	l.Info("chatter", "b", 2)
	l.Warn("odd")
	l.Error("wrong")
	var got []string
	for _, e := range logs.All() {
		got = append(got, e.Level.String()+" "+e.Message)
	}
	if strings.Join(got, ", ") != "debug chatter, warn odd, error wrong" {
		t.Error(got)
	}
	if f := logs.All()[0].ContextMap(); f["a"] != int64(1) || f["g"].(map[string]any)["b"] != int64(2) {
		t.Error(f)
	}
}
