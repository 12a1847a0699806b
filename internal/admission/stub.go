package admission

import (
	"context"
	"net"
	"time"
)

// Gate admits connections. All methods are safe for concurrent use.
type Gate struct{}

// Conn is an admitted connection.
type Conn struct{ net.Conn }

func (d *Denied) Error() string { return "" }
func (d *Denied) Unwrap() error { return d.Err }

func New(o Options) (*Gate, error)                                    { panic("stub") }
func (g *Gate) Update(o Options) error                                { panic("stub") }
func (g *Gate) Admit(ctx context.Context, nc net.Conn) (*Conn, error) { panic("stub") }
func (g *Gate) Allows(o Origin) error                                 { panic("stub") }
func (c *Conn) Origin() Origin                                        { panic("stub") }
func (c *Conn) Authenticated(identity string) error                   { panic("stub") }
func (c *Conn) Penalize(p Penalty)                                    { panic("stub") }
func Optional(ln net.Listener, timeout time.Duration) net.Listener    { panic("stub") }
