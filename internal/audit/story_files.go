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
	failed bool
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
	t := &transferred{first: e, folder: path.Dir(e.File.Path), failed: e.failed()}
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

// did are the operations in words.
var did = map[string]string{
	"get": "read", "put": "wrote", "update": "changed", "list": "listed", "remove": "removed", "rename": "renamed", "mkdir": "made the folder",
	"rmdir": "removed the folder", "setstat": "changed the attributes of", "symlink": "made the symbolic link", "link": "made the link",
}

func doing(e *storyEvent) string {
	operation := e.Unmapped.Postern.Operation
	if e.failed() {
		return "could not " + orElse(operation, "do something to") + e.because() + ";"
	}
	return orElse(did[operation], orElse(operation, "did something to"))
}

// tellFiles is one line for many operations.
func (s *Story) tellFiles(t *transferred) string {
	text := fmt.Sprintf("%s %d times", doing(t.first), t.count)
	if !t.failed {
		text = fmt.Sprintf("%s %d files", doing(t.first), t.count)
		switch t.first.Unmapped.Postern.Operation {
		case "list", "mkdir", "rmdir":
			text = fmt.Sprintf("%s %d times", strings.TrimSuffix(doing(t.first), " the folder")+" folders", t.count)
		}
	}
	if t.bytes > 0 {
		text += ", " + s.Size(t.bytes)
	}
	if took := t.last.Sub(t.first.at()); took > 0 {
		text += ", over " + s.Lasted(took)
	}
	text += " (" + t.first.Protocol + ", channel " + t.first.channel() + ")"
	if t.folder != "" && t.folder != "." {
		text += ", all in " + t.folder
	}
	return text + "; the first: " + t.first.File.Path
}

// tellFile is one operation.
func (s *Story) tellFile(e *storyEvent) string {
	own := e.Unmapped.Postern
	text := doing(e)
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
	text += " (" + e.Protocol + ", channel " + e.channel() + "): " + e.File.Path
	if own.To != "" {
		text += " -> " + own.To
	}
	return text
}
