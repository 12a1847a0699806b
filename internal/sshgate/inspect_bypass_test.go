package sshgate

import (
	"io"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"postern/internal/audit"
	"postern/internal/policy"
	"postern/internal/record"
)

// Somebody who has an account at a target chooses what runs there under the
// name of scp or sftp-server. None of these may become a way to work unseen.

const rsyncSender = "rsync --server --sender -logDtpre.iLsfxCIvu . /etc"

// says is a target whose programs all say the same and end.
func says(text string) func(ssh.NewChannel) {
	return programs(func(ch ssh.Channel, _, _ string) {
		io.WriteString(ch, text)
		exitWith(ch, 0)
	})
}

func TestWhatOnlyClaimsToMoveFilesIsRecorded(t *testing.T) {
	const text = "bash-5.2$ id\r\nuid=0(root)\r\n"
	for _, command := range []string{"scp -f /etc/passwd", "scp -t /tmp", "/usr/lib/openssh/sftp-server", rsyncSender} {
		t.Run(strings.ReplaceAll(command, "/", " "), func(t *testing.T) {
			g := newInspectGate(t, inspectSpec{target: says(text)})
			out, _, _, err := exec(g.inside(t), command)
			if err != nil || out != text {
				t.Errorf("%q, %v", out, err)
			}
			if _, records := g.taped(t); of(records, record.Stdout) != text {
				t.Errorf("recorded %q", of(records, record.Stdout))
			}
		})
	}
}

func TestATerminalIsRecordedWhateverItsCommand(t *testing.T) {
	const line = "C0644 5 passwd\n"
	g := newInspectGate(t, inspectSpec{target: says(line)})
	s, err := g.inside(t).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RequestPty("xterm", 24, 80, nil); err != nil {
		t.Fatal(err)
	}
	if out, err := s.Output("scp -f /etc/passwd"); err != nil || string(out) != line {
		t.Errorf("%q, %v", out, err)
	}
	if _, records := g.taped(t); of(records, record.Stdout) != line {
		t.Errorf("recorded %q", of(records, record.Stdout))
	}
}

func TestWhatIsNoSFTPEndsASessionWithLimitedRights(t *testing.T) {
	const banner = "Last login: Tue Nov 24\r\nbash-5.2$ "
	g := newInspectGate(t, inspectSpec{
		rule: func(r *policy.Rule) { r.Allow = []policy.Verb{policy.SFTPRead} },
		target: programs(func(ch ssh.Channel, _, _ string) {
			io.WriteString(ch, banner)
			io.Copy(io.Discard, ch) // until the gate ends it
		}),
	})
	s, err := g.inside(t).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, _ := s.StdoutPipe()
	if err := s.RequestSubsystem("sftp"); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(out); err != nil || strings.Contains(string(got), "bash") {
		t.Errorf("passed on %q, %v", got, err)
	}
	g.eventually(t, audit.ProcEnd, reasonUnreadable)
}
