package main

import (
	"io"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"postern/internal/config"
)

// newLogger returns a logger that writes every line to w: there is no
// sampling, since the line that is left out is the one that is looked for.
func newLogger(o config.Log, w io.Writer) (*zap.Logger, zap.AtomicLevel) {
	enabled := zap.NewAtomicLevelAt(level(o))
	e := zap.NewProductionEncoderConfig()
	e.TimeKey = "time"
	e.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	e.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(e)
	if o.Format == "console" {
		e.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(e)
	}
	out := zapcore.Lock(zapcore.AddSync(w))
	return zap.New(zapcore.NewCore(encoder, out, enabled), zap.ErrorOutput(out)), enabled
}

// level is log.level, which config has checked.
func level(o config.Log) zapcore.Level {
	l, err := zapcore.ParseLevel(o.Level)
	if err != nil {
		return zapcore.InfoLevel
	}
	return l
}
