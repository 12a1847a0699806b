package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"postern/internal/audit"
	"postern/internal/record"
)

// recorder makes recordings in a folder.
type recorder struct {
	t     *testing.T
	dir   string
	store *record.Store
}

func newRecorder(t *testing.T, recipients ...age.Recipient) *recorder {
	t.Helper()
	r := &recorder{t: t, dir: t.TempDir()}
	r.open(recipients...)
	return r
}

func (r *recorder) open(recipients ...age.Recipient) {
	r.t.Helper()
	var err error
	if r.store, err = record.Open(record.Options{Dir: r.dir, Recipients: recipients}); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.store.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Error(err)
		}
	})
}

// session is a header; its last digit makes the ID.
func session(n string) record.Header {
	return record.Header{
		Session: "01998e4c-a000-7aaa-9d55-3b0f6f1b2a0" + n, Channel: "0", Identity: "vendor", Endpoint: demoEndpoint,
		Client: "10.20.0.7:50122", Login: "hadoop", Target: "10.0.2.17:22", Address: "10.0.2.17:22", Rule: "cluster-shell",
		Kind: "shell", Term: "xterm", Columns: 80, Rows: 24, Started: time.Now(),
	}
}

func (r *recorder) begin(h record.Header, output ...string) *record.Writer {
	r.t.Helper()
	w, err := r.store.Create(h, record.Events{})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, o := range output {
		if err := w.Write(record.Stdout, []byte(o)); err != nil {
			r.t.Fatal(err)
		}
	}
	return w
}

func (r *recorder) record(h record.Header, output ...string) record.Summary {
	r.t.Helper()
	w := r.begin(h, output...)
	for kind, text := range map[record.Kind]string{record.Request: "shell", record.Exit: "0"} {
		if err := w.Write(kind, []byte(text)); err != nil {
			r.t.Fatal(err)
		}
	}
	s, err := w.Close(true)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// postern reads the recordings where no gate runs.
func (r *recorder) postern(args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	args = append(args, "--offline", "--dir", r.dir, "--socket", filepath.Join(r.dir, "none.sock"))
	status = command(append([]string{"recordings"}, args...), &env{&out, &errs})
	return status, out.String(), errs.String()
}

func TestTheListHasTheNewestLast(t *testing.T) {
	r := newRecorder(t)
	if status, out, errs := r.postern("list"); status != 0 || out != "no recordings\n" {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
	if _, out, _ := r.postern("list", "--json"); out != "[]\n" {
		t.Errorf("JSON of none: %q", out)
	}
	late, early, other := session("1"), session("2"), session("3")
	early.Started = early.Started.Add(-48 * time.Hour)
	other.Identity, other.Target, other.Kind, other.Command = "alice", "db.internal:2222", "exec", "psql\x1b]0;x\a -c '"+strings.Repeat("select ", 20)+"'"
	r.record(late, "late")
	r.record(early, "early")
	w := r.begin(other, "running")
	defer w.Close(false)

	lines := func(args ...string) []string {
		t.Helper()
		status, out, errs := r.postern(append([]string{"list"}, args...)...)
		if status != 0 || strings.Contains(out, "\x1b") {
			t.Fatalf("status %d: %q%s", status, out, errs)
		}
		return strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	}
	all := lines()
	if len(all) != 4 || !strings.Contains(all[1], early.Session) || !strings.Contains(all[2]+all[3], "running") || !strings.Contains(all[2]+all[3], "hadoop@db.internal:2222") {
		t.Errorf("%q", all)
	}
	for want, args := range map[string][]string{
		late.Session:  {"--session", late.Session, "--identity", "vendor"},
		early.Session: {"--until", "1d", "--target", "10.0.2.17", "--identity", "ven*"},
		other.Session: {"--target", "db.internal:2222"},
	} {
		if got := lines(args...); len(got) != 2 || !strings.Contains(got[1], want) {
			t.Errorf("%q: %q", args, got)
		}
	}
	var infos []recordingInfo
	_, out, _ := r.postern("list", "--json", "--session", early.Session)
	if err := json.Unmarshal([]byte(out), &infos); err != nil || len(infos) != 1 || infos[0].Stdout != 5 || infos[0].State != "complete" || !infos[0].Started.Equal(early.Started) {
		t.Errorf("%v: %s", err, out)
	}
	for _, args := range [][]string{{"--since", "yesterday"}, {"--until", "-3h"}, {"--identity", "[x"}} {
		if status, _, errs := r.postern(append([]string{"list"}, args...)...); status != exitUsage {
			t.Errorf("%q: status %d: %s", args, status, errs)
		}
	}
}

func TestATimeChoosesWhatWentOnThen(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	entry := func(id string, ago, took time.Duration, live bool) record.Entry {
		return record.Entry{ID: id, Live: live, Header: record.Header{Started: now.Add(-ago)}, Totals: record.Totals{Duration: took}}
	}
	entries := []record.Entry{
		entry("old", 72*time.Hour, time.Hour, false), entry("long", 72*time.Hour, 60*time.Hour, false),
		entry("running", 72*time.Hour, 0, true), entry("new", time.Hour, time.Minute, false),
	}
	for want, c := range map[string]chosen{
		"old long running new": {},
		"long running new":     {Since: "24h"},
		"running new":          {Since: "2026-11-24T06:00"},
		"old long running":     {Until: "2026-11-24"},
		"long running":         {Since: "1d", Until: "2026-11-24T05:00:00+02:00"},
	} {
		found, err := c.of(entries, now)
		var ids []string
		for _, e := range found {
			ids = append(ids, e.ID)
		}
		if got := strings.Join(ids, " "); got != want || err != nil {
			t.Errorf("%+v: %s, %v, want %s", c, got, err, want)
		}
	}
}

func TestAFileThatIsNoRecordingIsSaidSo(t *testing.T) {
	r := newRecorder(t)
	good := r.record(session("1"), "x")
	bad := filepath.Join(filepath.Dir(good.Path), strings.Replace(filepath.Base(good.Path), "2a01", "2a09", 1))
	if err := os.WriteFile(bad, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	status, out, errs := r.postern("list")
	if status != exitWrong || !strings.Contains(out, "unreadable") || !strings.Contains(out, "complete") || !strings.Contains(errs, "1 of 2 files") {
		t.Errorf("list: status %d: %s%s", status, out, errs)
	}
	if status, _, errs := r.postern("search", "x"); status != exitUsage || !strings.Contains(errs, "could not be searched") {
		t.Errorf("search: status %d: %s", status, errs)
	}
	for _, id := range []string{"01998e4c", "nothing", ""} {
		if status, _, errs := r.postern("show", id); status != exitWrong || !strings.Contains(errs, "hint: ") {
			t.Errorf("show %q: status %d: %s", id, status, errs)
		}
	}
}

func TestALookAtARecordingIsAnEventBeforeIt(t *testing.T) {
	r := newRecorder(t)
	s := r.record(session("1"), "pass\x1b[31mword: ", "hunter2\r\n")
	g := newTestGate(t)
	g.start()
	looks := []struct {
		args      []string
		operation string
		shows     string
	}{
		{[]string{"recordings", "show", s.ID[:36]}, "recordings.show", s.SHA256},
		{[]string{"recordings", "play", s.ID}, "recordings.play", "\x1b[31mword: hunter2"},
		{[]string{"recordings", "search", "password: hunter"}, "recordings.search", s.ID + "      0.0s  password: hunter2"},
		{[]string{"recordings", "export", s.ID, "--format", "text"}, "recordings.export", "password: hunter2\n"},
	}
	for i, look := range looks {
		status, out, errs := g.postern(append(look.args, "--dir", r.dir)...)
		if status != 0 || !strings.Contains(out, look.shows) {
			t.Errorf("%q: status %d: %s%s", look.args, status, out, errs)
		}
		events := g.events(audit.LogAccess)
		if len(events) != i+1 || !strings.Contains(events[i], `"`+look.operation+`"`) || !strings.Contains(events[i], s.ID) {
			t.Errorf("%q: events %q", look.args, events)
		}
	}
	if status, out, _ := g.postern("recordings", "list", "--dir", r.dir); status != 0 || !strings.Contains(out, s.ID) || len(g.events(audit.LogAccess)) != len(looks) {
		t.Errorf("the list alone: status %d, %q", status, g.events(audit.LogAccess))
	}
}

func TestWithoutAGateNothingIsShownUnlessThatIsMeant(t *testing.T) {
	r := newRecorder(t)
	s := r.record(session("1"), "hunter2\r\n")
	for _, args := range [][]string{{"play", s.ID}, {"show", s.ID}, {"search", "hunter"}, {"export", s.ID}} {
		var out, errs bytes.Buffer
		args = append([]string{"recordings"}, append(args, "--dir", r.dir, "--socket", filepath.Join(r.dir, "none.sock"))...)
		if status := command(args, &env{&out, &errs}); status != exitUsage || out.Len() > 0 || !strings.Contains(errs.String(), "hint: --offline") {
			t.Errorf("%q: status %d: %q %s", args, status, out.String(), errs.String())
		}
		out.Reset()
		errs.Reset()
		if status := command(append(args, "--offline"), &env{&out, &errs}); status != 0 || out.Len() == 0 || !strings.Contains(errs.String(), "nobody writes down") {
			t.Errorf("%q: status %d: %q %s", args, status, out.String(), errs.String())
		}
	}
}

func TestASealedRecordingNeedsAKeyOfIts(t *testing.T) {
	auditor, stranger := identity(t), identity(t)
	r := newRecorder(t, auditor.Recipient())
	s := r.record(session("1"), "hunter2\r\n")
	keys := func(id *age.X25519Identity) string {
		name := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(name, []byte("# a key\n"+id.String()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, verb := range []string{"play", "export", "search"} {
		args := []string{verb, s.ID}
		if verb == "search" {
			args[1] = "hunter2"
		}
		if status, out, errs := r.postern(args...); status != exitUsage || strings.Contains(out, "hunter2") || !strings.Contains(errs, "hint: --identity-file") {
			t.Errorf("%s without a key: status %d: %s%s", verb, status, out, errs)
		}
		if status, out, errs := r.postern(append(args, "-i", keys(stranger))...); status != exitUsage || strings.Contains(out, "hunter2") || !strings.Contains(errs, "other identities") {
			t.Errorf("%s with another's: status %d: %s%s", verb, status, out, errs)
		}
		if status, out, errs := r.postern(append(args, "-i", keys(stranger), "-i", keys(auditor))...); status != 0 || !strings.Contains(out, "hunter2") {
			t.Errorf("%s: status %d: %s%s", verb, status, out, errs)
		}
	}
	status, out, errs := r.postern("show", s.ID)
	if status != 0 || !strings.Contains(out, "not opened") || !strings.Contains(out, s.SHA256) {
		t.Errorf("show: status %d: %s%s", status, out, errs)
	}
	if status, _, errs := r.postern("play", s.ID, "-i", s.Path); status != exitUsage || !strings.Contains(errs, "AGE-SECRET-KEY") {
		t.Errorf("a file without keys: status %d: %s", status, errs)
	}
}

func identity(t *testing.T) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestARecordingThatBreaksOffIsExportedAsFarAsItGoes(t *testing.T) {
	r := newRecorder(t)
	s := r.record(session("1"), "whole\r\n")
	b, err := os.ReadFile(s.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Path, b[:len(b)-10], 0o600); err != nil {
		t.Fatal(err)
	}
	status, out, errs := r.postern("export", s.ID, "--format", "raw")
	if status != exitWrong || out != "whole\r\n" || !strings.Contains(errs, "breaks off") {
		t.Errorf("status %d: %q %s", status, out, errs)
	}
	if status, out, _ := r.postern("search", "whole"); status != 0 || !strings.Contains(out, "whole") {
		t.Errorf("search: status %d: %q", status, out)
	}
	if _, out, _ := r.postern("list"); !strings.Contains(out, "broken off") {
		t.Errorf("list: %q", out)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(s.Path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, errs := r.postern("export", s.ID, "--format", "raw"); status != exitWrong || !strings.Contains(errs, "hint: keep the file") {
		t.Errorf("damaged: status %d: %s", status, errs)
	}
}

func TestAnExportGoesToANewFile(t *testing.T) {
	r := newRecorder(t)
	s := r.record(session("1"), "caf\xe9\r\n")
	name := filepath.Join(t.TempDir(), "out")
	if status, out, errs := r.postern("export", s.ID, "-o", name, "--format", "raw"); status != 0 || out != "" {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
	info, err := os.Stat(name)
	if b, rerr := os.ReadFile(name); err != nil || rerr != nil || string(b) != "caf\xe9\r\n" || info.Mode().Perm() != 0o600 {
		t.Errorf("%q, %v, %v", b, info, err)
	}
	if status, _, errs := r.postern("export", s.ID, "-o", name); status != exitUsage || !strings.Contains(errs, "not written over") {
		t.Errorf("over a file: status %d: %s", status, errs)
	}
	if status, out, _ := r.postern("export", s.ID); status != 0 || !strings.Contains(out, `"b", "Y2Fm6Q0K"`) {
		t.Errorf("cast: status %d: %s", status, out)
	}
}

func TestSearchPrintsJSON(t *testing.T) {
	r := newRecorder(t)
	s := r.record(session("1"), "one\r\nTwo\x1b[1m words\r\nthree\r\n")
	var hits []hit
	status, out, errs := r.postern("search", "--json", "--regexp", "^(one|two words)$", "--ignore-case")
	if err := json.Unmarshal([]byte(out), &hits); status != 0 || err != nil || len(hits) != 2 || hits[1].Line != "Two words" || hits[1].ID != s.ID {
		t.Errorf("status %d, %v: %s%s", status, err, out, errs)
	}
	status, out, errs = r.postern("search", "--json", "four")
	if err := json.Unmarshal([]byte(out), &hits); status != 0 || err != nil || len(hits) != 0 || !strings.Contains(errs, "nothing found in 1 recordings") {
		t.Errorf("status %d, %v: %s%s", status, err, out, errs)
	}
	for _, args := range [][]string{{"(", "--regexp"}, {""}} {
		if status, _, errs := r.postern(append([]string{"search"}, args...)...); status != exitUsage || !strings.Contains(errs, "hint: ") {
			t.Errorf("%q: status %d: %s", args, status, errs)
		}
	}
}

func TestASearchNamesAsManyRecordingsAsAnEventMay(t *testing.T) {
	entries := make([]record.Entry, 1000)
	if a := (&recordingsSearchCmd{Text: strings.Repeat("é", 5000)}).event(entries); a.Count != 1000 || len(a.Recordings) != 100 || len(a.Detail) > 1024 {
		t.Errorf("%d of %d, %d bytes", len(a.Recordings), a.Count, len(a.Detail))
	}
}
