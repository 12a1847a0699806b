package audit

import (
	"fmt"
	"path"
	"strings"
	"time"
)

// transferred are file operations of one kind that stand together in a story.
type transferred struct {
	first  *storyEvent // the others are as this one but for their files
	last   time.Time
	count  int64
	bytes  int64
	events []*storyEvent // the first few
	folder string        // that all are in; "" = none in common
}

// shownFiles is how many operations of a kind are told one by one.
const shownFiles = 3

// transfer counts a file operation to those of its kind since the last line.
func (s *Story) transfer(e *storyEvent) {
	for _, t := range s.transfers {
		if t.takes(e) {
			t.add(e)
			return
		}
	}
	t := &transferred{first: e, folder: path.Dir(e.File.Path)}
	t.add(e)
	s.transfers = append(s.transfers, t)
}

func (t *transferred) takes(e *storyEvent) bool {
	f := t.first
	return f.channel() == e.channel() && f.Unmapped.Postern.Operation == e.Unmapped.Postern.Operation && f.Protocol == e.Protocol &&
		f.failed() == e.failed() && f.Reason == e.Reason && f.Alert == e.Alert
}

func (t *transferred) add(e *storyEvent) {
	t.count++
	t.bytes += e.Traffic.In + e.Traffic.Out
	t.last = e.at()
	t.folder = shared(t.folder, path.Dir(e.File.Path))
	if len(t.events) < shownFiles {
		t.events = append(t.events, e)
	}
}

// shared is the longest folder that a and b are in.
func shared(a, b string) string {
	for a != b {
		if len(a) < len(b) {
			a, b = b, a
		}
		up := path.Dir(a)
		if up == a {
			return ""
		}
		a = up
	}
	return a
}

// flush tells the file operations since the last line.
func (s *Story) flush() {
	for _, t := range s.transfers {
		if t.count <= int64(len(t.events)) {
			for _, e := range t.events {
				s.line(e, s.tellFile(e))
			}
			continue
		}
		s.line(t.first, s.tellFiles(t))
	}
	s.transfers = nil
}

// fileVerb is an operation in words.
type fileVerb struct{ do, did, many string }

// fileVerbs are those that reports name.
var fileVerbs = map[string]fileVerb{
	"get":     {"read", "read", "files"},
	"put":     {"write", "wrote", "files"},
	"update":  {"change", "changed", "files"},
	"list":    {"list", "listed", "folders"},
	"remove":  {"remove", "removed", "files"},
	"rename":  {"rename", "renamed", "files"},
	"mkdir":   {"make the folder", "made", "folders"},
	"rmdir":   {"remove the folder", "removed", "folders"},
	"setstat": {"change the attributes of", "changed the attributes of", "files"},
	"symlink": {"make the symbolic link", "made", "symbolic links"},
	"link":    {"make the link", "made", "links"},
}

func verbOf(e *storyEvent) fileVerb {
	operation := e.Unmapped.Postern.Operation
	if v, ok := fileVerbs[operation]; ok {
		return v
	}
	unknown := orElse(operation, "an operation")
	return fileVerb{"do: " + unknown, "did: " + unknown, "files"}
}

// doing says what was done, or was not, to one file or to many.
func doing(e *storyEvent, count int64) string {
	v := verbOf(e)
	what := ""
	if count > 1 {
		what = fmt.Sprintf(" %d %s", count, v.many)
	}
	switch {
	case !e.failed() && count > 1:
		return v.did + what
	case !e.failed():
		return strings.Replace(v.do, strings.Fields(v.do)[0], strings.Fields(v.did)[0], 1)
	case count > 1:
		what = fmt.Sprintf(", %d times", count)
	}
	if e.Disposition == unauthorized.name {
		return "was not allowed to " + v.do + what
	}
	return "could not " + v.do + what
}

// tellFiles is one line for many operations.
func (s *Story) tellFiles(t *transferred) string {
	text := doing(t.first, t.count)
	if t.bytes > 0 {
		text += ", " + s.Size(t.bytes)
	}
	if took := t.last.Sub(t.first.at()); took > 0 {
		text += ", over " + s.Lasted(took)
	}
	text += within(t.first)
	if t.folder != "" && t.folder != "." {
		text += ", all in " + t.folder
	}
	return text + t.first.because() + "; the first: " + t.first.File.Path
}

// within says by which protocol and in which channel.
func within(e *storyEvent) string { return " (" + e.Protocol + ", channel " + e.channel() + ")" }

// tellFile is one operation.
func (s *Story) tellFile(e *storyEvent) string {
	own := e.Unmapped.Postern
	text := doing(e, 1)
	if n := e.Traffic.In + e.Traffic.Out; n > 0 {
		text += " " + s.Size(n)
		if own.Millis > 0 {
			text += " in " + s.Lasted(time.Duration(own.Millis)*time.Millisecond)
		}
	}
	if own.Operation == "list" && !e.failed() {
		text += fmt.Sprintf(" (%d entries)", own.Entries)
	}
	if len(e.File.Hashes) > 0 && s.All {
		text += ", SHA-256 " + e.File.Hashes[0].Value
		if own.HashComplete != nil && !*own.HashComplete {
			text += " of what moved"
		}
	}
	text += within(e) + e.because() + ": " + e.File.Path
	if own.To != "" {
		text += " -> " + own.To
	}
	return text
}
