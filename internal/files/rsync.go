package files

import (
	"path"
	"strings"
)

// parameter is what an option of rsync's server takes.
type parameter int

const (
	none   parameter = iota
	value            // a number, a name of an algorithm: nothing that is opened or run
	inside           // a directory that is written to: only below the transfer's own
	reads            // a directory that the receiver reads
	stdin            // only "-", the connection itself
)

// rsyncOption says what a long option takes, of those that rsync's clients send
// to a server (server_options in options.c, 3.2 to 3.4, rsync(1)). What makes it
// write a log or a batch, run a program, be a daemon, take options out of
// sight (-s) or write to devices is not among them.
func rsyncOption(name string) (takes parameter, known bool) {
	switch name {
	case "--append", "--copy-unsafe-links", "--delay-updates", "--delete", "--delete-after", "--delete-before",
		"--delete-delay", "--delete-during", "--delete-excluded", "--delete-missing-args", "--devices", "--existing",
		"--force", "--from0", "--fuzzy", "--ignore-errors", "--ignore-existing", "--ignore-missing-args", "--inplace",
		"--list-only", "--mkpath", "--msgs2stderr", "--munge-links", "--new-compress", "--no-D", "--no-W",
		"--no-i-r", "--no-implied-dirs", "--no-msgs2stderr", "--no-r", "--no-relative", "--no-specials", "--numeric-ids",
		"--old-compress", "--one-file-system", "--open-noatime", "--partial", "--preallocate", "--safe-links", "--size-only", "--specials", "--stats", "--super", "--use-qsort", "--fake-super":
		return none, true
	case "--block-size", "--bwlimit", "--checksum-choice", "--checksum-seed", "--compress-choice", "--compress-level",
		"--compress-threads", "--debug", "--groupmap", "--iconv", "--info", "--log-format", "--max-alloc", "--max-delete",
		"--max-size", "--min-size", "--modify-window", "--skip-compress", "--stop-after", "--stop-at", "--suffix",
		"--timeout", "--usermap":
		return value, true
	case "--backup-dir", "--partial-dir", "--temp-dir":
		return inside, true
	case "--compare-dest", "--copy-dest", "--link-dest":
		return reads, true
	case "--files-from":
		return stdin, true
	}
	return none, false
}

// rsyncLetters are the short options that clients send in one word; "e" is not
// among them: what follows it is the client's capabilities.
const rsyncLetters = "vqlogDtprnbudHAXzcCIRUNxSKLkmyWEOJ"

// rsyncCommand reads the arguments of rsync on the target's side.
func rsyncCommand(args []word) Command {
	if len(args) == 0 || args[0].text != "--server" || args[0].expands {
		return Command{}
	}
	r := rsyncArgs{rest: args[1:]}
	for len(r.rest) > 0 {
		if !r.next() {
			return Command{}
		}
	}
	if len(r.paths) < 2 || r.paths[0] != "." { // the server's own mark, then where to or what
		return Command{}
	}
	paths := append(r.paths[1:], r.dirs...)
	if r.sender {
		return Command{Kind: RsyncSender, Paths: paths, Needs: Rights{Read: true, Write: r.removes}}
	}
	return Command{Kind: RsyncReceiver, Paths: paths, Needs: Rights{Read: r.compares || r.filters, Write: true}}
}

// rsyncArgs is what has been read of rsync's arguments.
type rsyncArgs struct {
	rest     []word
	paths    []string
	dirs     []string // that options name
	sender   bool
	removes  bool // what was sent
	compares bool // with what is elsewhere on the target
	filters  bool // by rules that come through the connection; a rule can name a file of the target, and its lines come back in errors
}

// next reads one argument, and its value if that is another.
func (r *rsyncArgs) next() bool {
	w := r.rest[0]
	r.rest = r.rest[1:]
	switch {
	case !option(w):
		r.paths = append(r.paths, w.text)
		return !w.wildHead
	case w.expands || len(w.text) < 3:
		return false
	case strings.HasPrefix(w.text, "--"):
		return r.long(w.text)
	}
	return r.short(w.text[1:])
}

// long reads a long option.
func (r *rsyncArgs) long(text string) bool {
	switch text {
	case "--sender":
		r.sender = true
		return true
	case "--remove-source-files", "--remove-sent-files":
		r.removes = true
		return true
	}
	r.filters = r.filters || strings.HasPrefix(text, "--delete")
	name, given, has := strings.Cut(text, "=")
	takes, known := rsyncOption(name)
	if !known || takes == none {
		return known && !has
	}
	if has {
		return r.value(takes, given)
	}
	if len(r.rest) == 0 || r.rest[0].expands || option(r.rest[0]) && r.rest[0].text != "-" {
		return false
	}
	given, r.rest = r.rest[0].text, r.rest[1:]
	return r.value(takes, given)
}

// value reads what an option is given.
func (r *rsyncArgs) value(takes parameter, given string) bool {
	switch takes {
	case inside:
		r.dirs = append(r.dirs, given)
		return below(given)
	case reads:
		r.compares = true
		r.dirs = append(r.dirs, given)
		return given != ""
	case stdin:
		return given == "-"
	}
	return true
}

// below says that a path stays below the directory it is relative to.
func below(p string) bool {
	clean := path.Clean(p)
	return p != "" && !path.IsAbs(p) && clean != ".." && !strings.HasPrefix(clean, "../")
}

// short reads a word of option letters.
func (r *rsyncArgs) short(letters string) bool {
	if number, ok := strings.CutPrefix(letters, "B"); ok {
		return number != "" && strings.Trim(number, "0123456789") == ""
	}
	flags, capabilities, e := strings.Cut(letters, "e")
	if strings.Trim(flags, rsyncLetters) != "" {
		return false
	}
	r.filters = r.filters || strings.Contains(flags, "m")
	return !e || capable(capabilities)
}

// capable says that what follows "e" is a capability string, "[protocol].[sub]letters",
// and no name of a remote shell.
func capable(s string) bool {
	s = strings.TrimLeft(s, "0123456789")
	s, ok := strings.CutPrefix(s, ".")
	for _, c := range strings.TrimLeft(s, "0123456789") {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z')
	}
	return ok
}
