package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"postern/internal/archive"
	"postern/internal/audit"
)

// parsed is what a command line means.
func parsed(t *testing.T, args ...string) (*cli, error) {
	t.Helper()
	c := &cli{}
	parser, err := kong.New(c, kong.Bind(&env{}), kong.Vars{"config": defaultConfig, "socket": defaultSocket})
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(args)
	return c, err
}

func TestTheBucketIsTheConfigurationsUnlessItIsNamed(t *testing.T) {
	for _, c := range []struct {
		args []string
		want bucketFlag
	}{
		{[]string{}, bucketFlag{}},
		{[]string{"--s3"}, bucketFlag{given: true}},
		{[]string{"--s3", "--json"}, bucketFlag{given: true}},
		{[]string{"--s3", "s3://evidence/gates"}, bucketFlag{given: true, url: "s3://evidence/gates"}},
		{[]string{"--s3=s3://evidence"}, bucketFlag{given: true, url: "s3://evidence"}},
		{[]string{"--anchors", "s3://evidence/gates"}, bucketFlag{given: true, url: "s3://evidence/gates"}},
		{[]string{"--anchors", "s3://"}, bucketFlag{given: true}},
	} {
		got, err := parsed(t, append([]string{"audit", "verify"}, c.args...)...)
		if err != nil || got.Audit.Verify.S3 != c.want {
			t.Errorf("%q: %+v, %v", c.args, got.Audit.Verify.S3, err)
		}
	}
}

func TestFlagsOfTheArchiveThatContradictEachOtherAreRefused(t *testing.T) {
	for _, line := range []string{
		"audit verify --s3=evidence", "audit verify --s3=s3://", "audit verify --s3 evidence", "audit verify --anchors s3://a --s3", "audit verify --anchors dir --s3",
		"audit verify --origin gate/postern/1/1", "audit verify --list", "audit verify --recordings r --no-recordings", "audit restore --s3",
	} {
		if _, err := parsed(t, strings.Fields(line)...); err == nil {
			t.Errorf("%s is taken", line)
		}
	}
}

func TestHowFarTheHashesReachIsTheirNumber(t *testing.T) {
	object := func(first, end int64) archive.Object {
		_, size := audit.Segment{First: first, End: end}.HashRange()
		return archive.Object{Key: hashesKey("gate/postern/0/1", first), Size: size}
	}
	for _, c := range []struct {
		hashes []archive.Object
		want   int64
	}{
		{nil, 0},
		{[]archive.Object{object(0, 1)}, 1},
		{[]archive.Object{object(0, 7), object(7, 8), object(8, 1000)}, 1000},
		{[]archive.Object{object(0, 7), object(8, 1000)}, 7}, // a gap
		{[]archive.Object{object(5, 7)}, 0},
	} {
		if got := hashedBy(c.hashes); got != c.want {
			t.Errorf("%+v reach %d events, want %d", c.hashes, got, c.want)
		}
	}
}

func TestObjectsThatSomethingLiesOnTopOfAreTold(t *testing.T) {
	f := &fetch{checkpoints: []archive.Object{{Key: "a", Versions: 1}, {Key: "b", Versions: 2}}, segments: []archive.Object{{Key: "c", Versions: 1, Deleted: true}}}
	got := f.covered()
	if len(got) != 2 || got[0].File != "b" || !strings.Contains(got[0].What, "another version") || got[1].File != "c" || !strings.Contains(got[1].What, "delete marker") {
		t.Errorf("got %+v", got)
	}
}

func TestANameFromTheArchiveStaysInItsFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "in")
	f := &fetch{dir: dir, origin: "gate/postern/0/1"}
	err := f.file(t.Context(), archive.Object{Key: "gate/postern/0/1/segments/../../../out"}, "../../../out")
	if err == nil || !strings.Contains(err.Error(), "no name for a file") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("something was made")
	}
}

func TestNothingIsBroughtBackOverWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "kept"), "kept")
	if err := emptyFolder(dir); err == nil {
		t.Error("a folder that is not empty is taken")
	}
	if err := emptyFolder(filepath.Join(dir, "new")); err != nil {
		t.Error(err)
	}
}

func TestOfASegmentsFirstLineNoMoreIsRead(t *testing.T) {
	var head firstLine
	if _, err := head.Write([]byte(`{"time":`)); err != nil {
		t.Fatal(err)
	}
	if _, err := head.Write([]byte("1}\n{\"time\":2}\n")); err != errEnough {
		t.Errorf("got %v", err)
	}
}
