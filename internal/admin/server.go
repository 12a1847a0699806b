package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"time"
)

const (
	actTimeout   = 30 * time.Second // for what a Gate does
	shutdownTime = 5 * time.Second  // for requests that run when Serve is told to end
	maxBody      = 64 << 10         // bytes
	maxReason    = 1 << 10          // bytes
)

// Server answers on the admin socket.
type Server struct {
	// Version and Revision are what GET /v1/version says; set before Serve.
	Version, Revision string

	gate    Gate
	started time.Time
}

// New returns a Server that controls g.
func New(g Gate) *Server { return &Server{gate: g, started: time.Now()} }

// Serve answers on ln, made by Listen, until ctx ends: that is no error.
// Requests that run then have 5 s to end. When Serve returns, ln is closed and
// its socket removed.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	defer ln.Close()
	srv := &http.Server{
		Handler:           s.routes(),
		ConnContext:       withCaller,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      actTimeout + 10*time.Second,
		IdleTimeout:       10 * time.Second,
		MaxHeaderBytes:    8 << 10,
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		shutdown(srv)
	})
	err := srv.Serve(ln)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the admin socket: %w", err)
}

func shutdown(srv *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if srv.Shutdown(ctx) != nil {
		srv.Close()
	}
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/sessions", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, sessionList{append([]SessionInfo{}, s.gate.Sessions()...)})
	})
	mux.HandleFunc("GET /v1/version", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, VersionInfo{s.Version, s.Revision, os.Getpid(), s.started})
	})
	mux.Handle("POST /v1/sessions/{id}/kill", act(s.kill))
	mux.Handle("POST /v1/identities/{name}/freeze", act(s.freeze(true)))
	mux.Handle("POST /v1/identities/{name}/thaw", act(s.freeze(false)))
	mux.Handle("POST /v1/drain", act(func(ctx context.Context, by Caller, _ *http.Request) error { return s.gate.Drain(ctx, by) }))
	mux.Handle("POST /v1/reload", act(func(ctx context.Context, by Caller, _ *http.Request) error { return s.gate.Reload(ctx, by) }))
	mux.Handle("POST /v1/access", act(s.access))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		reply(w, http.StatusNotFound, fault{Error: "there is no " + r.Method + " " + r.URL.Path, Hint: "are postern and this command of the same version?"})
	})
	return mux
}

func (s *Server) kill(ctx context.Context, by Caller, r *http.Request) error {
	var req killRequest
	if err := decode(r.Body, &req); err != nil {
		return err
	}
	if len(req.Reason) > maxReason {
		return &Error{Text: fmt.Sprintf("the reason is longer than %d bytes", maxReason)}
	}
	return s.gate.Kill(ctx, by, r.PathValue("id"), req.Reason)
}

func (s *Server) freeze(frozen bool) deed {
	return func(ctx context.Context, by Caller, r *http.Request) error {
		return s.gate.Freeze(ctx, by, r.PathValue("name"), frozen)
	}
}

func (s *Server) access(ctx context.Context, by Caller, r *http.Request) error {
	var a Access
	if err := decode(r.Body, &a); err != nil {
		return err
	}
	switch {
	case !slices.Contains(Operations(), a.Operation):
		return &Error{Text: fmt.Sprintf("%q is no way to look at recordings", a.Operation), Hint: "are postern and this command of the same version?"}
	case a.Count < len(a.Recordings) || len(a.Recordings) > MaxRecordings:
		return &Error{Text: fmt.Sprintf("%d recordings are named, of %d", len(a.Recordings), a.Count)}
	case len(a.Detail) > maxReason:
		return &Error{Text: fmt.Sprintf("the detail is longer than %d bytes", maxReason)}
	}
	return s.gate.Access(ctx, by, a)
}

// deed is something that a caller has the gate do.
type deed func(ctx context.Context, by Caller, r *http.Request) error

// act makes a handler of do. What was begun is carried through even if the
// caller goes away, so ctx is not the request's.
func act(do deed) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		by, err := caller(r.Context())
		if err != nil {
			reply(w, http.StatusForbidden, fault{Error: err.Error()})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), actTimeout)
		defer cancel()
		if err := do(ctx, by, r); err != nil {
			code, f := faultOf(err)
			reply(w, code, f)
			return
		}
		reply(w, http.StatusOK, struct{}{})
	})
}

// decode reads one JSON object into v; no body at all leaves v as it is.
func decode(r io.Reader, v any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("decode the request: %w", err)
	}
	return nil
}

// faultOf returns the HTTP status and body for what a Gate returned.
func faultOf(err error) (int, fault) {
	f := fault{Error: err.Error()}
	if e, ok := errors.AsType[*Error](err); ok {
		f.Hint = e.Hint
	}
	switch {
	case errors.Is(err, ErrNoSuchSession):
		f.Code = codeNoSuchSession
		return http.StatusNotFound, f
	case errors.Is(err, ErrNoSuchIdentity):
		f.Code = codeNoSuchIdentity
		return http.StatusNotFound, f
	}
	return http.StatusUnprocessableEntity, f
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(body) // a caller that has gone is no concern here
}
