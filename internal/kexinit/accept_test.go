package kexinit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const (
	serverVersion = "SSH-2.0-Postern_test"
	clientVersion = "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10"
)

var clientLists = []string{
	"mlkem768x25519-sha256,curve25519-sha256,ext-info-c,kex-strict-c-v00@openssh.com",
	"ssh-ed25519,rsa-sha2-512",
	"chacha20-poly1305@openssh.com,aes128-gcm@openssh.com",
	"aes128-gcm@openssh.com,aes256-ctr",
	"hmac-sha2-256-etm@openssh.com",
	"hmac-sha2-512",
	"none,zlib@openssh.com",
	"none",
	"",
	"",
}

// kexinitPayload builds a KEXINIT from ten lists.
func kexinitPayload(lists []string) []byte {
	p := append([]byte{msgKexinit}, make([]byte, cookieLen)...)
	for _, l := range lists {
		p = binary.BigEndian.AppendUint32(p, uint32(len(l)))
		p = append(p, l...)
	}
	return append(p, 0, 0, 0, 0, 0)
}

// packet frames a payload as an unencrypted packet.
func packet(payload []byte) []byte {
	padding := 4
	for (5+len(payload)+padding)%8 != 0 {
		padding++
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(payload)+padding))
	b = append(b, byte(padding))
	b = append(b, payload...)
	return append(b, make([]byte, padding)...)
}

func clientKexinit() []byte { return packet(kexinitPayload(clientLists)) }

// script is a client that has already sent everything: reads take at most
// chunk bytes and end with end. Its writes are kept.
type script struct {
	net.Conn // nil: everything used is below
	in       []byte
	chunk    int
	end      error
	out      bytes.Buffer
	largest  int // longest buffer a Read was given
}

func (s *script) Read(p []byte) (int, error) {
	s.largest = max(s.largest, len(p))
	if len(s.in) == 0 {
		return 0, s.end
	}
	n := copy(p[:min(len(p), s.chunk)], s.in)
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error)       { return s.out.Write(p) }
func (s *script) SetDeadline(t time.Time) error     { return nil }
func (s *script) SetReadDeadline(t time.Time) error { return nil }

func options() Options {
	return Options{
		ServerVersion: serverVersion,
		Deadline:      time.Now().Add(time.Minute),
		Patience:      2 * time.Second,
		Budget:        128 << 10,
	}
}

func accept(in []byte, chunk int) (*Conn, *script, error) {
	s := &script{in: in, chunk: chunk, end: io.EOF}
	c, err := Accept(s, options())
	return c, s, err
}

func wantReason(t *testing.T, err error, reason Reason) *Error {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("error %v, want an *Error of reason %s", err, reason)
	}
	if e.Reason != reason {
		t.Fatalf("reason %s (%v), want %s", e.Reason, err, reason)
	}
	return e
}

func TestEverythingReadIsReplayedHoweverItArrives(t *testing.T) {
	in := []byte(clientVersion + "\r\n")
	in = append(in, clientKexinit()...)
	in = append(in, "the guessed key exchange packet"...)
	for _, chunk := range []int{1, 7, 255, 1 << 20} {
		c, _, err := accept(bytes.Clone(in), chunk)
		if err != nil {
			t.Fatalf("in chunks of %d: %v", chunk, err)
		}
		if h := c.Hello(); h.Version != clientVersion || strings.Join(h.CiphersServerClient, ",") != clientLists[3] {
			t.Errorf("in chunks of %d: Hello is %+v", chunk, h)
		}
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, in) {
			t.Errorf("in chunks of %d: replayed %q, %v", chunk, got, err)
		}
		if c.BytesRead() != int64(len(in)) {
			t.Errorf("in chunks of %d: %d bytes counted of %d", chunk, c.BytesRead(), len(in))
		}
	}
}

func TestHelloHoldsTheListsInTheClientsOrder(t *testing.T) {
	c, _, err := accept(append([]byte(clientVersion+"\n"), clientKexinit()...), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	h := c.Hello()
	got := [][]string{h.KexAlgorithms, h.HostKeyAlgorithms, h.CiphersClientServer, h.CiphersServerClient,
		h.MACsClientServer, h.MACsServerClient, h.Compression}
	for i, list := range got {
		if strings.Join(list, ",") != clientLists[i] {
			t.Errorf("list %d is %q, want %q", i, list, clientLists[i])
		}
	}
	if !h.OffersCipher("aes128-gcm@openssh.com") {
		t.Error("a cipher in both directions is not offered")
	}
	if h.OffersCipher("aes256-ctr") || h.OffersCipher("chacha20-poly1305@openssh.com") || h.OffersCipher("none") {
		t.Error("a cipher that is not in both directions is offered")
	}
}

func TestIdentificationLines(t *testing.T) {
	longest := "SSH-2.0-" + strings.Repeat("x", maxIdentification-len("SSH-2.0-\r\n"))
	for _, tt := range []struct {
		name, in string
		reason   Reason // empty: accepted as want
		want     string
	}{
		{"CR LF", "SSH-2.0-OpenSSH_9.2\r\n", "", "SSH-2.0-OpenSSH_9.2"},
		{"LF alone", "SSH-2.0-PuTTY\n", "", "SSH-2.0-PuTTY"},
		{"1.99", "SSH-1.99-old\r\n", "", "SSH-1.99-old"},
		{"comment", "SSH-2.0-x a b  c\r\n", "", "SSH-2.0-x a b  c"},
		{"255 bytes with CR LF", longest + "\r\n", "", longest},
		{"256 bytes with CR LF", longest + "x\r\n", ReasonVersionLong, ""},
		{"no line end in 255 bytes", longest + "xx", ReasonVersionLong, ""},
		{"line that never ends", longest + strings.Repeat("x", 4096), ReasonVersionLong, ""},
		{"SSH 1", "SSH-1.5-x\r\n", ReasonVersionBad, ""},
		{"SSH 3", "SSH-3.0-x\r\n", ReasonVersionBad, ""},
		{"lower case", "ssh-2.0-x\r\n", ReasonVersionBad, ""},
		{"no software", "SSH-2.0-\r\n", ReasonVersionBad, ""},
		{"no software, 1.99", "SSH-1.99-\n", ReasonVersionBad, ""},
		{"cut short", "SSH-2.\r\n", ReasonVersionBad, ""},
		{"empty line first", "\r\nSSH-2.0-x\r\n", ReasonVersionBad, ""},
		{"banner first", "hello\r\nSSH-2.0-x\r\n", ReasonVersionBad, ""},
		{"HTTP", "GET / HTTP/1.1\r\n\r\n", ReasonVersionBad, ""},
		{"TLS without a line end", "\x16\x03\x01", ReasonVersionBad, ""},
		{"second PROXY header", "\r\n\r\n\x00\r\nQUIT\n", ReasonVersionBad, ""},
		{"NUL", "SSH-2.0-a\x00b\r\n", ReasonVersionBad, ""},
		{"tab", "SSH-2.0-a\tb\r\n", ReasonVersionBad, ""},
		{"8 bit", "SSH-2.0-caf\xc3\xa9\r\n", ReasonVersionBad, ""},
		{"CR within", "SSH-2.0-a\rb\r\n", ReasonVersionBad, ""},
		{"two CR", "SSH-2.0-a\r\r\n", ReasonVersionBad, ""},
		{"DEL before any line end", "SSH-2.0-a\x7f", ReasonVersionBad, ""},
	} {
		for _, chunk := range []int{1, 1 << 20} {
			c, s, err := accept([]byte(tt.in+string(clientKexinit())), chunk)
			if tt.reason != "" {
				e := wantReason(t, err, tt.reason)
				if len(e.Error()) > 250 || strings.ContainsFunc(e.Error(), func(r rune) bool { return r < ' ' || r > '~' }) {
					t.Errorf("%s: operator text %q", tt.name, e.Error())
				}
				continue
			}
			if err != nil || c.Hello().Version != tt.want {
				t.Errorf("%s in chunks of %d: %v, %v", tt.name, chunk, c, err)
			}
			if s.out.String() != serverVersion+"\r\n" {
				t.Errorf("%s: server wrote %q", tt.name, s.out.String())
			}
		}
	}
}

func TestFirstPackets(t *testing.T) {
	with := func(i int, list string) []byte {
		lists := append([]string(nil), clientLists...)
		lists[i] = list
		return packet(kexinitPayload(lists))
	}
	header := func(length uint32, padding, msg byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, length), padding, msg)
	}
	good := kexinitPayload(clientLists)
	padded := func(padding byte) []byte {
		p := clientKexinit()
		p[4] = padding
		return p
	}
	overrun := bytes.Clone(good)
	overrun[1+cookieLen+3] = 0xff
	overrun[1+cookieLen] = 0xff

	for _, tt := range []struct {
		name string
		in   []byte
		ok   bool
	}{
		{"KEXINIT", clientKexinit(), true},
		{"empty MAC list", with(4, ""), true},
		{"256 names", with(2, strings.TrimSuffix(strings.Repeat("a,", 256), ",")), true},
		{"name of 64 bytes", with(0, strings.Repeat("k", 64)), true},
		{"257 names", with(2, strings.TrimSuffix(strings.Repeat("a,", 257), ",")), false},
		{"name of 65 bytes", with(0, strings.Repeat("k", 65)), false},
		{"no key exchange", with(0, ""), false},
		{"leading comma", with(1, ",ssh-ed25519"), false},
		{"trailing comma", with(1, "ssh-ed25519,"), false},
		{"two commas", with(1, "a,,b"), false},
		{"space in a name", with(3, "aes128 ctr"), false},
		{"NUL in a name", with(3, "aes\x00"), false},
		{"8 bit name", with(9, "d\xe9"), false},
		{"no payload but the type", packet([]byte{msgKexinit}), false},
		{"cookie cut", packet(good[:9]), false},
		{"lists cut", packet(good[:60]), false},
		{"end cut", packet(good[:len(good)-1]), false},
		{"a byte too many", packet(append(bytes.Clone(good), 0)), false},
		{"list longer than the packet", packet(overrun), false},
		{"length 0", header(0, 4, msgKexinit), false},
		{"length 35001", header(35001, 4, msgKexinit), false},
		{"length 4 GiB", header(1<<32-4, 4, msgKexinit), false},
		{"not a multiple of 8", header(101, 4, msgKexinit), false},
		{"DISCONNECT first", packet(append([]byte{1}, good[1:]...)), false},
		{"padding of 3", padded(3), false},
		{"padding all over", packet(nil), false},
		{"padding beyond the packet", append(header(12, 200, msgKexinit), make([]byte, 10)...), false},
	} {
		for _, chunk := range []int{1, 1 << 20} {
			c, _, err := accept(append([]byte(clientVersion+"\r\n"), tt.in...), chunk)
			if !tt.ok {
				wantReason(t, err, ReasonKexinitBad)
				continue
			}
			if err != nil || len(c.Hello().KexAlgorithms) == 0 {
				t.Errorf("%s in chunks of %d: %v", tt.name, chunk, err)
			}
		}
	}
}

func TestAHugeAnnouncedPacketTakesNoMemoryBeforeItComes(t *testing.T) {
	in := append([]byte(clientVersion+"\r\n"), 0, 0, 0x88, 0xb4, 4, msgKexinit) // 34,996 bytes announced
	_, s, err := accept(in, 1<<20)
	wantReason(t, err, ReasonClosed)
	if s.largest > firstBuffer {
		t.Errorf("a read was given %d bytes of room", s.largest)
	}
}

func TestTheLargestPacketStaysWithinTheBuffer(t *testing.T) {
	lists := make([]string, 10)
	lists[0] = strings.TrimSuffix(strings.Repeat(strings.Repeat("k", 64)+",", 256), ",")
	lists[1] = lists[0]
	in := append([]byte(clientVersion+"\r\n"), packet(kexinitPayload(lists))...)
	in = append(in, make([]byte, 100<<10)...)
	c, s, err := accept(in, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(in) - len(s.in); got > maxOpening {
		t.Errorf("%d bytes read ahead, more than %d", got, maxOpening)
	}
	if cap(c.replay) > maxOpening {
		t.Errorf("buffer of %d bytes, more than %d", cap(c.replay), maxOpening)
	}
}

func TestAClientThatClosesIsClosed(t *testing.T) {
	whole := append([]byte(clientVersion+"\r\n"), clientKexinit()...)
	for n := range len(whole) {
		_, _, err := accept(bytes.Clone(whole[:n]), 1<<20)
		e := wantReason(t, err, ReasonClosed)
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		if !errors.Is(e, want) {
			t.Fatalf("closed after %d bytes: %v, want %v within", n, e, want)
		}
	}
}

type proxyError struct{ code string }

func (e *proxyError) Error() string { return e.code }

func TestATypedErrorOfTheConnectionStaysWithin(t *testing.T) {
	for _, in := range []string{"", "SSH-2.0-x", "SSH-2.0-x\r\n"} {
		_, err := Accept(&script{in: []byte(in), chunk: 99, end: &proxyError{"proxy.second"}}, options())
		wantReason(t, err, ReasonClosed)
		if e, ok := errors.AsType[*proxyError](err); !ok || e.code != "proxy.second" {
			t.Errorf("after %q: %v does not wrap the connection's error", in, err)
		}
	}
}

func TestZeroOptionsAdmitNobody(t *testing.T) {
	in := append([]byte(clientVersion+"\r\n"), clientKexinit()...)
	if _, err := Accept(&script{in: in, chunk: 99}, Options{}); err == nil {
		t.Error("accepted without a deadline")
	}
	_, err := Accept(&script{in: in, chunk: 99}, Options{Deadline: time.Now().Add(time.Hour)})
	wantReason(t, err, ReasonPreAuthBytes)
}

// pipe runs client beside Accept over an unbuffered pipe that has deadlines.
func pipe(t *testing.T, o Options, client func(net.Conn)) (*Conn, error) {
	t.Helper()
	server, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		client(far)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return Accept(server, o)
}

func readLine(t *testing.T, nc net.Conn) {
	if _, err := io.ReadFull(nc, make([]byte, len(serverVersion)+2)); err != nil {
		t.Errorf("read the server's identification: %v", err)
	}
}

func TestASilentClientIsRefusedAtTheDeadline(t *testing.T) {
	for _, tt := range []struct {
		name, says string
		patience   time.Duration
		reason     Reason
	}{
		{"nothing", "", time.Second, ReasonVersionTimeout},
		{"half a line", "SSH-2.0-half", time.Second, ReasonVersionTimeout},
		{"no KEXINIT and patience without end", "SSH-2.0-x\r\n", time.Hour, ReasonKexTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				o := options()
				o.Patience, o.Deadline = tt.patience, start.Add(10*time.Second)
				_, err := pipe(t, o, func(nc net.Conn) {
					readLine(t, nc)
					io.WriteString(nc, tt.says)
				})
				e := wantReason(t, err, tt.reason)
				if !errors.Is(e, os.ErrDeadlineExceeded) {
					t.Errorf("%v does not wrap the timeout", e)
				}
				if took := time.Since(start); took != 10*time.Second {
					t.Errorf("refused after %v, not at the deadline", took)
				}
			})
		})
	}
}

func TestADrippingClientDoesNotOutlastTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		o := options()
		o.Deadline, o.Patience = start.Add(30*time.Second), time.Hour
		_, err := pipe(t, o, func(nc net.Conn) {
			readLine(t, nc)
			io.WriteString(nc, clientVersion+"\r\n")
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for _, b := range clientKexinit() {
				<-tick.C
				if _, err := nc.Write([]byte{b}); err != nil {
					return
				}
			}
		})
		wantReason(t, err, ReasonKexTimeout)
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("refused after %v, not at the deadline", took)
		}
	})
}

func TestAClientThatWaitsForOurKexinitIsNotHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		o := options()
		half := clientKexinit()[:20]
		c, err := pipe(t, o, func(nc net.Conn) {
			readLine(t, nc)
			io.WriteString(nc, clientVersion+"\r\n")
			nc.Write(half)
		})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != o.Patience {
			t.Errorf("waited %v, not the patience of %v", took, o.Patience)
		}
		h := c.Hello()
		if h.Version != clientVersion || h.KexAlgorithms != nil {
			t.Errorf("Hello is %+v, want the version alone", h)
		}
		if f, a := h.HASSH(); f != "" || a != "" {
			t.Errorf("HASSH without a KEXINIT is %q, %q", f, a)
		}
		got := make([]byte, len(clientVersion)+2+len(half))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != clientVersion+"\r\n"+string(half) {
			t.Errorf("replayed %q, %v", got, err)
		}
		if _, err := c.Read(got); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read after Accept: %v, want the deadline", err)
		}
		if !time.Now().Equal(o.Deadline) {
			t.Errorf("the deadline left on the connection came after %v", time.Since(start))
		}
	})
}

func TestWithoutPatienceTheConnectionGoesOnAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		o := options()
		o.Patience = 0
		c, err := pipe(t, o, func(nc net.Conn) {
			readLine(t, nc)
			io.WriteString(nc, clientVersion+"\r\n")
		})
		if err != nil || c.Hello().Version != clientVersion || time.Since(start) != 0 {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestAClientThatReadsNothingIsRefusedAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := pipe(t, options(), func(net.Conn) {})
		wantReason(t, err, ReasonVersionTimeout)
	})
}

func TestAcceptStartsNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	in := append([]byte(clientVersion+"\r\n"), clientKexinit()...)
	if _, _, err := accept(in, 1); err != nil {
		t.Fatal(err)
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, %d before", after, before)
	}
}
