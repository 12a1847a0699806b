package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"postern/internal/audit"
)

type auditProveCmd struct {
	logFlags
	Event  string `arg:"" name:"INDEX|UID" help:"The event: its metadata.sequence or metadata.uid."`
	Output string `short:"o" placeholder:"FILE" help:"Where the proof goes, instead of standard output."`
	Line   string `placeholder:"FILE" help:"Where the line of the event goes, which the proof is of."`
}

// Help has the examples of the command.
func (auditProveCmd) Help() string {
	return `Writes a proof that the log holds an event: a few lines of text (C2SP tlog-proof) with the newest signed checkpoint. Whoever has the proof, the line and the log's public key can check it without the log: see audit verify-proof.

Examples:

    postern audit prove 41217 -o event.tlog-proof --line event.json
    postern audit prove 01998e4c-7ae5-70fd-8107-00000000a0fd -o event.tlog-proof --line event.json`
}

// Run writes the proof.
func (c *auditProveCmd) Run(e *env) error {
	dir, err := c.dir()
	if err != nil {
		return err
	}
	index, err := strconv.ParseInt(c.Event, 10, 64)
	if err != nil || index < 0 {
		index, err = audit.FindEvent(context.Background(), dir, c.Event)
	}
	if err != nil {
		return proveFault(err)
	}
	proof, line, err := audit.Prove(dir, index)
	if err != nil {
		return proveFault(err)
	}
	return c.write(e, proof, line)
}

func (c *auditProveCmd) write(e *env, proof audit.Proof, line []byte) error {
	switch {
	case c.Line != "" && line == nil:
		return wrong(fmt.Errorf("prove event %d: its segment is not here any more, so its line can't be written", proof.Index),
			"without --line the proof is written; the line is where the log was archived")
	case c.Line != "":
		if err := os.WriteFile(c.Line, append(line, '\n'), 0o600); err != nil {
			return undecided(fmt.Errorf("write the line: %w", err))
		}
	}
	if c.Output == "" {
		_, err := io.WriteString(e.stdout, proof.String())
		return err
	}
	if err := os.WriteFile(c.Output, []byte(proof.String()), 0o600); err != nil {
		return undecided(fmt.Errorf("write the proof: %w", err))
	}
	return nil
}

func proveFault(err error) error {
	err = fmt.Errorf("prove an event: %w", err)
	switch {
	case errors.Is(err, audit.ErrNoEvent):
		return wrong(err, "postern audit tail --json shows events with metadata.sequence and metadata.uid")
	case errors.Is(err, audit.ErrUncovered):
		return undecided(err, "try again in ten seconds: a running gate signs what is new that often")
	case errors.Is(err, audit.ErrDamaged):
		return wrong(err, "postern audit verify says what is wrong with the log")
	case errors.Is(err, fs.ErrPermission):
		return undecided(err, "the group postern-audit may read the log: try sudo")
	}
	return undecided(err)
}

type auditVerifyProofCmd struct {
	Proof string   `arg:"" name:"PROOF" help:"File with the proof."`
	Line  string   `arg:"" name:"LINE-FILE" help:"File with the line of the event, - for standard input."`
	Key   []string `required:"" sep:"none" placeholder:"VKEY|FILE" help:"Public key of the log."`
}

// Help has the examples of the command.
func (auditVerifyProofCmd) Help() string {
	return `Checks that a line is an event of a log. Nothing but the two files and the key is needed; there is no network and no log.

Exit status: 0 it is proven, 1 it is not, 2 it could not be decided.

Examples:

    postern audit verify-proof event.tlog-proof event.json --key ./audit.vkey`
}

// Run checks the proof.
func (c *auditVerifyProofCmd) Run(e *env) error {
	keys, err := verifierKeys(c.Key)
	if err != nil {
		return err
	}
	proof, err := os.ReadFile(c.Proof)
	if err != nil {
		return undecided(fmt.Errorf("read the proof: %w", err))
	}
	line, err := readLineFile(c.Line)
	if err != nil {
		return undecided(fmt.Errorf("read the line: %w", err))
	}
	proven, err := audit.VerifyProof(proof, line, keys)
	if err != nil {
		return wrong(fmt.Errorf("verify the proof: %w", err), "the line must be the bytes of the log, as postern audit prove --line writes them")
	}
	fmt.Fprint(e.stdout, provenWords(proven))
	return nil
}

// readLineFile reads one line, without its newline.
func readLineFile(name string) ([]byte, error) {
	in := os.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, 2<<20))
	return bytes.TrimSuffix(data, []byte("\n")), err
}

func provenWords(p audit.Proven) string {
	return fmt.Sprintf("proven: event %d of %s, signed by %s\n%s\n", p.Record.Index, printable(p.Checkpoint.Origin),
		printable(strings.Join(p.Keys, ", ")), eventWords(p.Record))
}
