package krl

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func str(parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func u64(values ...uint64) (b []byte) {
	for _, v := range values {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

func section(kind byte, parts ...[]byte) []byte { return append([]byte{kind}, str(parts...)...) }

// list builds a whole list from its sections.
func list(sections ...[]byte) []byte {
	head := append([]byte(magic), 0, 0, 0, formatVersion)
	head = append(head, u64(9, 1795500000, 0)...)
	head = append(head, str()...)
	head = append(head, str([]byte("a comment"))...)
	return slices.Concat(head, slices.Concat(sections...))
}

// certs builds a certificate section for every CA.
func certs(subsections ...[]byte) []byte {
	return section(sectionCertificates, str(), str(), slices.Concat(subsections...))
}

func mustParse(t testing.TB, data []byte) *List {
	t.Helper()
	l, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestAListThatWasNeverReadRevokesEverything(t *testing.T) {
	key := newEd25519(t).PublicKey()
	var missing *List
	if !missing.Revoked(key) || !new(List).Revoked(key) {
		t.Error("a list that was never read lets a key pass")
	}
	l := mustParse(t, list())
	if l.Revoked(key) {
		t.Error("an empty list revokes a key")
	}
	if !l.Revoked(nil) || !l.Revoked((*ssh.Certificate)(nil)) || !l.Revoked(&ssh.Certificate{}) {
		t.Error("what is no key passes")
	}
}

// wrapped is a certificate in the form an agent lists it: a type and a blob.
type wrapped struct{ ssh.PublicKey }

func TestACertificateThatCannotBeLookedIntoIsRevoked(t *testing.T) {
	cert := newCertificate(t, newEd25519(t), newEd25519(t).PublicKey(), 5, "id")
	l := mustParse(t, list())
	if l.Revoked(cert) {
		t.Error("a certificate is revoked by an empty list")
	}
	if !l.Revoked(wrapped{cert}) {
		t.Error("a certificate passes as a plain key")
	}
}

func TestSerialZeroIsNoSerial(t *testing.T) {
	ca, key := newEd25519(t), newEd25519(t).PublicKey()
	l := mustParse(t, list(certs(section(certSerialRange, u64(1, 1<<64-1)))))
	if l.Revoked(newCertificate(t, ca, key, 0, "id")) {
		t.Error("a certificate without a serial is revoked by serial")
	}
	if !l.Revoked(newCertificate(t, ca, key, 1, "id")) || !l.Revoked(newCertificate(t, ca, key, 1<<64-1, "id")) {
		t.Error("an end of the range is not revoked")
	}
}

func TestASignedListIsReadWithoutItsSignature(t *testing.T) {
	key := newEd25519(t).PublicKey()
	sum := sha256.Sum256(key.Marshal())
	signature := append(section(sectionSignature, key.Marshal()), str([]byte("signature"))...)
	l := mustParse(t, list(section(sectionSHA256, str(sum[:])), signature, signature))
	if !l.Revoked(key) {
		t.Error("a signed list does not revoke")
	}
	if l.Number() != 9 || l.Comment() != "a comment" || l.Generated().Unix() != 1795500000 {
		t.Errorf("header %d %q %v", l.Number(), l.Comment(), l.Generated())
	}
}

func TestExtensionsThatAreNotCriticalArePassedOver(t *testing.T) {
	extension := func(kind byte) []byte {
		return section(kind, str([]byte("x@example.com")), []byte{0}, str([]byte("anything")))
	}
	cert := newCertificate(t, newEd25519(t), newEd25519(t).PublicKey(), 5, "id")
	l := mustParse(t, list(extension(sectionExtension), certs(extension(certExtension), section(certSerialList, u64(5)))))
	if !l.Revoked(cert) {
		t.Error("what follows an extension does not revoke")
	}
}

func TestSerialsOfOneAuthorityDoNotRevokeAnothers(t *testing.T) {
	mine, other, key := newRSA(t), newRSA(t), newEd25519(t).PublicKey()
	l := mustParse(t, list(section(sectionCertificates, str(mine.PublicKey().Marshal()), str(),
		section(certSerialList, u64(5)), section(certKeyID, str([]byte("gone"))))))
	for _, tt := range []struct {
		ca     ssh.Signer
		serial uint64
		id     string
		want   bool
	}{
		{mine, 5, "id", true}, {mine, 6, "id", false}, {mine, 6, "gone", true}, {mine, 0, "gone", true},
		{other, 5, "id", false}, {other, 6, "gone", false},
	} {
		if got := l.Revoked(newCertificate(t, tt.ca, key, tt.serial, tt.id)); got != tt.want {
			t.Errorf("serial %d, key ID %q: %v", tt.serial, tt.id, got)
		}
	}
}

func TestBitmapsAtEveryOffset(t *testing.T) {
	for _, offset := range []uint64{0, 1, 60, 63, 64, 1<<32 - 3, 1<<64 - 1 - 15} {
		bitmap := []byte{0, 0x80, 0x06} // bits 1, 2 and 15
		var s serials
		if err := s.addBitmap(offset, bitmap); err != nil {
			t.Fatalf("offset %d: %v", offset, err)
		}
		for i := range uint64(16) {
			want := i == 1 || i == 2 || i == 15
			if got := s.contain(offset + i); got != want {
				t.Errorf("offset %d: bit %d is %v", offset, i, got)
			}
		}
		if s.contain(offset-1) || s.contain(offset+16) {
			t.Errorf("offset %d: a neighbour is in it", offset)
		}
	}
}

func TestRangesAreJoined(t *testing.T) {
	var s serials
	for _, r := range []serialRange{{20, 30}, {1, 5}, {3, 10}, {25, 25}, {11, 12}, {1 << 63, 1<<64 - 1}} {
		if err := s.addRange(r.lo, r.hi); err != nil {
			t.Fatal(err)
		}
	}
	s.settle()
	for serial, want := range map[uint64]bool{0: false, 1: true, 10: true, 11: true, 12: true, 13: false, 19: false,
		20: true, 26: true, 30: true, 31: false, 1<<63 - 1: false, 1 << 63: true, 1<<64 - 1: true} {
		if s.contain(serial) != want {
			t.Errorf("serial %d: %v", serial, !want)
		}
	}
}

func TestTheListKeepsNothingOfTheFilesBytes(t *testing.T) {
	key := newEd25519(t).PublicKey()
	cert := newCertificate(t, newEd25519(t), newEd25519(t).PublicKey(), 5, "gone")
	data := list(section(sectionExplicitKey, str(key.Marshal())), certs(section(certKeyID, str([]byte("gone")))))
	l := mustParse(t, data)
	clear(data)
	if !l.Revoked(key) || !l.Revoked(cert) || l.Comment() != "a comment" {
		t.Error("the list changed with the bytes it was read from")
	}
}

func TestMalformedListsAreRefused(t *testing.T) {
	key := newEd25519(t).PublicKey()
	cert := newCertificate(t, newEd25519(t), key, 5, "id")
	sum1, sum256 := sha1.Sum(key.Marshal()), sha256.Sum256(key.Marshal())
	changed := func(at int, to byte) []byte {
		data := list()
		data[at] = to
		return data
	}
	critical := str([]byte("x@example.com"))
	for _, tt := range []struct {
		name string
		data []byte
		text string // in the error
	}{
		{"nothing", nil, "binary"},
		{"list of public keys", ssh.MarshalAuthorizedKey(key), "binary"},
		{"magic alone", []byte(magic), "header ends"},
		{"format 2", changed(len(magic)+3, 2), "format 2"},
		{"cut in the comment", list()[:len(list())-1], "header ends"},
		{"trailing byte", append(list(), 1), "section 1 ends"},
		{"section longer than the list", append(list(), 2, 0, 0, 0, 9, 1), "section 2 ends"},
		{"section of 4 GiB", append(list(), 2, 255, 255, 255, 255), "section 2 ends"},
		{"unknown section", list(section(6)), "section 6: unknown"},
		{"section 0", list(section(0)), "section 0: unknown"},
		{"signature without its second part", list(section(sectionSignature, key.Marshal())), "section 4 ends"},
		{"section after a signature", list(section(sectionSignature), str(), section(sectionSHA1)), "after a signature"},
		{"critical extension", list(section(sectionExtension, critical, []byte{1}, str())), "critical"},
		{"critical extension by any number", list(section(sectionExtension, critical, []byte{2}, str())), "critical"},
		{"extension cut", list(section(sectionExtension, critical)), "too early"},
		{"extension with more", list(section(sectionExtension, critical, []byte{0}, str(), []byte{0})), "after its end"},
		{"SHA-1 of 32 bytes", list(section(sectionSHA1, str(sum256[:]))), "32 bytes"},
		{"SHA-256 of 20 bytes", list(section(sectionSHA256, str(sum1[:]))), "20 bytes"},
		{"hash cut", list(section(sectionSHA256, str(sum256[:])[:20])), "too early"},
		{"empty key", list(section(sectionExplicitKey, str())), "no key"},
		{"key cut", list(section(sectionExplicitKey, str(key.Marshal())[:20])), "too early"},
		{"certificate as a key", list(section(sectionExplicitKey, str(cert.Marshal()))), "certificate"},
		{"CA that is no key", list(section(sectionCertificates, str([]byte("CA")), str())), "CA key"},
		{"CA that is a certificate", list(section(sectionCertificates, str(cert.Marshal()), str())), "certificate"},
		{"CA with a byte more", list(section(sectionCertificates, str(key.Marshal(), []byte{0}), str())), "CA key"},
		{"no reserved string", list(section(sectionCertificates, str())), "too early"},
		{"empty certificate section", list(section(sectionCertificates)), "too early"},
		{"unknown certificate section", list(certs(section(0x24))), "0x24: unknown"},
		{"certificate section cut", list(certs([]byte{certSerialList, 0, 0, 0, 9})), "too early"},
		{"critical certificate extension", list(certs(section(certExtension, critical, []byte{1}, str()))), "critical"},
		{"serial cut", list(certs(section(certSerialList, u64(5)[:7]))), "too early"},
		{"serial 0", list(certs(section(certSerialList, u64(0)))), "serial 0"},
		{"range from 0", list(certs(section(certSerialRange, u64(0, 9)))), "serial 0"},
		{"range downwards", list(certs(section(certSerialRange, u64(9, 8)))), "from 9 down to 8"},
		{"two ranges in one", list(certs(section(certSerialRange, u64(1, 2, 3, 4)))), "after its end"},
		{"half a range", list(certs(section(certSerialRange, u64(1)))), "too early"},
		{"bitmap with serial 0", list(certs(section(certSerialBitmap, u64(0), str([]byte{1})))), "serial 0"},
		{"negative bitmap", list(certs(section(certSerialBitmap, u64(1), str([]byte{0x80})))), "negative"},
		{"bitmap past the end", list(certs(section(certSerialBitmap, u64(1<<64-1), str([]byte{2})))), "largest serial"},
		{"bitmap too long", list(certs(section(certSerialBitmap, u64(1), str(make([]byte, maxBitmap+1))))), "over 65536"},
		{"bitmap with more", list(certs(section(certSerialBitmap, u64(1), str(), []byte{0}))), "after its end"},
		{"key ID with a NUL", list(certs(section(certKeyID, str([]byte("a\x00"))))), "NUL"},
		{"key ID cut", list(certs(section(certKeyID, []byte{0, 0, 0, 9}))), "too early"},
		{"16 MiB and a byte", make([]byte, MaxSize+1), "over 16777216"},
	} {
		l, err := Parse(tt.data)
		if err == nil || l != nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v, want it to say %q", tt.name, err, tt.text)
		}
	}
}

func TestBitmapsAreCheckedWhereTheyEnd(t *testing.T) {
	var s serials
	if err := s.addBitmap(1<<64-1, []byte{0, 1}); err != nil || !s.contain(1<<64-1) {
		t.Errorf("the largest serial by bitmap: %v", err)
	}
	if err := s.addBitmap(0, []byte{0, 0}); err != nil {
		t.Errorf("an empty bitmap: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	key := newEd25519(f).PublicKey()
	cert := newCertificate(f, newEd25519(f), key, 77, "id")
	sum1, sum256 := sha1.Sum(key.Marshal()), sha256.Sum256(key.Marshal())
	f.Add(list())
	f.Add(list(section(sectionExplicitKey, str(key.Marshal())), section(sectionSHA1, str(sum1[:])), section(sectionSHA256, str(sum256[:]))))
	f.Add(list(certs(section(certSerialList, u64(1, 2, 3)), section(certSerialRange, u64(70, 80)),
		section(certSerialBitmap, u64(1<<40), str([]byte{5, 0})), section(certKeyID, str([]byte("id"))))))
	f.Add(list(section(sectionExtension, str([]byte("x")), []byte{0}, str()), section(sectionSignature), str()))
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		l, err := Parse(data)
		if !bytes.Equal(data, before) {
			t.Fatal("Parse wrote into its input")
		}
		if (l == nil) == (err == nil) {
			t.Fatalf("list %v with error %v", l, err)
		}
		if err != nil {
			return
		}
		if l.Revoked(cert.Key) && !l.Revoked(cert) {
			t.Fatal("the key is revoked and its certificate is not")
		}
		if again := mustParse(t, data); again.Revoked(cert) != l.Revoked(cert) {
			t.Fatal("the same list answers differently")
		}
		if size := l.held(); size > 2*len(data)+64 {
			t.Fatalf("%d serial entries from %d bytes", size, len(data))
		}
	})
}

// held counts what the list keeps.
func (l *List) held() (n int) {
	for _, c := range l.certificates {
		n += len(c.serials.ranges) + len(c.serials.words) + len(c.keyIDs)
	}
	return n + len(l.keys) + len(l.sha1) + len(l.sha256)
}
