package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/exporter-toolkit/web"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	maxScrapes   = 8                // at the same time; further ones get 503
	scrapeTime   = 30 * time.Second // for one request, reading to writing
	shutdownTime = 5 * time.Second  // for scrapes that run when Serve is told to end
)

const landingPage = `<!DOCTYPE html>
<html lang="en"><head><title>Postern</title></head>
<body><h1>Postern</h1><p><a href="/metrics">Metrics</a></p></body></html>
`

// Serve answers scrapes on ln until ctx ends, over TLS and with basic
// authentication if Options.WebConfig says so; that file, and the certificates
// it names, are read again for each connection. When Serve returns, ln is
// closed and scrapes that were running have ended; ctx ending is no error.
func (m *Metrics) Serve(ctx context.Context, ln net.Listener, log *zap.Logger) error {
	defer ln.Close()
	srv := &http.Server{
		Handler:           m.handler(log),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       scrapeTime,
		WriteTimeout:      scrapeTime,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          stdLog(log, zapcore.DebugLevel),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		shutdown(srv)
	})
	err := web.Serve(ln, srv, &web.FlagConfig{WebConfigFile: &m.options.WebConfig}, slogTo(log))
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve metrics: %w", err)
}

// shutdown lets running scrapes end, within shutdownTime.
func shutdown(srv *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if srv.Shutdown(ctx) != nil {
		srv.Close()
	}
}

func (m *Metrics) handler(log *zap.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.InstrumentMetricHandler(m.registry, promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: stdLog(log, zapcore.ErrorLevel),
		// One series that cannot be had must not take the others with it.
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
		EnableOpenMetrics:   true, // exemplars
	})))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, landingPage)
	})
	return mux
}
