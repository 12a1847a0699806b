package audit

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// toldOf is the story of events that come in this order.
func toldOf(t *testing.T, all bool, events ...Event) *Story {
	t.Helper()
	s := &Story{All: all, Size: func(n int64) string { return strconv.FormatInt(n, 10) }, Lasted: time.Duration.String}
	for i, e := range events {
		if err := s.Add(line(e, inAWS, int64(i))); err != nil {
			t.Fatal(err)
		}
	}
	s.End()
	return s
}

func TestEachReasonOfASessionHasWords(t *testing.T) {
	doc, err := os.ReadFile("../../docs/audit-format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), "## Reasons")
	table, _, _ = strings.Cut(table, "\n## ")
	n, events := 0, ""
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]*)\| ([^|]*) \|`).FindAllStringSubmatch(table, -1) {
		if row[1] != "" {
			events = row[1] // rows without one go on
		}
		if !strings.Contains(events, "`") || ofNoSession(events) {
			continue
		}
		for _, reason := range regexp.MustCompile("`([a-z0-9_.]+)`").FindAllStringSubmatch(row[2], -1) {
			n++
			if ReasonWords(reason[1]) == "" {
				t.Errorf("no words for %s", reason[1])
			}
		}
	}
	if n < 80 {
		t.Errorf("the table has %d reasons: it was not understood", n)
	}
}

// ofNoSession says whether events that no session has come first in a row.
func ofNoSession(events string) bool {
	for _, code := range []string{"ssh.conn.refused", "config.reload", "daemon.", "log.", "clock.", "archive.", "aws."} {
		if strings.HasPrefix(events, "`"+code) {
			return true
		}
	}
	return false
}

func TestEveryEventOfASessionIsTold(t *testing.T) {
	for _, e := range sampled() {
		s := toldOf(t, true, e)
		if len(s.Lines) != 1 || s.Lines[0].Text == "" {
			t.Errorf("%s is told as %v", e.Code, s.Lines)
		}
	}
}

func TestAStoryKeepsWhatWasRefusedApart(t *testing.T) {
	var events []Event
	for i, op := range []FileOperation{
		{Action: "put", Path: "/a/b/1"}, {Action: "put", Path: "/a/b/2"}, {Action: "put", Path: "/a/c/3"}, {Action: "put", Path: "/a/d"},
		{Action: "put", Path: "/etc/x", Denied: true, Status: "SSH_FX_PERMISSION_DENIED"}, {Action: "put", Path: "/a/e", Status: "SSH_FX_FAILURE"},
		{Action: "rename", Path: "/a/e", To: "/a/f"}, {Action: "mkdir", Path: "/a/g"}, {Action: "list", Path: "/a", Entries: 5}, {Action: "odd", Path: "/a"},
	} {
		op.Size = -1
		events = append(events, Event{Code: FileOp, Kind: "sftp", Channel: "3", Session: "s", Failed: i == 4 || i == 5, Time: noon.Add(time.Duration(i) * time.Second), FileOp: &op, BytesIn: int64(i)})
	}
	var got []string
	for _, l := range toldOf(t, false, events...).Lines {
		got = append(got, l.Text)
	}
	want := []string{
		"wrote 4 files, 6, over 3s (sftp, channel 3), all in /a; the first: /a/b/1",
		"was not allowed to write 4 (sftp, channel 3): permission denied (SSH_FX_PERMISSION_DENIED): /etc/x",
		"could not write 5 (sftp, channel 3): the target did not do it (SSH_FX_FAILURE): /a/e",
		"renamed 6 (sftp, channel 3): /a/e -> /a/f",
		"made the folder 7 (sftp, channel 3): /a/g",
		"listed 8 (5 entries) (sftp, channel 3): /a",
		"did: odd 9 (sftp, channel 3): /a",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAStoryIsNotUpsetByValuesOfAnotherType(t *testing.T) {
	s := &Story{Size: func(int64) string { return "" }, Lasted: time.Duration.String}
	const odd = `{"time":"noon","message":7,"metadata":{"event_code":"admin.action","correlation_uid":"s"},"unmapped":{"postern":{"channel":{"a":1},"complete":"no"}},"status_detail":"why"}`
	if err := s.Add([]byte(odd)); err != nil {
		t.Fatal(err)
	}
	if err := s.Add([]byte(`{"time":`)); err == nil {
		t.Error("no JSON is no event")
	}
	if s.End(); len(s.Lines) != 1 || s.Lines[0].Text != ": why" {
		t.Errorf("%+v", s.Lines)
	}
}

// FuzzFields holds the walker to encoding/json: what both take they read alike.
func FuzzFields(f *testing.F) {
	for _, e := range sampled() {
		f.Add(line(e, inAWS, 7))
	}
	f.Add([]byte(`{"metadata":{"sequence":7,"event_code":"\u0061\"\\\\"},"message":"\ud83d\ude00\ud800x","is_alert":true , "resources" : [ {"uid":"a"}, 1, [], {} ] }`))
	f.Add([]byte(`{"metadata":{"sequence":7},"time":-1e5,"user":null,"actor":[{}],"dst_endpoint":"x","unmapped":{"postern":{"login":1}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = []byte(strings.TrimSuffix(string(b), "\n"))
		var got eventFields
		err := got.parse(b, 7)
		w := walker{b: b}
		w.anyString(func(t text) bool { return t.String() == "" })
		if err != nil || !json.Valid(b) {
			return
		}
		var want map[string]any
		numbers := json.NewDecoder(bytes.NewReader(b))
		numbers.UseNumber() // some are valid and too large for a float64
		if err := numbers.Decode(&want); err != nil {
			t.Fatalf("%q is no object", b)
		}
		for _, c := range []struct{ got, want string }{
			{got.message.String(), stringAt(want, "message")}, {got.code.String(), stringAt(want, "metadata", "event_code")},
			{got.own.login.String(), stringAt(want, "unmapped", "postern", "login")}, {got.rule.String(), stringAt(want, "firewall_rule", "name")},
			{got.dst.hostname.String(), stringAt(want, "dst_endpoint", "hostname")}, {got.actor.uid.String(), stringAt(want, "actor", "user", "uid")},
		} {
			if c.got != c.want && unambiguous(b) {
				t.Errorf("read %q instead of %q in %s", c.got, c.want, b)
			}
		}
	})
}

func stringAt(v any, names ...string) string {
	for _, name := range names {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	s, _ := v.(string)
	return s
}

// unambiguous says whether no object has a name twice: readers differ there.
func unambiguous(b []byte) bool {
	return noneTwice(json.NewDecoder(strings.NewReader(string(b))))
}

// noneTwice reads one value.
func noneTwice(d *json.Decoder) bool {
	token, err := d.Token()
	if err != nil {
		return false
	}
	switch token {
	case json.Delim('['):
		for d.More() {
			if !noneTwice(d) {
				return false
			}
		}
		_, err = d.Token()
	case json.Delim('{'):
		seen := map[string]bool{}
		for d.More() {
			key, err := d.Token()
			name, ok := key.(string)
			if err != nil || !ok || seen[name] {
				return false
			}
			seen[name] = true
			if !noneTwice(d) {
				return false
			}
		}
		_, err = d.Token()
	}
	return err == nil
}
