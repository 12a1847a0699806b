package upstream

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

func TestLiteralAddressesAreNotLookedUp(t *testing.T) {
	d := New(Options{Resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("a look-up was made")
	}}})
	for in, want := range map[string]string{
		"10.0.0.1": "10.0.0.1", "fd00::1": "fd00::1", "::ffff:169.254.169.254": "169.254.169.254", "::": "::",
	} {
		got, err := d.Resolve(t.Context(), in)
		if err != nil || len(got) != 1 || got[0].String() != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	if got, err := d.Resolve(t.Context(), "fe80::1%eth0"); err == nil {
		t.Errorf("an address with a zone gave %v", got)
	}
}

func TestWhatIsNoNameIsNotLookedUp(t *testing.T) {
	d := New(Options{Resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("a look-up was made")
	}}})
	for _, host := range []string{
		"", ".", "..", "a..b", ".a", "a b", "a\x00b", "127.0.0.1\x00.example", "a/b", "[::1]", "ex\u00e4mple",
		"0x7f000001", "0X7F.1", "127.1", "2130706433", "017700000001", "example.0x1", "10.0.0.1.", "example.1",
		strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 127) + "aa",
	} {
		got, err := d.Resolve(t.Context(), host)
		if Classify(err) != OutcomeNoName || got != nil {
			t.Errorf("%q: %v, %v", host, got, err)
		}
	}
}

// nameServer answers each query for a type of record with the given addresses;
// a name that begins with "none" does not exist, one with "hang" gets silence.
func nameServer(t *testing.T, records map[uint16][]netip.Addr) *net.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	t.Cleanup(func() { pc.Close(); g.Wait() })
	g.Go(func() error {
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return err
			}
			if a := answer(buf[:n], records); a != nil {
				pc.WriteTo(a, from)
			}
		}
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "udp", pc.LocalAddr().String())
		if err == nil {
			// Package net finishes a look-up that nobody waits for any more
			// when the server's time is up, 5 s: end it now.
			context.AfterFunc(t.Context(), func() { c.Close() })
		}
		return c, err
	}}
}

// answer builds a reply to the one question in q (RFC 1035 §4).
func answer(q []byte, records map[uint16][]netip.Addr) []byte {
	end := 12 + slices.Index(q[12:], 0) + 5
	label := string(q[13 : 13+q[12]])
	kind := binary.BigEndian.Uint16(q[end-4:])
	if label == "hang" {
		return nil
	}
	found := records[kind]
	if label == "none" {
		found = nil
	}
	a := slices.Clone(q[:end])
	a[2], a[3] = 0x85, 0x80 // authoritative answer, recursion available
	if label == "none" {
		a[3] |= 3 // NXDOMAIN
	}
	binary.BigEndian.PutUint16(a[6:], uint16(len(found)))
	clear(a[8:12])
	for _, addr := range found {
		a = append(a, 0xc0, 12) // the name of the question
		a = binary.BigEndian.AppendUint16(a, kind)
		a = append(a, 0, 1, 0, 0, 0, 60)
		a = binary.BigEndian.AppendUint16(a, uint16(addr.BitLen()/8))
		a = append(a, addr.AsSlice()...)
	}
	return a
}

const typeA, typeAAAA = 1, 28

func TestResolvedAddressesAreUnmappedAndThereOnce(t *testing.T) {
	d := New(Options{Resolver: nameServer(t, map[uint16][]netip.Addr{
		typeA:    addrs(t, "10.0.0.1", "10.0.0.2", "10.0.0.1"),
		typeAAAA: addrs(t, "::ffff:10.0.0.2", "fd00::1"),
	})})
	got, err := d.Resolve(t.Context(), "db.example.")
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(got, netip.Addr.Compare)
	if want := addrs(t, "10.0.0.1", "10.0.0.2", "fd00::1"); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestANameWithManyAddressesIsCut(t *testing.T) {
	var many []netip.Addr
	for a := netip.MustParseAddr("10.0.0.1"); len(many) < 60; a = a.Next() {
		many = append(many, a)
	}
	if got := plain(many); !slices.Equal(got, many[:maxAddrs]) {
		t.Errorf("%d addresses: %v", len(got), got)
	}
	if got := plain(addrs(t, "fe80::1%eth0")); got != nil {
		t.Errorf("kept %v", got)
	}
}

func TestLookupFailuresAreClassified(t *testing.T) {
	d := New(Options{DialTimeout: 300 * time.Millisecond, Resolver: nameServer(t, nil)})
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		name string
		ctx  context.Context
		host string
		want Outcome
	}{
		{"the name does not exist", t.Context(), "none.example.", OutcomeNoName},
		{"the name has no address", t.Context(), "empty.example.", OutcomeNoName},
		{"the server is silent", t.Context(), "hang.example.", OutcomeTimeout},
		{"the caller gave up", canceled, "hang.example.", OutcomeCanceled},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := d.Resolve(tc.ctx, tc.host)
			if Classify(err) != tc.want || got != nil {
				t.Errorf("%v, %v is %q, want %q", got, err, Classify(err), tc.want)
			}
		})
	}
}

func TestOutcomesAreComplete(t *testing.T) {
	if got := Outcomes(); len(got) != 13 || slices.Contains(got, "") {
		t.Errorf("%v", got)
	}
}

// FuzzIsName: what passes is never an address in any notation.
func FuzzIsName(f *testing.F) {
	for _, s := range []string{"a.example", "0x7f.1", "127.1", "::1", "a-b_c.example.", "1a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !isName(s) {
			return
		}
		if _, err := netip.ParseAddr(s); err == nil {
			t.Errorf("%q is an address", s)
		}
		if strings.ContainsAny(s, "\x00:/@[] %\\") || len(s) > 254 {
			t.Errorf("%q is a name", s)
		}
	})
}
