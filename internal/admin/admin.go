// Package admin is the gate's local control: a unix socket that speaks JSON
// over HTTP, and the client of it that the subcommands use.
package admin

import (
	"context"
	"net"
	"time"
)

// SessionInfo describes one live session.
type SessionInfo struct {
	ID        string        `json:"id"`
	Identity  string        `json:"identity"`
	User      string        `json:"user"`
	Endpoint  string        `json:"endpoint,omitempty"`
	Client    string        `json:"client"`
	Since     time.Time     `json:"since"`
	Channels  []ChannelInfo `json:"channels"`
	BytesIn   int64         `json:"bytes_in"`
	BytesOut  int64         `json:"bytes_out"`
	RTTMillis float64       `json:"rtt_ms"`
}

// ChannelInfo describes one open channel.
type ChannelInfo struct {
	Type   string `json:"type"`
	Target string `json:"target,omitempty"`
	Rule   string `json:"rule,omitempty"`
}

// Caller is the process at the other end of the socket (SO_PEERCRED).
type Caller struct {
	Name          string
	UID, GID, PID int
}

// Gate is what the socket controls. Each method writes its own audit event
// before it acts and returns an error that is fit to be shown to the operator.
type Gate interface {
	Sessions() []SessionInfo
	Kill(ctx context.Context, by Caller, id, reason string) error
	Freeze(ctx context.Context, by Caller, identity string, frozen bool) error
	Drain(ctx context.Context, by Caller) error
	Reload(ctx context.Context, by Caller) error
}

// Server answers on the admin socket.
type Server struct{}

func New(g Gate) *Server                                           { panic("stub") }
func (s *Server) Serve(ctx context.Context, ln net.Listener) error { panic("stub") }
func Listen(path string) (net.Listener, error)                     { panic("stub") }

// Client calls a running gate.
type Client struct{}

func Dial(path string) *Client                                                   { panic("stub") }
func (c *Client) Sessions(ctx context.Context) ([]SessionInfo, error)            { panic("stub") }
func (c *Client) Kill(ctx context.Context, id, reason string) error              { panic("stub") }
func (c *Client) Freeze(ctx context.Context, identity string, frozen bool) error { panic("stub") }
func (c *Client) Drain(ctx context.Context) error                                { panic("stub") }
func (c *Client) Reload(ctx context.Context) error                               { panic("stub") }
