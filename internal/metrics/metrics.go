// Package metrics holds every Prometheus series of the gate, and the HTTP
// endpoint that serves them.
package metrics

import (
	"context"
	"net"
	"time"

	"go.uber.org/zap"
)

// Options configure the metrics and their endpoint.
type Options struct {
	WebConfig         string // exporter-toolkit web config file; "" = plain HTTP
	LiveSessions      int    // sessions with series of their own; 0 = none
	Version, Revision string
}

type Metrics struct{}

// Session is the live series of one session.
type Session struct{}

// Direction of bytes.
type Direction string

const (
	ToTarget Direction = "to_target"
	ToClient Direction = "to_client"
)

func New(o Options) *Metrics                                                         { panic("stub") }
func (m *Metrics) Serve(ctx context.Context, ln net.Listener, log *zap.Logger) error { panic("stub") }
func (m *Metrics) Admitted(result string)                                            {}
func (m *Metrics) Handshake(d time.Duration, session string)                         {}
func (m *Metrics) Auth(method, result string)                                        {}
func (m *Metrics) OpenSession(id, identity, endpoint string) *Session                { panic("stub") }
func (s *Session) Add(dir Direction, n int64)                                        {}
func (s *Session) RTT(d time.Duration)                                               {}
func (s *Session) Total(dir Direction) int64                                         { return 0 }
func (s *Session) LastRTT() time.Duration                                            { return 0 }
func (s *Session) Close()                                                            {}
func (m *Metrics) ChannelOpen(kind, result string)                                   {}
func (m *Metrics) ChannelOpened(kind string)                                         {}
func (m *Metrics) ChannelClosed(kind string)                                         {}
func (m *Metrics) UpstreamDial(result string, d time.Duration, session string)       {}
func (m *Metrics) FirstByte(kind string, d time.Duration, session string)            {}
func (m *Metrics) AuditAppended(d time.Duration, codes []string, err error)          {}
func (m *Metrics) LimitRejected(scope string)                                        {}
func (m *Metrics) ConfigReloaded(ok bool, at time.Time)                              {}
func (m *Metrics) SetReady(ok bool)                                                  {}
func (m *Metrics) SetDraining(draining bool)                                         {}
