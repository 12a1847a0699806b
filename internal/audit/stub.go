// Package audit is the gate's append-only log of OCSF events: what was written
// and acknowledged is on disk.
package audit

import (
	"context"
	"time"
)

// Options configure a Log.
type Options struct {
	Dir     string
	MinFree uint64 // bytes that must be free in Dir's file system, else Ready fails
	Host    Host
	// Appended, if set, is called after each group commit with how long it took and the codes in it.
	Appended func(d time.Duration, codes []Code, err error)
}

// Host is the constant part of each event.
type Host struct {
	Version, Hostname, InstanceID, Region, Zone, Account string
	LoadBalancer                                         string
}

type Log struct{ _ int }

func Open(o Options) (*Log, error)                               { panic("stub") }
func (l *Log) Append(ctx context.Context, events ...Event) error { panic("stub") }
func (l *Log) Note(events ...Event)                              { panic("stub") }
func (l *Log) Refuse(e Event)                                    { panic("stub") }
func (l *Log) Run(ctx context.Context) error                     { panic("stub") }
func (l *Log) Ready() error                                      { panic("stub") }
func (l *Log) Failed() <-chan struct{}                           { panic("stub") }
func (l *Log) Close() error                                      { panic("stub") }
