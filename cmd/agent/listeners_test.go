package main

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnInheritedListenerIsTakenInsteadOfTheAddress(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	in := inherited{socketSSH: ln}
	got, err := in.listen(socketSSH, "192.0.2.1:1")
	if err != nil || got != ln {
		t.Errorf("listen = %v, %v", got, err)
	}
	own, err := in.listen(socketHealth, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if addrs := ownAddresses(ln, nil, own); len(addrs) != 2 || addrs[0].Port() == 0 {
		t.Errorf("ownAddresses = %v", addrs)
	}
}

// idleListener has no connections.
type idleListener struct {
	net.Listener
	closed chan struct{}
}

func (l idleListener) Accept() (net.Conn, error) { <-l.closed; return nil, net.ErrClosed }
func (l idleListener) Close() error              { close(l.closed); return nil }

func TestAnIdleAcceptLoopIsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchAccept(idleListener{closed: make(chan struct{})})
		go w.Accept()
		time.Sleep(time.Hour)
		if err := w.accepting(10 * time.Second); err != nil {
			t.Error(err)
		}
		w.Close()
		synctest.Wait()
		if err := w.accepting(10 * time.Second); err == nil {
			t.Error("a closed listener accepts")
		}
	})
}

func TestAnAcceptLoopThatHangsIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watchAccept(idleListener{})
		time.Sleep(9 * time.Second)
		if err := w.accepting(10 * time.Second); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		if err := w.accepting(10 * time.Second); err == nil {
			t.Error("nobody has accepted for 11 s, and that is fine?")
		}
	})
}

func TestATakenPortIsExplained(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, err = inherited{}.listen(socketSSH, ln.Addr().String())
	var said bytes.Buffer
	if status := report(&said, err); status != exitWrong || !strings.Contains(said.String(), "postern: listen for ssh: ") || !strings.Contains(said.String(), "\nhint: ss -ltnp") {
		t.Errorf("status %d: %s", status, &said)
	}
}
