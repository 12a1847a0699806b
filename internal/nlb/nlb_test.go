package nlb_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern/internal/nlb"
)

func header(client, dialled, endpoint string) nlb.Header {
	return nlb.Header{Client: addr(client), Dialled: addr(dialled), Endpoint: endpoint}
}

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// The headers are AWS's: captured ones, and two put together from its layout
// for addresses that no capture has.
func TestHeadersAreByteForByteWhatAWSSends(t *testing.T) {
	for _, tc := range []struct {
		name string
		h    nlb.Header
		want string // without the NOOP's zeros
	}{
		{"PrivateLink", header("172.31.7.113:51442", "172.31.10.31:80", "vpce-08d2bf15fac5001c9"),
			"0d0a0d0a000d0a515549540a21110054ac1f0771ac1f0a1fc8f20050030004e8d6892dea001701767063652d3038643262663135666163353030316339040024"},
		{"client in the VPC", header("35.153.225.202:52018", "10.0.36.133:443", ""),
			"0d0a0d0a000d0a515549540a211100542399e1ca0a002485cb3201bb030004c4fb1a1b04003e"},
		{"IPv4 mapped in IPv6", header("[::ffff:10.1.2.3]:50000", "10.1.2.200:22", "vpce-0123456789abcdef0"),
			"0d0a0d0a000d0a515549540a211100540a0102030a0102c8c3500016030004f926155bea001701767063652d3031323334353637383961626364656630040024"},
		{"IPv6", header("[fd00:1::10]:50000", "[fd00:2::20]:22", "vpce-0123456789abcdef0"),
			"0d0a0d0a000d0a515549540a2121006cfd000001000000000000000000000010fd000002000000000000000000000020c350001603000421a84d78ea001701767063652d3031323334353637383961626364656630040024"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			checkHeader(t, tc.h.Append(nil), tc.want)
		})
	}
	t.Run("health check", func(t *testing.T) {
		checkHeader(t, nlb.AppendLocal(nil), "0d0a0d0a000d0a515549540a20110054030004bce5951f04004a")
	})
}

func checkHeader(t *testing.T, got []byte, want string) {
	t.Helper()
	head, err := hex.DecodeString(want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(got, head) || len(bytes.Trim(got[len(head):], "\x00")) > 0 {
		t.Errorf("got %x, want %x and zeros", got, head)
	}
	if size := 16 + int(got[14])<<8 + int(got[15]); len(got) != size {
		t.Errorf("%d bytes long, but its length says %d", len(got), size)
	}
}

func TestHeaderIsAppendedAfterWhatIsThere(t *testing.T) {
	h := header("10.1.2.3:50000", "10.1.2.200:22", "vpce-1a2b3c4d")
	alone := h.Append(nil)
	after := h.Append([]byte("before"))
	if string(after) != "before"+string(alone) {
		t.Errorf("checksum or bytes differ after other bytes:\n%x\n%x", alone, after)
	}
}

// TestFrontHoldsTheHeaderBack shows that the gate gets no byte before the
// client has sent one, then header and payload, and each side the other's EOF.
func TestFrontHoldsTheHeaderBack(t *testing.T) {
	gate := listen(t)
	front := startFront(t, &nlb.Front{Target: gate.Addr().String(), From: netip.MustParseAddr("127.0.0.7"),
		Endpoint: "vpce-0a1b2c3d4e5f60718", Client: addr("10.20.1.5:50222"), Dialled: addr("10.20.1.200:22")})

	client, err := net.Dial("tcp", front)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	atGate := accept(t, gate)
	if ip := atGate.RemoteAddr().(*net.TCPAddr).IP.String(); ip != "127.0.0.7" {
		t.Errorf("gate sees peer %s, want 127.0.0.7", ip)
	}
	atGate.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := atGate.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Fatalf("gate got a byte before the client spoke")
	}
	atGate.SetReadDeadline(time.Now().Add(10 * time.Second))

	io.WriteString(client, "SSH-2.0-test\r\n")
	client.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(atGate)
	if err != nil {
		t.Fatal(err)
	}
	want := header("10.20.1.5:50222", "10.20.1.200:22", "vpce-0a1b2c3d4e5f60718").Append(nil)
	if string(got) != string(want)+"SSH-2.0-test\r\n" {
		t.Errorf("gate got %q", got)
	}
	io.WriteString(atGate, "answer after EOF")
	atGate.Close()
	if answer, _ := io.ReadAll(client); string(answer) != "answer after EOF" {
		t.Errorf("client got %q", answer)
	}
}

func TestFrontSendsNothingForAClientThatSendsNothing(t *testing.T) {
	gate := listen(t)
	front := startFront(t, &nlb.Front{Target: gate.Addr().String()})
	client, err := net.Dial("tcp", front)
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
	atGate := accept(t, gate)
	atGate.SetReadDeadline(time.Now().Add(10 * time.Second))
	if got, err := io.ReadAll(atGate); len(got) > 0 || err != nil {
		t.Errorf("gate got %q, %v; want an empty connection", got, err)
	}
}

func TestFrontNamesTheRealClientByDefault(t *testing.T) {
	gate := listen(t)
	front := startFront(t, &nlb.Front{Target: gate.Addr().String()})
	client, err := net.Dial("tcp", front)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	io.WriteString(client, "x")
	atGate := accept(t, gate)
	want := nlb.Header{Client: client.LocalAddr().(*net.TCPAddr).AddrPort(), Dialled: addr(front)}.Append(nil)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(atGate, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %x, %v; want %x", got, err, want)
	}
}

func TestV1SaysTheSame(t *testing.T) {
	h := nlb.Header{Client: addr("10.1.2.3:50000"), Dialled: addr("10.1.2.200:22")}
	if got := h.V1(); got != "PROXY TCP4 10.1.2.3 10.1.2.200 50000 22\r\n" {
		t.Errorf("got %q", got)
	}
	h.Client, h.Dialled = addr("[fd00::1]:1"), addr("[fd00::2]:2")
	if got := h.V1(); !strings.HasPrefix(got, "PROXY TCP6 fd00::1 fd00::2 1 2") {
		t.Errorf("got %q", got)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func accept(t *testing.T, ln net.Listener) *net.TCPConn {
	t.Helper()
	ln.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Second))
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc.(*net.TCPConn)
}

// startFront returns the front's address; the front has ended, with all its
// connections, when the test has.
func startFront(t *testing.T, f *nlb.Front) string {
	t.Helper()
	ln := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return ln.Addr().String()
}
