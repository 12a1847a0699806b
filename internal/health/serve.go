package health

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	requestTime  = 5 * time.Second // for each of: TLS handshake, header, answer
	maxConns     = 64              // at once; then the oldest is closed
	watchTime    = 5 * time.Second // between checks that nobody asks for
	shutdownTime = time.Second
)

// Serve answers on ln, which the caller wraps with admission.Optional, until
// ctx ends: that is no error. Meanwhile the checks are made every 5 s even when
// nobody asks, so that Changed and the log are told in time. When Serve
// returns, ln and all connections are closed; only a Test that hangs may still
// be running.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	srv := s.server()
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		shutdown(srv)
	})
	var watcher sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	watcher.Go(func() { s.watch(ctx) })
	err := s.serve(srv, keepNewest(ln, maxConns))
	cancel()
	watcher.Wait()
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve health checks: %w", err)
}

func (s *Server) serve(srv *http.Server, ln net.Listener) error {
	defer ln.Close()
	if srv.TLSConfig == nil {
		return srv.Serve(ln)
	}
	return srv.ServeTLS(ln, "", "")
}

func (s *Server) watch(ctx context.Context) {
	tick := time.NewTicker(watchTime)
	defer tick.Stop()
	for {
		s.now()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func shutdown(srv *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if srv.Shutdown(ctx) != nil {
		srv.Close()
	}
}

func (s *Server) server() *http.Server {
	errorLog, err := zap.NewStdLogAt(s.options.Log, zapcore.DebugLevel)
	if err != nil {
		errorLog = zap.NewStdLog(s.options.Log)
	}
	srv := &http.Server{
		Handler:           s,
		TLSConfig:         serverTLS(s.options.TLS),
		ReadHeaderTimeout: requestTime,
		ReadTimeout:       requestTime,
		WriteTimeout:      requestTime,
		IdleTimeout:       10 * time.Second, // an NLB closes after each answer
		MaxHeaderBytes:    8 << 10,
		Protocols:         new(http.Protocols),
		ErrorLog:          errorLog,
		// OPTIONS * is no question here.
		DisableGeneralOptionsHandler: true,
	}
	srv.Protocols.SetHTTP1(true)
	return srv
}

// serverTLS returns a copy of c that offers TLS 1.2: an HTTPS check of an NLB
// fails against a server that speaks 1.3 only (ELB User Guide, target group
// health checks).
func serverTLS(c *tls.Config) *tls.Config {
	if c == nil {
		return nil
	}
	c = c.Clone()
	c.MinVersion = tls.VersionTLS12
	return c
}

// ServeHTTP implements http.Handler: GET and HEAD of /livez and /readyz, and
// nothing else. The Host header is not looked at, since an NLB puts the
// address of its node there. There is no ServeMux because its redirects are
// healthy for a target group's default matcher, 200-399.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		answer(w, r, http.StatusMethodNotAllowed, "use GET", nil)
		return
	}
	switch r.URL.Path {
	case "/livez":
		answer(w, r, http.StatusOK, "ok", nil)
	case "/readyz":
		s.readyz(w, r)
	default:
		answer(w, r, http.StatusNotFound, "there are /livez and /readyz", nil)
	}
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	st := s.now()
	if s.options.Answered != nil {
		s.options.Answered(len(st) == 0)
	}
	if len(st) == 0 {
		answer(w, r, http.StatusOK, "ok", nil)
		return
	}
	answer(w, r, http.StatusServiceUnavailable, "not ready", st)
}

// status is the JSON form of an answer.
type status struct {
	Status  string    `json:"status"`
	Failing []failing `json:"failing,omitempty"`
}

type failing struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

func answer(w http.ResponseWriter, r *http.Request, code int, text string, st state) {
	w.Header().Set("Cache-Control", "no-store")
	if wantsJSON(r) {
		body := status{Status: text}
		for _, f := range st {
			body.Failing = append(body.Failing, failing{f.name, f.says})
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		json.NewEncoder(w).Encode(body)
		return
	}
	lines := []string{text}
	if len(st) > 0 {
		lines = nil
	}
	for _, f := range st {
		lines = append(lines, f.name+": "+f.says)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	io.WriteString(w, strings.Join(lines, "\n")+"\n")
}

func wantsJSON(r *http.Request) bool {
	return r.URL.Query().Get("format") == "json" || strings.Contains(r.Header.Get("Accept"), "application/json")
}
