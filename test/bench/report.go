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

// goals are what the gate may take, as a share of sshd's.
var goals = []struct {
	measure, unit string
	ratio         float64
}{
	{"handshake", "CPU s per 1,000", 1.0 / 15},
	{"memory", "KiB per idle session", 1.0 / 20},
	{"first byte", "ms", 1.0 / 10},
	{"unconfigured up", "CPU s per GB", 1.15},
	{"unconfigured down", "CPU s per GB", 0.85},
	{"aes128-gcm up", "CPU s per GB", 2.0},
	{"aes128-gcm down", "CPU s per GB", 1.15},
}

type row struct {
	Measure string  `json:"measure"`
	Unit    string  `json:"unit"`
	Sshd    float64 `json:"sshd"`    // median of the rounds
	Postern float64 `json:"postern"` // median of the rounds
	Ratio   float64 `json:"ratio"`
	Target  float64 `json:"target"`
	Met     bool    `json:"met"`
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
		sshd, gate := median(got[g.measure]["sshd"]), median(got[g.measure]["postern"])
		r.Rows = append(r.Rows, row{g.measure, g.unit, sshd, gate, gate / sshd, g.ratio, gate/sshd <= g.ratio})
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
	fmt.Fprintln(w, "| measure\t| unit\t| sshd\t| postern\t| ratio\t| target\t| met\t|")
	fmt.Fprintln(w, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, row := range r.Rows {
		met := map[bool]string{true: "yes", false: "no"}[row.Met]
		fmt.Fprintf(w, "| %s\t| %s\t| %.3f\t| %.3f\t| %.3f\t| ≤ %.3f\t| %s\t|\n",
			row.Measure, row.Unit, row.Sshd, row.Postern, row.Ratio, row.Target, met)
	}
	w.Flush()
}

func (r report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
