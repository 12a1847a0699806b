package sink

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestFactsAreThoseOfTheEventItself(t *testing.T) {
	for line, want := range map[string]facts{
		`{"time":1795521600123,"severity_id":2,"metadata":{"event_code":"auth.failure"},"is_alert":true}`: {
			time.UnixMilli(1795521600123).UTC(), 2, []byte("auth.failure"), true},
		`{"unmapped":{"time":1,"severity_id":5,"is_alert":true,"metadata":{"event_code":"x"}},"time":2}`: {time: time.UnixMilli(2).UTC()},
		`{"list":[{"time":1},["severity_id",5]],"severity_id":3,"is_alert":false}`:                       {severity: 3},
		`{"message":"\",\"is_alert\":true,\"severity_id\":5,\"x\":\"","severity_id":1}`:                  {severity: 1},
		`{"message":"}\\","severity_id":1}`:                                                              {severity: 1},
		`{"message":"\\\"","severity_id":1}`:                                                             {severity: 1},
		`{"metadata":{"event_code":7,"other":{"event_code":"x"}}}`:                                       {code: []byte("7")},
		`{"time":"1795521600123","severity_id":"2","metadata":"event_code"}`:                             {},
		`{"time":99999999999999999999}`:                                                                  {},
		`{}`:                                                                                             {},
		``:                                                                                               {},
		`null`:                                                                                           {},
		`{"severity_id":4,"time":5`:                                                                      {severity: 4},
		`{"severity_id":4,"message":"`:                                                                   {severity: 4},
		`{"severity_id":4,"message"`:                                                                     {severity: 4},
		`{"severity_id" : 4}`:                                                                            {},
		`{"a":"` + strings.Repeat(`\"`, 100_000) + `","is_alert":true}`:                                  {alert: true},
		`{"a":` + strings.Repeat(`[`, 100_000) + strings.Repeat(`]`, 100_000) + `,"is_alert":true}`:           {alert: true},
		`{"metadata":{"event_code":"proc.start"` + strings.Repeat(`}`, 10) + `,"is_alert":true,"severity":2}`: {code: []byte("proc.start")},
	} {
		got := readFacts([]byte(line))
		if !got.time.Equal(want.time) || got.severity != want.severity || !bytes.Equal(got.code, want.code) || got.alert != want.alert {
			t.Errorf("%.100s: got %+v, want %+v", line, got, want)
		}
	}
}

// FuzzFactsAreThoseOfEncodingJSON compares with what decodes the whole line.
func FuzzFactsAreThoseOfEncodingJSON(f *testing.F) {
	for _, seed := range []string{`{"time":1,"severity_id":2,"metadata":{"event_code":"a"},"is_alert":true}`, `{"a":[1,{"b":"\\\""}],"is_alert":true}`, `{"a":`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		got := readFacts(line)
		var compact bytes.Buffer
		var all struct {
			Time     any `json:"time"`
			Metadata map[string]any
			Alert    any `json:"is_alert"`
		}
		if json.Compact(&compact, line) != nil || json.Unmarshal(compact.Bytes(), &all) != nil || oddKeys(line) {
			return
		}
		got = readFacts(compact.Bytes())
		if want, ok := all.Alert.(bool); ok && got.alert != want {
			t.Errorf("alert %v, want %v", got.alert, want)
		}
		if want, ok := all.Time.(float64); ok && !got.time.IsZero() && float64(got.time.UnixMilli()) != want {
			t.Errorf("time %v, want %v", got.time.UnixMilli(), want)
		}
		if want, ok := all.Metadata["event_code"].(string); ok && !strings.ContainsAny(want, "\"\\") && json.Valid(got.code) && string(got.code) != want {
			t.Errorf("code %q, want %q", got.code, want)
		}
	})
}

// oddKeys reports lines whose keys encoding/json reads otherwise: repeated,
// escaped or in other case. The audit log writes none.
func oddKeys(line []byte) bool {
	lower := bytes.ToLower(line)
	return !bytes.Equal(lower, line) || bytes.Contains(line, []byte(`\u`)) ||
		bytes.Count(line, []byte("time")) > 1 || bytes.Count(line, []byte("is_alert")) > 1 || bytes.Count(line, []byte("metadata")) > 1
}

// header5424 is the grammar of RFC 5424 section 6 for what we send.
var header5424 = regexp.MustCompile(`^<(\d{1,3})>1 (-|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([!-~]{1,255}) postern ([!-~]{1,128}) ([!-~]{1,32}) - (?s:(.*))$`)

func TestAMessageSaysWhatTheEventSays(t *testing.T) {
	h := header{facility: 10, hostname: "gate-a", procID: "42"}
	for line, want := range map[string]string{
		`{"time":1795521600123,"severity_id":1,"metadata":{"event_code":"ssh.conn.open"}}`: "<86>1 2026-11-24T12:00:00.123Z gate-a postern 42 ssh.conn.open - ",
		`{"time":0,"severity_id":2}`:                                       "<85>1 1970-01-01T00:00:00.000Z gate-a postern 42 - - ",
		`{"severity_id":3,"metadata":{"event_code":""}}`:                   "<84>1 - gate-a postern 42 - - ",
		`{"severity_id":4,"metadata":{"event_code":"a b\tc"}}`:             `<83>1 - gate-a postern 42 a?b\tc - `,
		`{"severity_id":5,"metadata":{"event_code":"ü"}}`:                  "<82>1 - gate-a postern 42 ?? - ",
		`{"severity_id":6}`:                                                "<81>1 - gate-a postern 42 - - ",
		`{"severity_id":99}`:                                               "<86>1 - gate-a postern 42 - - ",
		`{"severity_id":1,"is_alert":true}`:                                "<81>1 - gate-a postern 42 - - ",
		`{"time":253402300800000}`:                                         "<86>1 - gate-a postern 42 - - ",
		`{"time":-9223372036854775808}`:                                    "<86>1 - gate-a postern 42 - - ",
		`{"metadata":{"event_code":"0123456789012345678901234567890123"}}`: "<86>1 - gate-a postern 42 01234567890123456789012345678901 - ",
		`not JSON`: "<86>1 - gate-a postern 42 - - ",
	} {
		if got := string(h.message([]byte(line))); got != want+line {
			t.Errorf("got  %q\nwant %q", got, want+line)
		}
	}
}

func TestEverySampleEventMakesAMessage(t *testing.T) {
	file, err := os.Open("../../docs/audit-samples.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	h := header{facility: 10, hostname: "gate-a", procID: "42"}
	samples := 0
	for lines := bufio.NewScanner(file); lines.Scan(); samples++ {
		var e struct {
			Time     string `json:"time_dt"`
			Metadata struct {
				Code string `json:"event_code"`
			}
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		m := header5424.FindStringSubmatch(string(h.message(lines.Bytes())))
		if m == nil || m[2] != e.Time || m[5] != e.Metadata.Code || m[6] != lines.Text() {
			t.Errorf("%s: %.120q", e.Metadata.Code, m)
		}
	}
	if samples < 30 {
		t.Errorf("%d samples", samples)
	}
}

func FuzzAnyLineMakesAMessageOfRFC5424(f *testing.F) {
	f.Add([]byte(`{"time":1,"severity_id":2,"metadata":{"event_code":"a"}}`), "host")
	f.Fuzz(func(t *testing.T, line []byte, host string) {
		h := header{facility: 23, hostname: string(printable([]byte(host), maxHostname)), procID: "1"}
		m := header5424.FindSubmatch(h.message(line))
		if m == nil || !bytes.Equal(m[6], line) {
			t.Errorf("%q", h.message(line))
		}
	})
}

func TestFacilitiesHaveTheirNames(t *testing.T) {
	for name, want := range map[string]int{"kern": 0, "auth": 4, "authpriv": 10, "audit": 13, "local0": 16, "local7": 23} {
		if got, err := facilityCode(name); err != nil || got != want {
			t.Errorf("%s is %d, %v", name, got, err)
		}
	}
	if _, err := facilityCode("local8"); err == nil || !strings.Contains(err.Error(), "local7") {
		t.Errorf("local8: %v", err)
	}
}
