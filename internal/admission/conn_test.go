package admission

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestASecondHeaderIsRefusedHoweverItIsCut(t *testing.T) {
	for name, second := range map[string][]byte{
		"version 2": headerOf("10.20.0.8:50000", endpoint),
		"LOCAL":     vectors()["V3"],
		"version 1": []byte("PROXY TCP4 10.20.0.8 10.0.0.1 1 22\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate(t, options())
				whole := admit(t, g, newMemConn(lb).send(string(headerOf("10.20.0.7:50000", endpoint))).send(string(second)))
				wantDuplicate(t, whole)

				nc := newMemConn(lb).send(string(headerOf("10.20.0.7:50000", endpoint)))
				dripped := admit(t, g, nc)
				go func() {
					for _, b := range second {
						nc.send(string([]byte{b}))
						time.Sleep(time.Second)
					}
				}()
				wantDuplicate(t, dripped)
				time.Sleep(time.Hour) // until the sender is done
			})
		})
	}
}

func wantDuplicate(t *testing.T, c *Conn) {
	t.Helper()
	for range 2 {
		n, err := c.Read(make([]byte, 512))
		d, ok := errors.AsType[*Denied](err)
		if n != 0 || !ok || d.Reason != ReasonHeaderDuplicate || d.Origin != c.Origin() {
			t.Fatalf("read %d bytes, %v", n, err)
		}
	}
}

func TestAHeaderIsRefusedWhereTheProtocolIsOff(t *testing.T) {
	g := newGate(t, off("10.20.0.0/16"))
	wantDuplicate(t, admit(t, g, newMemConn("10.20.0.7:50000").send(string(vectors()["V1"]))))
}

func TestTheFirstByteOfABannerIsNotHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nc := newMemConn(lb).send(string(headerOf("10.20.0.7:50000", endpoint)))
		c := admit(t, newGate(t, options()), nc)
		for _, want := range []byte(banner) {
			nc.send(string([]byte{want}))
			b := make([]byte, 10)
			if n, err := c.Read(b); n != 1 || b[0] != want || err != nil {
				t.Fatalf("read %q, %v, want %q", b[:n], err, want)
			}
		}
	})
}

func TestBytesThatOnlyBeginLikeAHeaderAreGivenBack(t *testing.T) {
	for _, text := range []string{"P", "PROX", "PROXIMITY", "\r\n\r\n", signatureV2[:11] + "x", "\r\nSSH-2.0-x\r\n", "S"} {
		nc := newMemConn(lb).send(string(headerOf("10.20.0.7:50000", endpoint))).send(text).finish(io.EOF)
		c := admit(t, newGate(t, options()), nc)
		if got, err := io.ReadAll(c); err != nil || string(got) != text {
			t.Errorf("%q became %q, %v", text, got, err)
		}
	}
}

func TestADeadlineWhileTheFirstBytesComeLosesNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nc := newMemConn(lb).send(string(headerOf("10.20.0.7:50000", endpoint))).send("PROX")
		c := admit(t, newGate(t, options()), nc)
		if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		if err := c.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		nc.send("IMITY").finish(io.EOF)
		if got, err := io.ReadAll(c); err != nil || string(got) != "PROXIMITY" {
			t.Errorf("read %q, %v", got, err)
		}
	})
}

func TestReadingIntoShortBuffersGivesEveryByte(t *testing.T) {
	nc := newMemConn(lb).send(string(headerOf("10.20.0.7:50000", endpoint))).send(banner).finish(io.EOF)
	c := admit(t, newGate(t, options()), nc)
	var got []byte
	for {
		b := make([]byte, 1+len(got)%3)
		n, err := c.Read(b)
		got = append(got, b[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if string(got) != banner {
		t.Errorf("read %q", got)
	}
	if n, err := c.Read(nil); n != 0 || err != io.EOF {
		t.Errorf("after the end: %d, %v", n, err)
	}
}

func TestCloseFreesThePlaceOnce(t *testing.T) {
	g := newGate(t, options())
	nc := arrive("10.20.0.7:50000", endpoint)
	startup, session := admit(t, g, nc), admit(t, g, arrive("10.20.0.7:50001", endpoint))
	if err := session.Authenticated("vendor"); err != nil {
		t.Fatal(err)
	}
	wantCounts(t, g, 0, 1, 1)
	for range 3 {
		for _, c := range []*Conn{startup, session} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		wantCounts(t, g, 0, 0, 0)
	}
	if n := nc.seen().closes; n != 1 {
		t.Errorf("closed %d times", n)
	}
	if err := startup.Authenticated("vendor"); err == nil {
		t.Error("a closed connection was authenticated")
	}
	wantCounts(t, g, 0, 0, 0)
	if len(g.in.bySource)+len(g.in.byIdentity) != 0 {
		t.Errorf("left behind: %v, %v", g.in.bySource, g.in.byIdentity)
	}
}

func TestAuthenticatedWantsAnIdentityAndHappensOnce(t *testing.T) {
	g := newGate(t, options())
	c := admit(t, g, arrive("10.20.0.7:50000", endpoint))
	if err := c.Authenticated(""); err == nil {
		t.Error("no identity was accepted")
	}
	wantCounts(t, g, 0, 1, 0)
	if err := c.Authenticated("vendor"); err != nil {
		t.Fatal(err)
	}
	if err := c.Authenticated("alice"); err == nil {
		t.Error("a second identity was accepted")
	}
	wantCounts(t, g, 0, 0, 1)
}

// The race detector watches this one.
func TestManyConnectionsAtOnceAreCountedRight(t *testing.T) {
	o := options()
	o.Limits = Limits{MaxStartups: 10000, MaxStartupsPerSource: 10000, MaxSessions: 50, Penalties: true}
	g := newGate(t, o)
	var wg sync.WaitGroup
	for i := range 400 {
		wg.Go(func() { comeAndGo(g, i) })
		if i%50 == 0 {
			wg.Go(func() { _ = g.Update(o) })
		}
	}
	wg.Wait()
	wantCounts(t, g, 0, 0, 0)
}

func comeAndGo(g *Gate, i int) {
	client := "10.20." + string(rune('0'+i%10)) + ".7:50000"
	c, err := g.Admit(context.Background(), arrive(client, endpoint))
	if err != nil {
		return
	}
	buf := make([]byte, 64)
	_, _ = c.Read(buf)
	_ = c.Authenticated("vendor")
	c.Penalize(PenaltyNoAuth)
	_ = g.Allows(c.Origin())
	g.Counts()
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Close() })
	_ = c.Close()
	wg.Wait()
}
