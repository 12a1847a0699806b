package files

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCommandLinesOfRealClients(t *testing.T) {
	read, write, all := Rights{Read: true}, Rights{Write: true}, Rights{Read: true, Write: true}
	for _, c := range []struct {
		line  string
		kind  CommandKind
		paths []string
		needs Rights
	}{
		{`scp -t y`, SCPSink, []string{"y"}, write},
		{`scp -v -r -p -d -t dir/`, SCPSink, []string{"dir/"}, write},
		{`scp -f ~/x*`, SCPSource, []string{"~/x*"}, read},
		{`scp -f -- -x`, SCPSource, []string{"-x"}, read},
		{`scp -r -p -f a b`, SCPSource, []string{"a", "b"}, read},
		{`scp -pt 'a b'`, SCPSink, []string{"a b"}, write},
		{`scp -qt "a b"`, SCPSink, []string{"a b"}, write},
		{`scp -f 'it'"'"'s'`, SCPSource, []string{"it's"}, read},
		{`scp -f hi\!\ there`, SCPSource, []string{"hi! there"}, read},
		{`/usr/bin/scp -f [a-c]?.log`, SCPSource, []string{"[a-c]?.log"}, read},
		{`rsync --server -logDtpre.iLsfxCIvu . a\ b`, RsyncReceiver, []string{"a b"}, write},
		{`rsync --server --sender -vlogDtprze.iLsfxCIvu . a\ b/*`, RsyncSender, []string{"a b/*"}, read},
		{`rsync --server -vlogDtpre.iLsfxCIvu --delete --partial . /srv/x/`, RsyncReceiver, []string{"/srv/x/"}, all},
		{`rsync --server -logDtpre.iLsfxCIvu --partial-dir .p --timeout=5 . x`, RsyncReceiver, []string{"x", ".p"}, write},
		{`rsync --server -logDtpre.iLsfxCIvu --numeric-ids --usermap=\*:u --groupmap=\*:g . x`, RsyncReceiver, []string{"x"}, write},
		{`rsync --server -logDtpre.iLsfxCIvu --link-dest ../p . x`, RsyncReceiver, []string{"x", "../p"}, all},
		{`rsync --server --sender -logDtpre.iLsfxCIvu --remove-source-files . x`, RsyncSender, []string{"x"}, all},
		{`rsync --server --sender -logDtpRe.LsfxCIvu --files-from=- --from0 . x`, RsyncSender, []string{"x"}, read},
		{`rsync --server -bulKmyWogDtprSe.iLsfxCIvu -B700 --suffix=.b . x`, RsyncReceiver, []string{"x"}, all},
		{`rsync --server -e31.14 . x`, RsyncReceiver, []string{"x"}, write},
		{`/usr/lib/openssh/sftp-server`, SFTPServer, nil, Rights{}},
	} {
		got := Classify(c.line)
		if got.Kind != c.kind || !slices.Equal(got.Paths, c.paths) || got.Needs != c.needs {
			t.Errorf("%s: got %+v", c.line, got)
		}
	}
}

func TestCommandLinesThatCouldDoMoreAreOther(t *testing.T) {
	for _, line := range []string{
		``, ` `, `ls`, `scp`, `scp -t`, `scp -f`, `scp x`, `scp -t -f x`, `scp -t x y`, `scp -r x`,
		`scp -f x; id`, `scp -f x|id`, `scp -f x&id`, `scp -f x>y`, `scp -f <x`, "scp -f x\nid", "scp -f x\rid", "scp -f 'x\nid'",
		`scp -f $(id)`, "scp -f `id`", `scp -f "$(id)"`, "scp -f \"`id`\"", `scp -f $HOME`, `scp -f "$HOME"`, `scp -f x{1,2}`, `scp -f (x)`,
		`scp -f x#y`, `scp -f #x`, `scp -f !x`, `scp -f 'a!b'`, `scp -f "a!b"`, `scp -f ^x`, `scp -f =id`,
		`scp -f 'x`, `scp -f "x`, `scp -f x\`, "scp -f x\\\n", "scp -f x\x00", "scp -f 'x\x00'", `scp -f 'a\' '; id '`, `scp -f "a\"b"`, `scp -f \x41`,
		`A=b scp -f x`, `sc* -f x`, `~/scp -f x`, `/tmp/scp -f x`, `./scp -f x`, `sudo scp -f x`, `exec scp -f x`,
		`scp -S id -f x`, `scp -oProxyCommand=id -f x`, `scp -f x -t y`, `scp -f x -S id`, `scp - -f x`, `scp -* -f x`, `scp -t *`, `scp -t [-]f`,
		`rsync`, `rsync x y`, `rsync --server`, `rsync --server .`, `rsync --server . `, `rsync --server x y`, `rsync --daemon`, `rsync --server --daemon . x`,
		`rsync --server -svlogDtpre.iLsfxCIvu`, `rsync --server -logDtpre.iLsfxCIvu --log-file=/x . y`, `rsync --server --log-file /x . y`,
		`rsync --server -e id . x`, `rsync --server -eid . x`, `rsync --server -re/bin/sh . x`, `rsync --server --rsh=id . x`, `rsync --server --rsync-path=id . x`,
		`rsync --server --temp-dir /t . x`, `rsync --server --temp-dir=../t . x`, `rsync --server --backup-dir /b . x`, `rsync --server --partial-dir=/p . x`,
		`rsync --server --write-batch=x . y`, `rsync --server --only-write-batch=x . y`, `rsync --server --read-batch=x . y`, `rsync --server --write-devices . y`,
		`rsync --server --sender --files-from=/etc/shadow . y`, `rsync --server --config=x . y`, `rsync --server --password-file=x . y`, `rsync --server -T/x . y`,
		`rsync --server --secluded-args . x`, `rsync --server --out-format . x`, `rsync --server --early-input=x . y`, `rsync --server --copy-as=root . x`,
		`rsync --server -r . x --log-file=y`, `rsync --server --sender -r . *`, `rsync --server --sender -r . [-]-daemon`, `rsync --server --suf* . x`, `rsync --server --delete=x . y`,
		`rsync --server --timeout . x`, `rsync --server --timeout --log-file=/x . y`, `rsync --server -B . x`, `rsync --server -Bx . x`, `rsync --server - . x`,
		`/usr/lib/openssh/sftp-server -d /`, `sftp-server`, `/tmp/sftp-server`, `/usr/lib/openssh/../../../tmp/sftp-server`, `internal-sftp`, `/usr/lib/openssh/sftp-server; id`,
		`scp -f ` + strings.Repeat("x", maxCommand),
	} {
		if got := Classify(line); got.Kind != Other || got.Paths != nil || got.Needs != (Rights{}) {
			t.Errorf("%.80q: got %+v", line, got)
		}
	}
}

// TestShellsReadCommandLinesAlike gives what Classify accepts to the shells
// that are here: each must give scp the same words.
func TestShellsReadCommandLinesAlike(t *testing.T) {
	bin := t.TempDir()
	script := "#!/bin/sh\nprintf '%s\\n' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "scp"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	lines := []string{
		`scp -f 'a b' "c d" e\ f`, `scp -f 'it'"'"'s'`, `scp -f hi\!`, `scp -f ''x`, `scp -f "'"'"'`, `scp -f \$HOME \;id \|x \#y \(z\) \{1,2\}`,
		`scp -f 'a$b' 'a;b' '{1,2}' '*' "*" \*`, `scp -f a=b "=x" '~' \~ a~b`, `scp   -f	a`, `scp -f ä "ö ü"`, `scp -f a%b @c a+b,c:d`,
	}
	ran := 0
	for _, shell := range []string{"dash", "bash", "busybox", "zsh", "ksh", "mksh", "csh", "tcsh", "fish"} {
		program, err := exec.LookPath(shell)
		if err != nil {
			continue
		}
		ran++
		args := []string{"-c"}
		if shell == "busybox" {
			args = []string{"sh", "-c"}
		}
		for _, line := range lines {
			cmd := exec.Command(program, append(args, line)...)
			cmd.Env = []string{"PATH=" + bin + ":/usr/bin:/bin", "HOME=" + bin, "LANG=C.UTF-8"}
			out, err := cmd.Output()
			want := "-f\n" + strings.Join(Classify(line).Paths, "\n") + "\n"
			if err != nil || string(out) != want {
				t.Errorf("%s: %s: %v: got %q, want %q", shell, line, err, out, want)
			}
		}
	}
	if ran == 0 {
		need(t, "dash")
	}
}

// TestCommandLinesOfTheRealRsync has rsync transfer a file, with its options
// as users have them.
func TestCommandLinesOfTheRealRsync(t *testing.T) {
	rsync := need(t, "rsync")
	for _, c := range []struct {
		options string
		up      CommandKind
		down    CommandKind
	}{
		{"-a", RsyncReceiver, RsyncSender},
		{"-r", RsyncReceiver, RsyncSender},
		{"-avzP --delete", RsyncReceiver, RsyncSender},
		{"-aHS --numeric-ids --stats --timeout=5 --bwlimit=100000", RsyncReceiver, RsyncSender},
		{"-a --inplace --checksum --no-whole-file", RsyncReceiver, RsyncSender},
		{"-a --partial-dir=.p --delay-updates --ignore-existing", RsyncReceiver, RsyncSender},
		{"-a --backup --suffix=.old --max-delete=3 --delete-excluded --fuzzy", RsyncReceiver, RsyncSender},
		{"-rlt --modify-window=1 --size-only --exclude=y --max-size=1g", RsyncReceiver, RsyncSender},
		{"-a --compress --compress-level=3 --checksum-choice=md5 --info=progress2", RsyncReceiver, RsyncSender},
		{"-a --link-dest=../p --mkpath", RsyncReceiver, RsyncSender},
		{"-au --itemize-changes --append-verify --safe-links --copy-links", RsyncReceiver, RsyncSender},
		{"-a --existing --omit-dir-times --no-owner --no-group --chmod=F644 --prune-empty-dirs", RsyncReceiver, RsyncSender},
		{"-a -M--log-file=/dev/null", Other, Other},
		{"-a --protect-args", Other, Other},
	} {
		tr := newTree(t)
		tr.file("a b", 1000)
		args := append(strings.Fields(c.options), "-e", os.Args[0])
		if out, err := tr.run("rsync", both, "", rsync, append(args, "a b", "h:"+tr.dir+"/up to")...); err != nil {
			t.Errorf("%s: %v: %s", c.options, err, out)
		}
		if out, err := tr.run("rsync", both, "", rsync, append(args, "h:"+tr.dir+"/a*", "down")...); err != nil {
			t.Errorf("%s: %v: %s", c.options, err, out)
		}
		got := tr.commands()
		if len(got) != 2 || got[0].Kind != c.up || got[1].Kind != c.down {
			t.Errorf("%s: got %+v", c.options, got)
			continue
		}
		if c.up != Other && (got[0].Paths[0] != tr.dir+"/up to" || got[1].Paths[0] != tr.dir+"/a*" || !got[0].Needs.Write || got[1].Needs != (Rights{Read: true})) {
			t.Errorf("%s: got %+v", c.options, got)
		}
	}
}

// commands are the command lines that were noted.
func (tr *tree) commands() (list []Command) {
	tr.t.Helper()
	all, err := os.ReadFile(tr.ops)
	if err != nil {
		tr.t.Fatal(err)
	}
	for line := range strings.Lines(string(all)) {
		var c Command
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			tr.t.Fatal(err)
		}
		list = append(list, c)
	}
	return list
}

func FuzzClassify(f *testing.F) {
	for _, line := range []string{
		`scp -f 'a b' "c d" e\ f ~/x*`, `scp -r -p -t -- -x`, `rsync --server --sender -logDtpre.iLsfxCIvu --timeout=5 . a\ b/*`,
		`rsync --server -e.Lsf --link-dest ../x --partial-dir .p . y`, `/usr/lib/openssh/sftp-server`, `scp -f 'a\' '; id '`,
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		c := Classify(line)
		if c.Kind == Other {
			return
		}
		bare := unquoted(line)
		if i := strings.IndexAny(bare, "$`;&|<>(){}!#^\n\r\x00"); i >= 0 {
			t.Errorf("%q: %q is outside quotes", line, bare[i])
		}
		if c.Kind != SFTPServer && len(c.Paths) == 0 || c.Kind == SFTPServer != (c.Needs == Rights{}) {
			t.Errorf("%q: got %+v", line, c)
		}
	})
}

// unquoted is what of a line no quote or backslash protects; what double
// quotes leave alive counts as outside.
func unquoted(line string) string {
	var bare strings.Builder
	var quote byte
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == 0 && c == '\\' && i+1 < len(line):
			i++
			if line[i] < ' ' {
				bare.WriteByte(line[i])
			}
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case c == quote:
			quote = 0
		case quote == 0, quote == '"' && strings.IndexByte("$`!", c) >= 0, c < ' ':
			bare.WriteByte(c)
		}
	}
	return bare.String()
}
