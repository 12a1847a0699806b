package metrics

import (
	"context"
	stdlog "log"
	"log/slog"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// stdLog returns a standard logger for the parts of net/http and promhttp
// that want one.
func stdLog(log *zap.Logger, level zapcore.Level) *stdlog.Logger {
	l, err := zap.NewStdLogAt(log, level)
	if err != nil {
		return zap.NewStdLog(log)
	}
	return l
}

// slogTo returns a logger for exporter-toolkit, which wants log/slog. What it
// has to say at Info ("TLS is disabled.") is Debug here.
func slogTo(log *zap.Logger) *slog.Logger { return slog.New(zapHandler{log}) }

// zapHandler is a slog.Handler that writes to zap.
type zapHandler struct{ log *zap.Logger }

func zapLevel(l slog.Level) zapcore.Level {
	switch {
	case l >= slog.LevelError:
		return zapcore.ErrorLevel
	case l >= slog.LevelWarn:
		return zapcore.WarnLevel
	}
	return zapcore.DebugLevel
}

// Enabled implements slog.Handler.
func (h zapHandler) Enabled(_ context.Context, l slog.Level) bool {
	return h.log.Core().Enabled(zapLevel(l))
}

// Handle implements slog.Handler.
func (h zapHandler) Handle(_ context.Context, r slog.Record) error {
	var fields []zap.Field
	r.Attrs(func(a slog.Attr) bool {
		fields = append(fields, zap.Any(a.Key, a.Value.Any()))
		return true
	})
	h.log.Log(zapLevel(r.Level), r.Message, fields...)
	return nil
}

// WithAttrs implements slog.Handler.
func (h zapHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var fields []zap.Field
	for _, a := range attrs {
		fields = append(fields, zap.Any(a.Key, a.Value.Any()))
	}
	return zapHandler{h.log.With(fields...)}
}

// WithGroup implements slog.Handler.
func (h zapHandler) WithGroup(name string) slog.Handler {
	return zapHandler{h.log.With(zap.Namespace(name))}
}
