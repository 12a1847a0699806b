package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// inspectedRule stands before the rule "loopback", and wins where both match.
const inspectedRule = `rules:
  - name: cluster
    identities: [vendor]
    targets: ["127.0.0.1/32:$PORT1"]
    logins: [$ME]
    allow: [shell, exec, sftp-read, sftp-write]
`

// nodeHosts are the two doors to the target: node by ProxyJump, and door, whose
// user name is the destination.
const nodeHosts = `Host node
  HostName 127.0.0.1
  Port $PORT1
  User $ME
  IdentityFile none
  ProxyJump gate
Host door
  User $ME@127.0.0.1#$PORT1
  HostKeyAlias gate
  IdentityFile $WORK/vendor
  ProxyCommand nlbdial $GATE
`

// inspected writes the files of gateconfig for a gate that inspects SSH to
// PORT1: the rule "cluster" grants it everything but agent and X11, the target's
// host key is known to the gate, and clients hold one @cert-authority line.
func inspected(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: inspected")
	}
	gateConfig(ts, false, nil)
	for _, ca := range []string{"host_ca", "user_ca"} {
		keygen(ts, false, []string{filepath.Join("hostkeys", ca)})
	}
	insert(ts, "policy.yaml", "rules:\n", inspectedRule)
	insert(ts, "postern.yaml", "  known_hosts: []\n", "  known_hosts: [$WORK/targets]\n")
	insert(ts, "ssh_config", "Host *\n", nodeHosts+"Host *\n")
	keygen(ts, false, []string{"node_host_key"})
	key := strings.TrimSpace(ts.ReadFile("node_host_key.pub"))
	ts.Check(os.WriteFile(ts.MkAbs("targets"), []byte("[127.0.0.1]:"+ts.Getenv("PORT1")+" "+key+"\n"), 0o600))
	ca := strings.TrimSpace(ts.ReadFile("hostkeys/host_ca.pub"))
	ts.Check(os.WriteFile(ts.MkAbs("known_hosts"), []byte("@cert-authority * "+ca+"\n"), 0o600))
}

// insert puts text, with its variables expanded, in the place of mark.
func insert(ts *testscript.TestScript, file, mark, text string) {
	edit(ts, false, []string{file, mark, os.Expand(text, ts.Getenv)})
}

const nodeConfig = `HostKey $WORK/node_host_key
TrustedUserCAKeys $WORK/hostkeys/user_ca.pub
AuthorizedKeysFile none
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
LogLevel VERBOSE
Subsystem sftp internal-sftp -d $WORK
`

// node [LINE...] starts OpenSSH's server at PORT1 as a target that trusts the
// gate's user CA and knows no other key, with more lines of sshd_config. What it
// logs is in node.err.
func node(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: node [LINE...]")
	}
	lines := slices.Concat([]string{"ListenAddress 127.0.0.1:" + ts.Getenv("PORT1")}, args, []string{os.Expand(nodeConfig, ts.Getenv)})
	ts.Check(os.WriteFile(ts.MkAbs("node_config"), []byte(strings.Join(lines, "\n")), 0o600))
	if me, err := user.Current(); err == nil && me.Uid == "0" {
		ts.Check(os.MkdirAll("/run/sshd", 0o755)) // made by its service, which may never have run
	}
	path, err := lookPath(ts, "sshd")
	ts.Check(err)
	start(ts, false, []string{"node", path, "-D", "-e", "-f", filepath.Join(worldOf(ts).dir, "node_config")})
	waitFor(ts, false, []string{"tcp", "127.0.0.1:" + ts.Getenv("PORT1")})
}

// recorded REGEX FILE waits until one complete recording of those that match
// REGEX in "recordings list --json" shows on standard output exactly the bytes
// of FILE; recorded REGEX alone waits until there is one. RECORDING names it
// from then on.
func recorded(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: recorded REGEX [FILE]")
	}
	want := regexp.MustCompile(args[0])
	ts.Check(eventually(patience, func() error {
		found := matchingRecordings(ts, want)
		if len(found) == 0 {
			return fmt.Errorf("no complete recording matches %q", want)
		}
		if len(args) == 1 {
			ts.Setenv("RECORDING", found[0])
			return nil
		}
		return shows(ts, found, args[1])
	}))
}

// shows looks for the recording whose output is that of file.
func shows(ts *testscript.TestScript, ids []string, file string) error {
	seen := ts.ReadFile(file)
	var sizes []int
	for _, id := range ids {
		ts.Check(ts.Exec("postern", "recordings", "export", id, "--config", "postern.yaml", "--format", "raw"))
		raw := ts.ReadFile("stdout")
		if raw == seen {
			ts.Setenv("RECORDING", id)
			return nil
		}
		sizes = append(sizes, len(raw))
	}
	return fmt.Errorf("%d recordings match, with %d bytes of output, and none is the %d bytes of %s", len(ids), sizes, len(seen), file)
}

// recording is what the list says of one.
type recording struct {
	ID    string `json:"id"`
	State string `json:"state"`
	line  string // all of it, without spaces
}

// matchingRecordings returns the IDs of the complete recordings whose line of
// the list matches.
func matchingRecordings(ts *testscript.TestScript, want *regexp.Regexp) []string {
	var ids []string
	for _, r := range listRecordings(ts) {
		if r.State == "complete" && want.MatchString(r.line) {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

func listRecordings(ts *testscript.TestScript) []recording {
	ts.Check(ts.Exec("postern", "recordings", "list", "--config", "postern.yaml", "--json"))
	var lines []json.RawMessage
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &lines))
	all := make([]recording, len(lines))
	for i, line := range lines {
		var compact bytes.Buffer
		ts.Check(json.Compact(&compact, line))
		ts.Check(json.Unmarshal(line, &all[i]))
		all[i].line = compact.String()
	}
	return all
}

// moved ACTION PATH FILE waits until there is an event of a whole transfer (put
// or get) of PATH that succeeded, and its bytes and SHA-256 are those of FILE. In
// the old scp protocol PATH is the operand of the command line.
func moved(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: moved put|get PATH FILE")
	}
	content := ts.ReadFile(args[2])
	want := fmt.Sprintf("%s %s Success %d %x true", args[0], ts.MkAbs(args[1]), len(content), sha256.Sum256([]byte(content)))
	ts.Check(eventually(patience, func() error {
		var all []string
		for _, line := range auditLines(ts.MkAbs("audit")) {
			if codeOf(line) == "sftp.op" {
				all = append(all, transfer(line))
			}
		}
		if !slices.Contains(all, want) {
			return fmt.Errorf("no event says\n%s\namong\n%s", want, strings.Join(all, "\n"))
		}
		return nil
	}))
}

// transfer is what an event of a file says, in the words of moved.
func transfer(line string) string {
	var e struct {
		Status string
		File   struct {
			Path   string
			Hashes []struct{ Value string }
		}
		Traffic  struct{ Bytes int }
		Unmapped struct {
			Postern struct {
				Operation string
				Operands  []string
				Complete  bool `json:"hash_complete"`
			}
		}
	}
	if err := json.Unmarshal([]byte(line), &e); err != nil {
		return err.Error()
	}
	path, hash, facts := e.File.Path, "", e.Unmapped.Postern
	if len(facts.Operands) > 0 {
		path = facts.Operands[0]
	}
	for _, h := range e.File.Hashes {
		hash = h.Value
	}
	return fmt.Sprintf("%s %s %s %d %s %v", facts.Operation, path, e.Status, e.Traffic.Bytes, hash, facts.Complete)
}
