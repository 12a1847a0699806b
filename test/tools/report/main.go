// Report reads "go test -json" and prints what a person wants to see: the line
// of each package, and everything a failed test printed. It exits 1 where a
// test failed, where there was nothing to read, and, when CI=true, where a
// test was skipped.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// event is one line of "go test -json" (cmd/test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string // of build-output and build-fail
	Test       string
	Output     string
}

type report struct {
	out     io.Writer
	strict  bool                     // a skipped test is a failure
	output  map[string]*bytes.Buffer // of tests that have not ended
	passed  int
	failed  []string
	skipped []string
}

func main() {
	r := &report{out: os.Stdout, strict: os.Getenv("CI") == "true", output: map[string]*bytes.Buffer{}}
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
	if !r.summary() {
		os.Exit(1)
	}
}

func (r *report) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			// What the go command says before it starts to speak JSON.
			fmt.Fprintln(r.out, lines.Text())
			continue
		}
		r.event(e)
	}
	return lines.Err()
}

func (r *report) event(e event) {
	name := e.Package + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		r.keep(name, e)
	case "pass":
		r.ended(name, e, &r.passed, nil)
	case "skip":
		r.ended(name, e, nil, &r.skipped)
	case "fail":
		r.ended(name, e, nil, &r.failed)
	case "build-fail":
		r.failed = append(r.failed, e.ImportPath)
	}
}

// keep prints what belongs to a package at once and keeps what belongs to a
// test until it is known how the test ends.
func (r *report) keep(name string, e event) {
	if e.Test != "" {
		r.of(name).WriteString(e.Output)
		return
	}
	if e.Output != "PASS\n" {
		io.WriteString(r.out, e.Output)
	}
}

func (r *report) of(name string) *bytes.Buffer {
	if r.output[name] == nil {
		r.output[name] = &bytes.Buffer{}
	}
	return r.output[name]
}

func (r *report) ended(name string, e event, count *int, list *[]string) {
	output := r.of(name)
	delete(r.output, name)
	if e.Test == "" {
		// A package that fails has said so; it may have no failed test (a panic, os.Exit).
		if e.Action == "fail" {
			*list = append(*list, e.Package)
		}
		return
	}
	if count != nil {
		*count++
		return
	}
	*list = append(*list, name)
	if e.Action == "fail" || r.strict {
		output.WriteTo(r.out)
	}
}

// summary prints the closing lines and reports whether all is well.
func (r *report) summary() bool {
	for name, output := range r.output {
		fmt.Fprintf(r.out, "did not end: %s\n%s", name, output)
	}
	for _, name := range r.skipped {
		fmt.Fprintln(r.out, "skipped:", name)
	}
	for _, name := range r.failed {
		fmt.Fprintln(r.out, "failed:", name)
	}
	fmt.Fprintf(r.out, "%d passed, %d skipped, %d failed\n", r.passed, len(r.skipped), len(r.failed))
	if r.strict && len(r.skipped) > 0 {
		fmt.Fprintln(r.out, "a skipped test is a failure when CI=true: make tools installs what is missing")
		return false
	}
	return len(r.failed) == 0 && len(r.output) == 0 && r.passed > 0
}
