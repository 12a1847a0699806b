package sink

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tlsServer accepts connections of TLS and gives each to serve, until the test
// ends. It waits for nothing that serve has started.
func tlsServer(t *testing.T, config *tls.Config, serve func(net.Conn)) (address string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	listen(t, l, serve)
	return "tls://" + l.Addr().String()
}

func listen(t *testing.T, l net.Listener, serve func(net.Conn)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c)
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
}

// frames reads octet-counted messages until the connection ends.
func frames(c io.Reader, got func(message string)) {
	r := bufio.NewReader(c)
	for {
		count, err := r.ReadString(' ')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(count, " "))
		if err != nil {
			return
		}
		message := make([]byte, n)
		if _, err := io.ReadFull(r, message); err != nil {
			return
		}
		got(string(message))
	}
}

func TestMistakesAreFoundAtTheStart(t *testing.T) {
	ca := newAuthority(t)
	ca.issue("gate")
	ca.write("empty", "NOTHING", nil)
	for name, c := range map[string]struct {
		o    SyslogOptions
		want string
	}{
		"no address":       {SyslogOptions{}, "tls://HOST:PORT"},
		"plain TCP":        {SyslogOptions{Address: "tcp://h:1"}, "tls://HOST:PORT"},
		"no host":          {SyslogOptions{Address: "tls://:6514"}, "tls://HOST:PORT"},
		"a path":           {SyslogOptions{Address: "tls://h/x"}, "tls://HOST:PORT"},
		"a relative path":  {SyslogOptions{Address: "unix:dev/log"}, "unix:/PATH"},
		"no path":          {SyslogOptions{Address: "unix:"}, "unix:/PATH"},
		"unknown facility": {SyslogOptions{Address: "unix:/dev/log", Facility: "local9"}, "local9"},
		"no CA file":       {SyslogOptions{Address: "tls://h", CA: "/nowhere"}, "/nowhere"},
		"empty CA file":    {SyslogOptions{Address: "tls://h", CA: ca.path("empty")}, "no certificate"},
		"cert without key": {SyslogOptions{Address: "tls://h", Cert: ca.path("gate.crt")}, "client certificate"},
		"key of another":   {SyslogOptions{Address: "tls://h", Cert: ca.path("ca.crt"), Key: ca.path("gate.key")}, "client certificate"},
	} {
		if _, err := Syslog(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for _, address := range []string{"tls://siem.example.com", "tls://[2001:db8::1]", "tls://[2001:db8::1]:6514", "unix:/dev/log", "unix:///dev/log"} {
		if s, err := Syslog(SyslogOptions{Address: address, CA: ca.path("ca.crt")}); err != nil || s.Name() != "syslog" {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestAServerThatIsNotTheRightOneGetsNothing has a server behind each kind of
// wrong certificate, and one that speaks only TLS 1.1.
func TestAServerThatIsNotTheRightOneGetsNothing(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	ca.issue("server")
	other.issue("server")
	got := make(chan string, 1000)
	serve := func(c net.Conn) { frames(c, func(m string) { got <- m }) }
	for name, c := range map[string]struct {
		config *tls.Config
		name   string
		want   string
	}{
		"of another CA": {&tls.Config{Certificates: []tls.Certificate{other.pair("server")}}, "server", "unknown authority"},
		"another name":  {&tls.Config{Certificates: []tls.Certificate{ca.pair("server")}}, "siem", "not siem"},
		"only TLS 1.1":  {&tls.Config{Certificates: []tls.Certificate{ca.pair("server")}, MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11}, "server", "version"},
	} {
		address := tlsServer(t, c.config, func(c net.Conn) {
			if c.(*tls.Conn).Handshake() == nil {
				serve(c)
			}
		})
		s := open(t, SyslogOptions{Address: address, CA: ca.path("ca.crt"), ServerName: c.name})
		stop := start(t, s)
		s.Offer([]byte(numbered(1)))
		eventually(t, name+": the failure is known", func() bool { return strings.Contains(s.Stats().LastError, c.want) })
		stop()
		if st := s.Stats(); st.Sent != 0 || st.Queued != 1 || st.Connected {
			t.Errorf("%s: %+v", name, st)
		}
	}
	if len(got) > 0 {
		t.Errorf("a wrong server got %q", <-got)
	}
}

// TestAServerThatRefusesOurCertificateCountsNothingAsSent is about TLS 1.3,
// where the client is done before the server has looked at its certificate.
func TestAServerThatRefusesOurCertificateCountsNothingAsSent(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	ca.issue("server")
	other.issue("gate")
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	address := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{ca.pair("server")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool},
		func(c net.Conn) { _ = c.(*tls.Conn).Handshake() })
	for name, cert := range map[string]SyslogOptions{
		"none":          {},
		"of another CA": {Cert: other.path("gate.crt"), Key: other.path("gate.key")},
	} {
		cert.Address, cert.CA, cert.ServerName = address, ca.path("ca.crt"), "server"
		s := open(t, cert)
		stop := start(t, s)
		s.Offer([]byte(numbered(10)))
		eventually(t, "the refusal is known", func() bool { return strings.Contains(s.Stats().LastError, "certificate") })
		stop()
		if st := s.Stats(); st.Sent != 0 || st.Queued != 10 || st.Connected {
			t.Errorf("%s: %+v", name, st)
		}
	}
}

// TestAServerThatStopsReadingHoldsUpNobody fills what a stalled server leaves
// room for.
func TestAServerThatStopsReadingHoldsUpNobody(t *testing.T) {
	ca := newAuthority(t)
	ca.issue("server")
	release := make(chan struct{})
	address := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{ca.pair("server")}}, func(c net.Conn) {
		_ = c.(*tls.Conn).Handshake()
		<-release
	})
	defer close(release)
	const room = 1 << 20
	s := open(t, SyslogOptions{Address: address, CA: ca.path("ca.crt"), ServerName: "server", Queue: room})
	stop := start(t, s)
	batch := []byte(numbered(256))
	var slowest time.Duration
	eventually(t, "the queue overflows", func() bool {
		for range 50 {
			began := time.Now()
			s.Offer(batch)
			slowest = max(slowest, time.Since(began))
		}
		return s.Stats().Reasons["queue_full"] > 100_000
	})
	st := s.Stats()
	if st.QueuedBytes > room || st.QueuedBytes < room/2 || st.Dropped != st.Reasons["queue_full"] {
		t.Errorf("%+v", st)
	}
	if slowest > time.Second { // the machine may be busy; a sink that waits would take 10 s
		t.Errorf("an Offer took %s", slowest)
	}
	if took := stop(); took > flushTime+time.Second {
		t.Errorf("stopping took %s", took)
	}
}

// TestABatchThatBrokeOffIsSentAgain has a server that ends the connection in
// the middle of a message.
func TestABatchThatBrokeOffIsSentAgain(t *testing.T) {
	ca := newAuthority(t)
	ca.issue("server")
	got := make(chan string, 1000)
	broken := false
	address := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{ca.pair("server")}}, func(c net.Conn) {
		if !broken {
			broken = true
			_, _ = io.CopyN(io.Discard, c, 1000)
			return
		}
		frames(c, func(m string) { got <- m })
	})
	s := open(t, SyslogOptions{Address: address, CA: ca.path("ca.crt"), ServerName: "server"})
	start(t, s)
	big := event(time.Now(), "big", strings.Repeat("x", 20<<20))
	s.queue.limit = 64 << 20
	s.Offer([]byte(big))
	if m := <-got; !strings.HasSuffix(m, strings.TrimSuffix(big, "\n")) {
		t.Errorf("got %d bytes", len(m))
	}
	eventually(t, "it counts as sent", func() bool { return s.Stats().Sent == 1 })
}

// TestACertificateThatIsRenewedIsUsed changes the files of the CA while the
// sink runs.
func TestACertificateThatIsRenewedIsUsed(t *testing.T) {
	ca, next := newAuthority(t), newAuthority(t)
	next.issue("server")
	got := make(chan string, 10)
	address := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{next.pair("server")}}, func(c net.Conn) { frames(c, func(m string) { got <- m }) })
	s := open(t, SyslogOptions{Address: address, CA: ca.path("ca.crt"), ServerName: "server"})
	start(t, s)
	s.Offer([]byte(numbered(1)))
	eventually(t, "the old CA does not know the server", func() bool { return strings.Contains(s.Stats().LastError, "unknown authority") })
	renewed, err := os.ReadFile(next.path("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ca.path("ca.crt"), renewed, 0o644); err != nil {
		t.Fatal(err)
	}
	if m := <-got; !strings.HasSuffix(m, `event 000000"}`) {
		t.Errorf("got %q", m)
	}
}

func TestAnOldLineIsOneMessageOfAStream(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 10)
	listen(t, l, func(c net.Conn) {
		for lines := bufio.NewScanner(c); lines.Scan(); {
			got <- lines.Text()
		}
	})
	s := open(t, SyslogOptions{Address: "unix:" + path})
	start(t, s)
	s.Offer([]byte(numbered(2)))
	for _, want := range []string{"event 000000", "event 000001"} {
		if m := <-got; header5424.FindString(m) == "" || !strings.Contains(m, want) {
			t.Errorf("got %q, want %q", m, want)
		}
	}
}

func TestASinkWithoutEventsStopsAtOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	began := time.Now()
	if err := open(t, SyslogOptions{Address: "unix:/nowhere"}).Run(ctx); err != nil || time.Since(began) > flushTime {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}
