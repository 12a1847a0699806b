package s3server

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"
)

// Fault is one way in which the wire is broken. Zero fields do nothing.
type Fault struct {
	Method string // of the requests that it hits; "" = all
	Query  string // a parameter that they have, such as uploads; "" = any
	After  int    // how many of them pass before
	Times  int    // how many it hits; 0 = all that follow

	Throttle bool          // 503 SlowDown
	Deny     bool          // 403 AccessDenied
	HTML     bool          // 502 with a page, as a proxy makes it
	Page     bool          // 200 with a page, as a portal makes it
	Skew     time.Duration // 403 RequestTimeTooSkewed from a clock that is so much ahead
	Error    string        // an S3 error code, with Status
	Status   int
	Hang     bool          // no answer until the client gives up
	Slow     time.Duration // before the request is passed on
	Down     bool          // the connection is closed without an answer
	Upload   int64         // the connection is cut once so many bytes of the request have passed on; -1 = 0 bytes
	Answer   int64         // the connection is cut after so many bytes of the answer's body; -1 = 0 bytes

	Do   func() // is called before the request is passed on
	Flip bool   // one bit of the answer's body comes over wrong

	hit int
}

// Wire passes requests on to the server as they are: their signature covers
// the Host. Its methods may be called from any goroutine.
type Wire struct {
	URL string

	close func()

	mu       sync.Mutex // guards what follows
	faults   []*Fault
	requests []string // "METHOD path?query"
}

func newWire(t testing.TB, server string) *Wire {
	t.Helper()
	to, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	w := &Wire{}
	transport := &http.Transport{DisableCompression: true}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host
			r.Out.Host = r.In.Host
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) { w.serve(proxy, rw, req) }))
	w.URL = front.URL
	w.close = func() {
		front.CloseClientConnections()
		front.Close()
		transport.CloseIdleConnections()
	}
	return w
}

// Break adds a fault, and returns what mends it. Of several that hit a request
// the first counts.
func (w *Wire) Break(f Fault) (mend func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fault := &f
	w.faults = append(w.faults, fault)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for i, other := range w.faults {
			if other == fault {
				w.faults = append(w.faults[:i:i], w.faults[i+1:]...)
				return
			}
		}
	}
}

// Requests are those that came in since the last call: METHOD, space, path and
// query.
func (w *Wire) Requests() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	requests := w.requests
	w.requests = nil
	return requests
}

// pick notes req and finds the fault that hits it; zero = none.
func (w *Wire) pick(req *http.Request) Fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests = append(w.requests, req.Method+" "+req.URL.RequestURI())
	for _, f := range w.faults {
		if f.hits(req) {
			return *f
		}
	}
	return Fault{}
}

// hits counts the requests that it is about.
func (f *Fault) hits(req *http.Request) bool {
	if f.Method != "" && f.Method != req.Method || f.Query != "" && !req.URL.Query().Has(f.Query) {
		return false
	}
	f.hit++
	return f.hit > f.After && (f.Times == 0 || f.hit <= f.After+f.Times)
}

func (w *Wire) serve(proxy http.Handler, rw http.ResponseWriter, req *http.Request) {
	f := w.pick(req)
	switch {
	case f.Down:
		panic(http.ErrAbortHandler)
	case f.Hang:
		io.Copy(io.Discard, req.Body) // or the server would not see that the client has left
		<-req.Context().Done()
		panic(http.ErrAbortHandler)
	case f.HTML:
		page(rw, http.StatusBadGateway)
	case f.Page:
		io.Copy(io.Discard, req.Body)
		page(rw, http.StatusOK)
	case f.answer(rw, req):
	default:
		pass(f, proxy, rw, req)
	}
}

// answer writes the S3 error that f stands for, if any.
func (f *Fault) answer(rw http.ResponseWriter, req *http.Request) bool {
	code, status := f.Error, f.Status
	switch {
	case f.Throttle:
		code, status = "SlowDown", http.StatusServiceUnavailable
	case f.Deny:
		code, status = "AccessDenied", http.StatusForbidden
	case f.Skew != 0:
		code, status = "RequestTimeTooSkewed", http.StatusForbidden
		rw.Header().Set("Date", time.Now().Add(f.Skew).UTC().Format(http.TimeFormat))
	case code == "":
		return false
	}
	io.Copy(io.Discard, req.Body)
	rw.Header().Set("Content-Type", "application/xml")
	rw.WriteHeader(status)
	fmt.Fprintf(rw, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>made by the test</Message></Error>", code)
	return true
}

func page(rw http.ResponseWriter, status int) {
	rw.Header().Set("Content-Type", "text/html")
	rw.WriteHeader(status)
	io.WriteString(rw, "<html><body><h1>A page</h1></body></html>")
}

// pass hands req to the server, slowly or in part.
func pass(f Fault, proxy http.Handler, rw http.ResponseWriter, req *http.Request) {
	select {
	case <-time.After(f.Slow):
	case <-req.Context().Done():
		panic(http.ErrAbortHandler)
	}
	if f.Do != nil {
		f.Do()
	}
	if f.Upload != 0 {
		req.Body = &cutReader{ReadCloser: req.Body, left: max(0, f.Upload)}
	}
	if f.Answer != 0 {
		rw = &cutWriter{ResponseWriter: rw, left: max(0, f.Answer)}
	}
	if f.Flip {
		rw = &flipWriter{ResponseWriter: rw}
	}
	proxy.ServeHTTP(rw, req)
}

var errCut = errors.New("cut by the test")

// cutReader ends with an error after so many bytes.
type cutReader struct {
	io.ReadCloser
	left int64
}

func (c *cutReader) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, errCut
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// cutWriter closes the connection after so many bytes of the body, or where the
// answer has none, in the middle of its header.
type cutWriter struct {
	http.ResponseWriter
	left int64
}

func (c *cutWriter) WriteHeader(status int) {
	if c.left > 0 {
		c.ResponseWriter.WriteHeader(status)
		return
	}
	conn, out, err := http.NewResponseController(c.ResponseWriter).Hijack()
	if err == nil {
		fmt.Fprintf(out, "HTTP/1.1 %d OK\r\nContent-Le", status)
		out.Flush()
		conn.Close()
	}
	panic(http.ErrAbortHandler)
}

func (c *cutWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if err == nil && n < len(p) {
		http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// flipWriter changes a bit of the first byte.
type flipWriter struct {
	http.ResponseWriter
	done bool
}

func (f *flipWriter) Write(p []byte) (int, error) {
	if !f.done && len(p) > 0 {
		p = append([]byte{p[0] ^ 1}, p[1:]...)
		f.done = true
	}
	return f.ResponseWriter.Write(p)
}
