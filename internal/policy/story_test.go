package policy

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

// A story is a txtar file in testdata: a policy, what is asked of it and what
// it answers, one line each, for a reviewer who reads no Go. testdata/README.md
// says how to read the lines.

func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { tellStory(t, file) })
	}
}

func tellStory(t *testing.T, file string) {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var p *Policy
	for _, section := range txtar.Parse(raw).Files {
		text := string(section.Data)
		switch section.Name {
		case "policy":
			spec := parseSpec(t, text)
			if p, err = New(spec); err != nil {
				t.Fatalf("policy: %v", err)
			}
			checkRuleLines(t, text, spec)
		case "decisions":
			checkDecisions(t, p, text)
		case "explain":
			checkExplanations(t, p, text)
		default:
			t.Fatalf("section %q", section.Name)
		}
	}
}

// checkRuleLines holds Rule.String to the notation of the stories.
func checkRuleLines(t *testing.T, text string, spec Spec) {
	for _, r := range spec.Rules {
		if !strings.Contains("\n"+text, "\n"+r.String()+"\n") {
			t.Errorf("the rule prints as %q, which is not its line in the policy", r)
		}
	}
}

func checkDecisions(t *testing.T, p *Policy, text string) {
	n := 0
	for line := range storyLines(text) {
		asked, want, ok := strings.Cut(line, "->")
		if !ok {
			t.Errorf("%q: no answer", line)
			continue
		}
		n++
		r := parseRequest(t, asked)
		d := p.Decide(r)
		if got := answer(d); got != strings.TrimSpace(want) {
			t.Errorf("%s\n  got  %s\n  want %s", strings.TrimSpace(asked), got, strings.TrimSpace(want))
		}
		checkExplainAgrees(t, p, r, d)
	}
	if n == 0 {
		t.Error("no decisions")
	}
}

// checkExplainAgrees holds Explain to Decide: the rule that Decide names is
// one that Explain says allows, and where Decide denies none does.
func checkExplainAgrees(t *testing.T, p *Policy, r Request, d Decision) {
	t.Helper()
	named := false
	for _, v := range p.Explain(r) {
		if v.Allowed != (v.Failed == "") {
			t.Errorf("%+v: verdict %+v says two things", r, v)
		}
		if v.Allowed && !d.Allow {
			t.Errorf("%+v: Decide denies for %s and rule %s allows", r, d.Reason, v.Rule)
		}
		named = named || v.Allowed && v.Rule == d.Rule
	}
	if d.Allow && !named {
		t.Errorf("%+v: Decide names rule %s, which Explain says does not allow", r, d.Rule)
	}
}

func checkExplanations(t *testing.T, p *Policy, text string) {
	var asked string
	want := map[string][]string{}
	for line := range storyLines(text) {
		if !strings.HasPrefix(line, " ") {
			asked = line
			want[asked] = nil
			continue
		}
		want[asked] = append(want[asked], strings.TrimSpace(line))
	}
	for asked, lines := range want {
		var got []string
		for _, v := range p.Explain(parseRequest(t, asked)) {
			got = append(got, strings.TrimSpace(v.Rule+": "+map[bool]string{true: "allows"}[v.Allowed]+v.Failed))
		}
		if strings.Join(got, "\n") != strings.Join(lines, "\n") {
			t.Errorf("%s\n  got\n    %s\n  want\n    %s", asked, strings.Join(got, "\n    "), strings.Join(lines, "\n    "))
		}
	}
}

func storyLines(text string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for line := range strings.Lines(text) {
			line = strings.TrimRight(line, " \n")
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if !yield(line) {
				return
			}
		}
	}
}

func answer(d Decision) string {
	if !d.Allow {
		return "deny " + string(d.Reason)
	}
	s := "allow rule=" + d.Rule
	if d.Inspected {
		s += " inspected"
	}
	if len(d.Env) > 0 {
		s += " env=" + strings.Join(d.Env, ",")
	}
	if words := d.Recording.words(); len(words) > 0 {
		s += " recording=" + strings.Join(words, ",")
	}
	if d.Ports != nil {
		s += " ports=" + joinStrings(d.Ports, ",") + " connect-from=" + joinStrings(d.ConnectFrom, ",")
	}
	return s
}

// storyWords splits a line at its spaces, those in Go's quotes left out.
func storyWords(t *testing.T, line string) []string {
	t.Helper()
	var words []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimLeft(line, " ") {
		word, err := strconv.QuotedPrefix(line)
		if err != nil {
			word, _, _ = strings.Cut(line, " ")
		}
		words = append(words, word)
		line = line[len(word):]
	}
	return words
}

// parseRequest reads ID[@ENDPOINT] [from ADDR] [at TIME] VERB
// [LOGIN@]HOST:PORT[=ADDR] [own] ["COMMAND"] [out-of HOST:PORT[=ADDR]].
func parseRequest(t *testing.T, s string) Request {
	t.Helper()
	words := storyWords(t, s)
	r := Request{Client: netip.MustParseAddr("10.20.1.5"), Time: parseTime(t, "2026-11-24T10:00Z")}
	r.Identity, r.Endpoint, _ = strings.Cut(words[0], "@")
	words = words[1:]
	for ; len(words) > 2 && (words[0] == "from" || words[0] == "at"); words = words[2:] {
		if words[0] == "from" {
			r.Client = netip.MustParseAddr(words[1])
			continue
		}
		r.Time = parseTime(t, words[1])
	}
	if len(words) < 2 {
		t.Fatalf("request %q", s)
	}
	r.Verb = Verb(words[0])
	setTarget(t, &r, words[1])
	for words = words[2:]; len(words) > 0; words = words[1:] {
		switch command, err := strconv.Unquote(words[0]); {
		case err == nil:
			r.Command = command
		case words[0] == "own":
			r.Own = true
		case words[0] == "out-of" && len(words) == 2:
			r.Via = parseVia(t, words[1])
			words = words[1:]
		default:
			t.Fatalf("request %q", s)
		}
	}
	return r
}

func parseVia(t *testing.T, s string) Via {
	t.Helper()
	r := Request{Verb: Forward}
	setTarget(t, &r, s)
	return Via{Host: r.Host, Port: r.Port, Addr: r.Addr}
}

func setTarget(t *testing.T, r *Request, s string) {
	t.Helper()
	if r.Verb == Socket {
		r.Host = s
		return
	}
	if host, addr, ok := strings.Cut(s, "="); ok {
		s, r.Addr = host, netip.MustParseAddr(addr)
	}
	if login, host, ok := strings.Cut(s, "@"); ok {
		r.Login, s = login, host
	}
	i := strings.LastIndexByte(s, ':')
	port, err := strconv.ParseUint(s[i+1:], 10, 16)
	if err != nil {
		t.Fatalf("target %q: %v", s, err)
	}
	r.Host, r.Port = strings.Trim(s[:i], "[]"), uint16(port)
}

func parseTime(t *testing.T, s string) time.Time {
	t.Helper()
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at
		}
	}
	t.Fatalf("time %q", s)
	return time.Time{}
}

// parseSpec reads "authority NAME", "identity NAME [user NAME]…", "frozen NAME"
// and rules as Rule.String writes them. Every identity gets a key of its name.
func parseSpec(t *testing.T, text string) Spec {
	t.Helper()
	s := Spec{Version: "sha256:story"}
	for line := range storyLines(text) {
		words := storyWords(t, line)
		switch words[0] {
		case "identity":
			s.Identities = append(s.Identities, Identity{Name: words[1], Users: words[2:], Keys: []Key{{Blob: []byte(words[1])}}})
		case "frozen":
			s.Frozen = append(s.Frozen, words[1:]...)
		default:
			s.Rules = append(s.Rules, parseRule(t, words))
		}
	}
	return s
}

func parseRule(t *testing.T, words []string) Rule {
	t.Helper()
	name, ok := strings.CutSuffix(words[0], ":")
	if !ok {
		t.Fatalf("rule %q", words)
	}
	r := Rule{Name: name}
	keyword := ""
	lists := map[string][]string{}
	for _, w := range words[1:] {
		switch w {
		case "for", "via", "from", "during", "until", "allow", "to", "as", "listen", "connect-from", "sockets", "out-of", "commands", "env", "recording":
			// After allow, the first listen is the verb, which a rule with binds has.
			if w != "listen" || keyword != "allow" || slices.Contains(lists["allow"], w) {
				keyword = w
				continue
			}
		}
		lists[keyword] = append(lists[keyword], w)
	}
	if err := fillRule(&r, lists); err != nil {
		t.Fatalf("rule %q: %v", words, err)
	}
	return r
}

func fillRule(r *Rule, lists map[string][]string) (err error) {
	r.Identities, r.Endpoints, r.Logins, r.Sockets = lists["for"], lists["via"], lists["as"], lists["sockets"]
	r.Env = lists["env"]
	r.Recording = parseRecording(lists["recording"])
	if r.Commands, err = each(lists["commands"], strconv.Unquote); err != nil {
		return err
	}
	if r.Via, err = each(lists["out-of"], ParseTarget); err != nil {
		return err
	}
	for _, v := range lists["allow"] {
		r.Allow = append(r.Allow, Verb(v))
	}
	if r.Targets, err = each(lists["to"], ParseTarget); err != nil {
		return err
	}
	if r.Listen, err = each(lists["listen"], ParseListen); err != nil {
		return err
	}
	if r.Sources, err = each(lists["from"], netip.ParsePrefix); err != nil {
		return err
	}
	if r.ConnectFrom, err = each(lists["connect-from"], netip.ParsePrefix); err != nil {
		return err
	}
	if w := lists["until"]; len(w) == 1 {
		if r.Until, err = time.Parse(time.RFC3339, w[0]); err != nil {
			return err
		}
	}
	if w := lists["during"]; len(w) > 0 {
		r.Hours, err = parseHours(w)
	}
	return err
}

// parseRecording reads what Recording.words writes.
func parseRecording(words []string) Recording {
	return Recording{Off: slices.Contains(words, "off"), Input: slices.Contains(words, "input"), Continue: slices.Contains(words, "continue")}
}

// parseHours reads what Hours.String writes.
func parseHours(words []string) (*Hours, error) {
	if len(words) != 3 {
		return nil, fmt.Errorf("hours %q", words)
	}
	from, to, _ := strings.Cut(words[1], "-")
	return NewHours(strings.Split(words[0], ","), from, to, words[2])
}

func each[T any](words []string, parse func(string) (T, error)) ([]T, error) {
	var list []T
	for _, w := range words {
		v, err := parse(w)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}
