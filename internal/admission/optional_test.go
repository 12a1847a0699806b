package admission

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// oneConn is a listener that accepts nc.
type oneConn struct{ nc net.Conn }

func (l oneConn) Accept() (net.Conn, error) { return l.nc, nil }
func (l oneConn) Close() error              { return nil }
func (l oneConn) Addr() net.Addr            { return tcpAddr("10.0.1.9:8022") }

func optional(t *testing.T, nc net.Conn) net.Conn {
	t.Helper()
	c, err := Optional(oneConn{nc}, 3*time.Second).Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The real server and client of net/http, over TCP, with keep-alive.
func TestHealthChecksAreAnsweredWithAndWithoutAHeader(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr) }),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(Optional(ln, 0)) }()
	for name, header := range map[string][]byte{"plain": nil, "LOCAL": vectors()["V3"], "PROXY": vectors()["V7"], "no CRC": vectors()["V4"]} {
		t.Run(name, func(t *testing.T) { twoRequests(t, ln.Addr().String(), header) })
	}
	if err := srv.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != http.ErrServerClosed {
		t.Error(err)
	}
}

// twoRequests sends header and two requests on one connection; the server must
// see TCP's own address each time.
func twoRequests(t *testing.T, addr string, header []byte) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Write(header); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(nc)
	for range 2 {
		if _, err := io.WriteString(nc, "GET /readyz HTTP/1.1\r\nHost: 10.0.1.9\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 || string(body) != nc.LocalAddr().String() {
			t.Errorf("%d %q, %v, want %v", resp.StatusCode, body, err, nc.LocalAddr())
		}
	}
}

func TestOneOptionalHeaderIsSkippedAndEveryOtherByteKept(t *testing.T) {
	local := string(vectors()["V3"])
	for name, c := range map[string]struct{ sent, want string }{
		"plain":                   {"GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\n"},
		"short":                   {"G", "G"},
		"POST":                    {"POST", "POST"},
		"PROPFIND":                {"PROPFIND", "PROPFIND"},
		"leading empty line":      {"\r\n\r\nGET /", "\r\n\r\nGET /"},
		"TLS":                     {"\x16\x03\x01\x02\x00", "\x16\x03\x01\x02\x00"},
		"LOCAL":                   {local + "GET /", "GET /"},
		"LOCAL alone":             {local, ""},
		"only the first is taken": {local + local, local},
		"nothing":                 {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got, err := io.ReadAll(optional(t, newMemConn(lb).send(c.sent).finish(io.EOF))); err != nil || string(got) != c.want {
					t.Errorf("at once: %q, %v", got, err)
				}
				nc := newMemConn(lb)
				go func() {
					for _, b := range []byte(c.sent) {
						nc.send(string([]byte{b}))
						time.Sleep(time.Millisecond)
					}
					nc.finish(io.EOF)
				}()
				if got, err := io.ReadAll(optional(t, nc)); err != nil || string(got) != c.want {
					t.Errorf("in single bytes: %q, %v", got, err)
				}
			})
		})
	}
}

func TestAMalformedOptionalHeaderIsAnErrorOfRead(t *testing.T) {
	for sent, want := range map[string]Reason{
		string(vectors()["V6"]):                     ReasonHeaderCRC,
		"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET /": ReasonHeaderV1,
		string(vectors()["V3"][:14]):                ReasonHeaderMalformed,
		string(vectors()["V3"][:50]):                ReasonHeaderMalformed,
	} {
		c := optional(t, newMemConn(lb).send(sent).finish(io.EOF))
		for range 2 {
			n, err := c.Read(make([]byte, 100))
			if d, ok := errors.AsType[*Denied](err); n != 0 || !ok || d.Reason != want {
				t.Errorf("read %d bytes, %v, want %s", n, err, want)
			}
		}
	}
}

func TestAcceptDoesNotWaitForTheHeader(t *testing.T) {
	nc := newMemConn(lb)
	optional(t, nc)
	if nc.seen().reads != 0 {
		t.Error("Accept read")
	}
}

func TestAnOptionalHeaderMustBeWholeInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, sent := range []string{"", "\r\n\r\n", string(vectors()["V3"][:50])} {
			start := time.Now()
			_, err := optional(t, newMemConn(lb).send(sent)).Read(make([]byte, 100))
			if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 3*time.Second {
				t.Errorf("%q: %v after %v", sent, err, time.Since(start))
			}
		}
	})
}

func TestTheDeadlineOfTheReaderOutlivesTheHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := func(deadline time.Duration, sent string) time.Duration {
			nc := newMemConn(lb).send(sent)
			c := optional(t, nc)
			if err := c.SetDeadline(time.Now().Add(deadline)); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if _, err := c.Read(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			return time.Since(start)
		}
		local := string(vectors()["V3"])
		if d := read(time.Second, local[:20]); d != time.Second {
			t.Errorf("an earlier deadline passed after %v", d)
		}
		if d := read(time.Minute, local); d != time.Minute {
			t.Errorf("after the header the deadline passed after %v", d)
		}
		nc := newMemConn(lb).send(local)
		c := optional(t, nc)
		time.AfterFunc(time.Hour, func() { nc.send("GET") })
		if n, err := c.Read(make([]byte, 100)); n != 3 || err != nil {
			t.Errorf("without a deadline: %d, %v", n, err)
		}
	})
}
