package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// otherVerifier is docs/verify/verify.py, kept running so that Python starts
// once.
type otherVerifier struct {
	in  io.Writer
	out *bufio.Reader
}

// verifierLoop answers each line of JSON with the exit status and the findings.
const verifierLoop = `
import json, sys
sys.path.insert(0, sys.argv[1])
import verify
for line in sys.stdin:
    o = json.loads(line)
    status, lines = verify.verify(o["dir"], [verify.parse_key(o["key"])] if o["key"] else [], o["anchors"], o["recordings"], o["partial"])
    print(json.dumps([status, lines]), flush=True)
`

func startOtherVerifier(t *testing.T) *otherVerifier {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("python3 is missing; test/install-tools installs it")
		}
		t.Skip("python3 is missing")
	}
	dir, err := filepath.Abs("../../docs/verify")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), python, "-B", "-c", verifierLoop, dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the other verifier: %v", err)
		}
	})
	return &otherVerifier{in, bufio.NewReader(out)}
}

func (o *otherVerifier) verify(t *testing.T, c *crafted, vkey string) (status int, said string) {
	t.Helper()
	question := map[string]any{"dir": c.dir, "key": vkey, "anchors": c.anchors, "recordings": c.recordings, "partial": c.partial}
	if err := json.NewEncoder(o.in).Encode(question); err != nil {
		t.Fatal(err)
	}
	line, err := o.out.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var answer []any
	if err := json.Unmarshal(line, &answer); err != nil {
		t.Fatal(err)
	}
	return int(answer[0].(float64)), fmt.Sprint(answer[1])
}

// status is the exit status that the command has for what Verify returns.
func status(r *Report, err error) int {
	switch {
	case !r.Fine():
		return 1
	case err != nil:
		return 2
	}
	return 0
}

// mustAgree asks both verifiers and returns what they say.
func (o *otherVerifier) mustAgree(t *testing.T, c *crafted, what string) int {
	t.Helper()
	r, err := Verify(t.Context(), c.options())
	ours := status(r, err)
	theirs, said := o.verify(t, c, c.vkey)
	if ours != theirs {
		t.Errorf("%s: Verify says %d (%v):\n%sverify.py says %d: %s", what, ours, err, findings(r), theirs, said)
	}
	return ours
}

// mutate does one thing at random to one file: flips a bit, deletes, doubles or
// swaps lines or stretches of bytes, cuts the end off, or removes the file.
func mutate(random *rand.Rand, data []byte) (what string, changed []byte) {
	lines := slices.Collect(strings.Lines(string(data)))
	at, other := random.IntN(len(data)), random.IntN(len(data))
	i, j := random.IntN(len(lines)), random.IntN(len(lines))
	switch random.IntN(8) {
	case 0, 1:
		data[at] ^= 1 << random.IntN(8)
		return fmt.Sprintf("a bit of byte %d", at), data
	case 2:
		return fmt.Sprintf("cut to %d bytes", at), data[:at]
	case 3:
		return fmt.Sprintf("line %d deleted", i+1), []byte(strings.Join(slices.Delete(lines, i, i+1), ""))
	case 4:
		lines[i], lines[j] = lines[j], lines[i]
		return fmt.Sprintf("lines %d and %d swapped", i+1, j+1), []byte(strings.Join(lines, ""))
	case 5:
		return fmt.Sprintf("line %d doubled", i+1), []byte(strings.Join(slices.Insert(lines, i, lines[i]), ""))
	case 6:
		from, to := min(at, other), max(at, other)
		return fmt.Sprintf("bytes %d to %d deleted", from, to), slices.Delete(data, from, to)
	}
	return "removed", nil
}

func TestTwoVerifiersAgreeOnAThousandMutations(t *testing.T) {
	o := startOtherVerifier(t)
	random := rand.New(rand.NewPCG(20261124, 1))
	counts := map[int]int{}
	for _, c := range []*crafted{story(t), unsignedEnd(t)} {
		files := c.files(t)
		for range 500 {
			path := files[random.IntN(len(files))]
			full := filepath.Join(filepath.Dir(c.dir), path)
			data, err := os.ReadFile(full)
			if err != nil {
				t.Fatal(err)
			}
			what, changed := mutate(random, slices.Clone(data))
			for changed != nil && bytes.Equal(changed, data) {
				what, changed = mutate(random, slices.Clone(data))
			}
			if changed == nil {
				err = os.Remove(full)
			} else {
				err = os.WriteFile(full, changed, 0o640)
			}
			if err != nil {
				t.Fatal(err)
			}
			counts[o.mustAgree(t, c, path+": "+what)]++
			if err := os.WriteFile(full, data, 0o640); err != nil {
				t.Fatal(err)
			}
			if t.Failed() {
				return
			}
		}
	}
	t.Logf("fine %d, wrong %d, undecided %d", counts[0], counts[1], counts[2])
	if counts[1] < 900 { // the others are of what no checkpoint covers, and anchors removed
		t.Errorf("only %d of 1000 mutations were found", counts[1])
	}
}

// unsignedEnd is the story with events that no checkpoint covers yet.
func unsignedEnd(t testing.TB) *crafted {
	c := story(t)
	c.event(t, DaemonStart, "", "")
	c.event(t, ConnOpen, "s2", `,"status_id":1`)
	return c
}

func TestTwoVerifiersAgreeOnEveryKindOfLog(t *testing.T) {
	o := startOtherVerifier(t)
	for name, log := range kindsOfLogs(t) {
		if got := o.mustAgree(t, log.log, name); got != log.status {
			t.Errorf("%s: both say %d, want %d", name, got, log.status)
		}
	}
	theKey, said := o.verify(t, story(t), "")
	if theKey != 0 || !strings.Contains(said, "could replace it") {
		t.Errorf("with the key beside the log: %d %s", theKey, said)
	}
}
