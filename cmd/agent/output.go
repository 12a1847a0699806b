package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// printJSON prints v for a program; a list without elements must not be nil.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// table aligns the columns of rows, which are separated by tabs.
func table(w io.Writer, header string, rows []string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, header)
	for _, r := range rows {
		fmt.Fprintln(t, r)
	}
	return t.Flush()
}

// byteCount is a number of bytes as one reads it: 512, 3.4K, 120M.
func byteCount(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d", n)
	}
	value := float64(n)
	for _, unit := range "KMGTPE" {
		value /= 1024
		if value < 9.95 {
			return fmt.Sprintf("%.1f%c", value, unit)
		}
		if value < 1023.5 {
			return fmt.Sprintf("%.0f%c", value, unit)
		}
	}
	return fmt.Sprintf("%d", n)
}
