package kexinit

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

// accepted returns a connection after Accept whose client goes on with more.
func accepted(t *testing.T, budget int64, more []byte) (*Conn, *script) {
	t.Helper()
	in := append([]byte(clientVersion+"\r\n"), clientKexinit()...)
	s := &script{in: append(in, more...), chunk: len(in), end: io.EOF}
	o := options()
	o.Budget = budget
	c, err := Accept(s, o)
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func TestBytesBeforeAuthenticationAreBudgeted(t *testing.T) {
	c, _ := accepted(t, 4096, make([]byte, 8192))
	n, err := io.Copy(io.Discard, c)
	wantReason(t, err, ReasonPreAuthBytes)
	if n > 4096 {
		t.Errorf("%d bytes passed a budget of 4096", n)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("reads go on after the budget was passed")
	}
}

func TestAfterAuthenticationNothingIsBudgeted(t *testing.T) {
	c, _ := accepted(t, 4096, make([]byte, 1<<20))
	c.Authenticated()
	n, err := io.Copy(io.Discard, c)
	if err != nil || n < 1<<20 || n != c.BytesRead() {
		t.Errorf("%d bytes and %v, %d counted", n, err, c.BytesRead())
	}
}

func TestWhatWasSaidCanBeForgottenButTheVersion(t *testing.T) {
	c, _ := accepted(t, 4096, nil)
	if len(c.Hello().KexAlgorithms) == 0 {
		t.Fatal("nothing was said")
	}
	c.Forget()
	if h := c.Hello(); h.Version != clientVersion || h.KexAlgorithms != nil || h.MACsServerClient != nil {
		t.Errorf("after Forget: %+v", h)
	}
}

func TestTheBudgetCountsWhatAcceptReads(t *testing.T) {
	in := append([]byte(clientVersion+"\r\n"), clientKexinit()...)
	o := options()
	o.Budget = int64(len(in)) - 1
	_, err := Accept(&script{in: bytes.Clone(in), chunk: 50, end: io.EOF}, o)
	wantReason(t, err, ReasonPreAuthBytes)

	o.Budget++
	if _, err := Accept(&script{in: in, chunk: 50, end: io.EOF}, o); err != nil {
		t.Errorf("at exactly the budget: %v", err)
	}
}

func TestTheLargestBudgetNeverEnds(t *testing.T) {
	c, _ := accepted(t, math.MaxInt64, make([]byte, 1<<20))
	if n, err := io.Copy(io.Discard, c); err != nil || n < 1<<20 {
		t.Errorf("%d bytes, then %v", n, err)
	}
}

func TestTheIdentificationIsWrittenOnce(t *testing.T) {
	c, s := accepted(t, 1<<20, nil)
	line := serverVersion + "\r\n"
	if n, err := io.WriteString(c, line); n != len(line) || err != nil {
		t.Fatalf("second identification: %d, %v", n, err)
	}
	if n, err := io.WriteString(c, line); n != len(line) || err != nil {
		t.Fatalf("third: %d, %v", n, err)
	}
	if got := s.out.String(); got != line+line {
		t.Errorf("the client got %q", got)
	}
	if c.BytesWritten() != int64(2*len(line)) {
		t.Errorf("%d bytes counted", c.BytesWritten())
	}
}

func TestAnotherIdentificationThanTheOneSentIsAnError(t *testing.T) {
	for _, first := range []string{"SSH-2.0-Go\r\n", serverVersion, serverVersion + "\r\nx", ""} {
		c, s := accepted(t, 1<<20, nil)
		if _, err := io.WriteString(c, first); err == nil {
			t.Errorf("first write %q was taken", first)
		}
		if got := s.out.String(); got != serverVersion+"\r\n" {
			t.Errorf("the client got %q", got)
		}
	}
}

func TestServerHelloIsTakenFromTheFirstWrites(t *testing.T) {
	lists := slices.Clone(clientLists)
	lists[6], lists[7] = "none", "none,server"
	out := append(packet(kexinitPayload(lists)), "key exchange reply"...)
	for _, chunk := range []int{1, 100, 1 << 20} {
		c, s := accepted(t, 1<<20, nil)
		io.WriteString(c, serverVersion+"\r\n")
		if h := c.ServerHello(); h.KexAlgorithms != nil {
			t.Errorf("ServerHello before the KEXINIT is %+v", h)
		}
		for p := range slices.Chunk(out, chunk) {
			if _, err := c.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		h := c.ServerHello()
		if strings.Join(h.CiphersServerClient, ",") != lists[3] || strings.Join(h.Compression, ",") != lists[7] {
			t.Errorf("in chunks of %d: ServerHello is %+v", chunk, h)
		}
		if got := s.out.Bytes(); !bytes.Equal(got, append([]byte(serverVersion+"\r\n"), out...)) {
			t.Errorf("in chunks of %d: bytes were altered", chunk)
		}
		if c.tap != nil || c.opening {
			t.Errorf("in chunks of %d: the tap is still there", chunk)
		}
	}
}

func TestAServerThatSendsNoKexinitIsNotTapped(t *testing.T) {
	c, s := accepted(t, 1<<20, nil)
	io.WriteString(c, serverVersion+"\r\n")
	s.out.Reset()
	io.WriteString(c, "\x00\x00\x00\x0c\x04 no KEXINIT")
	if c.opening || c.tap != nil || c.ServerHello().KexAlgorithms != nil {
		t.Error("the tap keeps what is no KEXINIT")
	}
	if s.out.Len() != 16 {
		t.Errorf("the client got %q", s.out.String())
	}
}

func TestHASSHIsTheMD5OfTheSendersLists(t *testing.T) {
	h := Hello{
		KexAlgorithms:       []string{"k1", "k2"},
		CiphersClientServer: []string{"c1", "c2"},
		CiphersServerClient: []string{"s1"},
		MACsClientServer:    []string{"m1"},
		MACsServerClient:    nil,
		Compression:         []string{"none"},
	}
	for want, hassh := range map[string]func() (string, string){
		"k1,k2;c1,c2;m1;none": h.HASSH,
		"k1,k2;s1;;none":      h.ServerHASSH,
	} {
		sum := md5.Sum([]byte(want))
		if f, a := hassh(); a != want || f != hex.EncodeToString(sum[:]) {
			t.Errorf("%s %q, want %q", f, a, want)
		}
	}
}

func TestPassingBytesOnAllocatesNothing(t *testing.T) {
	c, s := accepted(t, 1<<20, nil)
	io.WriteString(c, serverVersion+"\r\n")
	c.Write(clientKexinit())
	io.Copy(io.Discard, c)
	buf := make([]byte, 64)
	allocs := testing.AllocsPerRun(100, func() {
		s.in, s.chunk = buf, len(buf)
		s.out.Reset()
		if n, err := c.Read(buf); n != len(buf) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		c.Write(buf)
	})
	if allocs != 0 {
		t.Errorf("%v allocations for a read and a write", allocs)
	}
}
