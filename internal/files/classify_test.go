package files

import (
	"slices"
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
		{`rsync --server -vlogDtpre.iLsfxCIvu --delete --partial . /srv/x/`, RsyncReceiver, []string{"/srv/x/"}, write},
		{`rsync --server -logDtpre.iLsfxCIvu --partial-dir .p --timeout=5 . x`, RsyncReceiver, []string{"x", ".p"}, write},
		{`rsync --server -logDtpre.iLsfxCIvu --numeric-ids --usermap=\*:u --groupmap=\*:g . x`, RsyncReceiver, []string{"x"}, write},
		{`rsync --server -logDtpre.iLsfxCIvu --link-dest ../p . x`, RsyncReceiver, []string{"x", "../p"}, all},
		{`rsync --server --sender -logDtpre.iLsfxCIvu --remove-source-files . x`, RsyncSender, []string{"x"}, all},
		{`rsync --server --sender -logDtpRe.LsfxCIvu --files-from=- --from0 . x`, RsyncSender, []string{"x"}, read},
		{`rsync --server -bulKmyWogDtprSe.iLsfxCIvu -B700 --suffix=.b . x`, RsyncReceiver, []string{"x"}, write},
		{`rsync --server -e31.14 . x`, RsyncReceiver, []string{"x"}, write},
		{`/usr/lib/openssh/sftp-server`, SFTPServer, nil, Rights{}},
	} {
		got := Classify(c.line)
		if got.Kind != c.kind || !slices.Equal(got.Paths, c.paths) || got.Needs != c.needs {
			t.Errorf("%s: got %+v", c.line, got)
		}
	}
}
