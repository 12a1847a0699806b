package kexinit

import (
	"net"
	"time"
)

type Conn struct{ net.Conn }

func (e *Error) Error() string { return "" }
func (e *Error) Unwrap() error { return e.Err }

func Accept(nc net.Conn, serverVersion string, patience time.Duration, budget int64) (*Conn, error) {
	panic("stub")
}
func (c *Conn) Hello() Hello                                  { panic("stub") }
func (c *Conn) Authenticated()                                { panic("stub") }
func (c *Conn) BytesRead() int64                              { panic("stub") }
func (c *Conn) BytesWritten() int64                           { panic("stub") }
func (c *Conn) ServerHello() Hello                            { panic("stub") }
func (h Hello) HASSH() (fingerprint, algorithms string)       { panic("stub") }
func (h Hello) ServerHASSH() (fingerprint, algorithms string) { panic("stub") }
