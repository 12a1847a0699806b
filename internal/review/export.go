package review

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"math"
	"time"
	"unicode/utf8"

	"postern/internal/record"
)

// Format is a form in which recordings leave.
type Format string

// The formats.
const (
	Cast2 Format = "cast2" // asciicast v2, https://docs.asciinema.org/manual/asciicast/v2/
	Cast3 Format = "cast3" // asciicast v3, https://docs.asciinema.org/manual/asciicast/v3/
	Text  Format = "text"  // the lines that Lines gives
	Raw   Format = "raw"   // the bytes as the client got them
)

// Export writes a recording to w as f. stderr has casts play the standard error
// of a program without a terminal too, and Raw write it instead of standard
// output. Where records end with an error, what came before it is complete in w
// when Export returns that error.
//
// Casts are valid UTF-8 and nothing is lost: after an event whose text is not
// what was recorded, with U+FFFD for what is no UTF-8, a "b" event has the exact
// bytes in base64. Standard error that is not to be played has the code "e", an
// exit in version 2 the code "x" as in 3. Players skip codes they don't know.
func Export(w io.Writer, f Format, h record.Header, records iter.Seq2[record.Record, error], stderr bool) error {
	b := bufio.NewWriterSize(w, 64<<10)
	err := export(b, f, h, records, stderr)
	if ferr := b.Flush(); ferr != nil {
		return fmt.Errorf("write the export: %w", ferr)
	}
	return err
}

func export(w *bufio.Writer, f Format, h record.Header, records iter.Seq2[record.Record, error], stderr bool) error {
	switch f {
	case Raw:
		return exportRaw(w, records, stderr)
	case Text:
		return exportText(w, h, records)
	case Cast2, Cast3:
		return newCast(w, f, h, stderr).write(records)
	}
	return fmt.Errorf("there is no format %q", f)
}

func exportRaw(w *bufio.Writer, records iter.Seq2[record.Record, error], stderr bool) error {
	kind := record.Stdout
	if stderr {
		kind = record.Stderr
	}
	for r, err := range records {
		if err != nil {
			return err
		}
		if r.Kind != kind {
			continue
		}
		if _, err := w.Write(r.Data); err != nil {
			return fmt.Errorf("write the export: %w", err)
		}
	}
	return nil
}

func exportText(w *bufio.Writer, h record.Header, records iter.Seq2[record.Record, error]) error {
	for l, err := range Lines(h, records) {
		if err != nil {
			return err
		}
		if _, err := w.WriteString(l.Text + "\n"); err != nil {
			return fmt.Errorf("write the export: %w", err)
		}
	}
	return nil
}

// cast writes asciicasts.
type cast struct {
	w      *bufio.Writer
	json   *json.Encoder
	text   bytes.Buffer // what json wrote
	format Format
	header record.Header
	stderr string // its code

	last  time.Duration // of the event before
	tails map[record.Kind][]byte
	err   error // of w
}

func newCast(w *bufio.Writer, f Format, h record.Header, stderr bool) *cast {
	c := &cast{w: w, format: f, header: h, stderr: "e", tails: map[record.Kind][]byte{}}
	if stderr || HasTerminal(h) {
		c.stderr = "o"
	}
	c.json = json.NewEncoder(&c.text)
	c.json.SetEscapeHTML(false)
	return c
}

func (c *cast) write(records iter.Seq2[record.Record, error]) error {
	c.begin()
	for r, err := range records {
		if err != nil {
			c.finish()
			return err
		}
		if c.record(r); c.err != nil {
			break
		}
	}
	c.finish()
	if c.err != nil {
		return fmt.Errorf("write the export: %w", c.err)
	}
	return nil
}

// about is what the header says besides what players know.
type about struct {
	Session  string `json:"session"`
	Channel  string `json:"channel"`
	Identity string `json:"identity"`
	Endpoint string `json:"endpoint,omitempty"`
	Client   string `json:"client"`
	Login    string `json:"login"`
	Target   string `json:"target"`
	Rule     string `json:"rule"`
	Kind     string `json:"kind"`
}

type terminal struct {
	Columns int    `json:"cols"`
	Rows    int    `json:"rows"`
	Type    string `json:"type,omitempty"`
}

type castHeader struct {
	Version   int               `json:"version"`
	Width     int               `json:"width,omitempty"`
	Height    int               `json:"height,omitempty"`
	Term      *terminal         `json:"term,omitempty"`
	Timestamp int64             `json:"timestamp"`
	Command   string            `json:"command,omitempty"`
	Title     string            `json:"title"`
	Env       map[string]string `json:"env,omitempty"`
	Postern   about             `json:"postern"`
}

func (c *cast) begin() {
	h := c.header
	size := terminal{Columns: 80, Rows: 24, Type: h.Term}
	if h.Columns > 0 && h.Rows > 0 {
		size.Columns, size.Rows = int(h.Columns), int(h.Rows)
	}
	head := castHeader{
		Version: 2, Timestamp: h.Started.Unix(), Command: h.Command,
		Title:   fmt.Sprintf("%s: %s@%s", h.Identity, h.Login, h.Target),
		Postern: about{h.Session, h.Channel, h.Identity, h.Endpoint, h.Client, h.Login, h.Target, h.Rule, h.Kind},
	}
	if c.format == Cast3 {
		head.Version, head.Term = 3, &size
	} else {
		head.Width, head.Height = size.Columns, size.Rows
		if h.Term != "" {
			head.Env = map[string]string{"TERM": h.Term}
		}
	}
	c.line(c.encode(head))
}

func (c *cast) record(r record.Record) {
	switch r.Kind {
	case record.Stdout:
		c.output(r, "o")
	case record.Stderr:
		c.output(r, c.stderr)
	case record.Stdin:
		c.output(r, "i")
	case record.Resize:
		if columns, rows, ok := record.ParseSize(r.Data); ok {
			c.event(r.At, "r", fmt.Sprintf("%dx%d", columns, rows))
		}
	case record.Request:
		c.event(r.At, "m", string(r.Data))
	case record.Exit:
		c.finish()
		c.event(r.At, "x", string(r.Data))
	}
}

// output keeps the beginning of a character for the next record of its kind.
func (c *cast) output(r record.Record, code string) {
	b := append(c.tails[r.Kind], r.Data...)
	n := len(b) - incomplete(b)
	c.bytes(r.At, code, b[:n])
	c.tails[r.Kind] = append([]byte(nil), b[n:]...)
}

// incomplete is how many bytes at the end of b may be a character's beginning.
func incomplete(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if c := b[len(b)-n]; utf8.RuneStart(c) {
			if utf8.FullRune(b[len(b)-n:]) {
				return 0
			}
			return n
		}
	}
	return 0
}

func (c *cast) bytes(at time.Duration, code string, b []byte) {
	if len(b) == 0 {
		return
	}
	c.event(at, code, string(b)) // the encoder writes U+FFFD
	if !utf8.Valid(b) {
		c.event(at, "b", base64.StdEncoding.EncodeToString(b))
	}
}

// finish writes characters that will not be completed.
func (c *cast) finish() {
	c.bytes(c.last, "o", c.tails[record.Stdout])
	c.bytes(c.last, c.stderr, c.tails[record.Stderr])
	c.bytes(c.last, "i", c.tails[record.Stdin])
	clear(c.tails)
}

func (c *cast) event(at time.Duration, code, data string) {
	c.line(fmt.Sprintf(`[%s, "%s", %s]`, c.time(at), code, c.encode(data)))
}

// time is absolute in version 2. Version 3 has intervals; each is the distance
// of rounded times, so that what rounding loses does not add up.
func (c *cast) time(at time.Duration) string {
	before := c.last
	c.last = at
	if c.format == Cast2 {
		return fmt.Sprintf("%.6f", at.Seconds())
	}
	millis := func(d time.Duration) int64 { return int64(math.Round(d.Seconds() * 1000)) }
	return fmt.Sprintf("%.3f", float64(millis(at)-millis(before))/1000)
}

// encode is JSON in one line; strings come out as valid UTF-8.
func (c *cast) encode(v any) string {
	c.text.Reset()
	if err := c.json.Encode(v); err != nil && c.err == nil {
		c.err = err
	}
	return string(bytes.TrimSuffix(c.text.Bytes(), []byte("\n")))
}

func (c *cast) line(s string) {
	if _, err := c.w.WriteString(s + "\n"); err != nil && c.err == nil {
		c.err = err
	}
}
