package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// goal is what the gate may take: a share of what something else takes or, where
// that is "", an amount of its own; more takes it as what may be added.
type goal struct {
	measure, unit string
	ours, against string
	bound         float64
	more          bool
}

var goals = []goal{
	{"handshake", "CPU s per 1,000", "postern", "sshd", 1.0 / 15, false},
	{"memory", "KiB per idle session", "postern", "sshd", 1.0 / 20, false},
	{"first byte", "ms", "postern", "sshd", 1.0 / 10, false},
	{"unconfigured up", "CPU s per GB", "postern", "sshd", 1.15, false},
	{"unconfigured down", "CPU s per GB", "postern", "sshd", 0.85, false},
	{"aes128-gcm up", "CPU s per GB", "postern", "sshd", 2.0, false},
	{"aes128-gcm down", "CPU s per GB", "postern", "sshd", 1.15, false},
	{"inspected up", "CPU s per GB", "unrecorded", "sshd", 2.5, false},
	{"inspected down", "CPU s per GB", "unrecorded", "sshd", 2.5, false},
	{"recording", "CPU s per GB down", "recorded", "unrecorded", 1.25, false},
	{"SFTP get", "CPU s per GB", "decoded", "undecoded", 1.1, false},
	{"SFTP put", "CPU s per GB", "decoded", "undecoded", 1.1, false},
	{"keystroke", "µs, p50", "recorded", "no gate", 250, true},
	{"inspected memory", "KiB per idle session", "postern", "", 160, false},
}

type row struct {
	Measure string  `json:"measure"`
	Unit    string  `json:"unit"`
	Ours    string  `json:"ours"`
	Value   float64 `json:"value"` // median of the rounds
	Against string  `json:"against,omitempty"`
	Theirs  float64 `json:"theirs,omitempty"` // median of the rounds
	Got     float64 `json:"got"`              // share, sum added or amount, as Target is
	Target  string  `json:"target"`
	Met     bool    `json:"met"`
}

func (g goal) row(got samples) row {
	r := row{Measure: g.measure, Unit: g.unit, Ours: g.ours, Against: g.against, Value: median(got[g.measure][g.ours])}
	r.Got, r.Target = r.Value, fmt.Sprintf("≤ %.0f", g.bound)
	if g.against != "" {
		r.Theirs = median(got[g.measure][g.against])
	}
	switch {
	case g.more:
		r.Got, r.Target = r.Value-r.Theirs, fmt.Sprintf("≤ +%.0f", g.bound)
	case g.against != "":
		r.Got, r.Target = r.Value/r.Theirs, fmt.Sprintf("≤ %.3f", g.bound)
	}
	r.Met = r.Got <= g.bound
	return r
}

type report struct {
	Started    time.Time      `json:"started"`
	Seconds    float64        `json:"seconds"`
	CPU        string         `json:"cpu"`
	Cores      int            `json:"cores"`
	Load       string         `json:"load"` // /proc/loadavg at the end
	Rounds     int            `json:"rounds"`
	Handshakes map[string]int `json:"handshakes"`
	Sessions   map[string]int `json:"sessions"`
	Bytes      int            `json:"bulk_bytes"`
	Rows       []row          `json:"rows"`
	Samples    samples        `json:"samples"`
}

func newReport(got samples, start time.Time) report {
	load, _ := os.ReadFile("/proc/loadavg")
	r := report{Started: start, Seconds: time.Since(start).Seconds(), CPU: cpuModel(), Cores: runtime.NumCPU(),
		Load: strings.TrimSpace(string(load)), Rounds: rounds, Handshakes: handshakeCount, Sessions: sessionCount,
		Bytes: bulkBytes, Samples: got}
	for _, g := range goals {
		r.Rows = append(r.Rows, g.row(got))
	}
	return r
}

func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, _ := strings.Cut(lines.Text(), ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// print writes the table as Markdown.
func (r report) print(out io.Writer) {
	fmt.Fprintf(out, "%s, %d cores, load %s, %d rounds in %.0f s; handshakes %v, sessions %v, bulk %d MiB\n\n",
		r.CPU, r.Cores, r.Load, r.Rounds, r.Seconds, r.Handshakes, r.Sessions, r.Bytes>>20)
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "| measure\t| unit\t| postern\t| against\t| ratio\t| target\t| met\t|")
	fmt.Fprintln(w, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, row := range r.Rows {
		met := map[bool]string{true: "yes", false: "no"}[row.Met]
		fmt.Fprintf(w, "| %s\t| %s\t| %.3f%s\t| %s\t| %.3f\t| %s\t| %s\t|\n",
			row.Measure, row.Unit, row.Value, how(row.Ours), against(row), row.Got, row.Target, met)
	}
	w.Flush()
}

// how says which way through the gate was measured, where there are several.
func how(ours string) string {
	if ours == "postern" {
		return ""
	}
	return " " + ours
}

func against(r row) string {
	if r.Against == "" {
		return "-"
	}
	return fmt.Sprintf("%.3f %s", r.Theirs, r.Against)
}

func (r report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
