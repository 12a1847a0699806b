package files

import (
	"path"
	"slices"
	"strings"
)

// maxCommand is the longest command line that is read; Linux takes no longer
// argument (MAX_ARG_STRLEN).
const maxCommand = 128 << 10

// Command is what an exec command line moves.
type Command struct {
	Kind  CommandKind
	Paths []string // as the client wrote them, quotes taken off, what the shell expands left as it is
	Needs Rights   // to run it as a file transfer; nothing for SFTPServer, whose requests are judged one by one, and for Other, which is none
}

// CommandKind is the kind of a server command line. The zero value is Other.
type CommandKind int

// The kinds.
const (
	Other         CommandKind = iota
	SCPSource                 // scp -f: the target sends
	SCPSink                   // scp -t: the target receives
	RsyncSender               // rsync --server --sender: the target sends
	RsyncReceiver             // rsync --server: the target receives
	SFTPServer                // /usr/lib/openssh/sftp-server and its like
)

// Classify reads an exec command line, strictly: what a shell could read
// differently, and what could run, log or write anything but the transfer, is
// Other. A path of a source may hold * ? [ ] and a leading ~, which the
// target's shell expands: that runs nothing. Where an option could come out of
// it and matter, which is where a word of scp -t or rsync begins so, it is Other.
// A receiving rsync that also deletes, prunes, or compares with directories
// elsewhere needs both rights.
func Classify(command string) Command {
	if len(command) > maxCommand {
		return Command{}
	}
	list, ok := words(command)
	if !ok || len(list) == 0 || list[0].expands {
		return Command{}
	}
	args := list[1:]
	switch list[0].text {
	case "scp", "/usr/bin/scp", "/bin/scp", "/usr/local/bin/scp":
		return scpCommand(args)
	case "rsync", "/usr/bin/rsync", "/bin/rsync", "/usr/local/bin/rsync":
		return rsyncCommand(args)
	}
	if len(args) == 0 && sftpServer(list[0].text) {
		return Command{Kind: SFTPServer}
	}
	return Command{}
}

// sftpServer says whether a program is an SFTP server where systems have it.
func sftpServer(program string) bool {
	places := []string{"/usr/lib", "/usr/lib/openssh", "/usr/lib/ssh", "/usr/libexec", "/usr/libexec/openssh",
		"/usr/lib64/ssh", "/usr/lib64/misc", "/usr/lib/misc", "/usr/local/libexec"}
	dir, name := path.Split(program)
	return name == "sftp-server" && slices.Contains(places, strings.TrimSuffix(dir, "/"))
}

// scpCommand reads the arguments of scp on the target's side, as in scp.c.
func scpCommand(args []word) Command {
	letters, paths, ok := scpOptions(args)
	source, sink := strings.Contains(letters, "f"), strings.Contains(letters, "t")
	switch {
	case !ok || source == sink || len(paths) == 0:
		return Command{}
	case source:
		return Command{Kind: SCPSource, Paths: texts(paths), Needs: Rights{Read: true}}
	case len(paths) > 1 || paths[0].wildHead:
		return Command{}
	}
	return Command{Kind: SCPSink, Paths: texts(paths), Needs: Rights{Write: true}}
}

// scpOptions reads the option letters in front of the paths. A path that looks
// like an option is one to some getopts, so it fails unless "--" came before.
func scpOptions(args []word) (letters string, paths []word, ok bool) {
	for i, w := range args {
		switch {
		case w.text == "--" && !w.expands:
			return letters, args[i+1:], true
		case !strings.HasPrefix(w.text, "-"):
			return letters, args[i:], !slices.ContainsFunc(args[i:], option)
		case w.expands || strings.Trim(w.text[1:], "vrpdqft") != "" || w.text == "-":
			return "", nil, false
		}
		letters += w.text[1:]
	}
	return letters, nil, true
}

// option says that a program could take w for an option.
func option(w word) bool { return strings.HasPrefix(w.text, "-") }

func texts(list []word) []string {
	paths := make([]string, len(list))
	for i, w := range list {
		paths[i] = w.text
	}
	return paths
}
