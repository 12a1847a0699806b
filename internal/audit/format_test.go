package audit

import (
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func TestACheckpointIsReadAsItWasWritten(t *testing.T) {
	c := Checkpoint{Origin: "gate1.example.com/postern/0f3a/1", Size: 42, Root: tlog.RecordHash([]byte("x"))}
	got, err := ParseCheckpoint(c.String())
	if err != nil || got != c {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestWhatIsNoCheckpointIsNotRead(t *testing.T) {
	root := strings.Split(Checkpoint{Origin: "o"}.String(), "\n")[2]
	for _, text := range []string{
		"", "o", "o\n1\n", "o\n1\n" + root, "o\n1\n" + root + "\nextension\n", "o\n1\n" + root + "\n\n",
		"o o\n1\n" + root + "\n", "o+\n1\n" + root + "\n", "\n1\n" + root + "\n",
		"o\n-1\n" + root + "\n", "o\n01\n" + root + "\n", "o\n+1\n" + root + "\n", "o\n1x\n" + root + "\n", "o\n9223372036854775808\n" + root + "\n",
		"o\n1\n" + root[1:] + "\n", "o\n1\n" + root + "AAAA\n", "o\n1\nAAAA\n", "o\n1\n\n",
	} {
		if c, err := ParseCheckpoint(text); err == nil {
			t.Errorf("%q is read as %+v", text, c)
		}
	}
}

func FuzzParseCheckpoint(f *testing.F) {
	f.Add(Checkpoint{Origin: "gate/postern/a/1", Size: 7}.String())
	f.Add("gate/postern/a/1\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r=\n")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := ParseCheckpoint(text); err == nil && c.String() != text {
			t.Errorf("%q is read as %q", text, c.String())
		}
	})
}

func TestACheckpointCountsOnlyUnderTheKeyOfItsLog(t *testing.T) {
	c := Checkpoint{Origin: "gate/postern/a/1", Size: 1}
	sign := func(name string) ([]byte, note.Verifiers) {
		secret, public, err := note.GenerateKey(nil, name)
		if err != nil {
			t.Fatal(err)
		}
		signer, _ := note.NewSigner(secret)
		verifier, _ := note.NewVerifier(public)
		signed, err := note.Sign(&note.Note{Text: c.String()}, signer)
		if err != nil {
			t.Fatal(err)
		}
		return signed, note.VerifierList(verifier)
	}
	signed, keys := sign(c.Origin)
	if got, _, err := OpenCheckpoint(signed, keys); err != nil || got != c {
		t.Errorf("%+v, %v", got, err)
	}
	foreign, theirs := sign("other")
	for name, open := range map[string]func() (Checkpoint, *note.Note, error){
		"another key":          func() (Checkpoint, *note.Note, error) { return OpenCheckpoint(signed, theirs) },
		"a key of another log": func() (Checkpoint, *note.Note, error) { return OpenCheckpoint(foreign, theirs) },
		"an edited text": func() (Checkpoint, *note.Note, error) {
			return OpenCheckpoint([]byte(strings.Replace(string(signed), "\n1\n", "\n2\n", 1)), keys)
		},
	} {
		if got, _, err := open(); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestCheckpointsAreCutApartAndATornOneIsLeft(t *testing.T) {
	one, two := "a\n1\nroot\n\n— a sig\n", "a\n2\nroot\n\n— a sig\n— b sig\n"
	data := []byte(one + "\n" + two + "\n")
	for end := len(one) + 1; end <= len(data); end++ {
		signed, rest, ok := CutCheckpoint(data[:end])
		if !ok || string(signed) != one {
			t.Fatalf("the first of %d bytes is %q", end, signed)
		}
		signed, rest, ok = CutCheckpoint(rest)
		if whole := end == len(data); ok != whole || whole && (string(signed) != two || len(rest) > 0) {
			t.Fatalf("the second of %d bytes is %q, %q is left", end, signed, rest)
		}
	}
}

func TestAnOriginNamesHostInstanceAndEpoch(t *testing.T) {
	for _, host := range []string{"gate1", "example.com/bastions/eu"} {
		got, instance, epoch, err := splitOrigin(originOf(host, "0f3a", 12))
		if err != nil || got != host || instance != "0f3a" || epoch != 12 {
			t.Errorf("%q %q %d %v", got, instance, epoch, err)
		}
	}
	for _, origin := range []string{"", "gate", "gate/other/a/1", "gate/postern/a/0", "gate/postern/a/x", "/postern/a/1", "gate/postern//1", "a b/postern/a/1"} {
		if _, _, _, err := splitOrigin(origin); err == nil {
			t.Errorf("%q is taken for an origin of ours", origin)
		}
	}
}
