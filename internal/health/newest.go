package health

import (
	"net"
	"slices"
	"sync"
)

// keepNewest returns ln with at most max connections open: one more closes the
// oldest. So whoever holds connections open and says nothing cannot keep the
// load balancer's next check out, as a queue would.
func keepNewest(ln net.Listener, max int) net.Listener {
	return &newest{Listener: ln, max: max}
}

type newest struct {
	net.Listener
	max int

	mu   sync.Mutex
	open []*trackedConn // guarded by mu; oldest first
}

func (l *newest) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	t := &trackedConn{Conn: c, owner: l}
	if oldest := l.add(t); oldest != nil {
		oldest.Conn.Close() // its own Close comes when the server notices
	}
	return t, nil
}

// add returns the connection that has to go for t, if one has.
func (l *newest) add(t *trackedConn) *trackedConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = append(l.open, t)
	if len(l.open) <= l.max {
		return nil
	}
	oldest := l.open[0]
	l.open = slices.Delete(l.open, 0, 1)
	return oldest
}

func (l *newest) remove(t *trackedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.open, t); i >= 0 {
		l.open = slices.Delete(l.open, i, i+1)
	}
}

type trackedConn struct {
	net.Conn
	owner *newest
}

func (c *trackedConn) Close() error {
	c.owner.remove(c)
	return c.Conn.Close()
}
