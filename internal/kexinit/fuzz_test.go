package kexinit

import (
	"bytes"
	"io"
	"testing"
)

func FuzzAccept(f *testing.F) {
	whole := append([]byte(clientVersion+"\r\n"), clientKexinit()...)
	f.Add(whole, uint8(255))
	f.Add(whole[:80], uint8(1))
	f.Add([]byte("SSH-1.99-x\n"), uint8(3))
	f.Add([]byte("SSH-2.0-x\r\n\x00\x00\x00\x0c\x04\x14"), uint8(9))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n"), uint8(16))
	f.Fuzz(func(t *testing.T, in []byte, chunk uint8) {
		s := &script{in: bytes.Clone(in), chunk: int(chunk) + 1, end: io.EOF}
		c, err := Accept(s, options())
		if read := len(in) - len(s.in); read > maxOpening || s.largest > maxOpening {
			t.Fatalf("%d bytes read, %d at once", read, s.largest)
		}
		if err != nil {
			if _, ok := err.(*Error); !ok {
				t.Fatalf("error %v has no reason", err)
			}
			return
		}
		if v := c.Hello().Version; len(v) < 9 || len(v) > maxIdentification || !bytes.HasPrefix(in, []byte(v)) {
			t.Fatalf("version %q", v)
		}
		if c.Authenticated(); c.client.Load() == nil {
			t.Fatal("accepted at the end of the stream without a KEXINIT")
		}
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, in) {
			t.Fatalf("replayed %q of %q, %v", got, in, err)
		}
	})
}
