package sshgate

import (
	"context"
	"net"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"postern/internal/audit"
	"postern/internal/record"
)

// reasonBrokeOff is that of a recording whose writer ended without closing it.
const reasonBrokeOff = "broke_off"

// noteBrokenOff writes down which recordings a gate before this one left
// without an end, because it was killed or the power went: one durable event
// each. What can't be written down now is left to the next start.
func (s *Server) noteBrokenOff() {
	if s.opt.Recordings == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.stopped.Go(func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	})
	err := s.opt.Recordings.BrokenOff(ctx, func(e record.Entry, c record.Chunk) error {
		s.opt.Log.Warn("a recording broke off", zap.String("recording", e.ID), zap.String("conn", e.Header.Session))
		return s.opt.Audit.Append(ctx, brokenOff(e, c))
	})
	if err != nil && ctx.Err() == nil {
		s.opt.Log.Error("not all recordings that broke off are in the audit log", zap.Error(err))
	}
}

// brokenOff is the event of a recording that has no end. Hash and size are of
// its file as it was found.
func brokenOff(e record.Entry, c record.Chunk) audit.Event {
	h := e.Header
	host, _, _ := net.SplitHostPort(h.Target)
	target, _ := netip.ParseAddrPort(h.Address)
	client, _ := netip.ParseAddrPort(h.Client)
	event := audit.Event{
		Code: audit.RecordingFailed, Time: time.Now(), Message: "recording broke off: " + h.Login + "@" + h.Target,
		Failed: true, Reason: reasonBrokeOff, Alert: true,
		Detail:  "it has no end, and nobody writes it: the process that did was killed, or the power went",
		Session: h.Session, Channel: h.Channel, Kind: h.Kind, Client: client, Endpoint: h.Endpoint, Identity: h.Identity,
		TargetHost: host, Target: target, Login: h.Login, Rule: h.Rule,
		File: e.Path, FileSize: c.Size, FileHash: c.SHA256, Start: h.Started, End: h.Started.Add(e.Duration),
		Extra: map[string]any{"recording": e.ID, "records": c.Records, "complete": false, "duration_ms": e.Duration.Milliseconds()},
	}
	if e.Err != nil {
		event.Message, event.Detail = "recording broke off: "+e.ID, "its header can't be read: "+e.Err.Error()
	}
	return event
}
