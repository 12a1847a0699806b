package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// words says which condition stopped the query at s, "" for passed.
func (r *Rule) words(s step, q *query) string {
	switch s {
	case atIdentity:
		return fmt.Sprintf("identity: %q is not listed", q.Identity)
	case atVerb:
		return fmt.Sprintf("allow: %s is not granted", q.Verb)
	case atSelector:
		return r.selectorWords(q)
	case atLogin:
		return fmt.Sprintf("login: %q is none of %s", q.Login, strings.Join(r.Logins, ", "))
	case atSpecial:
		return q.specialWords()
	case atVia:
		return r.viaWords(q)
	case atSource:
		return r.sourceWords(q.Client)
	case atEndpoint:
		return fmt.Sprintf("endpoint: %q is none of %s", q.Endpoint, strings.Join(r.Endpoints, ", "))
	case atUntil:
		return fmt.Sprintf("until: the rule ended at %s", r.Until.UTC().Format(time.RFC3339))
	case atHours:
		return r.Hours.words(q.Time)
	case atCommand:
		return fmt.Sprintf("command: %.256q matches none of %q", q.Command, r.Commands)
	case atResolve:
		return fmt.Sprintf("address: %s is not resolved yet", q.name)
	}
	return ""
}

func (r *Rule) selectorWords(q *query) string {
	switch q.Verb {
	case Listen:
		return fmt.Sprintf("listen: %s matches none of %s", hostPort(q.Host, q.Port), joinStrings(r.Listen, ", "))
	case Socket:
		return fmt.Sprintf("socket: %s is none of %s", q.Host, strings.Join(r.Sockets, ", "))
	}
	asked := hostPort(q.Host, q.Port)
	if q.name != "" && q.addr.IsValid() {
		asked += " (" + q.addr.String() + ")"
	}
	return fmt.Sprintf("target: %s matches none of %s", asked, joinStrings(r.Targets, ", "))
}

// specialWords says how a rule would have to name the address. Of an address
// that is special in two ways it says the narrower one.
func (q *query) specialWords() string {
	if q.nested() {
		return q.nestedSpecialWords()
	}
	if q.Own {
		return fmt.Sprintf("special address: %s is the gate's own; name it with the target %s",
			q.addr, hostPort(q.addr.String(), q.Port))
	}
	return fmt.Sprintf("special address: %s is %s; name it with a CIDR inside %s", q.addr, q.block.what, q.block.prefix)
}

func (h *Hours) words(t time.Time) string {
	if t.IsZero() {
		return fmt.Sprintf("hours: no time was given, and the rule has %s", h)
	}
	return fmt.Sprintf("hours: %s %s is outside %s %s",
		t.In(h.zone).Format("Monday 15:04"), h.zone, h.dayString(), h.clockString())
}

func (r *Rule) sourceWords(client netip.Addr) string {
	sources := joinStrings(r.Sources, ", ")
	if !client.IsValid() {
		return "source: no client address was given, and the rule has " + sources
	}
	return fmt.Sprintf("source: %s is in none of %s", client, sources)
}

func hostPort(host string, port uint16) string {
	return bracketed(host) + ":" + strconv.Itoa(int(port))
}

// String returns the rule on one line, for people: each condition after its
// keyword, in the order in which rules are read aloud.
func (r Rule) String() string {
	var b strings.Builder
	b.WriteString(r.Name + ":")
	add := func(keyword string, words ...string) {
		if len(words) > 0 {
			b.WriteString(" " + keyword + " " + strings.Join(words, " "))
		}
	}
	add("for", r.Identities...)
	add("via", r.Endpoints...)
	add("from", stringsOf(r.Sources)...)
	if r.Hours != nil {
		add("during", r.Hours.String())
	}
	if !r.Until.IsZero() {
		add("until", r.Until.UTC().Format(time.RFC3339))
	}
	add("allow", stringsOf(r.Allow)...)
	add("out-of", stringsOf(r.Via)...)
	add("to", stringsOf(r.Targets)...)
	add("as", r.Logins...)
	add("commands", quoted(r.Commands)...)
	add("env", r.Env...)
	add("recording", r.Recording.words()...)
	add("listen", stringsOf(r.Listen)...)
	add("connect-from", stringsOf(r.ConnectFrom)...)
	add("sockets", r.Sockets...)
	return b.String()
}

// words says what differs from recording output and ending with the recording.
func (r Recording) words() []string {
	var words []string
	if r.Off {
		words = append(words, "off")
	}
	if r.Input {
		words = append(words, "input")
	}
	if r.Continue {
		words = append(words, "continue")
	}
	return words
}

// quoted keeps commands, which hold spaces, apart.
func quoted(list []string) []string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = strconv.Quote(s)
	}
	return words
}

// String returns the verb as policy.yaml writes it.
func (v Verb) String() string { return string(v) }

func joinStrings[T fmt.Stringer](list []T, sep string) string {
	return strings.Join(stringsOf(list), sep)
}

func stringsOf[T fmt.Stringer](list []T) []string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = v.String()
	}
	return words
}
