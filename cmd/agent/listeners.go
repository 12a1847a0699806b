package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
)

// The names of the sockets that systemd may hold for the gate
// (FileDescriptorName= in the .socket unit, LISTEN_FDNAMES).
const (
	socketSSH     = "ssh"
	socketHealth  = "health"
	socketMetrics = "metrics"
)

// inherited are listeners that another process opened, by name.
type inherited map[string]net.Listener

// systemdListeners returns what systemd passed to this process. More than one
// socket of a name, and a name that the gate does not know, are errors: a port
// that nobody serves would accept connections and leave them hanging.
func systemdListeners() (inherited, error) {
	named, err := activation.ListenersWithNames()
	if err != nil {
		return nil, err
	}
	in := inherited{}
	for name, lns := range named {
		switch name {
		case socketSSH, socketHealth, socketMetrics:
		default:
			return nil, fmt.Errorf("socket %q is none of %s, %s and %s", name, socketSSH, socketHealth, socketMetrics)
		}
		if len(lns) != 1 {
			return nil, fmt.Errorf("%d sockets are named %q, the gate takes one", len(lns), name)
		}
		in[name] = lns[0]
	}
	return in, nil
}

// listen returns the inherited listener of that name, else one of its own at
// address; nil where the address is empty.
func (in inherited) listen(name, address string) (net.Listener, error) {
	if ln, ok := in[name]; ok {
		return ln, nil
	}
	if address == "" {
		return nil, nil
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, wrong(fmt.Errorf("listen for %s: %w", name, err), listenHints(err)...)
	}
	return ln, nil
}

func listenHints(err error) []string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return []string{"ss -ltnp shows which process has the port; another gate, or sshd?"}
	case errors.Is(err, syscall.EACCES):
		return []string{"ports below 1024 are for root: let postern.socket hold the port"}
	}
	return nil
}

// ownAddresses are the addresses of the gate's listeners.
func ownAddresses(lns ...net.Listener) []netip.AddrPort {
	var own []netip.AddrPort
	for _, ln := range lns {
		if ln == nil {
			continue
		}
		if a, ok := ln.Addr().(*net.TCPAddr); ok {
			own = append(own, a.AddrPort())
		}
	}
	return own
}

// watchedListener knows whether somebody is waiting in Accept, which is how the
// gate sees that its accept loop still turns.
type watchedListener struct {
	net.Listener
	left   atomic.Int64 // when Accept last returned, in Unix nanoseconds; 0 = somebody is in it
	closed atomic.Bool
}

func watchAccept(ln net.Listener) *watchedListener {
	w := &watchedListener{Listener: ln}
	w.left.Store(time.Now().UnixNano())
	return w
}

func (w *watchedListener) Accept() (net.Conn, error) {
	w.left.Store(0)
	nc, err := w.Listener.Accept()
	w.left.Store(time.Now().UnixNano())
	return nc, err
}

func (w *watchedListener) Close() error {
	w.closed.Store(true)
	return w.Listener.Close()
}

// accepting is nil while somebody waits in Accept or was there within patience.
func (w *watchedListener) accepting(patience time.Duration) error {
	if w.closed.Load() {
		return fmt.Errorf("the listener is closed")
	}
	left := w.left.Load()
	if left == 0 {
		return nil
	}
	if away := time.Since(time.Unix(0, left)); away > patience {
		return fmt.Errorf("nobody has accepted for %s", away.Round(time.Second))
	}
	return nil
}
